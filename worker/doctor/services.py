"""Checks of what lies outside the database: the model, the broker, and the Celery workers that run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis

from worker.app import BACKFILL_QUEUE, create_app
from worker.broker import broker_errors
from worker.config import Configuration, Prediction
from worker.doctor.findings import Findings, error, ok, warning
from worker.engine import Engine
from worker.errors import ConfigurationError, ModelError, RowscoreError, StoreError
from worker.kinds.base import CalledModel
from worker.kinds.sql import SqlModel
from worker.peers import worker_definitions
from worker.store import broker_url

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


def check_store(engine: Engine, prediction: Prediction) -> Findings:
    """That the Redis answers in which workers share the model's rate and its answers, and that it forgets no rate."""
    settings = prediction.model
    if not isinstance(settings, CalledModel) or not (settings.rate_limit or settings.remember):
        return
    keys = [name for name in ("rate_limit", "remember") if getattr(settings, name)]
    needed = " and ".join(keys)
    try:
        policy = engine.store().policy()
    except (ConfigurationError, StoreError) as refusal:
        if settings.rate_limit:
            message = f"{refusal}; nothing is sent meanwhile, because of rate_limit"
            yield error("redis", message, "start it, or mend `broker`; `rowscore run` needs it here as well")
        else:
            yield warning("redis", f"{refusal}; nothing is remembered, so every row is paid for", "start it")
        return
    if settings.rate_limit and policy not in ("", "noeviction"):
        message = (
            f"it may forget how much of rate_limit is used when memory is short: maxmemory-policy is {policy}"
        )
        yield warning("redis", message, "redis-cli CONFIG SET maxmemory-policy noeviction")
        return
    yield ok("redis", f"it answers, for {needed}")


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
    yield from _compare_queues(configuration, answers)


def _compare_queues(configuration: Configuration, answers: Mapping[str, Mapping[str, Any]]) -> Findings:
    """That somebody takes the tasks that score old rows again; a worker of an older release does not say."""
    aged = [item.name for item in configuration.predictions.values() if item.max_age is not None]
    queues = [answer.get("queues", [BACKFILL_QUEUE]) for answer in answers.values()]
    if aged and not any(BACKFILL_QUEUE in named for named in queues):
        message = f"no worker listens on the queue {BACKFILL_QUEUE}: what max_age of {', '.join(aged)} asks for waits"
        yield warning("workers", message, f"celery -A worker worker -Q {BACKFILL_QUEUE}")


def _different(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
