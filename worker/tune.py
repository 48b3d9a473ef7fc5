"""`rowscore tune`: the batch size that a prediction's model is quickest with, on real rows; it writes no prediction.

Rows are read without locks, once, in a transaction of their own. What to try, and when to end, is `worker.knee`'s to
say; the trials are `worker.rehearsal`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from worker import errors, rows
from worker.config import Prediction
from worker.database import Database
from worker.engine import Engine
from worker.garbage import PausedCollector
from worker.kinds.sql import SqlModel
from worker.knee import HEADROOM, Choice, Limits, Point, Sweep, Trial, Verdict, knee
from worker.leases import share_prediction
from worker.materialisation import Materialisation
from worker.purse import Account, Purse, cost
from worker.rehearsal import Calls, Clock, Paid, Statements
from worker.rows import Taken
from worker.states import RowState, RunKind

FEWEST_CALLS = 2  # what one size needs
DEFAULT_CALLS = 100
DEFAULT_ROWS = 20_000
_NEARLY = 0.9  # of the most rows that a call could have
_LOOK_TIMEOUT = "60s"
_GONE = errors.ServiceRefusedError, errors.ThrottledError  # whatever the size: the sweep ends


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user asked for.

    Attributes:
        calls: the cap, at least `FEWEST_CALLS`.
        sizes: to try, in order; None: geometric ones.
        concurrencies: to try; None: the configured one, half and twice as many.
        rows: to be read, at most; no call can have more.
    """

    calls: int = DEFAULT_CALLS
    sizes: tuple[int, ...] | None = None
    concurrencies: tuple[int, ...] | None = None
    rows: int = DEFAULT_ROWS


@dataclass(slots=True)
class Tuning:
    """What was found.

    Attributes:
        setting: the key of rowscore.toml that holds the size.
        unit: what one call is called.
        present: the size and the concurrency in effect now; None where the model chooses, or has none.
        concurrency: of the sweep: less than the configured one where the cap is small.
        points: what was tried, by size and concurrency.
        choice: what to use; None where nothing was answered.
        findings: what else there is to know, a sentence each.
        money: see `worker.purse.cost`.
        fault: what ended it, if something did.
        saved: whether drains begin with the size from now on.
    """

    prediction: str
    setting: str
    unit: str
    present: tuple[int | None, int | None]
    concurrency: int | None
    limits: Limits
    points: list[Point] = field(default_factory=list)
    choice: Choice | None = None
    findings: list[str] = field(default_factory=list)
    paid: Paid = field(default_factory=Paid)
    money: float | None = None
    seconds: float = 0.0
    fault: errors.RowscoreError | None = None
    saved: bool = False

    @property
    def column(self) -> list[Point]:
        """The points at the sweep's own concurrency, by size."""
        if self.concurrency is None:
            return self.points
        return [point for point in self.points if point.concurrency == self.concurrency]

    @property
    def knee(self) -> Choice | None:
        """The knee among them."""
        return knee(self.column, self.limits)

    @property
    def settings(self) -> dict[str, int]:
        """The lines for rowscore.toml; the concurrency only where another one is better."""
        if self.choice is None:
            return {}
        point, configured = self.choice.point, self.present[1]
        lines = {self.setting: point.size}
        if configured is not None and self.concurrency == configured and point.concurrency != configured:
            lines["concurrency"] = point.concurrency
        return lines


Progress = Callable[[Paid, Trial], None]


def tune(
    engine: Engine,
    name: str | None = None,
    wishes: Wishes | None = None,
    progress: Progress | None = None,
    *,
    clock: Clock = time.perf_counter,
) -> Tuning:
    """Try sizes until the cap is reached or nothing more can be learned.

    Args:
        engine: `stop` ends it after the call in flight.
        progress: told after each trial.
        clock: seconds, by which calls are measured.

    Raises:
        NotAppliedError: there is no state column yet.
        RowscoreError: there is no row to try with.
        ConfigurationError: none of the sizes can be tried.
    """
    wishes = wishes or Wishes()
    prediction = engine.prediction(name)
    database, m = engine.database(prediction), engine.materialisation(prediction)
    state, taken = _look(database, m, wishes.rows)
    account = _account(database, m)
    if isinstance(prediction.model, SqlModel):
        statements = Statements(database, m, state, taken, clock, account)
        return _Course(statements, prediction, wishes, engine.stop).run(progress)
    tried = {prediction.concurrency, *(wishes.concurrencies or (2 * prediction.concurrency,))}
    model = engine.open_model(prediction, max(tried))
    try:
        gates = [gate for gate in (engine.rates(prediction), account) if gate is not None]
        calls = Calls(model, m, taken, engine.stop, clock, gates)
        return _Course(calls, prediction, wishes, engine.stop).run(progress)
    finally:
        model.close()


def save(engine: Engine, tuning: Tuning) -> bool:
    """Keep the size where drains begin; returns whether there was anything to keep.

    Only rowscore's own table is written. A size that the file's `max_rows_per_batch` excludes is not kept.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not score this prediction.
    """
    if tuning.choice is None:
        return False
    prediction = engine.prediction(tuning.prediction)
    size, m = tuning.choice.point.size, engine.materialisation(prediction)
    by_claim = tuning.setting == "max_rows_per_claim"
    limit = prediction.max_rows_per_batch
    kept = by_claim or (not isinstance(prediction.model, SqlModel) and (limit is None or size < limit))
    if not kept:
        return False
    with engine.database(prediction).transaction(lock_timeout="5s") as transaction:
        known = share_prediction(transaction, m)
        claim, call = (size, known.rows_per_call) if by_claim else (known.rows_per_claim, size)
        transaction.execute(m.render("learn"), prediction=m.name, claim=claim, call=call)
    tuning.saved = True
    return True


def _account(database: Database, m: Materialisation) -> Account | None:
    """The day's sums, where the prediction has a daily budget; they are kept with its drain."""
    budget = m.prediction.daily_cap
    if budget is None:
        return None
    with database.transaction() as transaction:
        run = transaction.value(m.render("find_run"), prediction=m.name, kind=RunKind.DRAIN.value)
    if run is None:
        raise errors.NotAppliedError(
            f"{m.name} is not applied to this database; run `rowscore apply {m.name}`"
        )
    return Account(Purse(database, m, budget, daily=True), int(run))


def _look(database: Database, m: Materialisation, limit: int) -> tuple[RowState, Taken]:
    """Rows to try with, and the state that they are in."""
    if m.prediction.state_column not in m.table.columns:
        raise errors.NotAppliedError(
            f"{m.name} is not applied to this database; run `rowscore apply {m.name}`"
        )
    settings = {**database.capabilities.plan_pins, "statement_timeout": _LOOK_TIMEOUT}
    try:
        with database.transaction(**settings) as transaction:
            state, taken = rows.look(transaction, m, limit)
    except errors.DataError as error:
        raise errors.RowscoreError(
            f"{m.name}: an input's own expression fails on a row: {error}; `rowscore run {m.name}` sets such rows "
            f"aside, then tune again"
        ) from error
    if not len(taken):
        raise errors.RowscoreError(f"{m.name}: {m.table.label} has no row to try the model with")
    return state, taken


class _Course:
    """One call of `tune`: the loop between the sweep and what makes its calls."""

    def __init__(
        self, caller: Calls | Statements, prediction: Prediction, wishes: Wishes, stop: threading.Event
    ) -> None:
        self._caller = caller
        self._prediction = prediction
        self._wishes = wishes
        self._stop = stop
        configured = prediction.concurrency
        self._tuning = Tuning(
            prediction.name,
            caller.setting,
            caller.unit,
            (caller.present, configured if caller.concurrent else None),
            configured if caller.concurrent else None,
            caller.limits,
        )
        self._most = min(caller.rows, prediction.max_rows_per_claim, caller.most_rows or caller.rows)
        if wishes.sizes is not None and min(wishes.sizes) > self._most:
            raise errors.ConfigurationError(
                f"none of the sizes can be tried: {self._bound()}, so a call has {self._most:,} at most"
            )
        asked = wishes.concurrencies or (max(1, configured // 2), configured, min(64, 2 * configured))
        self._sweep = Sweep(
            sizes=wishes.sizes,
            smallest=caller.smallest,
            concurrency=configured if caller.concurrent else 1,
            others=[each for each in asked if each != configured] if caller.concurrent else [],
            most_rows=self._most,
            calls=wishes.calls,
            limits=self._tuning.limits,
        )

    def run(self, progress: Progress | None) -> Tuning:
        """Make the trials and say what they showed."""
        tuning, sweep, started = self._tuning, self._sweep, time.monotonic()
        with PausedCollector() as collector:
            while not self._stop.is_set() and (trial := sweep.next()) is not None:
                result, fault = self._caller.attempt(trial, tuning.paid)
                if isinstance(fault, errors.BudgetSpentError):
                    tuning.fault = errors.BudgetSpentError(f"{fault}; its sums begin anew at midnight UTC")
                    break
                if fault is None and self._stop.is_set():
                    break  # it may have been cut short
                sweep.record(result)
                if isinstance(fault, _GONE):
                    sweep.end(str(fault))
                if sweep.ended:
                    tuning.fault = fault
                if progress is not None:
                    progress(tuning.paid, trial)
                collector.between_batches()
        tuning.seconds = time.monotonic() - started
        tuning.points, tuning.choice = sweep.points, sweep.choice()
        tuning.concurrency = sweep.concurrency if self._caller.concurrent else None
        tuning.money = cost(self._prediction, tuning.paid.calls, tuning.paid.rows)
        tuning.findings = list(self._findings())
        return tuning

    def _findings(self) -> Iterator[str]:
        tuning, paid = self._tuning, self._tuning.paid
        yield from filter(None, map(_trouble, tuning.points))
        if paid.failed_rows:
            yield f"{paid.failed_rows:,} of {paid.rows:,} rows were answered with a failure of their own"
        if paid.throttled:
            yield f"the service throttled {paid.throttled:,} requests; that was waited for"
        largest = max((point.size for point in tuning.points), default=0)
        missed = self._wishes.sizes is not None and self._wishes.sizes[-1] > self._most
        best = tuning.choice.best.size if tuning.choice is not None else 0
        if missed or (best == largest and largest > self._most * _NEARLY):
            yield f"no {tuning.unit} had more than {largest:,} rows: {self._bound()}"
        wanted = self._prediction.concurrency
        if self._caller.concurrent and self._sweep.concurrency < wanted:
            yield (
                f"with so few calls only {self._sweep.concurrency} were made at once, and not {wanted} as configured; "
                f"a larger --max-calls would show more"
            )
        if tuning.choice is not None and not tuning.choice.within:
            yield self._excess(tuning.choice.point)

    def _excess(self, point: Point) -> str:
        """Why not even the smallest size that was answered may be chosen."""
        limits = self._tuning.limits
        if point.fits(limits):
            return f"{point.size:,} rows were taken, and a smaller size was refused"
        if limits.lock is not None:
            why = f"max_lock_time is {limits.lock:g} s"
        else:
            why = f"a call may take {HEADROOM * 100:.0f} % of model.timeout, which is {limits.timeout:g} s"
        return f"not even {point.size:,} rows keep to the limits: {why}"

    def _bound(self) -> str:
        claim = self._prediction.max_rows_per_claim
        if self._caller.most_rows == self._most:
            return f"the model takes {self._most:,} rows a call"
        if claim <= self._caller.rows:
            return f"max_rows_per_claim is {claim:,}"
        return f"there are {self._caller.rows:,} different rows to try with"


def _trouble(point: Point) -> str:
    """What went wrong with a size, in a sentence."""
    if (result := point.trouble) is None:
        return ""
    times = sum(item.verdict is not Verdict.ANSWERED for item in point.results)
    often = "" if times == point.trials else f" {times} of {point.trials} times"
    word = "failed" if result.verdict is Verdict.FAILED else f"are {result.verdict.value}"
    return f"{point.size:,} rows {word}{often}: {result.reason}"
