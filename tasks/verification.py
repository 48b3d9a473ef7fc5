"""The task that looks for rows whose inputs changed unseen, a slice of the table at a time."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from tasks.failing import in_one_line
from worker.broker import BROKER_FAILURES
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.log import logger
from worker.verification import Slice, verify_slice

LATEST = 3600.0  # seconds that a successor may wait for a worker; then beat's next message goes on

_log = logger(__name__)


@shared_task(bind=True, name="rowscore.verify", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def verify(self: Any, name: str | None = None, walk: int | None = None) -> dict[str, Any]:
    """Compare a slice of the rows with the inputs that were scored; those that changed wait for the next tick.

    Args:
        walk: the walk of which this is a further slice; beat's messages begin one, where it is due.
    """
    engine: Engine = self.app.engine
    with in_one_line("verify", name), self.app.shutdown.finishing(engine.stop):
        prediction = engine.prediction(name)
        done = verify_slice(engine, prediction.name, walk)
        _follow(prediction.name, done)
    found = {} if done.found is None else done.found.as_dict()
    return {**found, "prediction": prediction.name, "walk": done.walk, "reason": done.reason}


def _follow(name: str, done: Slice) -> None:
    """Send the next slice, if there is one."""
    if done.follow is None:
        return
    try:
        verify.apply_async((name, done.walk), countdown=done.follow, expires=done.follow + LATEST)
    except BROKER_FAILURES as error:
        _log.warning("the next slice was not sent; beat's next message goes on", error=str(error))
