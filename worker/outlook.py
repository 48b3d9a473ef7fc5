"""How many drains there is room for now, and whether one should follow another; it starts none."""

from __future__ import annotations

from dataclasses import dataclass

from worker.drain import Summary
from worker.engine import Engine
from worker.leases import share_prediction
from worker.states import RunKind

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


def look(engine: Engine, name: str | None = None) -> Outlook:
    """How many drains a tick may start: up to `workers` less the live leases, none while the circuit is open.

    Too many do no harm, for the leases are the cap; they would only find nothing to do.

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
    return Outlook(live, max(0, prediction.workers - live))


def successor(summary: Summary, budget: float, interval: float) -> float | None:
    """Seconds after which the next drain should follow this one, or None where the next tick is soon enough.

    Each drain has at most one, and one that found no window has none, so that a duplicate does not live on.

    Args:
        summary: of the drain that ended.
        budget: seconds that it had.
        interval: seconds between two ticks.
    """
    if summary.fault is None and summary.batches and summary.seconds >= budget:
        return 0.0  # else a backlog would wait 5 s in 30 at the defaults, and a day at a nightly cron
    kept = summary.fault is not None or (summary.batches > 0 and summary.retry_after is not None)
    if kept and interval > SOON:
        return max(SOON, summary.retry_after or 0.0)
    return None
