"""What holds work up: the section of the file, and the decision over what was read."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.settings import as_toml
from worker.config import Configuration, parse_configuration
from worker.errors import ConfigurationError
from worker.limits import (
    CAUGHT_UP,
    LONGEST_REST,
    LONGEST_YIELD,
    Lag,
    Pause,
    Reading,
    Replica,
    Signal,
    Throttle,
    Unreadable,
    furthest,
    judge,
    objection,
    parse_size,
    yielded,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECTION: dict[str, Any] = {
    "table": "items", "inputs": ["a"], "outputs": {"p": "real"}, "model": {"sql": "predict"},
}  # fmt: skip
LIMITS = Throttle.model_validate(
    {
        "max_replica_lag": "10s", "max_blocked_sessions": 5, "max_active_sessions": 40, "avoid_vacuum": True,
        "max_unarchived_wal": "1GB", "max_history_list": 1000, "query": "SELECT 1", "between": "08:00-17:00",
    }
)  # fmt: skip
QUIET: dict[Signal, Reading] = {
    Signal.REPLICA_LAG: Lag(10.0, "one"), Signal.BLOCKED_SESSIONS: 5.0, Signal.ACTIVE_SESSIONS: 40.0,
    Signal.VACUUM: 0.0, Signal.UNARCHIVED_WAL: float(1 << 30), Signal.HISTORY_LIST: 1000.0, Signal.QUERY: None,
}  # fmt: skip
NOISY: dict[Signal, tuple[Reading, str]] = {
    Signal.REPLICA_LAG: (Lag(10.5, "one"), "replica one is 10.5 s behind, more than 10 s"),
    Signal.BLOCKED_SESSIONS: (6.0, "sessions that wait for locks of rowscore's: 6, more than 5"),
    Signal.ACTIVE_SESSIONS: (41.0, "active sessions: 41, more than 40"),
    Signal.VACUUM: (1.0, "the table is being vacuumed"),
    Signal.UNARCHIVED_WAL: (
        2.0 * (1 << 30), "bytes of WAL that wait for their archive: 2,147,483,648, more than 1,073,741,824",
    ),
    Signal.HISTORY_LIST: (1001.0, "transactions whose old row versions wait for purge: 1,001, more than 1,000"),
    Signal.QUERY: ("throttle.query: month's end", "throttle.query: month's end"),
}  # fmt: skip


def configured(general: dict[str, Any], own: dict[str, Any]) -> Configuration:
    url = "postgresql://u@db/x"
    return parse_configuration(
        {"database": url, "throttle": general, "predictions": {"churn": {**SECTION, "throttle": own}}}
    )


# --- the section ------------------------------------------------------------------------------------------


def test_what_holds_without_a_word_costs_nothing_and_needs_no_privilege() -> None:
    limits = parse_configuration({"database": "postgresql://u@db/x", "predictions": {"churn": SECTION}})
    found = limits.prediction().throttle
    assert found.signals == (Signal.BLOCKED_SESSIONS,)
    assert not found.asked_for(Signal.BLOCKED_SESSIONS)
    assert found.nice == "auto"


def test_a_prediction_overrides_the_files_limits_key_by_key() -> None:
    general = {"max_replica_lag": "10s", "max_active_sessions": 40, "nice": 0.5, "query": "SELECT 1"}
    own = {"max_replica_lag": "1m", "max_active_sessions": False, "max_blocked_sessions": False}
    found = configured(general, own).prediction().throttle
    assert found.max_replica_lag == timedelta(minutes=1)
    assert found.nice == 0.5
    assert found.signals == (Signal.REPLICA_LAG, Signal.QUERY)
    assert all(found.asked_for(signal) for signal in found.signals)


def test_none_at_all_is_a_limit_too() -> None:
    strict = Throttle(max_blocked_sessions=0)
    assert strict.signals == (Signal.BLOCKED_SESSIONS,)
    assert judge(strict, {Signal.BLOCKED_SESSIONS: 0.0}, NOON).signal is None
    assert judge(strict, {Signal.BLOCKED_SESSIONS: 1.0}, NOON).signal is Signal.BLOCKED_SESSIONS


def test_limits_decide_no_value() -> None:
    plain, limited = configured({}, {}), configured({"nice": 2}, {"query": "SELECT 1"})
    assert plain.prediction().definition_hash == limited.prediction().definition_hash


@pytest.mark.parametrize(
    "own", [{}, {"max_blocked_sessions": False}, {"replicas": ["postgresql://u:hush@r/x"]}]
)
def test_the_configuration_that_is_shown_is_one_that_can_be_read_and_has_no_password(
    own: dict[str, Any],
) -> None:
    config = configured({"max_unarchived_wal": "1GB", "between": "22:00-06:00 Europe/Berlin"}, own)
    shown = as_toml(config)
    assert "hush" not in shown
    again = parse_configuration(tomllib.loads(shown)).prediction().throttle
    plain = config.prediction().throttle
    assert again.model_copy(update={"replicas": ()}) == plain.model_copy(update={"replicas": ()})


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"max_lag": "1s"}, "throttle.max_lag: unknown key"),
        ({"max_replica_lag": 10}, "throttle.max_replica_lag: expected a duration"),
        ({"max_blocked_sessions": -1}, "throttle.max_blocked_sessions: "),
        ({"max_active_sessions": 0}, "throttle.max_active_sessions: "),
        ({"max_unarchived_wal": "much"}, "throttle.max_unarchived_wal: expected a size"),
        ({"max_unarchived_wal": True}, "throttle.max_unarchived_wal: expected a size"),
        ({"query": " ; "}, "throttle.query: expected SQL"),
        ({"between": "at night"}, "throttle.between: expected hours"),
        ({"nice": -0.1}, 'throttle.nice: expected "auto" or a number from 0 to 100'),
        ({"nice": float("nan")}, "throttle.nice: expected"),
        ({"nice": "very"}, "throttle.nice: expected"),
        ({"nice": True}, "throttle.nice: expected"),
    ],
)
def test_mistakes_are_one_line_each(section: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configured(section, {})
    (found,) = str(caught.value).splitlines()
    assert found.startswith(f"rowscore.toml: {line}"), found


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("1kB", 1024), ("1.5 MB", 1_572_864), ("1GB", 1 << 30), (7, 7)]
)
def test_sizes(text: Any, size: int) -> None:
    assert parse_size(text) == size


# --- the decision -----------------------------------------------------------------------------------------


def test_at_the_limit_nothing_is_held_up() -> None:
    verdict = judge(LIMITS, QUIET, NOON)
    assert (verdict.signal, verdict.reason, verdict.warnings) == (None, None, ())


@pytest.mark.parametrize("signal", NOISY)
def test_beyond_it_the_reason_has_the_figures(signal: Signal) -> None:
    reading, reason = NOISY[signal]
    verdict = judge(LIMITS, {**QUIET, signal: reading}, NOON)
    assert (verdict.signal, verdict.reason) == (signal, reason)


@given(st.sets(st.sampled_from(sorted(NOISY))), st.sets(st.sampled_from(sorted(NOISY))))
def test_any_of_them_holds_it_up_and_only_a_lag_that_nobody_knows_does_so_too(
    noisy: set[Signal], hidden: set[Signal]
) -> None:
    readings: dict[Signal, Reading] = {**QUIET, **{signal: NOISY[signal][0] for signal in noisy}}
    readings |= {signal: Unreadable("permission denied") for signal in hidden}
    verdict = judge(LIMITS, readings, NOON)
    against = (noisy - hidden) | (hidden & {Signal.REPLICA_LAG})
    assert (verdict.signal in against) if against else verdict.signal is None
    assert {signal for signal, _ in verdict.warnings} == hidden - {Signal.REPLICA_LAG}
    assert {why for _, why in verdict.warnings} <= {"permission denied"}


@given(st.sets(st.sampled_from(sorted(NOISY))))
def test_what_is_not_configured_holds_nothing_up(noisy: set[Signal]) -> None:
    readings: dict[Signal, Reading] = {signal: NOISY[signal][0] for signal in noisy}
    off = Throttle.model_validate({"max_blocked_sessions": False})
    assert off.signals == ()
    assert judge(off, readings, NOON).signal is None


@pytest.mark.parametrize("left", [None, 0.001, 7200.0])
def test_an_operators_pause_goes_before_all_else(left: float | None) -> None:
    readings: dict[Signal, Reading] = {signal: reading for signal, (reading, _) in NOISY.items()}
    verdict = judge(LIMITS, readings, NOON, Pause("closing", left))
    assert (verdict.signal, verdict.reason) == (Signal.PAUSE, "paused by an operator: closing")
    assert 0 < verdict.retry_after <= LONGEST_REST
    assert judge(LIMITS, {}, NOON, Pause(None, left)).reason == "paused by an operator"


def test_outside_the_hours_of_work_it_rests_until_they_begin() -> None:
    night = judge(LIMITS, QUIET, NOON + timedelta(hours=8))
    assert (night.signal, night.reason) == (Signal.BETWEEN, "it is not between 08:00-17:00")
    assert night.retry_after == LONGEST_REST
    assert judge(LIMITS, QUIET, NOON - timedelta(hours=4, seconds=7)).retry_after == 7.0


def test_a_reason_repeats_while_its_figures_alone_change() -> None:
    verdict = judge(LIMITS, {**QUIET, Signal.REPLICA_LAG: Lag(11, "one")}, NOON)
    assert verdict.repeats("max_replica_lag", "replica one is 1,234.5 s behind, more than 10 s")
    assert not verdict.repeats("max_replica_lag", "replica two is 11.0 s behind, more than 10 s")
    assert not verdict.repeats("max_active_sessions", verdict.reason)
    assert not verdict.repeats(None, None)
    said = judge(LIMITS, {**QUIET, Signal.QUERY: "throttle.query: a"}, NOON)
    assert said.repeats("query", "throttle.query: a")
    assert not said.repeats("query", "throttle.query: b")
    assert judge(LIMITS, QUIET, NOON).repeats(None, None)


# --- others -----------------------------------------------------------------------------------------------


def test_a_run_rests_a_batchs_length_while_anybody_works_and_twice_that_at_most() -> None:
    assert yielded([]) == 0.0
    assert yielded([0.0, 0.0, 0.0]) == 0.0
    assert yielded([1.0]) == 1.0
    assert yielded([0.0, 1.0, 0.0, 0.0]) == 1.0
    assert yielded([1.0, 2.0]) == 1.5
    assert yielded([40.0, 30.0]) == LONGEST_YIELD == 2.0


# --- replicas ---------------------------------------------------------------------------------------------


def test_no_replica_has_no_lag() -> None:
    assert furthest([]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_the_furthest_counts(lags: list[float]) -> None:
    found = furthest(Replica(str(place), lag) for place, lag in enumerate(lags))
    assert isinstance(found, Lag)
    assert found.seconds == max(lags)
    assert lags[int(found.replica)] == max(lags)


def test_an_idle_standby_reports_none_and_one_that_is_megabytes_behind_is_unreadable() -> None:
    assert furthest([Replica("idle", None, 0), Replica("near", None, CAUGHT_UP)]) == Lag(0.0, "idle")
    far = furthest([Replica("one", 3.0, 0), Replica("far", None, CAUGHT_UP + 1)])
    assert far == Unreadable("replica far reports none and is 1,000,001 bytes behind")
    assert furthest([Replica("hidden", None)]) == Unreadable("replica hidden reports none")


# --- a query of the user's --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, None), (False, None), (0, None), (0.0, None), (Decimal(0), None), ("", None), ("  ", None), (b"", None),
        (True, "throttle.query holds"),
        (17, "throttle.query answered 17"),
        (Decimal("0.5"), "throttle.query answered 0.5"),
        ("month's\n end", "throttle.query: month's end"),
        (b"bytes", "throttle.query: bytes"),
    ],
)  # fmt: skip
def test_a_query_objects_with_true_a_number_or_a_text(value: Any, reason: str | None) -> None:
    assert objection(value) == reason


def test_a_long_objection_is_cut() -> None:
    assert len(objection("x" * 10_000) or "") < 400
