"""A backfill's speed and what is left: over the last five minutes, waits included, and never all of it too soon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.progress import RECENT, Course, Progress, _shown

# Seconds that pass (a sample is kept a second), and rows done in them: work and waits in any order.
STEPS = st.lists(st.tuples(st.floats(1, 120), st.integers(0, 10_000)), min_size=1, max_size=60)


@given(STEPS)
def test_the_speed_is_that_of_the_last_five_minutes(steps: list[tuple[float, int]]) -> None:
    course = Course(total=10**9)
    progress = Progress("churn", course)
    history = [(0.0, 0)]
    for seconds, rows in steps:
        course.seconds += seconds
        course.done += rows
        progress._sample()
        history.append((course.seconds, course.done))
    assert course.since in history, "a moment that was seen"
    began, done = course.since or (0.0, 0)
    age = course.seconds - began
    later = [moment for moment, _ in history if moment > began]
    assert age <= RECENT or course.seconds - later[0] < RECENT + 1e-6, "no moment within it is older"
    expected = (course.done - done) / age if age and course.done > done else None
    assert course.speed == (None if expected is None else pytest.approx(expected))


def test_time_in_which_it_waited_counts() -> None:
    course = Course(total=2000)
    progress = Progress("churn", course)
    for second in range(1, 101):
        course.seconds = float(second)
        course.done = min(10 * second, 500)  # fifty seconds of work, then as many of waiting
        progress._sample()
    assert course.speed == 5.0
    assert course.remaining == 300.0


def test_what_came_before_says_nothing_about_the_speed() -> None:
    course = Course(total=100, before=90, done=90)
    progress = Progress("churn", course)
    course.seconds, course.done = 10.0, 95
    progress._sample()
    assert course.speed == 0.5


def test_the_bar_is_never_full_before_the_last_look() -> None:
    assert _shown(Course(total=100, done=100)) == 99
    assert _shown(Course(total=100, done=200)) == 99
    assert _shown(Course(total=100, done=50)) == 50
    assert _shown(Course(done=50)) == 50
