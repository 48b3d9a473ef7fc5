"""One window from lease to write: take the rows, score them, write the answers back, and settle the lease.

What if the process dies at a statement boundary? Before the last commit the rows still wait and the lease runs out:
another worker takes the window over. The last commit ends the lease and writes the rows together.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from worker import errors, rows
from worker.circuit import close_circuit, open_circuit
from worker.config import Prediction
from worker.database import Database, Transaction
from worker.gates import Gate
from worker.indatabase import InDatabase, identify
from worker.kinds.base import CalledModel, ServiceModel
from worker.leases import Lease, Leases, share_prediction
from worker.materialisation import Materialisation
from worker.memory import Memory
from worker.models.protocol import Batch, CallStatistics, Model, RowFailure
from worker.patience import DEFAULT_PATIENCE
from worker.pulse import DEFAULT_SECONDS, Pulse
from worker.purse import Account, Purse
from worker.rates import Rates, fitting
from worker.reading import Reader, Reading
from worker.rows import Taken
from worker.scoring import CallPool, score
from worker.writeback import Outcome, Writeback, Written

DEFAULT_ROWS_PER_CALL = 1000
BATCH_SECONDS = 30.0
"""For which a batch's calls are begun. A window of thousands of rows and a call a row would keep what is paid for in
memory for hours; this way it is written, and the rest of the window taken anew."""
_RENEWALS_PER_LEASE = 3


def call_limit(prediction: Prediction, model: Model | None, asked: int | None = None) -> int:
    """The most rows of a model call: as configured, or as `asked`, but no more than the model and its rates take."""
    rows = asked or prediction.max_rows_per_batch or DEFAULT_ROWS_PER_CALL
    if model is not None and model.most_rows is not None:
        rows = min(rows, model.most_rows)
    return fitting(prediction.model.rate_limit, rows) if isinstance(prediction.model, CalledModel) else rows


@dataclass(slots=True)
class BatchResult:
    """What became of one window; times are seconds, everything else counts rows unless it says so.

    Attributes:
        unreadable: among `failed`, those on which an input's own expression failed.
        lost: paid for and not written, because the row was changed, deleted or held by another session.
        database_seconds: time in statements of ours, the model's and the waits excluded; steers the batch size.
        complete: every row of the window was dealt with.
        fault: what stopped it, if something did.
        pause: seconds for which the model is left alone because of it.
    """

    taken: int = 0
    scored: int = 0
    failed: int = 0
    skipped: int = 0
    lost: int = 0
    unreadable: int = 0
    statistics: CallStatistics = field(default_factory=CallStatistics)
    rows_per_call: int | None = None
    database_seconds: float = 0.0
    total_seconds: float = 0.0
    complete: bool = True
    fault: errors.RowscoreError | None = None
    pause: float | None = None
    started: float = field(default_factory=time.monotonic)


class BatchScorer:
    """Scores leased windows of one prediction in one worker.

    Args:
        model: the model that the worker calls; None where the database's function scores.
        rates: what its calls wait for; None: for nothing.
        memory: what it answered lately; None: nothing is remembered.
        stop: set when the worker shall end; a batch in flight is then finished or handed back.
    """

    def __init__(
        self,
        database: Database,
        materialisation: Materialisation,
        leases: Leases,
        model: Model | None,
        stop: threading.Event,
        *,
        rates: Rates | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.rates = rates
        self.memory = memory
        self.database = database
        self.m = materialisation
        self.leases = leases
        self.model = model
        self.stop = stop
        self.inside = InDatabase(database, materialisation)
        attempts = getattr(materialisation.prediction.model, "attempts", DEFAULT_PATIENCE.attempts)
        self.patience = replace(DEFAULT_PATIENCE, attempts=attempts)
        self._own = threading.local()
        self._calls: CallPool | None = None
        self.reader = Reader(database, materialisation)
        self.writeback = Writeback(database, materialisation, leases, stop)
        self.purse: Purse | None = None

    def pay_from(self, purse: Purse) -> None:
        """From now on each call is paid for from a budget before it is made."""
        self.purse = self.inside.purse = purse

    def _gates(self, lease: Lease) -> list[Gate]:
        gates: list[Gate] = [] if self.rates is None else [self.rates]
        return gates if self.purse is None else [*gates, Account(self.purse, lease.run)]

    @property
    def pulse(self) -> Pulse:
        """This thread's; twice as often as renewals are due: none comes later than after half of the lease's time."""
        if not hasattr(self._own, "pulse"):
            self._own.pulse = Pulse(min(DEFAULT_SECONDS, self.leases.ttl / _RENEWALS_PER_LEASE / 2))
        pulse: Pulse = self._own.pulse
        return pulse

    @property
    def overlaps(self) -> bool:
        """Whether several batches may be scored at once: where calls are waited for, and several are wanted at once.

        A worker that is killed then loses what was answered for two of them, and what was asked for the third. Where
        answers are remembered each batch has to know those of the one before, or one worker would pay twice.
        """
        waits = isinstance(self.m.prediction.model, ServiceModel) and self.memory is None
        return waits and self.m.prediction.concurrency > 1

    @property
    def calls_at_once(self) -> int:
        """Calls that a batch makes at the same time; one, where the database makes them."""
        return 1 if self.model is None else self.m.prediction.concurrency

    def share_calls(self) -> None:
        """From now on the calls of all batches share the `concurrency`."""
        if self._calls is None:
            self._calls = CallPool(self.m.prediction.concurrency)

    def close(self) -> None:
        """Let those threads go."""
        if self._calls is not None:
            self._calls.close()
            self._calls = None

    @property
    def reads_ahead(self) -> bool:
        """Whether the next window may be read while this one is scored: only where the worker calls the model."""
        return self.model is not None

    def read(self, lease: Lease) -> Reading:
        """Read the window's rows for `score`, so that it need not.

        Raises:
            DatabaseError: nothing is held, and the lease is still out.
        """
        return self.reader.read(lease)

    def score(
        self,
        lease: Lease,
        rows_per_call: int | None,
        reading: Reading | None = None,
        answered: Callable[[], None] = lambda: None,
    ) -> BatchResult:
        """Score the window and settle its lease; a model's or the database's fault is in the result.

        Args:
            reading: the window's rows, where they have been read already.
            answered: called when the model was asked without a fault and only the write is left.

        Raises:
            GenerationChangedError, StaleDefinitionError, NotAppliedError: this process may not write any more.
            ConnectionFailedError: the database is gone; what was committed is committed, the rest waits.
        """
        result = BatchResult(rows_per_call=rows_per_call)
        self._try(lease, reading, result, answered)
        result.total_seconds = time.monotonic() - result.started
        self._settle(lease, result)
        return result

    def _try(
        self, lease: Lease, reading: Reading | None, result: BatchResult, answered: Callable[[], None]
    ) -> None:
        try:
            if lease.deadly:
                self._quarantine(lease, result)
            elif self.model is not None:
                outcomes = self._ask(lease, self.model, reading, result)
                if result.fault is None:
                    answered()
                self._write(lease, *outcomes, result)
            elif self.inside.writes:
                self._score_inside(lease, result)
            else:
                self._score_by_select(lease, result)
        except errors.ModelError as fault:
            result.fault, result.complete = fault, False
        except (errors.StatementTimeoutError, errors.LockTimeoutError, errors.ConflictError) as error:
            result.fault, result.complete = error, False
        except errors.LeaseLostError as error:
            result.fault = error

    def _quarantine(self, lease: Lease, result: BatchResult) -> None:
        """A row that stands alone and still kills its workers is not tried again by itself."""
        taken = identify(self.database, self.m, lease, lease.window, lease.rows)
        message = f"{lease.attempts - 1} workers died while they scored this row alone"
        outcomes: list[Outcome] = [
            RowFailure(errors.FailureClass.ROW_PERMANENT, message) for _ in range(len(taken))
        ]
        result.taken = len(taken)
        self._write(lease, taken, outcomes, result)

    def _ask(
        self, lease: Lease, model: Model, reading: Reading | None, result: BatchResult
    ) -> tuple[Taken, list[Outcome]]:
        """The worker-side path up to the write: nothing is held while the model is called."""
        reading = reading or self.reader.read(lease)
        result.database_seconds += reading.seconds
        result.skipped, result.unreadable, taken = reading.skipped, reading.failed, reading.taken
        result.taken = len(taken)
        outcomes: list[Outcome] = []
        if len(taken):
            names = tuple(name for name, _ in self.m.inputs)
            scores = score(
                model,
                Batch(names, taken.values),
                {output.name: output.kind for output in self.m.outputs},
                rows_per_call=result.rows_per_call or DEFAULT_ROWS_PER_CALL,
                concurrency=self.m.prediction.concurrency,
                before_call=self._renewer(lease, reading.began),
                pulse=self.pulse,
                stop=self.stop,
                proven=not reading.share.failures,
                patience=self.patience,
                gates=self._gates(lease),
                pool=self._calls,
                seconds=BATCH_SECONDS,
                memory=self.memory,
            )
            outcomes, result.fault, result.statistics = scores.outcomes, scores.fault, scores.statistics
            result.rows_per_call = scores.rows_per_call
        return taken, outcomes

    def _score_by_select(self, lease: Lease, result: BatchResult) -> None:
        """The in-database path with `mode = "select"`: the function runs unlocked, then the guarded write."""
        with _timed(result):
            share, result.skipped = self.reader.skip(lease)
        with self.pulse.beating(self._renewer(lease)) as renew:
            found = self.inside.answers(
                lease, result.statistics, self.stop, renew, presumed=not share.failures
            )
        taken = found.taken
        result.taken, result.complete, result.fault = len(taken), found.complete, found.fault
        self._write(lease, taken, found.outcomes, result, sent=True)

    def _write(
        self, lease: Lease, taken: Taken, outcomes: list[Outcome], result: BatchResult, *, sent: bool = False
    ) -> None:
        result.complete = result.complete and None not in outcomes
        written = self.writeback.write(
            lease,
            taken,
            outcomes,
            finish=result.complete,
            record=lambda transaction, share, written: self._record(
                transaction, share, lease, result, written
            ),
            sent=sent,
        )
        result.database_seconds += written.seconds

    def _score_inside(self, lease: Lease, result: BatchResult) -> None:
        """The in-database path: claim, call and write in one transaction; poison rows are bisected out of it."""
        shares: list[Any] = []

        def whole(transaction: Transaction, share: Any) -> None:
            shares.append(share)
            self.leases.finish(transaction, lease)
            result.skipped = rows.skip(transaction, self.m, lease)
            started = time.perf_counter()
            count = self.inside.score_window(transaction, lease, past_locks=len(shares) > 1)
            self.inside.note_call(result.statistics, count, started)
            result.taken = count
            if lease.kind.once or share.failures or share.has_failures:
                # All workers share these rows of rowscore's own, for milliseconds: giving up after 50 ms of waiting for
                # one would roll back answers that are paid for.
                transaction.set_local(lock_timeout="5s")
            self._record(transaction, share, lease, result, Written(scored=count))

        try:
            with _timed(result):
                try:
                    self.inside.pay(lease, lease.rows)
                    self.inside.run(lease, whole)
                except errors.LockTimeoutError:
                    self.inside.pay(lease, lease.rows)
                    self.inside.run(lease, whole, lock_timeout="5s")
            self.inside.take_back(lease, lease.rows - result.taken)
        except errors.RowFaultError as error:
            result.scored = result.taken = result.skipped = 0
            self._isolate_inside(lease, result, error, presumed=not shares[0].failures)

    def _isolate_inside(
        self, lease: Lease, result: BatchResult, error: errors.RowFaultError, *, presumed: bool
    ) -> None:
        renew = self._renewer(lease)
        found = self.inside.isolate(
            lease, result.statistics, self.stop, renew, presumed=presumed, failed=error
        )
        result.fault = found.fault
        result.complete = found.fault is None and not self.stop.is_set()
        result.taken = len(found.taken) if result.complete else found.scored + len(found.failures)
        result.scored = found.scored
        self.writeback.write(
            lease,
            found.taken.pick(list(found.failures)),
            list(found.failures.values()),
            finish=result.complete,
            record=lambda t, share, w: self._record(
                t, share, lease, result, Written(scored=found.scored, failed=w.failed, lost=w.lost)
            ),
        )

    def _record(
        self, transaction: Transaction, share: Any, lease: Lease, result: BatchResult, written: Written
    ) -> None:
        """What belongs into the transaction of the rows; the run's shared row last, so that it is held briefly."""
        if share.has_failures:
            rows.forget_failures(transaction, self.m, lease.window)
        answered = written.scored and result.statistics.calls  # and not out of the memory alone
        if share.failures and result.fault is None and answered:
            close_circuit(transaction, self.m)
        result.scored, result.lost = written.scored, written.lost
        result.failed = written.failed + result.unreadable
        result.total_seconds = time.monotonic() - result.started
        if result.taken or result.skipped:
            log_batch(transaction, self.m, lease, self.leases.owner, result)
        if lease.kind.once:
            transaction.execute(
                self.m.render("count_run"), run=lease.run, walked=lease.rows,
                scored=result.scored, failed=result.failed, skipped=result.skipped,
            )  # fmt: skip

    def _settle(self, lease: Lease, result: BatchResult) -> None:
        """After the batch: hand back an unfinished window, open the circuit when the service is at fault."""
        if isinstance(result.fault, errors.ModelError) and not isinstance(
            result.fault, errors.BudgetSpentError
        ):
            with self.database.transaction(lock_timeout="5s") as transaction:
                share = share_prediction(transaction, self.m)
                is_open = bool(share.circuit_open)
                failures = share.failures or 0
                result.pause = open_circuit(transaction, self.m, result.fault, failures, already_open=is_open)
        if not result.complete:
            self.leases.abandon(lease)

    def _renewer(self, lease: Lease, began: float | None = None) -> Callable[[], None]:
        """Renews the lease when a good part of its time is over; a lost lease ends the batch before more is paid.

        Args:
            began: when its time began, by the monotonic clock; None: now.
        """
        last = time.monotonic() if began is None else began
        every = self.leases.ttl / _RENEWALS_PER_LEASE

        def renew() -> None:
            nonlocal last
            if time.monotonic() - last >= every:
                self.leases.renew(lease)
                last = time.monotonic()

        return renew


@contextmanager
def _timed(result: BatchResult) -> Iterator[None]:
    """Count the block as time that kept the database busy."""
    started = time.perf_counter()
    try:
        yield
    finally:
        result.database_seconds += time.perf_counter() - started


def log_batch(
    transaction: Transaction, m: Materialisation, lease: Lease, owner: str, result: BatchResult
) -> None:
    """One line of the bounded batch log."""
    calls = result.statistics
    transaction.execute(
        m.render("log_batch"),
        prediction=m.name,
        run=lease.run,
        worker=owner,
        rows_taken=result.taken,
        rows_scored=result.scored,
        rows_failed=result.failed,
        rows_skipped=result.skipped,
        rows_lost=result.lost,
        calls=calls.calls,
        call_rows=calls.rows,
        call_seconds=sum(calls.seconds),
        call_seconds_min=min(calls.seconds, default=None),
        call_seconds_max=max(calls.seconds, default=None),
        call_rows_min=min(calls.sizes, default=None),
        call_rows_max=max(calls.sizes, default=None),
        rows_remembered=calls.remembered,
        rows_equal=calls.equal,
        single_calls=calls.single,
        retries=calls.retries,
        throttled=calls.throttled,
        database_seconds=result.database_seconds,
        total_seconds=result.total_seconds,
        error=str(result.fault) if result.fault else None,
    )
