"""The tasks that keep a prediction in order: failed and old rows are scored again, log and view looked after."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from celery import shared_task

from schedules.beat import interval
from tasks import backfills
from tasks.drains import tick
from tasks.failing import in_one_line
from worker import upkeep
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.log import logger

_log = logger(__name__)


@shared_task(bind=True, name="rowscore.retry", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def retry(self: Any, name: str | None = None) -> dict[str, Any]:
    """Put failed rows whose retry is due back to pending, and have them scored."""
    engine: Engine = self.app.engine
    with in_one_line("retry", name):
        prediction = engine.prediction(name)
        retried = upkeep.retry_failures(engine, prediction.name)
        if retried:
            tick.apply_async((prediction.name,), expires=interval(prediction, engine.configuration.path))
    return {"prediction": prediction.name, "retried": retried}


@shared_task(bind=True, name="rowscore.prune", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def prune(self: Any, name: str | None = None) -> dict[str, Any]:
    """Delete old lines of the batch log, old runs, and errors of rows that no longer have any."""
    engine: Engine = self.app.engine
    with in_one_line("prune", name):
        pruned = upkeep.prune(engine, name)
    return {"prediction": engine.prediction(name).name, **asdict(pruned)}


@shared_task(bind=True, name="rowscore.refresh", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def refresh(self: Any, name: str | None = None) -> dict[str, Any]:
    """Begin the rescore of rows that are older than `max_age`, where one is due, and have Celery's workers do it."""
    engine: Engine = self.app.engine
    with in_one_line("refresh", name):
        prediction = engine.prediction(name)
        found = upkeep.refresh(engine, prediction.name)
        run = found.begun
        if run is not None and run.total != 0:
            backfills.start(engine, prediction.name, interval(prediction, engine.configuration.path))
    return {
        "prediction": prediction.name,
        "run": None if run is None else run.id,
        "rows": None if run is None else run.total,
        "reason": found.reason,
    }


@shared_task(bind=True, name="rowscore.view", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def view(self: Any, name: str | None = None) -> dict[str, Any]:
    """Look whether the view still fits the table and the configuration; only `rowscore apply` makes it anew."""
    engine: Engine = self.app.engine
    with in_one_line("view", name):
        prediction = engine.prediction(name)
        found = upkeep.look_at_view(engine, prediction.name)
    if found.fits is False:
        _log.warning("the view does not fit", prediction=prediction.name, reason=found.reason)
    return {"prediction": prediction.name, **asdict(found)}
