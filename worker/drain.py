"""A drain: leases window after window and scores them, until nothing waits, its time is over, or it is told to stop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from worker import errors
from worker.ahead import Ahead, Claim
from worker.batch import BatchResult, BatchScorer, call_limit
from worker.controller import Controller, whole_rounds
from worker.controller import rows_per_call as next_rows_per_call
from worker.database import Database
from worker.engine import Engine
from worker.garbage import PausedCollector
from worker.lanes import AT_ONCE, Lanes
from worker.leases import Idle, Leases, share_prediction
from worker.log import logger
from worker.materialisation import Materialisation, restricted
from worker.options import Options
from worker.purse import Purse
from worker.states import RunKind

_log = logger(__name__)
READ_AHEAD_UP_TO = (
    1.0  # seconds a batch: rows that lie read for longer may have changed before they are paid for
)
HELD = "the rows that wait are held by other sessions"
SHORT_REST = 1.0  # seconds that are sooner waited out than left to the next tick
_numbers = itertools.count(1)  # two drains of one process are two workers


@dataclass(slots=True)
class Summary:
    """What one drain did, as Celery's result and `rowscore run` show it.

    Attributes:
        asked: rows that an answer was wanted for; of these `remembered` were known, and `equal` had an equal row in
            their batch. `call_rows` were sent, those of `retries` again.
        single_calls: of a single row, where the batch had more to send.
        seconds: how long it ran.
        ended: why it ended.
        fault: the model's fault that ended it, if one did.
        permanent: that fault is one that a person has to mend.
        throttled: something held the work up; `ended` says what.
        spent: the budget allowed no further call.
        empty: nothing at all was left to claim.
        retry_after: seconds after which another drain may find work.
    """

    prediction: str
    batches: int = 0
    scored: int = 0
    failed: int = 0
    skipped: int = 0
    lost: int = 0
    asked: int = 0
    calls: int = 0
    call_rows: int = 0
    remembered: int = 0
    equal: int = 0
    retries: int = 0
    single_calls: int = 0
    seconds: float = 0.0
    rows_per_claim: int = 0
    rows_per_call: int | None = None
    ended: str = ""
    fault: str | None = None
    permanent: bool = False
    throttled: bool = False
    spent: bool = False
    empty: bool = False
    retry_after: float | None = None

    def add(self, result: BatchResult) -> None:
        """Count one batch."""
        self.batches += 1
        self.scored += result.scored
        self.failed += result.failed
        self.skipped += result.skipped
        self.lost += result.lost
        calls = result.statistics
        self.asked += result.taken
        self.calls += calls.calls
        self.call_rows += calls.rows
        self.remembered += calls.remembered
        self.equal += calls.equal
        self.retries += calls.retries
        self.single_calls += calls.single
        self.rows_per_call = result.rows_per_call

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


COUNTED = (
    "batches", "scored", "failed", "skipped", "lost", "asked", "calls", "call_rows", "remembered", "equal", "retries",
    "single_calls",
)  # fmt: skip
"""What the summaries of several drains add up."""

Progress = Callable[[Summary, BatchResult], None]


class Drain:
    """One worker's loop over one run of one prediction.

    Args:
        kind: which run's windows it takes.
        run: of a backfill or rescore, the one run that it works for.
        options: that run's.
        seconds: its time budget, looked at after each batch.
        progress: told after each batch.
    """

    def __init__(
        self,
        engine: Engine,
        name: str | None = None,
        *,
        kind: RunKind = RunKind.DRAIN,
        seconds: float | None = None,
        progress: Progress | None = None,
        run: int | None = None,
        options: Options | None = None,
    ) -> None:
        self.engine = engine
        self.kind = kind
        prediction = engine.prediction(name)
        self.seconds = prediction.max_run_time.total_seconds() if seconds is None else seconds
        self.progress = progress
        self.database: Database = engine.database(prediction)
        self.m: Materialisation = restricted(
            engine.materialisation(prediction), kind, options if options is not None else Options()
        )
        owner = f"{engine.owner}:{next(_numbers)}"
        self.watch = engine.watch(prediction)
        self.leases = Leases(self.database, self.m, owner, run=run, options=options)
        self._model = engine.model(prediction)
        self.scorer = BatchScorer(
            self.database,
            self.m,
            self.leases,
            self._model,
            engine.stop,
            rates=engine.rates(prediction),
            memory=engine.memory(prediction),
        )
        if self.leases.budget is not None:
            account = self._account() if run is not None and self.leases.daily else None
            purse = Purse(self.database, self.m, self.leases.budget, daily=self.leases.daily, account=account)
            self.scorer.pay_from(purse)
        self.summary = Summary(self.m.name)
        self._fruitful_walk = self._fruitless = 0
        self._quick, self._overlaps = True, False  # one batch shows that the model answers
        self._collector = PausedCollector()
        self._call_limit = call_limit(prediction, self._model)

    def _account(self) -> int:
        """The run that the day's sums are kept with, for another one that spends of them as well.

        Raises:
            NotAppliedError, StaleDefinitionError: this process may not score this prediction.
        """
        with self.database.transaction(lock_timeout="5s") as transaction:
            share_prediction(transaction, self.m)
            found: Any = transaction.row(self.m.render("daily_account"), prediction=self.m.name)
        return int(found.id)

    def run(self) -> Summary:
        """Work until there is a reason to end, and say which.

        Raises:
            NotAppliedError, StaleDefinitionError: this process may not score this prediction.
            DatabaseError: the database is gone or refuses; nothing is lost.
        """
        started = time.monotonic()
        controller, rows_per_call = self._begin()
        try:
            with PausedCollector() as self._collector:
                self.summary.ended = self._loop(started, controller, rows_per_call)
        except errors.GenerationChangedError:
            self.summary.ended = "a newer generation of the prediction began"
        self.summary.seconds = time.monotonic() - started
        _log.info("drain ended", **self.summary.as_dict())
        return self.summary

    def _begin(self) -> tuple[Controller, int]:
        prediction = self.m.prediction
        with self.database.transaction(lock_timeout="5s") as transaction:
            share = share_prediction(transaction, self.m)
        if share.circuit_open:
            self.summary.fault, self.summary.retry_after = share.reason, float(share.circuit_seconds)
        if (
            prediction.max_rows_per_batch is None and share.rows_per_call
        ):  # `rowscore tune --save` may keep more
            self._call_limit = call_limit(prediction, self._model, max(self._call_limit, share.rows_per_call))
        target = prediction.max_lock_time.total_seconds()
        controller = Controller.start(
            prediction.max_rows_per_claim, target, share.rows_per_claim, a_call=self._call_limit
        )
        return controller, min(self._call_limit, share.rows_per_call or self._call_limit)

    def _loop(self, started: float, controller: Controller, rows_per_call: int) -> str:
        if self.summary.fault is not None:  # recorded by an earlier drain, and its pause is not over
            return "the circuit is open: the model is left alone for now"
        learned = controller.rows, rows_per_call
        self._sizes = _Sizes(controller, rows_per_call, self.scorer.calls_at_once)
        self._started = self._settled = started
        ahead = Ahead(self._take, self._give_back, once=self.kind.once)
        lanes = Lanes()
        try:
            return self._work(ahead, lanes)
        finally:
            try:
                for result in lanes.rest():
                    self._note(result)
            finally:
                lanes.close()
                self.scorer.close()
                ahead.close()
                sizes = self._sizes
                found = sizes.controller.rows, sizes.call
                self.summary.rows_per_claim, self.summary.rows_per_call = found
                if learned != found:
                    self._learn(*found)

    def _work(self, ahead: Ahead, lanes: Lanes) -> str:
        """Claim after claim, until there is a reason to end."""
        while not self.engine.stop.is_set():
            if reason := self._throttled():
                return reason
            claim = ahead.next(self._sizes.claim)
            found = self._idle(claim, lanes) if isinstance(claim, Idle) else self._score(claim, ahead, lanes)
            if found:
                return found
        return "it was told to stop"

    def _idle(self, idle: Idle, lanes: Lanes) -> str | None:
        """Why to end where there is no claim; None: there may be one yet."""
        if lanes:  # what kept it may be our own
            while lanes:
                if reason := self._settle(lanes):
                    return reason
            if not (idle.empty and self.kind.once):
                return None
        if idle.resting and (idle.retry_after or 0.0) <= SHORT_REST:
            self.engine.stop.wait(idle.retry_after)
            return None
        self.summary.empty, self.summary.retry_after = idle.empty, idle.retry_after
        self.summary.spent = idle.spent
        return idle.reason

    def _score(self, claim: Claim, ahead: Ahead, lanes: Lanes) -> str | None:
        """Begin a batch, and settle those that it has to wait for; why to end, if one of them is a reason."""
        in_time = time.monotonic() - self._started < self.seconds and not self.watch.rest(self.kind)
        beside = in_time and self._overlaps
        if in_time and self._quick:
            ahead.start(self._sizes.claim)
        if beside:
            self.scorer.share_calls()
        score, rows_per_call = self.scorer.score, self._sizes.call
        lanes.begin(
            lambda answered: score(claim.lease, rows_per_call, claim.reading, answered), beside=beside
        )
        most = AT_ONCE - 1 if beside else 0  # and the one that is begun next
        if beside and not self._quick:  # rows would lie read for too long: until the model has time for them
            lanes.wait()
            most = 1
        while len(lanes) > most:
            if reason := self._settle(lanes):
                return reason
        return None

    def _settle(self, lanes: Lanes) -> str | None:
        """Count the oldest batch and learn from it; returns why to end, if there is a reason."""
        result = lanes.settle()
        self._note(result)
        now = time.monotonic()
        self._quick = min(result.total_seconds, now - self._settled) < READ_AHEAD_UP_TO
        self._settled = now
        self._overlaps = self.scorer.overlaps and result.fault is None
        self._sizes = self._sizes.after(result, self._call_limit)
        self._fruitless = 0 if result.scored or result.failed or result.skipped else self._fruitless + 1
        if not self._fruitless:
            self._fruitful_walk = self.leases.walks
        if reason := self._reason_to_end(result, self._fruitless, now - self._started):
            return reason
        self._rest(result)
        return None

    def _throttled(self) -> str | None:
        """Why no further window is to be taken now; what was taken ahead is handed back, and nobody pays for it."""
        verdict = self.watch.check(self.m, self.kind)
        if verdict.signal is None:
            return None
        if not self.kind.once:
            self.watch.note_end(self.m.name)
        self.summary.throttled, self.summary.retry_after = True, verdict.retry_after
        return f"throttled: {verdict.reason}"

    def _rest(self, result: BatchResult) -> None:
        if nice := self.watch.rest(self.kind):
            self.engine.stop.wait(nice * result.database_seconds)

    def _reason_to_end(self, result: BatchResult, fruitless: int, seconds: float) -> str | None:
        if isinstance(result.fault, errors.BudgetSpentError):
            self.summary.spent = True
            return str(result.fault)
        if isinstance(result.fault, errors.ModelError):
            self.summary.fault, self.summary.retry_after = str(result.fault), result.pause or 1.0
            self.summary.permanent = result.fault.failure is errors.FailureClass.SERVICE_PERMANENT
            return f"the model is at fault ({result.fault.failure.value})"
        if self._is_held_up(fruitless):
            self.summary.retry_after = 1.0
            return HELD
        return "its time is over" if seconds >= self.seconds else None

    def _is_held_up(self, fruitless: int) -> bool:
        """Two windows of waiting rows with nothing done; where windows may hold none, a whole walk."""
        if not self.kind.once:
            return fruitless > 1
        return bool(fruitless) and self.leases.walks > self._fruitful_walk + 1

    def _take(self, rows: int) -> Claim | Idle:
        """The next window, and its rows where they may be read ahead."""
        lease = self.leases.acquire(self.kind, rows)
        if isinstance(lease, Idle):
            return lease
        if not self.scorer.reads_ahead or lease.deadly:
            return Claim(lease, None)
        try:
            return Claim(lease, self.scorer.read(lease))
        except (errors.ConflictError, errors.LockTimeoutError, errors.StatementTimeoutError):
            return Claim(lease, None)  # read again when its turn comes, and handed back if that fails too

    def _give_back(self, claim: Claim) -> None:
        self.leases.abandon(claim.lease)

    def _note(self, result: BatchResult) -> None:
        self._collector.between_batches()
        self.summary.add(result)
        if self.progress is not None:
            self.progress(self.summary, result)

    def _learn(self, rows_per_claim: int, rows_per_call: int) -> None:
        """Keep the sizes; a call size at the file's limit is none, so that another limit holds at once."""
        limit = call_limit(self.m.prediction, self._model)
        kept = rows_per_call if rows_per_call != limit else None
        with self.database.transaction(lock_timeout="5s") as transaction:
            transaction.execute(
                self.m.render("learn"), prediction=self.m.name, claim=rows_per_claim, call=kept
            )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Rows of the next claim, and of the next model call, of which so many are made at once."""

    controller: Controller
    call: int
    at_once: int

    @property
    def claim(self) -> int:
        rows = self.controller.rows
        return whole_rounds(rows, self.at_once * self.call) if self.at_once > 1 else rows

    def after(self, result: BatchResult, limit: int) -> _Sizes:
        """What a batch taught."""
        found = result.rows_per_call or self.call
        call = next_rows_per_call(limit, self.call, found)
        return _Sizes(_steered(self.controller, result), call, self.at_once)


def _steered(controller: Controller, result: BatchResult) -> Controller:
    """The controller after the batch: halved by an abort, else steered by its database time."""
    aborts = errors.StatementTimeoutError, errors.ConflictError, errors.LockTimeoutError
    if isinstance(result.fault, aborts):
        return controller.after_abort()
    return controller.after_batch(result.taken + result.skipped, result.database_seconds)
