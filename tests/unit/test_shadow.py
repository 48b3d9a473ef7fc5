"""A shadow in the file: what it inherits, what it may say, and how the two change places; no database."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from typing import Any

import pytest

from worker.cli.settings import as_toml, effective, model_sections
from worker.config import Configuration, forgotten_shadow, parse_configuration, swapped
from worker.errors import ConfigurationError
from worker.kinds.sql import SqlModel
from worker.limits import Throttle
from worker.switches import Direction, Registered, Switch, against, read_switch, without_switch

LIVE: dict[str, Any] = {
    "table": "items",
    "inputs": ["a"],
    "outputs": {"p": "float8", "label": "text"},
    "model": {"sql": "one"},
    "where": "a > 0",
    "live": True,
    "concurrency": 3,
    "every": "5s",
    "throttle": {"nice": 0.5},
}
VERSIONED = {"version": {"column": "model", "value": "1"}}


def read(shadow: dict[str, Any] | None, name: str = "churn", **more: Any) -> Configuration:
    section = {**LIVE, **more, **({"shadow": shadow} if shadow is not None else {})}
    return parse_configuration({"database": "postgresql://x", "predictions": {name: section}})


def test_it_is_a_prediction_over_the_same_rows_into_columns_of_its_own() -> None:
    config = read({"model": {"sql": "two"}, "version": "2", "daily_budget": "10 calls"}, **VERSIONED)
    live, shadow = config.pair()
    assert list(config.predictions) == ["churn", "churn_shadow"]
    assert (shadow.name, shadow.shadow_of, live.shadow_of) == ("churn_shadow", "churn", None)
    assert shadow.outputs == {"p_shadow": "float8", "label_shadow": "text"}
    assert (shadow.state_column, shadow.scored_at_column) == ("churn_shadow_state", "churn_shadow_scored_at")
    assert shadow.version is not None
    assert (shadow.version.column, shadow.version.value) == ("model_shadow", "2")
    assert (shadow.view_name, shadow.live, shadow.shadow) == (None, False, None)
    assert (shadow.where, shadow.inputs, shadow.key) == (live.where, live.inputs, live.key)
    assert (shadow.concurrency, shadow.daily_budget, live.daily_budget) == (3, "10 calls", None)
    assert shadow.every == timedelta(seconds=5)
    assert shadow.throttle == live.throttle
    assert [shadow.live_column(name) for name in shadow.outputs] == ["p", "label"]
    assert [live.live_column(name) for name in live.outputs] == [None, None]


def test_without_a_name_the_live_one_is_meant() -> None:
    config = read({"model": {"sql": "two"}})
    assert config.prediction().name == "churn"
    assert config.prediction("churn_shadow").shadow_of == "churn"
    assert [item.name for item in config.pair("churn_shadow")] == ["churn", "churn_shadow"]
    with pytest.raises(ConfigurationError, match=r"predictions.churn has no shadow; a section \[predictions"):
        read(None).pair()


def test_it_has_columns_of_its_own_where_the_live_one_names_them() -> None:
    named = {"state": "s", "scored_at": "t", "fingerprint": "f"}
    live, shadow = read({"model": {"sql": "two"}}, **named).pair()
    assert set(live.own_columns) & set(shadow.own_columns) == set()
    assert shadow.fingerprint_column == "f_shadow"
    assert shadow.definition_hash != live.definition_hash


def test_rows_are_scored_again_for_their_age_by_the_live_one_alone() -> None:
    live, shadow = read({"model": {"sql": "two"}}, max_age="30d").pair()
    assert live.max_age == timedelta(days=30)
    assert shadow.max_age is None


@pytest.mark.parametrize(
    ("shadow", "more", "message"),
    [
        ({}, {}, "predictions.churn.shadow.model: is missing"),
        ({"model": {"sql": "two"}, "table": "x"}, {}, "predictions.churn.shadow.table: unknown key"),
        ({"model": {"sql": "two"}}, VERSIONED, 'predictions.churn.shadow: expected version = "..."'),
        (
            {"model": {"sql": "two"}, "version": "2"},
            {},
            "predictions.churn.shadow.version: predictions.churn has no",
        ),
        (
            {"model": {"sql": "two"}, "daily_budget": "1.00"},
            {},
            "predictions.churn.shadow: daily_budget is money",
        ),
        (
            {"model": {"sql": "two"}, "daily_budget": "much"},
            {},
            'predictions.churn.shadow: expected "1000 calls"',
        ),
        ({"model": {"sql": "two"}}, {"outputs": {"x" * 60: "int"}}, "predictions.churn.shadow: 'xxx"),
        (
            {"model": {"sql": "two"}},
            {"state": "p_shadow"},
            "predictions.churn.shadow: column 'p_shadow' would be",
        ),
    ],
)
def test_mistakes_are_one_line(shadow: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(shadow, **more)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"rowscore.toml: {message}")


def test_its_name_is_free_and_short() -> None:
    with pytest.raises(ConfigurationError, match=r"predictions.c{34}.shadow: .* longer than 40; shorten c"):
        read({"model": {"sql": "two"}}, name="c" * 34)
    assert read({"model": {"sql": "two"}}, name="c" * 33).pair()[1].name == "c" * 33 + "_shadow"
    both = {
        "churn": {**LIVE, "shadow": {"model": {"sql": "two"}}},
        "churn_shadow": {**LIVE, "outputs": {"q": "int"}},
    }
    with pytest.raises(
        ConfigurationError, match="it is a prediction named churn_shadow, and the file has another"
    ):
        parse_configuration({"database": "postgresql://x", "predictions": both})


def test_models_change_places_with_what_is_theirs_and_back() -> None:
    pair = read({"model": {"sql": "two"}, "version": "2", "max_rows_per_batch": 7}, **VERSIONED).pair()
    live, shadow = swapped(*pair)
    assert isinstance(live.model, SqlModel)
    assert (live.model.sql, live.version_value, live.max_rows_per_batch) == ("two", "2", 7)
    assert (shadow.model, shadow.version_value, shadow.max_rows_per_batch) == (pair[0].model, "1", None)
    assert (live.outputs, shadow.outputs) == (pair[0].outputs, pair[1].outputs)
    back = swapped(live, shadow)
    assert [item.definition_hash for item in back] == [item.definition_hash for item in pair]
    with pytest.raises(ValueError, match="live = true needs a model of kind sql"):
        swapped(*read({"model": {"python": "a:b"}}).pair())


def test_a_file_made_of_what_is_printed_has_the_wanted_definitions() -> None:
    secret = {"http": "https://x/y", "headers": {"Authorization": "Bearer $TOKEN"}, "timeout": "5s"}
    shadow = {"model": {"sql": "two"}, "version": "2", "concurrency": 9}
    more = {**VERSIONED, "model": secret, "live": False}
    wanted = swapped(*read(shadow, **more).pair())
    text = "\n".join(model_sections(*wanted))
    printed = tomllib.loads(text)["predictions"]["churn"]
    got = read(printed.pop("shadow"), **{**more, **printed}).pair()
    assert [item.definition_hash for item in got] == [item.definition_hash for item in wanted]
    assert [item.model for item in got] == [item.model for item in wanted]
    assert [item.concurrency for item in got] == [9, 3]
    plain = read(shadow, **{**more, "model": {**secret, "headers": {"X": "hunter2"}}}).pair()
    assert "hunter2" not in "\n".join(model_sections(*plain))


def test_all_settings_show_it_once_and_read_back() -> None:
    config = read({"model": {"http": "https://x", "headers": {"X": "hunter2"}}, "version": "2"}, **VERSIONED)
    shown = effective(config)
    assert list(shown["predictions"]) == ["churn"]
    assert shown["predictions"]["churn"]["shadow"]["version"] == "2"
    assert "hunter2" not in str(shown)
    assert list(effective(config, "churn_shadow")["predictions"]) == ["churn_shadow"]
    again = parse_configuration(tomllib.loads(as_toml(config)))
    assert [item.definition_hash for item in again.pair()] == [item.definition_hash for item in config.pair()]


def test_one_that_left_the_file_is_known_by_its_name() -> None:
    config = read(None)
    found = forgotten_shadow(config.prediction())
    assert (found.name, found.shadow_of, found.table) == ("churn_shadow", "churn", "items")


# --- what a switch leaves -----------------------------------------------------------------------------------

TARGET = Registered({"table": "items"}, "abc", "2")
MADE = Switch("token", Direction.PROMOTE, "churn", "churn_shadow", "old", "1")


def test_a_switch_is_kept_beside_the_definition() -> None:
    definition = {"table": "items", "held": ["t"]}
    stored = MADE.stored_with(definition)
    assert read_switch(stored) == MADE
    assert without_switch(stored) == definition
    assert read_switch(definition) is None
    begun = Switch(**{**{name: getattr(MADE, name) for name in MADE.__slots__}, "target": TARGET})
    assert read_switch(begun.stored_with(definition)) == begun


def test_the_definition_of_before_is_refused_and_others_are_not() -> None:
    stored = MADE.stored_with({})
    assert against(stored, "old", "1") == MADE
    assert against(stored, "old", "2") is None
    assert against(stored, "new", "1") is None
    assert against({}, "old", "1") is None
    assert "churn was promoted" in MADE.explain("churn")
    assert "`rowscore rescore churn --promote`" in MADE.explain("churn_shadow")


def test_everybody_is_refused_while_a_switch_is_under_way() -> None:
    begun = Switch("token", Direction.ROLLBACK, "churn", "churn_shadow", "old", "1", TARGET)
    assert against(begun.stored_with({}), "new", "7") == begun
    assert "interrupted; `rowscore rescore churn --rollback` ends it" in begun.explain("churn")


def test_limits_are_the_live_ones() -> None:
    live, shadow = read({"model": {"sql": "two"}}).pair()
    assert isinstance(live.throttle, Throttle)
    assert shadow.throttle.nice == 0.5
