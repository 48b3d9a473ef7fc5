"""Checks of what lies outside the database: the model, the broker, and the Celery workers that run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis

from worker.app import create_app
from worker.broker import broker_errors, broker_url
from worker.config import Configuration, Prediction
from worker.doctor.findings import Findings, error, ok, warning
from worker.engine import Engine
from worker.errors import ConfigurationError, ModelError, RowscoreError
from worker.kinds.sql import SqlModel
from worker.peers import worker_definitions

_PING_SECONDS = 2.0
_ANSWER_SECONDS = 1.0


def check_model(engine: Engine, prediction: Prediction) -> Findings:
    """That the model which the worker calls is there: an endpoint answers, a Python function is found."""
    if isinstance(prediction.model, SqlModel):
        return
    try:
        model = engine.model(prediction)
        yield ok("model", model.check() if model is not None else "the database scores")
    except ConfigurationError as refusal:
        yield error("model", str(refusal), "mend `model`, or put the module's folder on PYTHONPATH")
    except ModelError as refusal:
        yield error(
            "model",
            str(refusal),
            "start the endpoint, or mend `model`; until then rows wait and are not lost",
        )


def check_broker(configuration: Configuration) -> Findings:
    """That Celery's broker answers, then the workers that it leads to; `rowscore run` needs neither."""
    try:
        url = broker_url(configuration)
    except ConfigurationError as refusal:
        message = f"{refusal}; `rowscore run` works without a broker, Celery does not"
        yield warning("broker", message, "export CELERY_BROKER_URL=redis://localhost:6379/0")
        return
    try:
        with (
            broker_errors(url),
            Redis.from_url(url, socket_timeout=_PING_SECONDS, socket_connect_timeout=_PING_SECONDS) as broker,
        ):
            broker.ping()
    except (RowscoreError, ValueError) as refusal:
        yield error(
            "broker", str(refusal), "start it, or mend CELERY_BROKER_URL; `rowscore run` works without"
        )
        return
    yield ok("broker", "it answers")
    yield from check_workers(configuration)


def check_workers(configuration: Configuration) -> Findings:
    """That Celery workers run, and that they were started with this very file."""
    try:
        answers = worker_definitions(create_app(configuration), timeout=_ANSWER_SECONDS)
    except RowscoreError as refusal:
        yield warning("workers", str(refusal))
        return
    yield from compare_workers(configuration, answers)


def compare_workers(configuration: Configuration, answers: Mapping[str, Mapping[str, Any]]) -> Findings:
    """The workers' definitions beside this file's."""
    own = {
        item.name: {"definition": item.definition_hash, "version": item.version_value}
        for item in configuration.predictions.values()
    }
    if not answers:
        yield warning(
            "workers", "no Celery worker answers", "celery -A worker worker, and once: celery -A worker beat"
        )
        return
    odd = {
        worker: _different(own, answer.get("predictions", {})) for worker, answer in sorted(answers.items())
    }
    for worker, names in odd.items():
        if names:
            message = f"{worker} was started with another definition of {', '.join(names)} than this file's"
            remedy = (
                "restart it with this file; until then it refuses to score what was applied from this one"
            )
            yield error("workers", message, remedy)
    if not any(odd.values()):
        yield ok("workers", f"{', '.join(odd)}: same definitions as this file")


def _different(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
