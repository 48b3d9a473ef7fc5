"""What the running workers were started with, asked over Celery's remote control; it compares nothing."""

from __future__ import annotations

import os
import socket
from typing import Any

from celery import Celery
from celery.worker.control import inspect_command

from worker.broker import broker_errors

COMMAND = "rowscore_definitions"


@inspect_command()  # type: ignore[untyped-decorator]  # celery has no types
def rowscore_definitions(state: Any, **_: Any) -> dict[str, Any]:
    """The definition and the model version of each prediction that this worker was started with, and its queues."""
    predictions = state.app.configuration.predictions.values()
    consumer = state.consumer.task_consumer
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "queues": [queue.name for queue in consumer.queues] if consumer else [],
        "predictions": {
            item.name: {"definition": item.definition_hash, "version": item.version_value}
            for item in predictions
        },
    }


def worker_definitions(app: Celery, timeout: float = 1.0) -> dict[str, dict[str, Any]]:
    """What the workers answer within `timeout` seconds, by the worker's name; empty where none runs.

    Each answer holds `host`, `pid` (the parent process's), the names of the `queues` that it takes tasks from, and
    `predictions`: by name their `definition` (the hash) and `version`.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    url = app.conf.broker_url
    with broker_errors(url):
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=timeout)
        replies = app.control.broadcast(COMMAND, reply=True, timeout=timeout)
    answers = [pair for reply in replies or () for pair in reply.items()]
    return {worker: answer for worker, answer in answers if "error" not in answer}
