"""The plain decisions about leases: when to walk from the beginning, what is deadly, how keys are bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.leases import (
    LOOK_BACK_REST,
    SPLIT_AFTER,
    WRAP_REST,
    Lease,
    Window,
    bind_key,
    may_look_back,
    may_wrap,
)
from worker.states import RunKind


def lease(rows: int, attempts: int) -> Lease:
    """A lease of so many rows that was taken so often."""
    return Lease(1, RunKind.DRAIN, 7, Window(("1",), ("9",)), rows, attempts, 1)


def test_the_first_walk_is_always_affordable() -> None:
    assert may_wrap(None, 1e9)


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_walks_take_at_most_a_twentieth_of_the_time(since_last: float, cost: float) -> None:
    assert may_wrap(since_last, cost) == (since_last >= WRAP_REST * cost)
    assert may_wrap(WRAP_REST * cost, cost)


@given(st.floats(0, 1e6), st.floats(0, 1e4))
def test_a_pass_is_cut_short_only_where_the_walk_is_affordable_and_not_all_the_time(
    since_last: float, cost: float
) -> None:
    assert may_look_back(since_last, cost) == (since_last >= max(LOOK_BACK_REST, WRAP_REST * cost))
    assert may_look_back(None, cost)


@pytest.mark.parametrize(
    ("rows", "attempts", "deadly"),
    [(1, 1, False), (1, SPLIT_AFTER, False), (1, SPLIT_AFTER + 1, True), (2, SPLIT_AFTER + 5, False)],
)
def test_only_a_row_that_stands_alone_is_deadly(rows: int, attempts: int, deadly: bool) -> None:
    assert lease(rows, attempts).deadly is deadly


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_key_binds_one_parameter_for_each_column_in_order(key: list[str]) -> None:
    bound = bind_key("lo", tuple(key))
    assert list(bound) == [f"lo_{place}" for place in range(1, len(key) + 1)]
    assert list(bound.values()) == key
