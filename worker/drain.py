"""A drain: leases window after window and scores them, until nothing waits, its time is over, or it is told to stop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from worker import errors
from worker.ahead import Ahead, Claim
from worker.batch import DEFAULT_ROWS_PER_CALL, BatchResult, BatchScorer
from worker.controller import Controller
from worker.controller import rows_per_call as next_rows_per_call
from worker.database import Database
from worker.engine import Engine
from worker.garbage import PausedCollector
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
    calls: int = 0
    call_rows: int = 0
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
        self.calls += result.statistics.calls
        self.call_rows += result.statistics.rows
        self.rows_per_call = result.rows_per_call

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


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
        self.scorer = BatchScorer(self.database, self.m, self.leases, engine.model(prediction), engine.stop)
        if self.leases.budget is not None:
            account = self._account() if run is not None and self.leases.daily else None
            purse = Purse(self.database, self.m, self.leases.budget, daily=self.leases.daily, account=account)
            self.scorer.pay_from(purse)
        self.summary = Summary(self.m.name)
        self._fruitful_walk = 0
        self._quick = True
        self._collector = PausedCollector()
        self._call_limit = prediction.max_rows_per_batch or DEFAULT_ROWS_PER_CALL

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
            self._call_limit = max(self._call_limit, share.rows_per_call)
        target = prediction.max_lock_time.total_seconds()
        controller = Controller.start(
            prediction.max_rows_per_claim, target, share.rows_per_claim, a_call=self._call_limit
        )
        return controller, min(self._call_limit, share.rows_per_call or self._call_limit)

    def _loop(self, started: float, controller: Controller, rows_per_call: int) -> str:
        if self.summary.fault is not None:  # recorded by an earlier drain, and its pause is not over
            return "the circuit is open: the model is left alone for now"
        learned = controller.rows, rows_per_call
        fruitless = 0
        ahead = Ahead(self._take, self._give_back, once=self.kind.once)
        try:
            while not self.engine.stop.is_set():
                if reason := self._throttled():
                    return reason
                claim = ahead.next(controller.rows)
                if isinstance(claim, Idle) and claim.resting and (claim.retry_after or 0.0) <= SHORT_REST:
                    self.engine.stop.wait(claim.retry_after)
                    continue
                if isinstance(claim, Idle):
                    self.summary.empty, self.summary.retry_after = claim.empty, claim.retry_after
                    self.summary.spent = claim.spent
                    return claim.reason
                if (
                    self._quick
                    and not self.watch.rest(self.kind)
                    and time.monotonic() - started < self.seconds
                ):
                    ahead.start(controller.rows)
                result = self._batch(claim, rows_per_call)
                controller = _steered(controller, result)
                found = result.rows_per_call or rows_per_call
                rows_per_call = next_rows_per_call(self._call_limit, rows_per_call, found)
                fruitless = 0 if result.scored or result.failed or result.skipped else fruitless + 1
                if not fruitless:
                    self._fruitful_walk = self.leases.walks
                if reason := self._reason_to_end(result, fruitless, time.monotonic() - started):
                    return reason
                self._rest(result)
            return "it was told to stop"
        finally:
            ahead.close()
            self.summary.rows_per_claim, self.summary.rows_per_call = controller.rows, rows_per_call
            if learned != (controller.rows, rows_per_call):
                self._learn(controller.rows, rows_per_call)

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
            self.summary.fault, self.summary.retry_after = str(result.fault), 1.0
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

    def _batch(self, claim: Claim, rows_per_call: int | None) -> BatchResult:
        result = self.scorer.score(claim.lease, rows_per_call, claim.reading)
        self._quick = result.total_seconds < READ_AHEAD_UP_TO
        self._collector.between_batches()
        self.summary.add(result)
        if self.progress is not None:
            self.progress(self.summary, result)
        return result

    def _learn(self, rows_per_claim: int, rows_per_call: int) -> None:
        """Keep the sizes; a call size at the file's limit is none, so that another limit holds at once."""
        limit = self.m.prediction.max_rows_per_batch or DEFAULT_ROWS_PER_CALL
        kept = rows_per_call if rows_per_call != limit else None
        with self.database.transaction(lock_timeout="5s") as transaction:
            transaction.execute(
                self.m.render("learn"), prediction=self.m.name, claim=rows_per_claim, call=kept
            )


def _steered(controller: Controller, result: BatchResult) -> Controller:
    """The controller after the batch: halved by an abort, else steered by its database time."""
    aborts = errors.StatementTimeoutError, errors.ConflictError, errors.LockTimeoutError
    if isinstance(result.fault, aborts):
        return controller.after_abort()
    return controller.after_batch(result.taken + result.skipped, result.database_seconds)
