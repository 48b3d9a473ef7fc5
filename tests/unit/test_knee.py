"""A sweep keeps to its cap, gives each size two calls, stops where larger sizes are no better, and finds the knee."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.knee import (
    ENOUGH,
    HEADROOM,
    Choice,
    Limits,
    Point,
    Result,
    Sweep,
    Trial,
    Verdict,
    geometric,
    knee,
)

Curve = Callable[[int], float]


def linear(fixed: float, a_row: float) -> Curve:
    """Seconds of a call: so much, and so much a row."""
    return lambda rows: fixed + a_row * rows


def square(fixed: float, a_row: float) -> Curve:
    """Seconds of a call that grow with the square of its rows."""
    return lambda rows: fixed + a_row * rows * rows


def answered(trial: Trial, seconds: float) -> Result:
    """All its calls took so long."""
    return Result(trial, trial.calls, seconds, (seconds,) * trial.calls)


def driven(sweep: Sweep, curve: Curve, most: int | None = None) -> list[Trial]:
    """The sweep over a service without noise, which takes `most` rows a call; the trials in their order."""
    trials = []
    while (trial := sweep.next()) is not None:
        trials.append(trial)
        if most is not None and trial.size > most:
            sweep.record(Result(trial, 1, verdict=Verdict.TOO_LARGE, reason="413"))
        else:
            sweep.record(answered(trial, curve(trial.size)))
    return trials


def chosen(sweep: Sweep) -> Choice:
    """The choice, which has to be there."""
    choice = sweep.choice()
    assert choice is not None
    return choice


def measured(*figures: tuple[int, float], **other: Any) -> Point:
    """A point of that size and those seconds."""
    point = Point(figures[0][0], 1, 1)
    for size, seconds in figures:
        point.results.append(Result(Trial(size, 1, size), 1, seconds, (seconds,), **other))
    return point


sweeps = st.fixed_dictionaries(
    {
        "sizes": st.none() | st.lists(st.integers(1, 20_000), min_size=1, max_size=15),
        "smallest": st.integers(1, 100),
        "concurrency": st.integers(1, 64),
        "others": st.lists(st.integers(1, 64), max_size=4),
        "most_rows": st.integers(1, 20_000),
        "calls": st.integers(2, 300),
        "limits": st.builds(Limits, st.none() | st.floats(0.001, 60), st.none() | st.floats(0.001, 60)),
    }
)


@settings(max_examples=400, deadline=None)
@given(sweeps, st.integers(0, 2**32), st.floats(0, 1))
def test_the_cap_is_kept_and_shared_out_whatever_the_service_does(
    options: dict[str, Any], seed: int, trouble: float
) -> None:
    chance = random.Random(seed)
    sweep = Sweep(**options)
    made, tried = 0, 0
    while (trial := sweep.next()) is not None:
        tried += 1
        assert tried < 1000, "it ends"
        assert 1 <= trial.size <= options["most_rows"]
        assert trial.rows <= options["most_rows"]
        assert made + trial.calls <= options["calls"]
        if chance.random() < trouble:
            verdict = chance.choice([Verdict.TOO_LARGE, Verdict.TOO_SLOW, Verdict.FAILED])
            calls = chance.randint(0, trial.calls)
            sweep.record(Result(trial, calls, verdict=verdict, reason="trouble"))
        else:
            calls = trial.calls
            sweep.record(answered(trial, chance.uniform(1e-4, 100.0)))
        made += calls
    assert sweep.left == options["calls"] - made >= 0
    for point in sweep.points:
        sure = point.refused or sweep.ended or point.trouble is not None
        assert sure or point.calls >= 2, "each size that was tried, and not refused, has two calls"
        assert sure or point.trials >= 2


@given(
    st.dictionaries(st.integers(1, 10_000), st.floats(1e-4, 10.0), min_size=1, max_size=12).map(
        lambda figures: list(figures.items())
    ),
    st.builds(Limits, st.none() | st.floats(0.001, 10), st.none() | st.floats(0.001, 10)),
    st.none() | st.integers(1, 10_000),
)  # fmt: skip
def test_the_knee_is_the_smallest_size_that_is_allowed_and_quick_enough(
    figures: list[tuple[int, float]], limits: Limits, refused: int | None
) -> None:
    points = [measured(figure) for figure in figures if refused is None or figure[0] != refused]
    if refused is not None:
        points.append(
            Point(refused, 1, 1, [Result(Trial(refused, 1, refused), 1, verdict=Verdict.TOO_LARGE)])
        )
    found = knee(points, limits)
    allowed = {
        size: size / seconds
        for size, seconds in figures
        if (refused is None or size < refused)
        and (limits.timeout is None or seconds <= HEADROOM * limits.timeout)
        and (limits.lock is None or seconds <= limits.lock)
    }
    if not allowed:
        assert found is None or not found.within
        return
    assert found is not None
    assert found.within
    best = max(allowed.values())
    assert found.best.rate == pytest.approx(best)
    assert found.point.size == min(size for size, rate in allowed.items() if rate >= ENOUGH * best)


@given(st.integers(1, 1000), st.integers(0, 100_000), st.integers(1, 12))
def test_sizes_are_geometric_between_the_ends(smallest: int, more: int, count: int) -> None:
    sizes = geometric(smallest, smallest + more, count)
    assert 1 <= len(sizes) <= count
    assert list(sizes) == sorted(set(sizes))
    assert smallest * 0.9 <= sizes[0]
    assert sizes[-1] <= (smallest + more) * 1.1
    if count > 2 and smallest >= 10 and more > smallest * 100:
        ratios = [after / before for before, after in pairwise(sizes)]
        assert max(ratios) < 1.3 * min(ratios)


curves = st.one_of(
    st.builds(linear, st.floats(0.0005, 1.0), st.floats(1e-7, 1e-3)),
    st.builds(square, st.floats(0.0005, 1.0), st.floats(1e-9, 1e-3)),
)


@settings(deadline=None)
@given(curves, st.integers(1, 8), st.integers(100, 300))
def test_the_size_that_is_found_reaches_most_of_what_any_size_could(
    curve: Curve, concurrency: int, calls: int
) -> None:
    """The best of all sizes, those between the ones that were tried among them."""
    sweep = Sweep(concurrency=concurrency, most_rows=10_000, calls=calls)
    driven(sweep, curve)

    def rate(size: int) -> float:
        return min(concurrency * size, 10_000) / curve(size)

    tried = [rate(point.size) for point in sweep.points if point.concurrency == sweep.concurrency]
    found = rate(chosen(sweep).point.size)
    if sweep.concurrency == concurrency:
        assert found >= ENOUGH * max(tried) * 0.999
        assert found >= 0.75 * max(rate(size) for size in geometric(1, 10_000, 400))


def test_sizes_that_are_slower_are_asked_twice_and_larger_ones_not_at_all() -> None:
    sweep = Sweep(sizes=[10, 30, 100, 300, 1000, 3000, 10_000], most_rows=10_000, calls=100)
    trials = driven(sweep, square(0.065, 1e-6))
    assert max(trial.size for trial in trials) == 1000
    assert chosen(sweep).point.size == 300
    assert [point.trials for point in sweep.points if point.size == 1000] == [2]


def test_one_slow_trial_does_not_end_the_sweep() -> None:
    sweep = Sweep(sizes=[10, 100, 1000, 5000], most_rows=10_000, calls=100)
    hiccups = 0
    while (trial := sweep.next()) is not None:
        slow = trial.size == 100 and not trial.warm and not hiccups
        hiccups += slow
        sweep.record(answered(trial, 10.0 if slow else 0.065))
    assert hiccups == 1
    assert chosen(sweep).point.size == 5000


def test_the_second_round_goes_the_other_way() -> None:
    trials = driven(Sweep(sizes=[10, 20, 40, 80], most_rows=1000, calls=9), linear(0.001, 1e-6))
    assert [trial.warm for trial in trials] == [True] + [False] * 8
    assert [trial.size for trial in trials] == [10, 10, 20, 40, 80, 80, 40, 20, 10]


def test_a_size_that_is_refused_is_asked_once_and_the_largest_that_is_taken_is_approached() -> None:
    sweep = Sweep(most_rows=10_000, calls=100)
    trials = driven(sweep, linear(0.065, 1e-7), most=900)
    refused = [trial.size for trial in trials if trial.size > 900]
    assert len(refused) == len(set(refused))
    assert 600 <= chosen(sweep).point.size <= 900


def test_a_call_may_take_half_of_the_timeout_and_a_statement_the_lock_time() -> None:
    for limits in (Limits(timeout=1.0), Limits(lock=0.5)):
        sweep = Sweep(sizes=[100, 1000, 4000, 6000], most_rows=10_000, calls=100, limits=limits)
        driven(sweep, linear(0.0, 1e-4))
        assert chosen(sweep).point.fits(limits)
        assert chosen(sweep).point.size == 100, "each size is as quick as any"
        sweep = Sweep(sizes=[100, 1000, 4000, 6000], most_rows=10_000, calls=100, limits=limits)
        driven(sweep, linear(0.1, 0.9e-4))
        assert chosen(sweep).point.size == 4000
    sweep = Sweep(sizes=[100, 1000], most_rows=1000, calls=100, limits=Limits(lock=0.001))
    driven(sweep, linear(0.1, 1e-4))
    assert (chosen(sweep).point.size, chosen(sweep).within) == (100, False)


def test_the_lowest_concurrency_that_suffices_is_chosen() -> None:
    """The service works on two calls at once, and lets others wait."""

    def served(most: int) -> Sweep:
        sweep = Sweep(sizes=[50, 100], concurrency=4, others=[1, 2, 8], most_rows=10_000, calls=200)
        while (trial := sweep.next()) is not None:
            rounds = -(-trial.calls // most)
            sweep.record(answered(trial, rounds * (0.001 + 0.0001 * trial.size)))
        return sweep

    assert (chosen(served(2)).point.size, chosen(served(2)).point.concurrency) == (100, 2)
    assert chosen(served(8)).point.concurrency == 8
    assert chosen(served(4)).point.concurrency == 4


def test_with_a_small_cap_fewer_calls_are_made_at_once() -> None:
    sweep = Sweep(concurrency=8, others=[4, 16], most_rows=10_000, calls=24)
    driven(sweep, linear(0.065, 1e-6))
    assert sweep.concurrency == 2
    assert len({point.size for point in sweep.points}) >= 4
    assert {point.concurrency for point in sweep.points} == {2}


def test_calls_of_one_trial_share_a_claims_rows() -> None:
    """A worker that claims 10,000 rows makes 4 calls of 3,000 rows at most, the last of them smaller."""
    sweep = Sweep(sizes=[3000, 10_000], concurrency=8, most_rows=10_000, calls=100)
    trials = driven(sweep, linear(0.065, 1e-6))
    assert {(trial.size, trial.rows, trial.calls) for trial in trials} == {
        (3000, 10_000, 4),
        (10_000, 10_000, 1),
    }


def test_a_service_that_answers_nothing_is_given_up() -> None:
    sweep = Sweep(most_rows=10_000, calls=1000)
    trials = 0
    while (trial := sweep.next()) is not None:
        trials += 1
        sweep.record(Result(trial, 1, verdict=Verdict.FAILED, reason="gone"))
    assert trials == 3
    assert sweep.ended == "gone"
    assert sweep.choice() is None


def test_a_size_that_failed_once_may_still_be_chosen() -> None:
    """A row may have been at fault."""
    sweep = Sweep(sizes=[10, 100], most_rows=1000, calls=50)
    failed = 0
    while (trial := sweep.next()) is not None:
        if trial.size == 100 and not failed:
            failed += 1
            sweep.record(Result(trial, 1, verdict=Verdict.FAILED, reason="500"))
        else:
            sweep.record(answered(trial, 0.065))
    assert chosen(sweep).point.size == 100
