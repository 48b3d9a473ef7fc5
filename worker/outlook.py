"""How many drains there is room for now, and whether one should follow another; it starts none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from worker.backfill import BackfillRun
from worker.backfill import live as live_backfill
from worker.drain import Summary
from worker.engine import Engine
from worker.leases import share_prediction
from worker.limits import LONGEST_REST
from worker.states import RunKind, RunStatus
from worker.throttle import read_standing

SOON = 60.0  # seconds; with the next tick further away, a drain that was kept from its work sends a successor


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a tick finds in the database.

    Attributes:
        live: leases of the drain that are out and have not expired.
        free: drains that may be started.
        reason: why none may, where that is not for the leases.
    """

    live: int
    free: int
    reason: str | None = None


def look(engine: Engine, name: str | None = None, interval: float = 0.0) -> Outlook:
    """How many drains a tick may start: up to `workers` less the live leases, none while the circuit is open.

    None while an operator's pause lasts, and none where drains that are throttled look again by themselves. Too many
    do no harm, for the leases are the cap; they would only find nothing to do.

    Args:
        interval: seconds between two ticks.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not score the prediction.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction(lock_timeout="5s") as transaction:
        share = share_prediction(transaction, m)
        leases = transaction.rows(m.render("live_leases"), prediction=m.name)
    live = sum(lease.kind == RunKind.DRAIN and lease.seconds_left > 0 for lease in leases)
    if share.circuit_open:
        seconds = float(share.circuit_seconds)
        return Outlook(live, 0, f"the circuit is open for {seconds:.0f} s: {share.reason}")
    standing = read_standing(engine.database(prediction), m.name)
    watched = interval > SOON and standing.looked is not None and standing.looked < SOON + 2 * LONGEST_REST
    if standing.pause is not None or (standing.signal is not None and watched):
        return Outlook(live, 0, f"throttled: {standing.held_by}")
    return Outlook(live, max(0, prediction.workers - live))


def successor(summary: Summary, budget: float, interval: float) -> float | None:
    """Seconds after which the next drain should follow this one, or None where the next tick is soon enough.

    Each drain has at most one, and one that found no window has none, so that a duplicate does not live on.

    Args:
        summary: of the drain that ended.
        budget: seconds that it had.
        interval: seconds between two ticks.
    """
    if summary.throttled:
        return _after_throttling(summary, interval)
    if summary.fault is None and summary.batches and summary.seconds >= budget:
        return 0.0  # else a backlog would wait 5 s in 30 at the defaults, and a day at a nightly cron
    kept = summary.fault is not None or (summary.batches > 0 and summary.retry_after is not None)
    if kept and interval > SOON:
        return max(SOON, summary.retry_after or 0.0)
    return None


def _after_throttling(summary: Summary, interval: float) -> float | None:
    """Soon after a drain that was stopped at its work; else with the ticks, or each minute where these are rare."""
    rest = summary.retry_after or 0.0
    if summary.batches:
        return rest
    return max(SOON, rest) if interval > SOON else None


def look_at_backfill(engine: Engine, name: str | None = None) -> Outlook:
    """How many tasks may be started for the run that was begun for Celery: `backfill_workers` less those at work.

    None where no such run is under way, where it is paused or outside its hours, or while the circuit is open.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not score the prediction.
    """
    prediction = engine.prediction(name)
    run = live_backfill(engine, prediction.name)
    if run is None or not run.options.celery:
        return Outlook(0, 0, "no backfill or rescore for Celery is under way")
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction(lock_timeout="5s") as transaction:
        share = share_prediction(transaction, m)
        leases = transaction.rows(m.render("live_leases"), prediction=m.name)
    busy = {lease.owner for lease in leases if lease.run_id == run.id and lease.seconds_left > 0}
    standing = read_standing(engine.database(prediction), m.name)
    reason = _held(run)
    if share.circuit_open:
        reason = f"the circuit is open: {share.reason}"
    elif standing.pause is not None:
        reason = f"throttled: {standing.reason or 'paused by an operator'}"
    free = 0 if reason is not None else max(0, prediction.backfill_workers - len(busy))
    return Outlook(len(busy), free, reason)


def _held(run: BackfillRun) -> str | None:
    """Why the run does not go on now, by its own options."""
    hours = run.options.hours
    if run.status is RunStatus.PAUSED:
        return "it is paused"
    if run.spent:
        return f"the budget of {run.options.budget} is spent"
    if hours is not None and not hours.contains(datetime.now(UTC)):
        return f"it is not between {run.options.between}"
    return None
