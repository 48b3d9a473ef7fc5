"""The task that works on a backfill or a rescore, on a queue of its own: rows that come never wait behind it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from celery import shared_task

from schedules.beat import interval
from tasks.failing import in_one_line
from tasks.progress import TaskProgress
from worker import backfill as runs
from worker.app import BACKFILL_QUEUE
from worker.backfill import BackfillRun
from worker.batch import BatchResult
from worker.broker import BROKER_FAILURES
from worker.drain import Summary
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.log import logger
from worker.outlook import look_at_backfill, successor

_log = logger(__name__)


@shared_task(bind=True, name="rowscore.backfill", throws=(RowscoreError,))  # type: ignore[untyped-decorator]
def backfill(self: Any, name: str | None = None) -> dict[str, Any]:
    """Score windows of the backfill or rescore that is under way, for `max_run_time`; nothing where none is."""
    engine: Engine = self.app.engine
    with in_one_line("backfill", name), self.app.shutdown.finishing(engine.stop):
        prediction = engine.prediction(name)
        run = runs.live(engine, prediction.name)
        if run is None:
            ended = "no backfill or rescore is under way"
            return {"kind": None, **Summary(prediction.name, ended=ended, empty=True).as_dict()}
        budget = prediction.max_run_time.total_seconds()
        started = time.monotonic()
        progress = _RunProgress(self, engine, run)
        summary = runs.work(engine, prediction.name, run, progress, lambda _: None, seconds=budget)
        summary = replace(summary, seconds=time.monotonic() - started)
        if not engine.stop.is_set():
            _follow(engine, summary, budget)
    return {"kind": run.kind.value, **summary.as_dict()}


def start(engine: Engine, name: str, expires: float) -> int:
    """Send as many tasks as there is room for in the run that was begun for Celery; returns how many."""
    free = look_at_backfill(engine, name).free
    for _ in range(free):
        backfill.apply_async((name,), queue=BACKFILL_QUEUE, expires=expires)
    return free


def _follow(engine: Engine, summary: Summary, budget: float) -> None:
    """Send the task's successor, if it has one."""
    every = interval(engine.prediction(summary.prediction), engine.configuration.path)
    wait = successor(summary, budget, every)
    if wait is None:
        return
    try:
        backfill.apply_async(
            (summary.prediction,), queue=BACKFILL_QUEUE, countdown=wait or None, expires=wait + every
        )
    except BROKER_FAILURES as error:
        _log.warning("the next backfill task was not sent; the next tick starts one", error=str(error))


class _RunProgress(TaskProgress):
    """The whole run's progress, not only this task's."""

    def __init__(self, task: Any, engine: Engine, run: BackfillRun) -> None:
        super().__init__(task)
        self._engine, self._run = engine, run

    def describe(self, summary: Summary, result: BatchResult, rate: int) -> tuple[dict[str, Any], str]:
        """See `TaskProgress`."""
        progress, text = super().describe(summary, result, rate)
        run = runs.read(self._engine, summary.prediction, self._run)
        progress |= {"run": run.id, "kind": run.kind.value, "rows_done": run.done, "rows_total": run.total}
        whole = "" if run.total is None else f" of {run.total:,}"
        return progress, f"{run.kind.value}: {run.done:,}{whole} rows done; {text}"
