"""The Celery application's settings, and how it is found."""

from __future__ import annotations

from typing import Any

import pytest

from worker.app import create_app, settings
from worker.broker import broker_errors
from worker.config import Configuration, parse_configuration
from worker.errors import BrokerError, ConfigurationError

REDIS = "redis://:secret@h:6379/0"


@pytest.fixture(autouse=True)
def _no_broker_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)


def configuration(broker: str | None = REDIS, **options: Any) -> Configuration:
    section = {"table": "t", "inputs": ["a"], "outputs": {"p": "float8"}, "model": {"sql": "f"}, **options}
    content = {"database": "postgresql://h/d", "predictions": {"churn": section}}
    return parse_configuration({**content, "broker": broker} if broker else content)


def test_messages_are_json_taken_one_at_a_time_and_acknowledged_early() -> None:
    conf = create_app(configuration()).conf
    assert conf.accept_content == ["json"]
    assert {conf.task_serializer, conf.result_serializer, conf.event_serializer} == {"json"}
    assert conf.task_default_queue == "rowscore"
    assert (conf.worker_prefetch_multiplier, conf.task_acks_late) == (1, False)
    assert (conf.broker_url, conf.result_backend) == (REDIS, REDIS)
    assert conf.broker_connection_retry_on_startup is True
    assert (conf.task_track_started, conf.worker_send_task_events, conf.task_send_sent_event) == (True,) * 3


def test_beat_keeps_no_file() -> None:
    assert create_app(configuration()).conf.beat_scheduler == "celery.beat:Scheduler"


def test_every_message_of_beats_table_has_a_task() -> None:
    app = create_app(configuration())
    app.loader.import_default_modules()
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)
    assert {name for name in app.tasks if not name.startswith("celery.")} == {
        "rowscore.backfill",
        "rowscore.tick",
        "rowscore.drain",
        "rowscore.retry",
        "rowscore.prune",
        "rowscore.refresh",
        "rowscore.verify",
        "rowscore.view",
    }


@pytest.mark.parametrize(
    ("options", "soft"),
    [
        ({}, 25 + 60),
        ({"max_run_time": "60s"}, 60 + 60),
        ({"model": {"http": "http://h/", "timeout": "30s", "attempts": 3}}, 25 + 60 + 30 + 90),
        ({"model": {"python": "m:f", "rate_limit": "5 rows/s"}}, 25 + 60 + 30 + 65),
    ],
)
def test_time_limits_leave_room_for_the_last_batch(options: dict[str, Any], soft: float) -> None:
    found = settings(configuration(**options))
    assert (found["task_soft_time_limit"], found["task_time_limit"]) == (soft, soft + 60)


def test_tls_asks_for_a_certificate_unless_told_otherwise() -> None:
    assert settings(configuration("rediss://h"))["broker_use_ssl"] == {"ssl_cert_reqs": "required"}
    assert create_app(configuration("rediss://h")).backend.connparams["ssl_cert_reqs"].name == "CERT_REQUIRED"
    assert "broker_use_ssl" not in settings(configuration("rediss://h?ssl_cert_reqs=none"))


def test_the_environments_broker_wins_as_it_does_in_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://other/1")
    conf = create_app(configuration()).conf
    assert (conf.broker_url, conf.result_backend) == ("redis://other/1", "redis://other/1")


@pytest.mark.parametrize("broker", [None, "amqp://h", "h:6379"])
def test_a_broker_that_cannot_be_used_is_one_line(broker: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"^rowscore.toml: broker: ") as caught:
        create_app(configuration(broker))
    assert "\n" not in str(caught.value)


def test_an_unreachable_broker_is_named_without_its_password() -> None:
    with pytest.raises(BrokerError) as caught, broker_errors(REDIS):
        raise ConnectionError("no\n  route")
    assert str(caught.value) == "the broker redis://:********@h:6379/0 cannot be reached: no route"
