"""The tasks that keep a prediction in order: failed rows are tried again, and the batch log stays bounded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from celery import shared_task

from schedules.beat import interval
from tasks.drains import tick
from tasks.failing import in_one_line
from worker import upkeep
from worker.engine import Engine
from worker.errors import RowscoreError


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
    """Delete old lines of the batch log, and errors of rows that no longer have any."""
    engine: Engine = self.app.engine
    with in_one_line("prune", name):
        pruned = upkeep.prune(engine, name)
    return {"prediction": engine.prediction(name).name, **asdict(pruned)}
