"""How a task fails on purpose: with one line, in the log, in the result and in Flower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import RowscoreError
from worker.log import logger

_log = logger(__name__)


@contextmanager
def in_one_line(task: str, name: str | None) -> Iterator[None]:
    """Raise rowscore's own errors anew, without the frames and the driver's error that nobody reads."""
    try:
        yield
    except RowscoreError as error:
        _log.error(f"{task} failed", prediction=name, error=str(error), kind=type(error).__name__)
        raise type(error)(str(error)) from None
