"""What a prediction needs now and then: retries, a bounded log, rows that are too old, a look at the view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sql
from worker import backfill, rows
from worker.backfill import BackfillRun
from worker.engine import Engine
from worker.errors import PrivilegeError, RefusedError
from worker.facts import Facts, view_address
from worker.leases import share_prediction
from worker.options import Options
from worker.plan import plan_view
from worker.sections import duration_text
from worker.states import RunKind
from worker.survey import read_facts

KEEP_BATCHES = 10_000  # lines of the batch log: at a batch a second and two workers more than an hour
KEEP_RUNS = 100  # of those that are over: with `max_age` one comes each hour at most
ROWS_PER_RETRY = 1000  # rows locked at once


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many lines of the batch log, outlived failure records and runs that are over were deleted."""

    batches: int
    failures: int
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A rescore by `max_age`.

    Attributes:
        begun: it, where one was begun; it may be over already, where no row was too old.
        reason: why none was.
    """

    begun: BackfillRun | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ViewLook:
    """Whether the view is the one that `apply` would make now.

    Attributes:
        view: its schema and name; None where none is wanted.
        fits: None where this role cannot tell.
        reason: what is wrong, and what to do.
    """

    view: str | None
    fits: bool | None
    reason: str | None = None


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


def prune(
    engine: Engine, name: str | None = None, *, keep: int = KEEP_BATCHES, keep_runs: int = KEEP_RUNS
) -> Pruned:
    """Delete all but the newest lines of the batch log and runs, and errors of rows that no longer have any.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not speak for the prediction.
    """
    prediction = engine.prediction(name)
    database, m = engine.database(prediction), engine.materialisation(prediction)
    with database.transaction(lock_timeout="5s") as transaction:
        share_prediction(transaction, m)
        batches = transaction.execute(m.render("prune_batches"), prediction=m.name, keep=keep).rowcount
        runs = transaction.execute(m.render("prune_runs"), prediction=m.name, keep=keep_runs).rowcount
    with database.transaction(**database.capabilities.plan_pins, lock_timeout="5s") as transaction:
        share_prediction(transaction, m)
        failures = rows.forget_orphans(transaction, m)
    return Pruned(batches, failures, runs)


def refresh(engine: Engine, name: str | None = None) -> Refreshed:
    """Begin the rescore of rows older than `max_age`, where none is live and none began too lately.

    Celery's workers do it, and it spends `daily_budget`. Two at once do no harm: they find the same run.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not score the prediction.
    """
    prediction = engine.prediction(name)
    every = prediction.refresh_every
    if prediction.max_age is None or every is None:
        return Refreshed(None, "it has no max_age")
    live = backfill.live(engine, prediction.name)
    if live is not None:
        return Refreshed(None, f"a {live.kind.value} is under way")
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction() as transaction:
        last: Any = transaction.row(m.render("last_begun"), prediction=m.name, kind=RunKind.RESCORE.value)
    if last is not None and last.seconds < every.total_seconds():
        return Refreshed(None, f"the last rescore began {last.seconds:.0f} s ago")
    age = duration_text(prediction.max_age)
    try:
        run = backfill.begin(
            engine, m.name, Options(older_than=age, scheduled=True, celery=True), RunKind.RESCORE
        )
    except RefusedError as error:  # somebody was quicker
        return Refreshed(None, str(error))
    if run.total == 0:
        backfill.finish(engine, m.name, run)
    return Refreshed(run)


def look_at_view(engine: Engine, name: str | None = None) -> ViewLook:
    """Whether the view still fits the table and the configuration; only `apply` makes it anew.

    Raises:
        ConfigurationError, MissingObjectError: the file and the table do not fit.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    address = view_address(m)
    if address is None:
        return ViewLook(None, None, "it has no view")
    label = ".".join(address)
    try:
        with engine.database(prediction).transaction() as transaction:
            facts = read_facts(transaction, m)
            share_prediction(transaction, m)
    except PrivilegeError as error:
        return ViewLook(label, None, f"this role cannot tell: {error}")
    return _judged(facts, address, label)


def _judged(facts: Facts, address: tuple[str, str], label: str) -> ViewLook:
    """Whether a plan of `apply` would have the view in it."""
    m = facts.materialisation
    existing = next((view for view in facts.views if (view.schema, view.name) == address), None)
    told = "comment_view" in sql.load(m.dialect)  # elsewhere a role sees of a view what it may
    if not told and (existing is None or existing.mark is None):
        return ViewLook(label, None, f"there is no view {label} that this account may see")
    mend = f"run `rowscore apply {m.name}`"
    if existing is None:
        return ViewLook(label, False, f"the view {label} is gone; {mend}")
    try:
        fits = not plan_view(facts)
    except RefusedError as error:
        return ViewLook(label, False, f"the view {label} does not fit, and {error}")
    if fits:
        return ViewLook(label, True)
    return ViewLook(label, False, f"the view {label} is not of the table's columns as they are now; {mend}")
