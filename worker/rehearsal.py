"""Trials of a prediction's model with real rows: each makes calls, takes their time, and writes nothing.

A model that the worker calls is called by the code that drains use (`worker.scoring.score`), and its answers are
dropped. A function of the database is called by the unlocked SELECT of `mode = "select"`, which is rolled back.

A call that was sent is paid for, whatever became of it, but for one that the service throttled: that is waited for.
Where the prediction has a daily budget, it is drawn from that before it is made, as a drain's calls are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from worker import errors, rows
from worker.batch import DEFAULT_ROWS_PER_CALL
from worker.controller import FLOOR
from worker.database import Database
from worker.distinct import distinct
from worker.gates import Gate
from worker.indatabase import STATEMENT_SHARE, model_error
from worker.kinds.base import ServiceModel
from worker.kinds.sql import SqlModel
from worker.knee import Limits, Result, Trial, Verdict
from worker.materialisation import Materialisation
from worker.models.protocol import Answer, Batch, Model, RowFailure, Wrapped
from worker.patience import Patience, StoppedError
from worker.purse import Account
from worker.rows import Taken
from worker.scoring import Scores, score
from worker.states import RowState

Clock = Callable[[], float]
_CHANGED = "the rows to try with were scored or changed meanwhile"
# A request is sent once, so that what fails is seen; one that is throttled waits for as long as this.
_PATIENCE = Patience(attempts=1, throttle_waits=20, throttle_seconds=60.0)
_TOO_SLOW = errors.ServiceTimeoutError, errors.StatementTimeoutError
# A claim's other statements: lease, log and their transactions, 15 in all against 4 of a rehearsal. Their way to the
# server and back is part of what a claim costs, whatever its size.
_ROUND_TRIPS = 11


@dataclass(slots=True)
class Paid:
    """What it cost: calls that were sent, rows in them, and requests that were throttled, which cost nothing.

    Attributes:
        failed_rows: rows in whose answers' places a failure was.
    """

    calls: int = 0
    rows: int = 0
    throttled: int = 0
    failed_rows: int = 0


class _Places:
    """Stretches of the rows at hand, one after the other, around those in which a call failed if that is possible."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0
        self._suspects: list[range] = []

    def take(self, count: int) -> range:
        """The next stretch of so many rows."""
        starts = [self._next, *sorted(suspect.stop for suspect in self._suspects), 0]
        fitting = [start for start in starts if start + count <= self._count]
        free = [start for start in fitting if not self._meets(range(start, start + count))]
        start = (free or fitting)[0]
        self._next = start + count
        return range(start, start + count)

    def suspect(self, stretch: range) -> None:
        """Some row in it may be at fault."""
        self._suspects.append(stretch)

    def _meets(self, stretch: range) -> bool:
        return any(stretch.start < each.stop and each.start < stretch.stop for each in self._suspects)


class Calls:
    """Trials of a model that the worker calls."""

    concurrent = True
    smallest = 1
    unit = "call"
    setting = "max_rows_per_batch"

    def __init__(
        self,
        model: Model,
        m: Materialisation,
        taken: Taken,
        stop: threading.Event,
        clock: Clock,
        gates: Sequence[Gate] = (),
    ) -> None:
        values, _ = distinct(taken.values)  # equal rows are sent once, so a call would be too small
        self.rows = len(values)
        self.most_rows = model.most_rows
        self._gates = gates
        self._values = values
        self._m = m
        self._meter = _Meter(model, clock)
        self._clock = clock
        self._stop = stop
        self._places = _Places(self.rows)

    @property
    def limits(self) -> Limits:
        """What bounds a call."""
        model = self._m.prediction.model
        return Limits(timeout=model.timeout.total_seconds() if isinstance(model, ServiceModel) else None)

    @property
    def present(self) -> int | None:
        """The size in effect now."""
        return self._m.prediction.max_rows_per_batch or DEFAULT_ROWS_PER_CALL

    def attempt(self, trial: Trial, paid: Paid) -> tuple[Result, errors.RowscoreError | None]:
        """Make a trial's calls, all at once."""
        stretch = self._places.take(trial.rows)
        names = tuple(name for name, _ in self._m.inputs)
        batch = Batch(names, self._values[stretch.start : stretch.stop])
        self._meter.allow(trial.calls)
        started = self._clock()
        scores = score(
            self._meter,
            batch,
            {output.name: output.kind for output in self._m.outputs},
            rows_per_call=trial.size,
            concurrency=trial.calls,
            stop=self._stop,
            proven=True,
            patience=_PATIENCE,
            gates=self._gates,
        )
        seconds = self._clock() - started
        meter = self._meter
        paid.calls += meter.calls
        paid.rows += meter.rows
        paid.throttled += meter.throttled
        fault = meter.failure or scores.fault
        if isinstance(fault, (errors.RowFaultError, errors.ConnectionDroppedError)):
            self._places.suspect(stretch)
        if fault is not None:
            return Result(trial, meter.calls, verdict=_verdict(fault), reason=str(fault)), fault
        paid.failed_rows += sum(isinstance(outcome, RowFailure) for outcome in scores.outcomes)
        return self._answered(trial, scores, seconds), None

    def _answered(self, trial: Trial, scores: Scores, seconds: float) -> Result:
        latencies = tuple(self._meter.latencies)
        waited = self._meter.throttled or self._gates
        if waited and latencies:  # without the waits: all at once, so as long as one call
            seconds = sum(latencies) / len(latencies)
        if scores.statistics.calls == 0 or len(latencies) < trial.calls:  # it was told to stop
            return Result(trial, self._meter.calls, verdict=Verdict.FAILED, reason="it was told to stop")
        return Result(trial, self._meter.calls, seconds, latencies)


class _Meter(Wrapped):
    """The model, its calls counted, and ended where a trial has used up its own or has failed; for several threads.

    Attributes:
        failure: the first error of a call.
        latencies: seconds of each call that was answered.
    """

    def __init__(self, model: Model, clock: Clock) -> None:
        super().__init__(model)
        self._clock = clock
        self._lock = threading.Lock()
        self.allow(0)

    def allow(self, calls: int) -> None:
        """A new trial, of so many calls."""
        self._left = calls
        self.calls = self.rows = self.throttled = 0
        self.failure: errors.ModelError | None = None
        self.latencies: list[float] = []

    def call(self, batch: Batch) -> Sequence[Answer | RowFailure]:
        """The model's answers.

        Raises:
            StoppedError: the trial has no call left, or has failed already.
            ModelError: the model's own.
        """
        with self._lock:
            if not self._left or self.failure is not None:
                raise StoppedError
            self._left -= 1
        started = self._clock()
        try:
            answers = self.model.call(batch)
        except errors.ThrottledError:
            with self._lock:
                self._left += 1
                self.throttled += 1
            raise
        except (errors.ModelError, MemoryError) as error:
            raise self._failed(batch, error) from error
        self._count(batch, self._clock() - started)
        return answers

    def _failed(self, batch: Batch, error: errors.ModelError | MemoryError) -> errors.ModelError:
        if isinstance(error, MemoryError):
            error = errors.PayloadTooLargeError(f"{len(batch)} rows do not fit into memory")
        with self._lock:
            self.failure = self.failure or error
        if error.sent:
            self._count(batch, None)
        return error

    def _count(self, batch: Batch, seconds: float | None) -> None:
        weight = self.model.weigh(batch)
        with self._lock:
            self.calls += weight.requests
            self.rows += weight.rows
            if seconds is not None:
                self.latencies.append(seconds)


class _RolledBackError(Exception):
    """Ends a transaction that shall leave nothing behind."""


class Statements:
    """Trials of a function of the database: a statement is a call as far as the worker can see."""

    concurrent = False
    smallest = FLOOR
    most_rows = None
    unit = "statement"

    def __init__(
        self,
        database: Database,
        m: Materialisation,
        state: RowState,
        taken: Taken,
        clock: Clock,
        account: Account | None = None,
    ) -> None:
        self.rows = len(taken)
        self._account = account
        self._database = database
        self._m = m
        self._state = state
        self._taken = taken
        self._clock = clock
        self._places = _Places(self.rows)
        self._beside: float | None = None

    @property
    def setting(self) -> str:
        """The key that holds the size: of the function's own batches where it can be told."""
        return "max_rows_per_batch" if self._batches else "max_rows_per_claim"

    @property
    def limits(self) -> Limits:
        """What bounds a statement: it holds locks where it is an UPDATE."""
        prediction = self._m.prediction
        updates = isinstance(prediction.model, SqlModel) and prediction.model.mode == "update"
        return Limits(lock=prediction.max_lock_time.total_seconds() if updates else None)

    @property
    def present(self) -> int | None:
        """The size in effect now; None where the function chooses."""
        prediction = self._m.prediction
        return prediction.max_rows_per_batch if self._batches else prediction.max_rows_per_claim

    @property
    def _batches(self) -> bool:
        return self._m.function is not None and self._m.function.takes_batch_size

    def attempt(self, trial: Trial, paid: Paid) -> tuple[Result, errors.RowscoreError | None]:
        """Run one SELECT, and roll it back."""
        stretch = self._places.take(trial.rows)
        try:
            if self._account is not None:
                self._account.draw(1, trial.rows)
        except errors.BudgetSpentError as spent:
            return Result(trial, 0, verdict=Verdict.FAILED, reason=str(spent)), spent
        paid.calls += 1
        paid.rows += trial.rows
        started = self._clock()
        try:
            answered = self._select(stretch)
        except (errors.ModelError, errors.DatabaseError) as error:
            fault = error if isinstance(error, errors.ModelError) else model_error(error) or error
            if isinstance(fault, errors.ConnectionFailedError):
                raise
            if isinstance(fault, errors.RowFaultError):
                self._places.suspect(stretch)
            return Result(trial, 1, verdict=_verdict(fault), reason=str(fault)), fault
        seconds = self._clock() - started
        if self._account is not None:
            self._account.give_back(0, trial.rows - answered)
        if self._beside is None:
            self._beside = self._round_trips()
        if not answered:
            return Result(trial, 1, verdict=Verdict.FAILED, reason=_CHANGED), errors.RowscoreError(_CHANGED)
        return Result(trial, 1, seconds + self._beside, (seconds,), rows=answered), None

    def _round_trips(self) -> float:
        """Seconds of a claim's other statements, for each of which a row of rowscore's own is read; the least of three.

        A batch of the function's own has none.
        """
        if self._batches:
            return 0.0
        statement, seconds = self._m.render("find_learned"), []
        with self._database.transaction() as transaction:
            for _ in range(3):
                started = self._clock()
                for _ in range(_ROUND_TRIPS):
                    transaction.row(statement, prediction=self._m.name)
                seconds.append(self._clock() - started)
        return min(seconds)

    def _select(self, stretch: range) -> int:
        window = self._taken.window(stretch.start, stretch.stop)
        limit = f"{int(self._m.prediction.lease_time.total_seconds() * 1000 * STATEMENT_SHARE)}ms"
        settings: dict[str, Any] = {**self._database.capabilities.plan_pins, "statement_timeout": limit}
        with suppress(_RolledBackError), self._database.transaction(**settings) as transaction:
            answered = rows.rehearse(transaction, self._m, self._state, window, len(stretch))
            raise _RolledBackError
        return answered


def _verdict(fault: errors.RowscoreError) -> Verdict:
    if isinstance(fault, errors.PayloadTooLargeError):
        return Verdict.TOO_LARGE
    return Verdict.TOO_SLOW if isinstance(fault, _TOO_SLOW) else Verdict.FAILED
