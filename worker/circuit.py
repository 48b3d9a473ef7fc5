"""The circuit breaker: how long nobody calls a model that is at fault; the decision is pure, the record is SQL's."""

from __future__ import annotations

from worker.database import Transaction
from worker.errors import FailureClass, ModelError, ThrottledError
from worker.materialisation import Materialisation

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


def pause(failures: int, failure: FailureClass, retry_after: float | None = None) -> float:
    """Seconds to leave the service alone after so many faults in a row (1 for the first).

    A temporary fault doubles from one second to a minute; a permanent one waits the minute at once, for a person has
    to act; throttling waits for what the service asked, and never counts as a failure.
    """
    if retry_after is not None:
        return min(max(retry_after, FIRST_PAUSE), 10 * LONGEST_PAUSE)
    if failure is FailureClass.SERVICE_PERMANENT:
        return LONGEST_PAUSE
    if failure is FailureClass.THROTTLED:
        return 5 * FIRST_PAUSE
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** max(0, failures - 1)))


def open_circuit(
    transaction: Transaction,
    materialisation: Materialisation,
    fault: ModelError,
    failures: int,
    *,
    already_open: bool = False,
) -> float:
    """Record the fault; `failures` were in a row before it. Returns the pause in seconds.

    A circuit that is `already_open` was opened by another worker while this batch was in flight: both met one outage,
    which counts once. Else the pause would double with every worker, and not with every try.
    """
    counted = failures if isinstance(fault, ThrottledError) or already_open else failures + 1
    seconds = pause(counted, fault.failure, getattr(fault, "retry_after", None))
    transaction.execute(
        materialisation.render("open_circuit"),
        prediction=materialisation.name,
        failures=counted,
        failure_class=fault.failure.value,
        reason=str(fault)[:2000],
        seconds=seconds,
    )
    return seconds


def close_circuit(transaction: Transaction, materialisation: Materialisation) -> None:
    """The service answered: forget its faults."""
    transaction.execute(materialisation.render("close_circuit"), prediction=materialisation.name)
