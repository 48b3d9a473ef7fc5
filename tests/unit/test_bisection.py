"""Bisection: every poison row and no other is found, in the promised calls, never without evidence."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.bisection import WITNESSES, Search, Span, isolate
from worker.errors import (
    ModelError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
)


class Model:
    """Fails on every range that holds a poison row."""

    def __init__(self, poison: set[int], error: type[RowFaultError] = RowFaultError) -> None:
        self.poison = poison
        self.error = error
        self.calls = 0
        self.scored: Counter[int] = Counter()
        self.found: dict[int, RowFaultError] = {}

    def attempt(self, start: int, stop: int) -> None:
        self.calls += 1
        assert stop > start
        if bad := self.poison & set(range(start, stop)):
            raise self.error(f"cannot score {min(bad)}")
        self.scored.update(range(start, stop))

    def isolate(self, size: int, *, proven: bool = False) -> None:
        isolate(size, self.attempt, self.found.__setitem__, proven=proven)


@st.composite
def batches(draw: st.DrawFn, most: int) -> tuple[int, set[int]]:
    size = draw(st.integers(1, 300))
    return size, draw(st.sets(st.integers(0, size - 1), max_size=min(most, size)))


def levels(size: int) -> int:
    return math.ceil(math.log2(size))


@given(batches(most=WITNESSES - 1))
def test_any_few_poison_rows_are_found_exactly(batch: tuple[int, set[int]]) -> None:
    size, poison = batch
    if len(poison) == size > 1:
        return
    model = Model(poison)
    model.isolate(size)
    assert set(model.found) == poison
    assert {row: str(error) for row, error in model.found.items()} == {
        row: f"cannot score {row}" for row in poison
    }
    assert model.scored == Counter(set(range(size)) - poison)
    assert model.calls <= 1 + 2 * len(poison) * levels(size) + 2 * (WITNESSES if len(poison) > 1 else 0)


@given(batches(most=300))
def test_any_poison_rows_are_found_where_the_service_is_known_to_work(batch: tuple[int, set[int]]) -> None:
    size, poison = batch
    model = Model(poison)
    model.isolate(size, proven=True)
    assert set(model.found) == poison
    assert model.scored == Counter(set(range(size)) - poison)


@given(batches(most=300))
def test_without_evidence_nobody_is_convicted(batch: tuple[int, set[int]]) -> None:
    size, poison = batch
    model = Model(poison)
    try:
        model.isolate(size)
    except ServiceUnavailableError:
        assert not model.scored
        assert not model.found
        assert len(poison) >= min(size, WITNESSES)
        assert model.calls <= levels(size) + WITNESSES + 1
    else:
        assert set(model.found) == poison


@given(st.integers(1, 5000).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))))
def test_one_poison_row_costs_two_calls_a_level(batch: tuple[int, int]) -> None:
    size, row = batch
    model = Model({row})
    model.isolate(size)
    assert set(model.found) == {row}
    assert model.calls <= 1 + 2 * levels(size)


def test_the_count_for_powers_of_two_is_exact() -> None:
    model = Model({700})
    model.isolate(1024)
    assert model.calls == 1 + 2 * 10


def test_a_good_batch_is_one_call_and_an_empty_one_none() -> None:
    model = Model(set())
    model.isolate(1000)
    assert model.calls == 1
    model.isolate(0)
    assert model.calls == 1


def test_a_service_that_fails_on_everything_is_at_fault() -> None:
    model = Model(set(range(5000)))
    with pytest.raises(ServiceUnavailableError, match="no row is to blame: cannot score"):
        model.isolate(5000)
    assert not model.found
    assert model.calls <= levels(5000) + WITNESSES + 1


def test_a_service_that_rejects_everything_is_refused() -> None:
    model = Model(set(range(50)), RowRejectedError)
    with pytest.raises(ServiceRefusedError):
        model.isolate(50)


def test_a_service_that_answered_lately_convicts_a_few_rows_but_not_all() -> None:
    few = Model(set(range(WITNESSES - 1)))
    isolate(WITNESSES - 1, few.attempt, few.found.__setitem__, presumed=True)
    assert set(few.found) == few.poison
    many = Model(set(range(WITNESSES)))
    with pytest.raises(ServiceUnavailableError):
        isolate(WITNESSES, many.attempt, many.found.__setitem__, presumed=True)
    assert not many.found


def test_three_rows_of_which_none_succeeds_convict_nobody() -> None:
    model = Model({0, 1, 2})
    with pytest.raises(ServiceUnavailableError):
        model.isolate(3)
    assert not model.found


def test_a_row_alone_is_convicted_without_evidence() -> None:
    model = Model({0})
    model.isolate(1)
    assert set(model.found) == {0}
    assert model.calls == 1


def test_a_cluster_of_poison_at_the_beginning_is_not_taken_for_a_broken_service() -> None:
    model = Model(set(range(300)))
    model.isolate(5000)
    assert set(model.found) == set(range(300))


def test_a_chance_failure_convicts_nobody() -> None:
    calls = []

    def attempt(start: int, stop: int) -> None:
        calls.append((start, stop))
        if len(calls) == 1:
            raise RowFaultError("internal error")

    found: dict[int, RowFaultError] = {}
    isolate(100, attempt, found.__setitem__)
    assert not found
    assert calls == [(0, 100), (0, 50), (50, 100)]


def test_another_error_leaves_with_what_was_found_so_far_convicted() -> None:
    model = Model({1})

    def attempt(start: int, stop: int) -> None:
        if start >= 50:
            raise ThrottledError("slow down")
        model.attempt(start, stop)

    with pytest.raises(ThrottledError):
        isolate(100, attempt, model.found.__setitem__)
    assert set(model.found) == {1}
    assert model.scored == Counter(set(range(50)) - {1})


def test_stop_leaves_the_rest_unscored() -> None:
    model = Model({90})
    isolate(100, model.attempt, model.found.__setitem__, stop=lambda: model.calls == 2)
    assert model.scored == Counter(range(50))
    assert not model.found
    unproven = Model({0, 1})
    isolate(8, unproven.attempt, unproven.found.__setitem__, stop=lambda: unproven.calls == 5)
    assert not unproven.found


def test_while_nothing_has_succeeded_failures_are_looked_into_one_at_a_time() -> None:
    search = Search(400)
    first, second = search.next(100), search.next(100)
    assert (first, second) == (Span(0, 100), Span(100, 200))
    assert first is not None
    assert second is not None
    search.failed(first, RowFaultError("one"))
    assert search.next(100) is None
    search.succeeded(second)
    assert [search.next(100) for _ in range(5)] == [
        Span(0, 50),
        Span(50, 100),
        Span(200, 300),
        Span(300, 400),
        None,
    ]


@given(batches(most=40), st.integers(1, 50), st.integers(1, 5), st.randoms())
def test_several_calls_in_flight_find_the_same(
    batch: tuple[int, set[int]], limit: int, concurrency: int, random: Random
) -> None:
    size, poison = batch
    model = Model(poison)
    search = Search(size, proven=True)
    flying: list[Span] = []
    while True:
        while len(flying) < concurrency and (span := search.next(limit)):
            assert span.size <= limit
            flying.append(span)
        if not flying:
            break
        span = flying.pop(random.randrange(len(flying)))
        try:
            model.attempt(*span)
        except RowFaultError as error:
            search.failed(span, error)
        else:
            search.succeeded(span)
    assert search.idle
    search.conclude()
    assert set(search.poison) == poison
    assert model.scored == Counter(set(range(size)) - poison)


def test_a_fault_is_a_model_error() -> None:
    search = Search(2)
    for row in (0, 1):
        search.next(1)
        search.failed(Span(row, row + 1), RowRejectedError("no"))
    with pytest.raises(ModelError):
        search.conclude()
