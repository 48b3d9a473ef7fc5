"""What a prediction needs now and then: rows whose retry is due queue again, the log stays bounded."""

from __future__ import annotations

from dataclasses import dataclass

from worker import rows
from worker.engine import Engine
from worker.leases import share_prediction

KEEP_BATCHES = 10_000  # lines of the batch log: at a batch a second and two workers more than an hour
ROWS_PER_RETRY = 1000  # rows locked at once


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many lines of the batch log and how many outlived failure records were deleted."""

    batches: int
    failures: int


def retry_failures(engine: Engine, name: str | None = None, *, everything: bool = False) -> int:
    """Put failed rows whose retry is due back to pending, some at a time; returns how many.

    Rows that the application holds are stepped over, and taken next time. Two at once do no harm.

    Args:
        engine: the process's engine; its `stop` ends the work between two transactions.
        name: the prediction; None for the only one.
        everything: those that are not due, or have used up their attempts, as well.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not change the prediction's rows.
    """
    prediction = engine.prediction(name)
    database, m = engine.database(prediction), engine.materialisation(prediction)
    retried = 0
    while not engine.stop.is_set():
        with database.transaction(**database.capabilities.plan_pins, lock_timeout="5s") as transaction:
            share_prediction(transaction, m)
            count, more = rows.retry(transaction, m, ROWS_PER_RETRY, everything=everything)
        retried += count
        if not more:
            break
    return retried


def prune(engine: Engine, name: str | None = None, *, keep: int = KEEP_BATCHES) -> Pruned:
    """Delete all but the newest `keep` lines of the batch log, and errors of rows that no longer have any.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not speak for the prediction.
    """
    prediction = engine.prediction(name)
    database, m = engine.database(prediction), engine.materialisation(prediction)
    with database.transaction(lock_timeout="5s") as transaction:
        share_prediction(transaction, m)
        batches = transaction.execute(m.render("prune_batches"), prediction=m.name, keep=keep).rowcount
    with database.transaction(**database.capabilities.plan_pins, lock_timeout="5s") as transaction:
        share_prediction(transaction, m)
        failures = rows.forget_orphans(transaction, m)
    return Pruned(batches, failures)
