"""The Celery application: its settings, and the engine that each of its processes opens; it defines no task.

`worker.celery` makes the one that `celery -A worker worker`, `beat` and `flower` find.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery, signals

from schedules.beat import beat_schedule
from worker.batch import BATCH_SECONDS
from worker.broker import broker_options
from worker.config import Configuration, Prediction
from worker.engine import Engine
from worker.kinds.base import CalledModel, ServiceModel
from worker.rates import LONGEST_WAIT
from worker.shutdown import Shutdown
from worker.stdlog import adopt_standard_logs
from worker.store import broker_url

QUEUE = "rowscore"
BACKFILL_QUEUE = "rowscore-backfill"  # `celery -A worker worker -Q rowscore-backfill`
TASKS = ("tasks.backfills", "tasks.drains", "tasks.upkeep", "tasks.verification")
_MARGIN = 60.0  # seconds for a batch's statements, waits for locks included, and a model without a timeout
_RESULTS_KEPT = 3600.0  # seconds; two ticks a minute and their drains are a few thousand small keys


class Application(Celery):  # type: ignore[misc]  # celery has no types
    """Celery with a configuration, and with one engine for each process that runs tasks."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__("rowscore", include=list(TASKS))
        self.configuration = configuration
        self.shutdown = Shutdown()
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self.conf.update(settings(configuration))

    @property
    def engine(self) -> Engine:
        """This process's engine, made when first asked for; its `stop` follows the worker's shutdown."""
        with self._lock:
            if self._engine is None:
                self._engine = Engine(self.configuration)
                self.shutdown.tell(self._engine.stop)
            return self._engine

    def forget_engine(self) -> None:
        """Begin anew after a fork, which neither a shared socket nor a thread survives.

        The parent's engine, if it had one, is not disposed of: that would say goodbye on its connections.
        """
        self._lock = threading.Lock()
        self._engine = None


def create_app(configuration: Configuration) -> Application:
    """The application for a configuration; `connect_signals` makes it a worker's.

    Raises:
        ConfigurationError: the broker's URL or a `cron` cannot be used.
    """
    return Application(configuration)


def connect_signals(app: Application) -> None:
    """Let Celery's programs log as rowscore does, engines begin after the fork, drains end at shutdown."""

    def log(loglevel: int, logfile: str | None = None, **_: Any) -> None:
        adopt_standard_logs(loglevel, logfile)

    def start(**_: Any) -> None:
        app.forget_engine()

    def shut_down(**_: Any) -> None:
        app.shutdown.announce()

    signals.setup_logging.connect(log, weak=False)
    signals.worker_process_init.connect(start, weak=False)
    signals.worker_shutting_down.connect(shut_down, weak=False)


def settings(configuration: Configuration) -> dict[str, Any]:
    """Celery's settings.

    Messages are acknowledged when they are taken, not when they are done (`task_acks_late`): Redis delivers
    what is unacknowledged for an hour (its visibility timeout) again, running or not, and a drain that died
    is replaced by the next tick anyway; its window is taken over when its lease ends.

    Raises:
        ConfigurationError: the broker's URL or a `cron` cannot be used.
    """
    url = broker_url(configuration)
    limit = max(map(_longest_run, configuration.predictions.values()))
    return {
        **broker_options(url),
        "task_default_queue": QUEUE,
        "task_routes": {"rowscore.backfill": {"queue": BACKFILL_QUEUE}},
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,  # a message waits where any worker may take it
        "task_track_started": True,
        "task_ignore_result": False,
        "result_extended": True,
        "result_expires": _RESULTS_KEPT,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        # The soft limit raises wherever the drain stands, so it is for what hangs, not for what is slow.
        "task_soft_time_limit": limit,
        "task_time_limit": limit + _MARGIN,
        "worker_lost_wait": 2.0,  # seconds until a killed child's task counts as lost; nobody waits for it
        # Concerns what is acknowledged late, so nothing; unset, a lost connection is a warning of 20 lines.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "beat_schedule": beat_schedule(configuration),
        "beat_scheduler": "celery.beat:Scheduler",  # in memory: no file, over which two beats would quarrel
        "enable_utc": True,
        "timezone": "UTC",
    }


def _longest_run(prediction: Prediction) -> float:
    """Seconds that a drain may take at most: its budget, and the batch that was begun at the end of it."""
    batch, model = _MARGIN, prediction.model
    if isinstance(model, CalledModel):
        batch += BATCH_SECONDS + (LONGEST_WAIT if model.rate_limit else 0.0)
    if isinstance(model, ServiceModel):
        batch += model.timeout.total_seconds() * model.attempts
    return prediction.max_run_time.total_seconds() + batch
