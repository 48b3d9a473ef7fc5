"""The tasks that score: a tick, which beat sends, starts drains, and a drain works until its time is over."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from schedules.beat import interval
from tasks import backfills
from tasks.failing import in_one_line
from tasks.progress import TaskProgress
from worker.broker import BROKER_FAILURES
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.log import logger
from worker.outlook import look, successor

_log = logger(__name__)


@shared_task(bind=True, name="rowscore.tick", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def tick(self: Any, name: str | None = None) -> dict[str, Any]:
    """Start as many drains of the prediction as there is room for, and as many tasks of a backfill for Celery."""
    engine: Engine = self.app.engine
    with in_one_line("tick", name):
        prediction = engine.prediction(name)
        every = interval(prediction, engine.configuration.path)
        found = look(engine, prediction.name, every)
        for _ in range(found.free):
            drain.apply_async((prediction.name,), expires=every)
        backfills.start(engine, prediction.name, every)
    return {"prediction": prediction.name, "started": found.free, "live": found.live, "reason": found.reason}


@shared_task(bind=True, name="rowscore.drain", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def drain(self: Any, name: str | None = None) -> dict[str, Any]:
    """Score the prediction's pending rows for `max_run_time`; the summary says how many, and why it ended."""
    engine: Engine = self.app.engine
    with in_one_line("drain", name), self.app.shutdown.finishing(engine.stop):
        work = Drain(engine, name, progress=TaskProgress(self))
        summary = work.run()
        if not engine.stop.is_set():
            _follow(engine, summary, work.seconds)
    return summary.as_dict()


def _follow(engine: Engine, summary: Summary, budget: float) -> None:
    """Send the drain's successor, if it has one."""
    every = interval(engine.prediction(summary.prediction), engine.configuration.path)
    wait = successor(summary, budget, every)
    if wait is None:
        return
    try:
        drain.apply_async((summary.prediction,), countdown=wait or None, expires=wait + every)
    except BROKER_FAILURES as error:
        _log.warning("the next drain was not sent; the next tick starts one", error=str(error))
