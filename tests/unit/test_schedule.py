"""Beat's table as it follows from rowscore.toml."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery.schedules import crontab

from schedules.beat import beat_schedule, interval
from worker.config import Configuration, parse_configuration
from worker.errors import ConfigurationError


def configuration(**options: Any) -> Configuration:
    section = {
        "table": "t",
        "inputs": ["a"],
        "outputs": {"p": "float8"},
        "model": {"sql": "f"},
    }
    predictions = {"churn": {**section, **options}, "other": {**section, "every": "10s"}}
    return parse_configuration(
        {"database": "postgresql://h/d", "broker": "redis://h", "predictions": predictions}
    )


def test_each_prediction_has_messages_that_expire_with_their_interval() -> None:
    table = beat_schedule(configuration(every="90s"))
    found = {
        name: (entry["task"], entry["args"], entry["schedule"], entry["options"])
        for name, entry in table.items()
    }
    minute, hour = timedelta(minutes=1), timedelta(hours=1)
    assert found == {
        "churn: tick": ("rowscore.tick", ("churn",), timedelta(seconds=90), {"expires": 90.0}),
        "churn: retry": ("rowscore.retry", ("churn",), minute, {"expires": 60.0}),
        "churn: prune": ("rowscore.prune", ("churn",), hour, {"expires": 3600.0}),
        "churn: view": ("rowscore.view", ("churn",), hour, {"expires": 3600.0}),
        "other: tick": ("rowscore.tick", ("other",), timedelta(seconds=10), {"expires": 10.0}),
        "other: retry": ("rowscore.retry", ("other",), minute, {"expires": 60.0}),
        "other: prune": ("rowscore.prune", ("other",), hour, {"expires": 3600.0}),
        "other: view": ("rowscore.view", ("other",), hour, {"expires": 3600.0}),
    }


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        ({"on_input_change": "fingerprint"}, 3600.0),
        ({"on_input_change": "fingerprint", "verify_every": "10m"}, 600.0),
        ({"fingerprint": "f", "verify_every": "7d", "cron": "0 2 * * *"}, 3600.0),
    ],
)
def test_whether_rows_are_to_be_verified_is_looked_at_each_hour_and_the_database_knows_when(
    options: dict[str, Any], looks: float
) -> None:
    """A timer of a day would begin anew whenever beat does."""
    table = beat_schedule(configuration(**options))
    entry = table["churn: verify"]
    assert (entry["task"], entry["args"]) == ("rowscore.verify", ("churn",))
    assert (entry["schedule"], entry["options"]) == (timedelta(seconds=looks), {"expires": looks})
    assert "other: verify" not in table
    assert "churn: verify" not in beat_schedule(configuration(fingerprint="f"))


def test_no_view_is_not_looked_at() -> None:
    assert "churn: view" not in beat_schedule(configuration(view=False))


@pytest.mark.parametrize(
    ("age", "looks"), [("1h", 900.0), ("30h", 900.0), ("30d", 6 * 3600.0), ("36h", 1080.0)]
)
def test_rows_that_get_too_old_are_looked_for_four_times_in_a_thirtieth_of_their_age(
    age: str, looks: float
) -> None:
    """The database says when the last rescore began; looking oftener than that makes it come when it is due."""
    entry = beat_schedule(configuration(max_age=age))["churn: refresh"]
    assert entry["task"] == "rowscore.refresh"
    assert entry["schedule"] == timedelta(seconds=looks)
    assert entry["options"] == {"expires": looks}
    assert "other: refresh" not in beat_schedule(configuration(max_age=age))


def test_a_cron_decides_when_the_model_may_be_called_at_all() -> None:
    table = beat_schedule(configuration(cron="30 2  1-5 * mon-fri", every="1s"))
    nightly = crontab(minute="30", hour="2", day_of_month="1-5", month_of_year="*", day_of_week="mon-fri")
    assert table["churn: tick"]["schedule"] == table["churn: retry"]["schedule"] == nightly
    refreshing = beat_schedule(configuration(cron="30 2  1-5 * mon-fri", max_age="30d"))
    assert refreshing["churn: refresh"]["schedule"] == nightly
    assert table["churn: tick"]["options"] == table["churn: retry"]["options"] == {"expires": 3600.0}
    assert table["other: tick"]["schedule"] == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("0 2 * * *", 3600),
        ("10,50 * * * *", 1200),
        ("0,7 * * * *", 420),
    ],
)
def test_a_crons_messages_expire_before_the_next_of_the_same_hour(cron: str, seconds: float) -> None:
    config = configuration(cron=cron)
    assert interval(config.prediction("churn"), config.path) == seconds


@pytest.mark.parametrize(
    "cron", ["* * * *", "every day", "61 * * * *", "* 24 * * *", "* * * * someday", "a b c d e", ""]
)
def test_a_malformed_cron_names_its_key(cron: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^rowscore.toml: predictions.churn.cron: .*") as caught:
        beat_schedule(configuration(cron=cron))
    assert "\n" not in str(caught.value)
