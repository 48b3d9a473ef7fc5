"""How far a task is, told to the result backend and to Flower; a broker that is gone harms nobody."""

from __future__ import annotations

import time
from typing import Any

from worker.batch import BatchResult
from worker.broker import BROKER_FAILURES
from worker.drain import Summary
from worker.log import logger

PROGRESS_EVERY = 1.0  # seconds

_log = logger(__name__)


class TaskProgress:
    """Told after each batch of a task."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.started = self.told = time.monotonic()

    def __call__(self, summary: Summary, result: BatchResult) -> None:
        """After a batch."""
        now = time.monotonic()
        if now - self.told < PROGRESS_EVERY:
            return
        self.told = now
        progress, text = self.describe(summary, result, round(summary.scored / (now - self.started)))
        try:
            self.task.update_state(state="PROGRESS", meta=progress)
            self.task.send_event("task-progress", result=text)
        except BROKER_FAILURES as error:
            _log.warning("progress was not told", error=str(error))

    def describe(self, summary: Summary, result: BatchResult, rate: int) -> tuple[dict[str, Any], str]:
        """What is told, for machines and for people."""
        progress = {
            "prediction": summary.prediction,
            "batches": summary.batches,
            "scored": summary.scored,
            "failed": summary.failed,
            "rows_per_second": rate,
            "rows_per_batch": result.taken,
        }
        text = f"{summary.scored:,} rows scored, {rate:,} a second, {result.taken:,} in the last batch"
        return progress, text
