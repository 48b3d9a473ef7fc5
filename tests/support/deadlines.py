"""Waiting for what other processes do: asked again and again until a deadline, never slept for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")
_PAUSE = 0.05  # seconds between two looks


def eventually(probe: Callable[[], _Found], what: str, seconds: float = 20.0) -> _Found:
    """The first true value that `probe` returns; the test fails with `what` if none comes in time."""
    never = threading.Event()
    deadline = time.monotonic() + seconds
    while True:
        if found := probe():
            return found
        assert time.monotonic() < deadline, f"after {seconds:g} seconds still not: {what}"
        never.wait(_PAUSE)
