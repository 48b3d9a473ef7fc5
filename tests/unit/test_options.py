"""A run's options: what they say is read, kept as JSON, and shown as it is typed."""

from __future__ import annotations

import json
import shlex
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ConfigurationError
from worker.options import Options, Rate, options_of, parse_rate, read_key

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1).filter(str.strip)
OPTIONS = st.builds(
    Options,
    from_key=st.none() | TEXTS,
    to_key=st.none() | TEXTS,
    where=st.none() | TEXTS,
    only_missing=st.booleans(),
    max_rows=st.none() | st.integers(1, 10**12),
    rate=st.none() | st.sampled_from(["5000/s", "300 / m", "1_000/h", "1/d"]),
    between=st.none() | st.sampled_from(["22:00-06:00", "9:30-17:00 Europe/Berlin"]),
    celery=st.booleans(),
    older_than=st.none() | st.sampled_from(["30d", "1.5h"]),
    scheduled=st.booleans(),
    before=st.none() | st.just("2026-11-21 08:00:00.000000"),
)


@given(OPTIONS)
def test_they_come_back_from_json_as_they_were(options: Options) -> None:
    assert options_of(json.loads(json.dumps(options.as_dict()))) == options
    assert options_of(json.loads(json.dumps(options.as_dict()))).before == options.before
    assert bool(options) == bool(options.as_dict().keys() - {"before"})


def test_they_are_shown_as_they_are_typed() -> None:
    options = Options("eu,17", None, "note = 'x' AND a > 1", True, 500, "5000/s", "22:00-06:00 Europe/Berlin")
    words = shlex.split(str(options))
    assert words == [
        "--from-key", "eu,17", "--where", "note = 'x' AND a > 1", "--only-missing", "--max-rows", "500",
        "--rate", "5000/s", "--between", "22:00-06:00 Europe/Berlin",
    ]  # fmt: skip
    assert shlex.split(str(Options(where='"a" > 1'))) == ["--where", '"a" > 1']


def test_what_nobody_types_is_not_shown_and_the_moment_does_not_make_others_of_them() -> None:
    options = Options(older_than="30d", scheduled=True, celery=True, before="2026-11-21 08:00:00.000000")
    assert str(options) == "--celery --older-than 30d"
    assert options == Options(older_than="30d", scheduled=True, celery=True)
    assert options != Options(older_than="30d", celery=True)
    assert Options(older_than="1.5h").age == timedelta(hours=1.5)


@pytest.mark.parametrize("text", ["", "30", "a month", "0d", "-1d", "36501d", "1" + 400 * "0" + "d"])
def test_an_age_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--older-than: "):
        Options(older_than=text)


def test_none_is_none() -> None:
    assert options_of(None) == options_of({}) == Options()
    assert not Options()
    assert str(Options()) == ""


def test_those_of_another_version_are_one_line() -> None:
    with pytest.raises(
        ConfigurationError, match=r"begun by another rowscore, with speed; use that one, or --cancel"
    ):
        options_of({"speed": 1})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5000/s", Rate(5000, 1)),
        ("300 / m", Rate(300, 60)),
        ("100_000/h", Rate(100_000, 3600)),
        ("1/d", Rate(1, 86400)),
    ],
)
def test_a_rate_is_rows_in_a_time(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@given(st.integers(1, 10**9), st.sampled_from([1.0, 60.0, 3600.0, 86400.0]), st.lists(st.integers(1, 10**6)))
def test_windows_never_exceed_the_rate(rows: int, seconds: float, wishes: list[int]) -> None:
    """Whatever is asked for, no window is handed out before the time that those before it are worth."""
    rate = Rate(rows, seconds)
    assert rate.window == 1 or rate.worth(rate.window) <= 1.0
    free, handed = 0.0, 0
    for wish in wishes:
        assert handed <= rows / seconds * free * (1 + 1e-9) + 1e-6
        window = min(wish, rate.window)
        handed += window
        free += rate.worth(window)


@pytest.mark.parametrize("text", ["", "fast", "0/s", "5000", "5000/y", "-1/s", "1.5/s"])
def test_what_is_no_rate_is_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--rate: expected rows a second"):
        Options(rate=text)


def test_the_others_are_refused_in_one_line_too() -> None:
    with pytest.raises(ConfigurationError, match=r"^--between: expected hours"):
        Options(between="night")
    with pytest.raises(ConfigurationError, match=r"^--max-rows: expected a number of rows, not 0"):
        Options(max_rows=0)
    with pytest.raises(ConfigurationError, match=r"^--where: expected an SQL condition"):
        Options(where=" ")


def test_a_key_has_a_text_for_each_column() -> None:
    assert read_key("a,b", 1) == ("a,b",)
    assert read_key("eu, 17", 2) == ("eu", "17")
    for text, columns in (("17", 2), ("a,b,c", 2), ("a,", 2)):
        with pytest.raises(ValueError, match="the key has 2 columns"):
            read_key(text, columns)
