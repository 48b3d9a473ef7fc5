"""Compares rows with the fingerprints of the inputs that were scored, and has those scored again that changed unseen.

A change is unseen where a trigger was disabled, a bulk load went past it, or there is none. The walk is over the key,
in windows that lock nothing; rows that changed are put back to pending some at a time, in short transactions that step
over what other sessions hold. Nothing here calls a model: whatever it finds, a drain scores.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from worker import errors, rows
from worker.bisection import isolate
from worker.config import Prediction
from worker.database import Transaction
from worker.engine import Engine
from worker.leases import Key, Window, bind_key, share_prediction
from worker.log import logger
from worker.rows import Taken
from worker.table import listed

ROWS_PER_LOOK = 5000  # rows compared in one statement
ROWS_PER_MARK = 1000  # rows locked at once
EXAMPLES = 10  # keys that are shown
SLICE = 10.0  # seconds that a task of Celery's works before it lets others have its process
QUIET = 120.0  # seconds after which a walk is taken for abandoned
_STOPPED = "it was told to stop"
_AGAIN = 1.0  # seconds before another look at what holds the work up, where nobody says when

_log = logger(__name__)


class Found(IntEnum):
    """What a row is found as when its inputs are compared; those that are as they were scored are not among them."""

    CHANGED = 1
    UNKNOWN = 2  # no fingerprint was kept, or one of another definition of inputs and `where`


@dataclass(slots=True)
class Verification:
    """What one walk found and did.

    Attributes:
        rows: rows looked at, whatever their state.
        changed: rows whose inputs are not those that were scored.
        unknown: rows that were scored before fingerprints were kept, or under another definition.
        requeued: rows that were put back to pending.
        accepted: unknown rows that were taken to be as they were scored.
        held: rows to be put back or accepted that another session held, left for the next time.
        failing: rows that could not be compared, since an expression of the configuration fails on them.
        error: why, for the first of them.
        examples: keys of some that changed.
        complete: the walk came to the table's end.
        position: the last key that was looked at.
        ended: why it ended.
        retry_after: seconds after which it may go on, where something held it up.
    """

    prediction: str
    rows: int = 0
    changed: int = 0
    unknown: int = 0
    requeued: int = 0
    accepted: int = 0
    held: int = 0
    failing: int = 0
    error: str | None = None
    examples: list[Key] = field(default_factory=list)
    seconds: float = 0.0
    complete: bool = False
    position: Key | None = None
    ended: str = ""
    retry_after: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


Progress = Callable[[Verification, int], None]


def verify(
    engine: Engine,
    name: str | None = None,
    *,
    dry_run: bool = False,
    unknown: bool = False,
    accept: bool = False,
    seconds: float = math.inf,
    start: Key | None = None,
    progress: Progress | None = None,
    waits: Callable[[str], None] | None = None,
) -> Verification:
    """Walk over the table, or on from a key, until its end, until the time is over, or until `engine.stop` is set.

    Args:
        dry_run: only count.
        unknown: rows of which nobody knows are put back to pending as well: each is paid for again.
        accept: they are taken to be as they were scored instead, and nobody pays: for a table that a trigger watched.
        seconds: its time, looked at after each window; one is walked in any case.
        start: the key after which to begin.
        progress: told after each window, with the rows that it had.
        waits: told why it waits while something holds the work up; without it the walk ends instead.

    Raises:
        ConfigurationError: no fingerprint is configured.
        NotAppliedError, StaleDefinitionError: this process may not change the prediction's rows.
    """
    wanted = (Found.CHANGED, *((Found.UNKNOWN,) if unknown else ()))
    walk = _Walk(engine, name, () if dry_run else wanted, accept=accept and not dry_run, start=start)
    return walk.run(seconds, progress, waits)


def _keeping(engine: Engine, name: str | None) -> Prediction:
    """The prediction, if it keeps fingerprints."""
    prediction = engine.prediction(name)
    if prediction.fingerprint_column is None:
        raise errors.ConfigurationError(
            f'{prediction.name} keeps no fingerprints to compare with: set on_input_change = "fingerprint", or '
            f'fingerprint = "{prediction.name}_fingerprint" beside the trigger, and run '
            f"`rowscore apply {prediction.name}`"
        )
    return prediction


class _Walk:
    """One walk of one process."""

    def __init__(
        self,
        engine: Engine,
        name: str | None,
        wanted: Sequence[Found],
        *,
        accept: bool,
        start: Key | None,
    ) -> None:
        prediction = _keeping(engine, name)
        self.engine = engine
        self.database = engine.database(prediction)
        self.m = engine.materialisation(prediction)
        self.watch = engine.watch(prediction)
        self.wanted = wanted
        self.accept = accept
        self._cut = False  # it was told to stop in the middle of a window, which is not done
        self.found = Verification(prediction.name, position=start)

    def run(
        self, seconds: float, progress: Progress | None, waits: Callable[[str], None] | None
    ) -> Verification:
        """See `verify`."""
        found, started = self.found, time.monotonic()
        while not self.engine.stop.is_set():
            if (held_up := self._held_up(waits)) is not None:
                found.ended = held_up
                break
            window, count = self._next()
            if window is not None:
                self._settle(window, count)
                if self._cut:
                    break
                found.rows, found.position = found.rows + count, window.hi
                found.seconds = time.monotonic() - started
                if progress is not None:
                    progress(found, count)
            if count < ROWS_PER_LOOK and not self.engine.stop.is_set():
                found.complete, found.ended = True, "every row was looked at"
                break
            if time.monotonic() - started >= seconds:
                found.ended = "its time is over"
                break
        found.ended = found.ended or _STOPPED
        found.seconds = time.monotonic() - started
        _log.info("rows verified", **{**found.as_dict(), "examples": None})
        return found

    def _held_up(self, waits: Callable[[str], None] | None) -> str | None:
        """Why the walk may not go on, if it may not; waits where somebody is told of it."""
        while not self.engine.stop.is_set():
            verdict = self.watch.check(self.m)
            if verdict.signal is None:
                return None
            rest = verdict.retry_after or _AGAIN
            if waits is None:
                self.found.retry_after = rest
                return f"throttled: {verdict.reason}"
            waits(f"throttled: {verdict.reason}")
            self.engine.stop.wait(rest)
        return _STOPPED

    def _next(self) -> tuple[Window | None, int]:
        """The next keys, and how many they are."""
        position = self.found.position
        bounds = bind_key("start", position) if position is not None else {}
        statement = self.m.render("walk_keys", start=position is not None)
        with self._open() as transaction:
            share_prediction(transaction, self.m)
            row: Any = transaction.row(statement, limit=ROWS_PER_LOOK, **bounds)
        if not row.rows:
            return None, 0
        return Window(tuple(listed(row.lo)), tuple(listed(row.hi))), int(row.rows)

    def _settle(self, window: Window, count: int) -> None:
        """Compare the window's rows, and put back to pending what has to be."""
        limit = 2 * count + ROWS_PER_LOOK  # more than rows that come meanwhile make it
        try:
            parts = [self._compare(window, limit)]
        except errors.DataError:
            parts = self._around(window, limit)
        for taken in parts:
            kinds = [row[0] for row in taken.values]
            changed = [place for place, kind in enumerate(kinds) if kind == Found.CHANGED]
            self.found.changed += len(changed)
            self.found.unknown += len(kinds) - len(changed)
            self.found.examples += map(taken.key, changed[: max(0, EXAMPLES - len(self.found.examples))])
            found = [place for place, kind in enumerate(kinds) if kind in self.wanted]
            self.found.requeued += self._write(taken.pick(found), self.wanted, accept=False)
            if self.accept:
                unknown = [place for place, kind in enumerate(kinds) if kind == Found.UNKNOWN]
                self.found.accepted += self._write(taken.pick(unknown), [Found.UNKNOWN], accept=True)

    def _compare(self, window: Window, limit: int) -> Taken:
        with self._open() as transaction:
            share_prediction(transaction, self.m)
            return rows.compare(transaction, self.m, window, limit)

    def _around(self, window: Window, limit: int) -> list[Taken]:
        """An expression fails on some row, as a division by zero does: compare the others."""
        with self._open() as transaction:
            known = rows.list_compared(transaction, self.m, window, limit)
        parts: list[Taken] = []

        def attempt(start: int, stop: int) -> None:
            try:
                parts.append(self._compare(known.window(start, stop), limit))
            except errors.DataError as error:
                raise errors.RowRejectedError(str(error)) from error

        self._isolate(known, attempt)
        return parts

    def _isolate(self, taken: Taken, attempt: Callable[[int, int], None]) -> None:
        """Find the rows on which an expression fails; the others are in an attempt that succeeds."""

        def convict(place: int, error: errors.RowFaultError) -> None:
            self.found.failing += 1
            self.found.error = self.found.error or f"key {', '.join(taken.key(place))}: {error}"

        isolate(len(taken), attempt, convict, proven=True, stop=self.engine.stop.is_set)
        self._cut = self.engine.stop.is_set()

    def _write(self, taken: Taken, wanted: Sequence[Found], *, accept: bool) -> int:
        """Put rows back to pending, or accept them, some at a time; returns how many."""
        written = 0

        def attempt(start: int, stop: int) -> None:
            nonlocal written
            part = taken.pick(range(start, stop))
            try:
                with self._open() as transaction:
                    share_prediction(transaction, self.m)
                    done, held = rows.requeue(transaction, self.m, part, wanted, accept=accept)
            except (errors.ConflictError, errors.LockTimeoutError):
                done, held = 0, len(part)
            except errors.DataError as error:
                raise errors.RowRejectedError(str(error)) from error
            written += done
            self.found.held += held

        for first in range(0, len(taken), ROWS_PER_MARK):
            last = min(first + ROWS_PER_MARK, len(taken))
            try:
                attempt(first, last)
            except errors.RowRejectedError:
                part, begin = taken.pick(range(first, last)), first
                self._isolate(part, lambda start, stop, begin=begin: attempt(begin + start, begin + stop))  # type: ignore[misc]
        return written

    def _open(self) -> Any:
        return self.database.transaction(**self.database.capabilities.plan_pins, lock_timeout="5s")


# --- by itself, a slice at a time ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """What a task did of the walk that all tasks share.

    Attributes:
        walk: the walk's number; None: there is none to go on with.
        found: None where nothing was to be done.
        reason: why.
        follow: seconds after which the next slice should begin, or None: none should.
    """

    walk: int | None = None
    found: Verification | None = None
    reason: str | None = None
    follow: float | None = None


def verify_slice(engine: Engine, name: str | None = None, walk: int | None = None) -> Slice:
    """Go on with the walk that is kept in the database for some seconds, or begin one where that is due.

    Two at once do no harm: whoever comes second finds its slice kept already, and has no successor.

    Args:
        walk: the one to go on with, and no other; None: that which was abandoned, or a new one.

    Raises:
        ConfigurationError: no fingerprint is configured.
        NotAppliedError, StaleDefinitionError: this process may not change the prediction's rows.
    """
    prediction = _keeping(engine, name)
    cursor = _Cursor(engine, prediction.name)
    if walk is None:
        every = prediction.verified_every
        row = cursor.open(math.inf if every is None else every.total_seconds())
    else:
        row = cursor.read()
        row = row if row is not None and row.token == walk and row.rested is None else None
    if row is None:
        return Slice(reason="no walk is due, or another task is at it")
    start = None if row.pos is None else tuple(map(str, listed(row.pos)))
    seconds = min(prediction.max_run_time.total_seconds(), SLICE)
    found = verify(engine, prediction.name, seconds=seconds, start=start)
    if not cursor.keep(row, found):
        return Slice(row.token, found, "another task went on with the walk meanwhile")
    follow = (
        None if found.complete else max(found.retry_after or 0.0, found.seconds)
    )  # at rest half of the time
    return Slice(row.token, found, found.ended, follow)


class _Cursor:
    """Where the walk stands that tasks share."""

    def __init__(self, engine: Engine, name: str) -> None:
        prediction = engine.prediction(name)
        self.database, self.m = engine.database(prediction), engine.materialisation(prediction)

    def read(self) -> Any:
        """The run's row; None where there is none yet."""
        with self.database.transaction(lock_timeout="5s") as transaction:
            share_prediction(transaction, self.m)
            return self._find(transaction)

    def open(self, every: float) -> Any:
        """The row of the walk to go on with, begun where that is due; None where nothing is to be done."""
        with self.database.transaction(lock_timeout="5s") as transaction:
            share_prediction(transaction, self.m)
            row = self._find(transaction)
            if row is None:
                transaction.execute(self.m.render("add_verification"), prediction=self.m.name)
                row = self._find(transaction)
            if row.rested is None and row.quiet is not None:
                return row if row.quiet >= QUIET else None
            if row.rested is not None and row.rested < every:
                return None
            begun = transaction.execute(self.m.render("begin_verification"), run=row.id, token=row.token)
            return self._find(transaction) if begun.rowcount else None

    def keep(self, row: Any, found: Verification) -> bool:
        """Note how far the walk is; whether nobody else did meanwhile."""
        position = None if found.position is None else json.dumps(found.position)
        with self.database.transaction(lock_timeout="5s") as transaction:
            kept = transaction.execute(
                self.m.render("keep_verification"),
                run=row.id, token=row.token, walked=row.rows_walked, looked=found.rows, pos=position,
                over=found.complete,
            )  # fmt: skip
        return bool(kept.rowcount)

    def _find(self, transaction: Transaction) -> Any:
        return transaction.row(self.m.render("find_verification"), prediction=self.m.name)
