"""Whether one drain follows another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.drain import Summary
from worker.outlook import successor

BUDGET, OFTEN, NIGHTLY = 25.0, 30.0, 3600.0


@pytest.mark.parametrize("interval", [OFTEN, NIGHTLY])
def test_a_drain_whose_time_was_over_goes_on_at_once(interval: float) -> None:
    assert successor(Summary("churn", batches=9, seconds=25.1), BUDGET, interval) == 0.0


@pytest.mark.parametrize("interval", [OFTEN, NIGHTLY])
def test_a_drain_that_found_nothing_or_no_room_does_not(interval: float) -> None:
    assert successor(Summary("churn", batches=3, seconds=2.0, empty=True), BUDGET, interval) is None
    assert successor(Summary("churn", seconds=0.1, retry_after=1.0), BUDGET, interval) is None
    assert successor(Summary("churn", seconds=25.1), BUDGET, interval) is None


@pytest.mark.parametrize(
    ("summary", "wait"),
    [
        (Summary("churn", fault="the model does not answer", retry_after=5.0), 60.0),
        (Summary("churn", fault="throttled", retry_after=300.0), 300.0),
        (Summary("churn", batches=2, retry_after=1.0, seconds=1.0), 60.0),
        (Summary("churn", batches=9, fault="the model does not answer", retry_after=1.0, seconds=25.1), 60.0),
    ],
)
def test_a_drain_that_was_kept_from_its_work_waits_for_the_tick_unless_that_is_far(
    summary: Summary, wait: float
) -> None:
    assert successor(summary, BUDGET, OFTEN) is None
    assert successor(summary, BUDGET, NIGHTLY) == wait


@pytest.mark.parametrize("interval", [OFTEN, NIGHTLY])
def test_a_drain_that_was_throttled_at_its_work_comes_back_soon(interval: float) -> None:
    summary = Summary("churn", batches=3, throttled=True, retry_after=1.0, seconds=2.0)
    assert successor(summary, BUDGET, interval) == 1.0
    assert successor(replace(summary, seconds=30.0), BUDGET, interval) == 1.0, (
        "its time being over changes nothing"
    )


def test_one_that_was_throttled_at_once_comes_back_with_the_ticks_or_each_minute() -> None:
    summary = Summary("churn", throttled=True, retry_after=1.0, seconds=0.1)
    assert successor(summary, BUDGET, OFTEN) is None, "else each tick would add a chain of them"
    assert successor(summary, BUDGET, NIGHTLY) == 60.0
