"""The batch controller: it converges on the target, keeps its bounds, and is not fooled by small or single batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.controller import BRAKE, FAR, FLOOR, GROWTH, LEAP, MEMORY, START, Controller, whole_rounds

ceilings = st.integers(1, 20_000)
targets = st.floats(0.001, 10.0)
batches = st.lists(
    st.one_of(st.none(), st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 100.0))), max_size=60
)  # None: an abort; else the filled part of the batch, and its seconds


@given(ceilings, targets, st.one_of(st.none(), st.integers(0, 1_000_000)), batches)
def test_the_size_keeps_its_bounds_whatever_happens(
    ceiling: int, target: float, learned: int | None, events: list[tuple[float, float] | None]
) -> None:
    controller = Controller.start(ceiling, target, learned)
    for happened in events:
        before = controller.rows
        assert min(FLOOR, ceiling) <= before <= ceiling
        if happened is None:
            controller = controller.after_abort()
            assert controller.rows == max(min(FLOOR, ceiling), before // 2)
        else:
            controller = controller.after_batch(int(before * happened[0]), happened[1])
            assert controller.rows <= before * LEAP
            if controller.rows > before * GROWTH:
                filled, seconds = happened
                assert controller.rows * seconds <= FAR * target * int(before * filled) * (1 + 1e-9)
    assert min(FLOOR, ceiling) <= controller.rows <= ceiling


def best(ceiling: int, target: float, a_batch: float, a_row: float) -> float:
    """The rows that take just `target` seconds, within the bounds."""
    return max(min(FLOOR, ceiling), min((target - a_batch) / a_row, ceiling))


def settled(controller: Controller, a_batch: float, a_row: float, batches: int = 15) -> Controller:
    """The controller after so many full batches."""
    for _ in range(batches):
        controller = controller.after_batch(controller.rows, a_batch + a_row * controller.rows)
    return controller


costs = {"a_batch": st.floats(0.0, 0.02), "a_row": st.floats(1e-6, 1e-2), "target": st.floats(0.05, 2.0)}


@given(learned=st.integers(FLOOR, 10_000), **costs)
def test_it_converges_from_any_start_within_fifteen_batches(
    learned: int, a_batch: float, a_row: float, target: float
) -> None:
    controller = settled(Controller.start(10_000, target, learned), a_batch, a_row)
    wanted = best(10_000, target, a_batch, a_row)
    assert abs(controller.rows - wanted) <= 0.1 * wanted + 1


@given(slower=st.floats(2.0, 1000.0), batches=st.integers(1, 40), **costs)
def test_it_recovers_from_a_slow_spell(
    slower: float, batches: int, a_batch: float, a_row: float, target: float
) -> None:
    controller = settled(Controller.start(10_000, target), a_batch, a_row)
    for _ in range(batches):
        controller = controller.after_batch(controller.rows, slower * (a_batch + a_row * controller.rows))
    wanted = best(10_000, target, a_batch, a_row)
    recovered = settled(controller, a_batch, a_row, 15 + MEMORY)
    assert abs(recovered.rows - wanted) <= 0.1 * wanted + 1


@given(st.lists(st.tuples(st.integers(10, 30), st.floats(1.0, BRAKE - 0.1)), max_size=10))
def test_a_slow_batch_now_and_then_changes_nothing(spells: list[tuple[int, float]]) -> None:
    """Checkpoints and autovacuum: one batch in ten or fewer takes up to five times as long."""
    controller = Controller.start(10_000, 0.5, 4000)
    for quick, slower in spells:
        for seconds in [0.45] * quick + [0.45 * slower]:
            controller = controller.after_batch(controller.rows, seconds / 4000 * controller.rows)
            assert controller.rows >= 4000


@given(st.integers(101, 10_000), st.floats(0.0, 1000.0), st.data())
def test_a_batch_less_than_half_full_says_nothing(rows: int, seconds: float, data: st.DataObject) -> None:
    controller = Controller.start(10_000, 0.5, rows)
    taken = data.draw(st.integers(0, (rows - 1) // 2))
    assert controller.after_batch(taken, seconds) == controller


def test_one_slow_batch_is_forgiven_and_the_second_is_not() -> None:
    controller = Controller.start(10_000, 0.5, 1000)
    once = controller.after_batch(1000, 1.0)
    assert once.rows == 1000
    assert once.after_batch(1000, 1.0).rows == 500
    assert once.after_batch(1000, 0.5).rows == 1000


def test_far_over_the_target_it_brakes_at_once() -> None:
    controller = Controller.start(10_000, 0.5, 1000)
    assert controller.after_batch(1000, 0.5 * BRAKE).rows == 200


def test_growth_is_at_most_half_more_but_far_below_the_target() -> None:
    controller = Controller.start(10_000, 0.5, 1000)
    assert controller.after_batch(1000, 0.4).rows == 1250
    assert controller.after_batch(1000, 0.035).rows == 1500
    assert controller.after_batch(1000, 0.025).rows == 2000
    assert controller.after_batch(1000, 0.001).rows == 4000


def test_an_abort_halves() -> None:
    assert Controller.start(10_000, 0.5, 1000).after_abort().rows == 500
    assert Controller.start(10_000, 0.5, FLOOR + 1).after_abort().rows == FLOOR
    assert Controller.start(10, 0.5, 10).after_abort().rows == 10


def test_without_anything_learned_it_begins_modestly() -> None:
    assert Controller.start(10_000, 0.5).rows == START
    assert Controller.start(20, 0.5).rows == 20
    assert Controller.start(10_000, 0.5, 0).rows == START
    assert Controller.start(10_000, 0.5, a_call=5000).rows == 5000
    assert Controller.start(10_000, 0.5, a_call=100).rows == START
    assert Controller.start(10_000, 0.5, 300, a_call=5000).rows == 300


def test_a_clock_that_stood_still_or_an_empty_batch_changes_nothing() -> None:
    controller = Controller.start(10_000, 0.5, 1000)
    assert controller.after_batch(1000, 0.0) is controller
    assert controller.after_batch(0, 1.0) is controller


@pytest.mark.parametrize(
    ("rows", "a_round", "claimed"),
    [
        (10_000, 4 * 2048, 8192),
        (10_000, 4 * 1024, 8192),
        (10_000, 4 * 512, 8192),
        (10_000, 4 * 256, 9216),
        (10_000, 1000, 10_000),
        (10_000, 6000, 10_000),  # a third of the claim would be lost
        (10_000, 6667, 6667),
        (1000, 4 * 2048, 1000),  # not even one round
        (50, 1, 50),
    ],
)
def test_a_claim_is_whole_rounds_where_that_costs_little(rows: int, a_round: int, claimed: int) -> None:
    assert whole_rounds(rows, a_round) == claimed


def test_a_batch_of_whole_rounds_counts_as_full() -> None:
    for a_round in range(1, 12_000, 7):
        assert whole_rounds(10_000, a_round) * GROWTH > 10_000
