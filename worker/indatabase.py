"""The in-database path: the SQL function scores inside one statement; its errors are read as a model's errors."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from worker import errors, rows
from worker.bisection import isolate
from worker.database import Database, Transaction
from worker.kinds.sql import SqlModel
from worker.leases import Lease, Window, share_prediction
from worker.materialisation import Materialisation
from worker.models.protocol import CallStatistics, RowFailure
from worker.purse import Purse
from worker.rows import Taken
from worker.writeback import LOCK_PATIENCE, Outcome

_THROTTLED = re.compile(r"throttl|rate exceeded|too many requests|\b429\b", re.IGNORECASE)
STATEMENT_SHARE = (
    0.8  # of the lease's time: the statement ends before another worker may take the window over
)

# What ends the scoring of a window, and leaves what was scored of it as it is.
FAULTS = (errors.ModelError, errors.StatementTimeoutError, errors.LockTimeoutError, errors.ConflictError)


@dataclass(slots=True)
class Answers:
    """What a window's rows were answered so far, poison rows with their failures: all of it is paid for.

    Attributes:
        parts: the rows, in as many parts as there were statements.
        complete: every row was asked about, but for those that other sessions hold.
        fault: why the rest was not, where something failed.
    """

    parts: list[Taken] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    complete: bool = True
    fault: errors.RowscoreError | None = None

    @property
    def taken(self) -> Taken:
        """The rows of the outcomes, in their order."""
        return rows.merged(self.parts) if self.parts else rows.NOTHING

    def add(self, taken: Taken, outcomes: Iterable[Outcome]) -> None:
        """Some more."""
        self.parts.append(taken)
        self.outcomes.extend(outcomes)


@dataclass(slots=True)
class Isolated:
    """What became of a window that was scored around its poison rows: all of it is paid for, and some is written.

    Attributes:
        taken: the window's rows.
        failures: the poison rows among them, by their places.
        scored: rows that were written.
        fault: why the search ended before all rows had been asked about, where something failed.
    """

    taken: Taken
    failures: dict[int, RowFailure] = field(default_factory=dict)
    scored: int = 0
    fault: errors.RowscoreError | None = None


class InDatabase:
    """Calls the SQL function over leased windows of one prediction."""

    def __init__(self, database: Database, materialisation: Materialisation) -> None:
        self.database = database
        self.m = materialisation
        self.purse: Purse | None = None

    def pay(self, lease: Lease, count: int) -> None:
        """Reserve what a statement over so many rows is going to cost, where there is a budget.

        Raises:
            BudgetSpentError: the budget does not allow it.
        """
        if self.purse is not None:
            self.purse.draw(lease.run, 1, count)

    def take_back(self, lease: Lease, count: int) -> None:
        """Rows that were paid for and not there."""
        if self.purse is not None:
            self.purse.give_back(lease.run, 0, count)

    @property
    def writes(self) -> bool:
        """Whether the function is called inside the UPDATE (`mode = "update"`)."""
        model = self.m.prediction.model
        return isinstance(model, SqlModel) and model.mode == "update"

    def score_window(self, transaction: Transaction, lease: Lease, *, past_locks: bool) -> int:
        """Score the whole window in the shape that is fastest for its function; returns the rows written.

        In place where every row of the window is ours, and the window's end ends the walk. A function that costs
        nothing is not even asked about: a held row strikes the lock_timeout, and the window is scored again
        `past_locks`. For one that may cost money the rows are locked first, so that it is never called in vain.
        """
        function = self.m.function
        if past_locks or function is None or not function.in_place or not self.m.ends_walks:
            return rows.score(transaction, self.m, lease, lease.window, lease.rows)
        if (function.free and lease.attempts == 1) or rows.claim(transaction, self.m, lease):
            return rows.score_in_place(transaction, self.m, lease)
        return rows.score(transaction, self.m, lease, lease.window, lease.rows)

    def run(
        self, lease: Lease, work: Callable[[Transaction, Any], None], *, lock_timeout: str = LOCK_PATIENCE
    ) -> None:
        """One transaction under the lease's generation in which the function may be called.

        Args:
            work: told the transaction and the prediction's row (see `share_prediction`).

        Raises:
            ModelError: what the function's error means; see `model_error`.
        """
        limit = f"{int(self.m.prediction.lease_time.total_seconds() * 1000 * STATEMENT_SHARE)}ms"
        settings = {
            **self.database.capabilities.plan_pins,
            "statement_timeout": limit,
            "lock_timeout": lock_timeout,
        }
        try:
            with self.database.transaction(**settings) as transaction:
                work(transaction, share_prediction(transaction, self.m, lease.generation))
        except errors.DatabaseError as error:
            fault = model_error(error)
            if fault is None:
                raise
            raise fault from error

    def note_call(self, statistics: CallStatistics, count: int, started: float) -> None:
        """One statement is one call as far as the worker can see; the database may batch within it."""
        statistics.calls += 1
        statistics.rows += count
        statistics.seconds.append(time.perf_counter() - started)
        statistics.sizes.append(count)

    def answers(
        self,
        lease: Lease,
        statistics: CallStatistics,
        stop: threading.Event,
        renew: Callable[[], None],
        *,
        presumed: bool,
    ) -> Answers:
        """The window's rows with the function's answers by an unlocked SELECT; an error ends it, and is in the answers.

        Args:
            presumed: the function worked lately, so a few rows that fail on their own are at fault themselves.
        """
        found = Answers()

        def select(window: Window, limit: int) -> None:
            renew()
            started = time.perf_counter()
            part: list[Taken] = []
            self.pay(lease, limit)
            self.run(
                lease,
                lambda transaction, _: part.append(rows.answer(transaction, self.m, lease, window, limit)),
            )
            self.take_back(lease, limit - len(part[0]))
            self.note_call(statistics, len(part[0]), started)
            found.add(part[0], map(tuple, part[0].values))

        def isolated(window: Window, limit: int, failed: errors.RowFaultError) -> None:
            taken = identify(self.database, self.m, lease, window, limit)
            failures: dict[int, RowFailure] = {}
            try:
                self._isolate(taken, select, failures, stop, presumed=presumed, failed=failed)
            finally:
                found.add(taken.pick(list(failures)), failures.values())
            found.complete = not stop.is_set()

        try:
            for window, limit in self._unheld(lease):
                if stop.is_set():
                    found.complete = False
                    break
                try:
                    select(window, limit)
                except errors.RowFaultError as error:
                    isolated(window, limit, error)
        except FAULTS as fault:
            found.complete, found.fault = False, fault
        return found

    def _unheld(self, lease: Lease) -> list[tuple[Window, int]]:
        """The window, or the stretches of it between rows that other sessions hold: those are not paid for."""
        try:
            with self.database.transaction(**self.database.capabilities.plan_pins) as transaction:
                if rows.claim(transaction, self.m, lease):
                    return [(lease.window, lease.rows)]
                free = rows.identify(transaction, self.m, lease, lease.window, lease.rows, unheld=True)
                everything = rows.identify(transaction, self.m, lease, lease.window, lease.rows)
        except errors.DataError:  # an expression fails on some row: bisection finds it
            return [(lease.window, lease.rows)]
        ours = {free.key(place) for place in range(len(free))}
        stretches: list[tuple[Window, int]] = []
        start = 0
        for place in range(len(everything) + 1):
            if place < len(everything) and everything.key(place) in ours:
                continue
            if place > start:
                stretches.append((everything.window(start, place), place - start))
            start = place + 1
        return stretches

    def isolate(
        self,
        lease: Lease,
        statistics: CallStatistics,
        stop: threading.Event,
        renew: Callable[[], None],
        *,
        presumed: bool,
        failed: errors.RowFaultError,
    ) -> Isolated:
        """Score the window around its poison rows; an error that ends it is in what it returns.

        Args:
            presumed: see `answers`.
            failed: the error of the whole window, which is not tried again.
        """

        def update(window: Window, limit: int) -> None:
            renew()
            started = time.perf_counter()
            counts: list[int] = []
            self.pay(lease, limit)
            self.run(
                lease,
                lambda transaction, _: counts.append(rows.score(transaction, self.m, lease, window, limit)),
            )
            self.take_back(lease, limit - counts[0])
            self.note_call(statistics, counts[0], started)
            found.scored += counts[0]

        found = Isolated(identify(self.database, self.m, lease, lease.window, lease.rows))
        try:
            self._isolate(found.taken, update, found.failures, stop, presumed=presumed, failed=failed)
        except FAULTS as fault:
            found.fault = fault
        return found

    def _isolate(
        self,
        taken: Taken,
        attempt: Callable[[Window, int], None],
        failures: dict[int, RowFailure],
        stop: threading.Event,
        *,
        presumed: bool,
        failed: errors.RowFaultError,
    ) -> None:
        """Fill in the poison rows among `taken` by their places; the others are in a successful attempt."""

        def convict(place: int, error: errors.RowFaultError) -> None:
            failures[place] = RowFailure(error.failure, str(error))

        isolate(
            len(taken),
            lambda start, end: attempt(taken.window(start, end), end - start),
            convict,
            presumed=presumed,
            stop=stop.is_set,
            failed=failed,
        )


def identify(database: Database, m: Materialisation, lease: Lease, window: Window, limit: int) -> Taken:
    """The window's rows for bisection; without fingerprints where an input's or `where`'s expression fails itself."""
    try:
        with database.transaction(**database.capabilities.plan_pins) as transaction:
            return rows.identify(transaction, m, lease, window, limit)
    except errors.DataError:
        with database.transaction(**database.capabilities.plan_pins) as transaction:
            return rows.list_keys(transaction, m, lease, window, limit)


def model_error(error: errors.DatabaseError) -> errors.ModelError | None:
    """What an error inside the scoring statement says about the model; None where it is the database's own affair.

    A function reports its service's errors through SQLSTATE: class 22, 23, P0, 38, 39 and XX may be one row's data,
    08 and 53 are the service's, a missing privilege or object has to be mended by a person.
    """
    message = str(error)
    if isinstance(error, errors.DataError):
        return errors.ThrottledError(message) if _THROTTLED.search(message) else errors.RowFaultError(message)
    if isinstance(error, (errors.PrivilegeError, errors.MissingObjectError)):
        return errors.ServiceRefusedError(message)
    if isinstance(error, errors.ConnectionFailedError):
        return errors.ServiceUnavailableError(message) if (error.sqlstate or "").startswith("08") else None
    if type(error) is errors.DatabaseError and error.sqlstate is not None:
        return errors.ServiceUnavailableError(message)
    return None
