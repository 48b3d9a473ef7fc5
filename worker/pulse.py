"""Beats every few seconds while a block of code runs, so that a lease outlives a long call; it knows no lease."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DEFAULT_SECONDS = 5.0


class Pulse:
    """A thread that beats for one block after another, while the block keeps the thread that it was called in.

    A thread of its own for each block would cost 130 µs a block. This one is woken by the clock alone and ends at the
    first wake-up outside a block, so entering and leaving takes 2 µs, and nobody has to close it.

    Args:
        seconds: between two beats.
    """

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()  # held during a beat: none beside another, none after the block
        self._beat: Callable[[], object] | None = None
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def beating(self, beat: Callable[[], object]) -> Iterator[Callable[[], None]]:
        """Beat while the block runs; yields what beats at once, in the calling thread.

        What a beat in the other thread raises is its last one; it leaves from the next beat that is asked for, or from
        the end of the block, unless the block raises something itself.
        """

        def now() -> None:
            with self._lock:
                self._complain()
                beat()

        with self._lock:
            self._beat, self._error = beat, None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rowscore-pulse", daemon=True)
                self._thread.start()
        try:
            yield now
        finally:
            with self._lock:
                self._beat = None
        self._complain()

    def _complain(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            time.sleep(self.seconds)
            with self._lock:
                if self._beat is None:
                    self._thread = None
                    return
                try:
                    self._beat()
                except Exception as error:
                    self._error, self._beat = error, None
