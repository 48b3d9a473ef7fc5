"""The hours of work: what the text says, over midnight and where clocks go back and forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.window import parse_window

MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))
CLOCKS = st.times().map(lambda time: f"{time:%H:%M}")
ZONES = st.sampled_from(
    ["", " UTC", " Europe/Berlin", " America/New_York", " Asia/Kolkata", " Australia/Lord_Howe"]
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "moment", "open_"),
    [
        ("08:00-17:00", "2026-06-01 07:59:59", False),
        ("08:00-17:00", "2026-06-01 08:00", True),
        ("08:00-17:00", "2026-06-01 17:00", False),
        ("22:00-06:00", "2026-06-01 23:00", True),
        ("22:00-06:00", "2026-06-01 05:59:59", True),
        ("22:00-06:00", "2026-06-01 06:00", False),
        ("18:00-24:00", "2026-06-01 23:59:59", True),
        ("18:00-24:00", "2026-06-01 00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-06-01 20:30", True),  # 22:30 there
        ("22:00-06:00 Europe/Berlin", "2026-01-01 20:30", False),  # 21:30 there
        ("22:00 - 06:00  Asia/Kolkata", "2026-06-01 16:30", True),
    ],
)
def test_when_it_is_open(window: str, moment: str, open_: bool) -> None:
    assert parse_window(window).contains(at(moment)) is open_


@pytest.mark.parametrize(
    ("window", "moment", "seconds"),
    [
        ("08:00-17:00", "2026-06-01 09:00", 0),
        ("08:00-17:00", "2026-06-01 07:00", 3600),
        ("08:00-17:00", "2026-06-01 17:00", 15 * 3600),
        ("22:00-06:00", "2026-06-01 12:00", 10 * 3600),
        ("02:30-05:00 Europe/Berlin", "2026-03-29 00:30", 1800),  # 01:30; at 02:00 it is 03:00
        ("02:30-02:45 Europe/Berlin", "2026-10-25 00:50", 2400),  # 02:50 in summer; 02:30 comes once more
    ],
)
def test_when_it_opens(window: str, moment: str, seconds: int) -> None:
    opens = parse_window(window).opens_in(at(moment))
    assert opens == pytest.approx(seconds, abs=1800 if "03-29" in moment else 0)


@given(CLOCKS, CLOCKS, ZONES, MOMENTS)
def test_it_opens_within_a_day_or_two_and_each_moment_is_in_one_of_two_halves(
    start: str, end: str, zone: str, moment: datetime
) -> None:
    if start == end:
        return
    one, other = parse_window(f"{start}-{end}{zone}"), parse_window(f"{end}-{start}{zone}")
    assert one.contains(moment) is not other.contains(moment)
    wait = one.opens_in(moment)
    assert (wait == 0) is one.contains(moment)
    assert wait <= timedelta(hours=50).total_seconds()


@given(CLOCKS, CLOCKS, MOMENTS)
def test_in_utc_it_is_open_when_it_says_and_not_a_moment_before(
    start: str, end: str, moment: datetime
) -> None:
    if start == end:
        return
    window = parse_window(f"{start}-{end}")
    opening = moment + timedelta(seconds=window.opens_in(moment))
    assert window.contains(opening)
    if opening != moment:
        assert not window.contains(opening - timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("at night", "expected hours such as"),
        ("22:00", "expected hours such as"),
        ("25:00-06:00", "25:00 is no time of day"),
        ("22:60-06:00", "22:60 is no time of day"),
        ("06:00-06:00", "begins where it ends"),
        ("00:00-24:00", "begins where it ends"),
        ("22:00-06:00 Mars/Olympus", "there is no time zone 'Mars/Olympus'"),
        ("22:00-06:00 ../etc/passwd", "there is no time zone"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_window(text)
