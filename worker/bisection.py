"""Finds the poison rows of a batch by splitting it; it knows row numbers, but no rows, models or databases.

A range that fails with a RowFaultError is halved until single rows fail. A row is convicted only by a failure
of its own, never by deduction, so a service that fails once by chance convicts nobody. Nor is anybody
convicted before some call has succeeded (the evidence): where nothing succeeds, the service is at fault.

Calls, counted: one poison row among n costs 1 + 2 ceil(log2 n) calls in all, that of the whole batch
included; p poison rows at most 1 + 2 p ceil(log2 n). A service that fails on everything is given up after at
most ceil(log2 n) + `WITNESSES` + 1 calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from worker.errors import (
    ModelError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

WITNESSES = 8
"""So many single rows, drawn over the whole batch, fail before a service that never succeeded is given up."""


class Span(NamedTuple):
    """A range of row numbers: `start` and the number after its last."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many rows it holds."""
        return self.stop - self.start


class Search:
    """Which range to call next, and who is to blame: the pure half of a bisection, for one thread.

    The driver calls `next`, makes the call, and reports `succeeded`, `failed`, `divide`, `put_back` or `convict`, with
    several ranges in flight if it likes. Ranges given out and never reported count as not scored.

    Args:
        size: the number of rows.
        proven: whether rows may be convicted without any evidence from this batch.
        presumed: whether the service answered lately. That convicts fewer rows than `WITNESSES`; when so many
            have failed and nothing succeeded, the service has stopped working since.
    """

    def __init__(self, size: int, *, proven: bool = False, presumed: bool = False) -> None:
        self._presumed = presumed
        self.proven = proven or size == 1  # one row alone has nothing to be compared with
        self._fresh = [Span(0, size)] if size else []  # not yet tried: cut to the limit when given out
        self._halves: list[Span] = []  # of ranges that failed: given out as they are, the last first
        self._in_flight = 0
        self._suspects: dict[int, RowFaultError] = {}
        self._convicted: dict[int, RowFaultError] = {}
        self._doubtful = False  # something failed after the first suspect, and nothing has succeeded

    @property
    def poison(self) -> dict[int, RowFaultError]:
        """The rows convicted so far, each with its own error; suspects join them once there is evidence."""
        return self._convicted | (self._suspects if self.proven else {})

    @property
    def idle(self) -> bool:
        """Whether no range is in flight."""
        return not self._in_flight

    def next(self, limit: int | None = None) -> Span | None:
        """The next range to call, at most `limit` rows of it if it is fresh; None: nothing to give out now.

        While there are failures and no evidence, one range at a time is given out, so that a service
        that fails on everything is not called more than it must be.
        """
        if self._in_flight and not self.proven and (self._suspects or self._halves):
            return None
        span = self._witness() if not self.proven and self._doubtful else self._in_order(limit)
        if span is not None:
            self._in_flight += 1
        return span

    def succeeded(self, _span: Span) -> None:
        """The call answered: its rows are done, and the service is known to work."""
        self._in_flight -= 1
        self.proven = True

    def failed(self, span: Span, error: RowFaultError) -> None:
        """The call failed, and it may be one row's fault: the range is halved, or its only row is suspected.

        Raises:
            ServiceUnavailableError: nothing has succeeded, and enough single rows have failed.
            ServiceRefusedError: the same, and each of them was rejected.
        """
        self._doubtful = bool(self._suspects)
        if span.size > 1:
            self.divide(span)
            return
        self._in_flight -= 1
        self._suspects[span.start] = error
        if not self.proven and len(self._suspects) >= WITNESSES:
            raise self._fault()

    def divide(self, span: Span) -> None:
        """The call asked for too much: its halves come next, and nobody is suspected."""
        self._in_flight -= 1
        middle = (span.start + span.stop) // 2
        self._halves += [Span(middle, span.stop), Span(span.start, middle)]

    def put_back(self, span: Span) -> None:
        """The call was not made: its rows are given out again, in smaller ranges if the limit is less by then."""
        self._in_flight -= 1
        self._fresh.append(span)

    def convict(self, span: Span, error: RowFaultError) -> None:
        """The range's only row is at fault without a doubt, whatever the evidence."""
        self._in_flight -= 1
        self._convicted[span.start] = error

    def conclude(self) -> None:
        """To be called when every range has been given out and reported.

        Raises:
            ServiceUnavailableError: there are suspects, nothing has succeeded, and no success is presumed.
            ServiceRefusedError: the same, and each suspect was rejected.
        """
        if self._suspects and not self.proven:
            if not self._presumed:
                raise self._fault()
            self.proven = True

    def _in_order(self, limit: int | None) -> Span | None:
        if self._halves:
            return self._halves.pop()
        if not self._fresh:
            return None
        span = self._fresh.pop()
        if limit is None or span.size <= limit:
            return span
        self._fresh.append(Span(span.start + limit, span.stop))
        return Span(span.start, span.start + limit)

    def _witness(self) -> Span | None:
        """A single row of the largest range left, at random so that no batch is misjudged for ever."""
        left = self._fresh + self._halves
        if not left:
            return None
        span = max(left, key=lambda span: span.size)
        source = self._fresh if span in self._fresh else self._halves
        source.remove(span)
        row = random.randrange(span.start, span.stop)
        source += [rest for rest in (Span(row + 1, span.stop), Span(span.start, row)) if rest.size]
        return Span(row, row + 1)

    def _fault(self) -> ModelError:
        errors = list(self._suspects.values())
        message = f"no call succeeded, not even with single rows, so no row is to blame: {errors[0]}"
        if all(isinstance(error, RowRejectedError) for error in errors):
            return ServiceRefusedError(message)
        return ServiceUnavailableError(message)


def isolate(
    size: int,
    attempt: Callable[[int, int], object],
    convict: Callable[[int, RowFaultError], object],
    *,
    proven: bool = False,
    presumed: bool = False,
    stop: Callable[[], bool] | None = None,
    failed: RowFaultError | None = None,
) -> None:
    """Score the rows 0 to `size`, one call after the other, and hand each poison row to `convict` with its
    error.

    Good rows are in exactly one successful attempt. An attempt may be a database transaction.

    Args:
        size: the number of rows.
        attempt: scores the rows from its first argument up to its second; raises RowFaultError
            (RowRejectedError) where one of them may be at fault. Any other error ends the search and leaves
            as it is.
        convict: told of each poison row when the search ends, in whatever way, unless evidence is missing.
        proven: single failures convict without other evidence, all rows if need be: for attempts that call no
            service (reading, writing).
        presumed: the service answered lately, which is evidence enough for fewer than `WITNESSES` rows.
        stop: asked before each call; once true, the rest is left unscored.
        failed: the error of an attempt at all the rows that was made already: it is not made again, unless the row
            stands alone, for only an attempt of its own may convict it.

    Raises:
        ServiceUnavailableError: nothing succeeded.
        ServiceRefusedError: nothing succeeded and each single row was rejected.
    """
    search = Search(size, proven=proven, presumed=presumed)
    if failed is not None and size > 1 and (span := search.next()):
        search.failed(span, failed)
    try:
        while not (stop and stop()) and (span := search.next()):
            try:
                attempt(span.start, span.stop)
            except RowFaultError as error:
                search.failed(span, error)
            else:
                search.succeeded(span)
        if not (stop and stop()):
            search.conclude()
    finally:
        for row, reason in search.poison.items():
            convict(row, reason)
