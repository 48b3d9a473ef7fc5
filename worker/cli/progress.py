"""Progress while rows are scored: a bar on a terminal, else a line every few seconds; always on stderr."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from worker.cli import figures
from worker.cli.output import is_terminal

LINE_EVERY = 5.0  # seconds between plain lines
RECENT = 300.0  # seconds that the speed is over, waits included
_SAMPLES = 1.0  # seconds between two of them


@dataclass(slots=True)
class Course:
    """Where the work stands.

    Attributes:
        total: rows there are to do, or None where nobody knows.
        before: rows that were done when this process began; they say nothing about its speed.
        done: rows done, those included.
        failed: rows in quarantine.
        batch: rows of the last batch.
        seconds: since this process began.
        since: the oldest moment of the last five minutes, in the same seconds, and the rows that were done then.
        waiting: why nothing happens now.
    """

    total: int | None = None
    before: int = 0
    done: int = 0
    failed: int = 0
    batch: int = 0
    seconds: float = 0.0
    waiting: str | None = None
    since: tuple[float, int] | None = None

    @property
    def speed(self) -> float | None:
        """Rows a second over the last five minutes, in which it may have waited; None before the first batch."""
        began, done = self.since or (0.0, self.before)
        rows, seconds = self.done - done, self.seconds - began
        return rows / seconds if rows > 0 and seconds > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds to go at that speed."""
        if self.total is None or not self.speed:
            return None
        return max(self.total - self.done, 0) / self.speed


def describe(course: Course) -> str:
    """The course in one line: `45,000 of 200,000 rows  12,300 rows/s  13 s left  batch 5,000  3 failed`."""
    whole = "" if course.total is None else f" of {figures.count(course.total)}"
    parts = [f"{figures.count(course.done)}{whole} rows"]
    if course.speed:
        parts.append(figures.rate(course.speed, 1.0))
    if course.remaining:
        parts.append(f"{figures.duration(max(round(course.remaining), 1))} left")
    if course.batch:
        parts.append(f"batch {figures.count(course.batch)}")
    if course.failed:
        parts.append(f"{figures.count(course.failed)} failed")
    if course.waiting:
        parts.append(f"waiting: {course.waiting}")
    return "  ".join(parts)


class Progress:
    """Shows a course for as long as the `with` block lasts; nothing at all where `shown` is false."""

    def __init__(self, label: str, course: Course) -> None:
        self.label = label
        self.course = course
        self._began = time.monotonic()
        self._last_line = self._began
        self._bar: Any = None
        self._samples: deque[tuple[float, int]] = deque([(0.0, course.before)])

    def __enter__(self) -> Self:
        if is_terminal(sys.stderr):
            self._bar = _terminal_bar(self.label, self.course)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def batch(self, done: int, failed: int, rows: int) -> None:
        """Another batch is through; `done` and `failed` count all rows so far."""
        if done != self.course.done:
            self.course.waiting = None
        self.course.done, self.course.failed, self.course.batch = done, failed, rows
        self._show(new=False)

    def wait(self, reason: str) -> None:
        """Nothing happens for now, and why; a reason is told once, however often it is met."""
        new = reason != self.course.waiting
        self.course.waiting = reason
        self._show(new=new)

    def _show(self, *, new: bool) -> None:
        now = time.monotonic()
        self.course.seconds = now - self._began
        self._sample()
        if self._bar is not None:
            self._bar.update(0, completed=_shown(self.course), detail=describe(self.course))
        elif new or now - self._last_line >= LINE_EVERY:
            self._last_line = now
            print(f"{self.label}: {describe(self.course)}", file=sys.stderr, flush=True)

    def _sample(self) -> None:
        """Keep where it stood at each second of the last five minutes."""
        if self.course.seconds - self._samples[-1][0] >= _SAMPLES:
            self._samples.append((self.course.seconds, self.course.done))
        while len(self._samples) > 1 and self._samples[1][0] <= self.course.seconds - RECENT:
            self._samples.popleft()
        self.course.since = self._samples[0]


def _shown(course: Course) -> float:
    """What the bar shows: never all of it, since the last look, which finds nothing left, is still to come."""
    return course.done if course.total is None else min(course.done, 0.99 * course.total)


def _terminal_bar(label: str, course: Course) -> Any:
    """A bar where the total is known, a spinner where it is not, and the line of `describe` behind it."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    known = [BarColumn(bar_width=24), TaskProgressColumn()] if course.total else [SpinnerColumn()]
    columns = [TextColumn("{task.description}"), *known, TextColumn("{task.fields[detail]}", markup=False)]
    bar = Bar(*columns, console=Console(stderr=True, highlight=False), transient=True, refresh_per_second=5)
    bar.add_task(label, total=course.total, completed=round(_shown(course)), detail=describe(course))
    return bar
