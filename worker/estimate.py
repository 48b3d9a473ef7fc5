"""What a backfill or a rescore would cost: rows, model calls, time and money; it writes nothing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from worker import backfill, rows
from worker.backfill import Scope
from worker.batch import call_limit
from worker.config import Prediction
from worker.database import Transaction
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.leases import Lease, Window, share_prediction
from worker.models.protocol import Batch
from worker.options import Options
from worker.purse import cost
from worker.scoring import score
from worker.states import RunKind
from worker.table import listed


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that the model was really asked about; their answers are thrown away.

    Attributes:
        seconds: from the first call to the last answer.
    """

    rows: int
    calls: int
    seconds: float
    money: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What there is to do.

    Attributes:
        rows: None where nobody knows: a part of a very large table.
        rows_per_call: the size in effect; where the database's function scores, of one statement.
        seconds: of one worker, the model alone, by the sample; at least what --rate demands. None without a sample.
        money: in the currency of the model's `cost_per_call` and `cost_per_row`; None where neither is configured.
    """

    prediction: str
    rows: int | None
    calls: int | None
    rows_per_call: int
    seconds: float | None
    money: float | None
    sample: Sample | None = None


def estimate(
    engine: Engine,
    name: str | None,
    options: Options,
    sample: int = 0,
    kind: RunKind = RunKind.BACKFILL,
) -> Estimate:
    """What a run with these options would cost.

    Args:
        engine: `stop` ends the sample.
        name: the prediction's.
        options: as for `backfill.begin`.
        sample: rows that the model is really asked about, to measure its time; 0: none.
        kind: of the run.

    Raises:
        NotAppliedError, StaleDefinitionError: `apply` has to be run first.
        ConfigurationError: the database does not take one of the options.
        RowscoreError: the model failed on the sample.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    database = engine.database(prediction)
    with database.transaction() as transaction:
        share = share_prediction(transaction, m)
        about = backfill.scope(transaction, m, kind, options)
    if m.function is not None:
        size = min(share.rows_per_claim or prediction.max_rows_per_claim, prediction.max_rows_per_claim)
    else:
        limit = call_limit(prediction, engine.model(prediction))
        size = min(limit, share.rows_per_call or limit)
    calls = None if about.total is None else math.ceil(about.total / size)
    tried = _sample(engine, prediction, about, sample, size) if sample else None
    seconds = None
    if tried is not None and about.total is not None:
        seconds = tried.seconds / tried.rows * about.total
        seconds = max(seconds, options.pace.worth(about.total)) if options.pace is not None else seconds
    money = None if calls is None or about.total is None else cost(prediction, calls, about.total)
    return Estimate(prediction.name, about.total, calls, size, seconds, money, tried)


def _sample(engine: Engine, prediction: Prediction, about: Scope, limit: int, size: int) -> Sample:
    """Ask the model about the first rows, in calls as large as the run's."""
    database, m = engine.database(prediction), about.m
    with database.transaction() as transaction:
        lease = _window(transaction, about, limit)
    if lease is None:
        raise RowscoreError(f"{m.name}: there is no row to sample: nothing is left to do")
    if m.function is not None:
        with database.transaction(**database.capabilities.plan_pins) as transaction:
            started = time.perf_counter()
            found = rows.answer(transaction, m, lease, lease.window, limit)
            seconds = time.perf_counter() - started
        return Sample(len(found), 1, seconds, cost(prediction, 1, len(found)))
    with database.transaction() as transaction:
        taken = rows.read(transaction, m, lease, lease.window, limit)
    model = engine.model(prediction)
    if model is None or not len(taken):
        raise RowscoreError(f"{m.name}: other sessions hold the rows that were to be the sample")
    started = time.perf_counter()
    scores = score(
        model,
        Batch(tuple(item for item, _ in m.inputs), taken.values),
        {output.name: output.kind for output in m.outputs},
        rows_per_call=size,
        concurrency=prediction.concurrency,
        stop=engine.stop,
        proven=True,
        gates=[] if (rates := engine.rates(prediction)) is None else [rates],
    )
    seconds = time.perf_counter() - started
    if scores.fault is not None:
        raise RowscoreError(f"{m.name}: the model failed on the sample: {scores.fault}")
    asked = scores.statistics
    return Sample(len(taken), asked.calls, seconds, cost(prediction, asked.calls, asked.rows))


def _window(transaction: Transaction, about: Scope, limit: int) -> Lease | None:
    """The rows of the sample as a window that nobody leased."""
    lower, upper = about.lower is not None, about.upper is not None
    statement = about.m.render("first_claimable", claims=about.kind.claims, lower=lower, upper=upper)
    first = transaction.value(statement, **about.bounds)
    if first is None or about.upper is None:
        return None
    window = Window(tuple(listed(first)), about.upper)
    return Lease(0, about.kind, 0, window, limit, 1, 0)
