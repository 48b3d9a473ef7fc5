"""A backfill: scores the rows that were there before `apply`, once, over the whole key space, resumable anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.database import Transaction
from worker.drain import HELD, Drain, Progress, Summary
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.leases import share_prediction
from worker.materialisation import Materialisation
from worker.states import RowState, RunKind, RunStatus
from worker.table import listed

COUNT_UP_TO = 5_000_000  # estimated rows up to which the exact number is counted for the progress bar
FRUITLESS_PASSES = 3


@dataclass(frozen=True, slots=True)
class BackfillRun:
    """A backfill as the database knows it.

    Attributes:
        total: rows to score when it began (an estimate on very large tables), or None where nobody knows.
        resumed: it had begun before.
    """

    id: int
    total: int | None
    scored: int
    failed: int
    skipped: int
    seconds: float
    resumed: bool

    @property
    def done(self) -> int:
        """Rows that are dealt with."""
        return self.scored + self.failed + self.skipped


def begin(engine: Engine, name: str | None = None) -> BackfillRun:
    """Start a backfill over the keys that are there now, or pick up the one that is running.

    Raises:
        NotAppliedError, StaleDefinitionError: `apply` has to be run first.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction() as transaction:
        share_prediction(transaction, m)
        running = _running(transaction, m)
        if running is None:
            upper = transaction.value(m.render("last_key"))
            bound = None if upper is None else json.dumps(listed(upper))
            total = _total(transaction, m)
            transaction.execute(m.render("start_backfill"), prediction=m.name, upper=bound, total=total)
        return _read(transaction, m, running or _running(transaction, m), resumed=running is not None)


def work(
    engine: Engine, name: str | None, run: BackfillRun, progress: Progress, waits: Callable[[str], None]
) -> Summary:
    """Score windows until the run is finished, the process is told to stop, or a person has to act.

    Args:
        progress: told after each batch.
        waits: told why, whenever it has to wait.

    Raises:
        RowscoreError: the model refuses in a way that no waiting mends.
    """
    total = Summary(engine.prediction(name).name)
    held = 0
    while not engine.stop.is_set():
        drain = Drain(engine, name, kind=RunKind.BACKFILL, seconds=float("inf"), progress=progress)
        summary = drain.run()
        _merge(total, summary)
        held = held + 1 if summary.ended == HELD else 0
        if summary.empty:
            _finish(drain, run)
            break
        if summary.permanent:
            raise RowscoreError(f"the model cannot be used as it is configured: {summary.fault}")
        if held >= FRUITLESS_PASSES:
            total.ended = "other sessions hold the rows that are left; run it again later"
            break
        if summary.retry_after is not None:
            waits(summary.fault or summary.ended)
            engine.stop.wait(summary.retry_after)
    return total


def read(engine: Engine, name: str | None, run: BackfillRun) -> BackfillRun:
    """The run's progress now, all workers counted."""
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction() as transaction:
        return _read(transaction, m, run.id, resumed=run.resumed)


def _running(transaction: Transaction, m: Materialisation) -> Any:
    return transaction.value(m.render("find_run"), prediction=m.name, kind=RunKind.BACKFILL.value)


def _total(transaction: Transaction, m: Materialisation) -> int:
    if m.table.estimated_rows > COUNT_UP_TO:
        return m.table.estimated_rows
    return int(transaction.value(m.render("count_state", claims=RowState.EXISTING)))


def _read(transaction: Transaction, m: Materialisation, run: int, *, resumed: bool) -> BackfillRun:
    row = transaction.row(m.render("read_run"), run=run)
    if row is None:
        raise RowscoreError(f"backfill {run} of {m.name} is gone; was the prediction removed?")
    return BackfillRun(
        id=row.id,
        total=row.rows_total,
        scored=row.rows_scored,
        failed=row.rows_failed,
        skipped=row.rows_skipped,
        seconds=float(row.seconds),
        resumed=resumed,
    )


def _finish(drain: Drain, run: BackfillRun) -> None:
    with drain.database.transaction() as transaction:
        transaction.execute(drain.m.render("finish_run"), run=run.id, status=RunStatus.FINISHED.value)


def _merge(total: Summary, part: Summary) -> None:
    for name in ("batches", "scored", "failed", "skipped", "lost", "calls", "call_rows"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.seconds += part.seconds
    total.ended, total.fault, total.empty = part.ended, part.fault, part.empty
    total.rows_per_claim, total.rows_per_call = part.rows_per_claim, part.rows_per_call
