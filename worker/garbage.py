"""Memory, out of the way of a drain: the collector runs between batches, and what a batch frees serves the next one.

A batch makes a hundred thousand tuples and no cycles, and the collector would walk them all: that was 2.6 of the 7.2 µs
that a row cost the worker. What a model's own code leaves behind is still young then, so it is found.
"""

from __future__ import annotations

import gc
import time
from functools import cache
from types import TracebackType
from typing import Self

YOUNG_EVERY = 1.0  # seconds between two walks over what is new: 0.4 µs a row after each batch of 10,000
FULL_EVERY = 10.0  # and over everything, a loaded model's objects among it
KEPT = 16 << 20  # bytes


@cache
def keep_memory() -> None:
    """Let the C library keep what a batch frees, up to twice `KEPT`, instead of giving it back to the system each time.

    glibc takes the largest block that was ever freed for a measure of what comes and goes (mallopt(3), "dynamic mmap
    threshold"), and this one's pages are never touched: the first time, so it is done once a process. 0.01 page faults
    a row instead of 0.17, each of 2 µs.
    """
    bytearray(KEPT)


class PausedCollector:
    """While its block runs, garbage is collected by `between_batches` alone."""

    def __enter__(self) -> Self:
        keep_memory()
        self._enabled = gc.isenabled()
        self._young = self._full = time.monotonic()
        gc.disable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._enabled:
            gc.enable()

    def between_batches(self) -> None:
        """Collect what the batches of the last second left behind, and now and then everything."""
        now = time.monotonic()
        if now - self._full >= FULL_EVERY:
            gc.collect()
            self._young = self._full = now
        elif now - self._young >= YOUNG_EVERY:
            gc.collect(0)
            self._young = now
