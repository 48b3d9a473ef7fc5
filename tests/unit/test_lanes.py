"""Batches under way at once: their order, their errors, and that one alone needs no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from worker.batch import BatchResult
from worker.lanes import Lanes


def of(rows: int) -> BatchResult:
    return BatchResult(taken=rows)


def test_one_alone_is_scored_by_whoever_begins_it() -> None:
    lanes, threads = Lanes(), []
    lanes.begin(lambda _: (threads.append(threading.current_thread()), of(1))[1], beside=False)
    assert threads == [threading.current_thread()]
    assert (len(lanes), lanes.settle().taken, len(lanes)) == (1, 1, 0)
    lanes.close()


def test_they_are_settled_in_the_order_in_which_they_began() -> None:
    lanes, last_ended = Lanes(), threading.Event()

    def first(_: Any) -> BatchResult:
        assert last_ended.wait(30)
        return of(1)

    def last(_: Any) -> BatchResult:
        last_ended.set()
        return of(2)

    lanes.begin(first, beside=True)
    lanes.begin(last, beside=False)
    assert [lanes.settle().taken, lanes.settle().taken] == [1, 2]
    lanes.close()


def test_an_error_is_raised_when_all_have_ended() -> None:
    lanes, go = Lanes(), threading.Event()

    def failing(_: Any) -> BatchResult:
        raise ValueError("this one")

    def waiting(_: Any) -> BatchResult:
        assert go.wait(30)
        return of(3)

    lanes.begin(failing, beside=True)
    lanes.begin(waiting, beside=True)
    go.set()
    rest = lanes.rest()
    assert next(rest).taken == 3
    with pytest.raises(ValueError, match="this one"):
        next(rest)
    assert not lanes
    lanes.close()


def test_one_that_fails_at_once_leaves_nothing_behind() -> None:
    lanes = Lanes()

    def failing(_: Any) -> BatchResult:
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        lanes.begin(failing, beside=False)
    assert not lanes
    lanes.close()


def test_the_last_one_is_waited_for_until_it_is_answered_or_has_ended() -> None:
    lanes, written = Lanes(), threading.Event()

    def writing(answered: Callable[[], None]) -> BatchResult:
        answered()
        assert written.wait(30)
        return of(1)

    lanes.begin(writing, beside=True)
    lanes.wait()
    assert len(lanes) == 1
    lanes.begin(lambda _: of(2), beside=True)
    lanes.wait()
    written.set()
    assert [result.taken for result in lanes.rest()] == [1, 2]
    lanes.close()
