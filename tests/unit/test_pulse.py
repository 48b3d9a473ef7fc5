"""Beats from a thread of their own while a block runs: never beside each other, and none after the block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from worker.answers import OutputKind, OutputType
from worker.errors import LeaseLostError
from worker.models.protocol import Batch, Model
from worker.pulse import Pulse
from worker.scoring import score

QUICK = 0.001  # seconds; the tests wait for beats, not for this


class Counted:
    """Something to beat that lets the test wait for beats."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.made = threading.Semaphore(0)
        self.threads: set[threading.Thread] = set()
        self._then = then

    def __call__(self) -> None:
        self.threads.add(threading.current_thread())
        self.made.release()
        self._then()

    def wait(self, times: int = 1) -> None:
        """Until it has beaten so many times more."""
        for _ in range(times):
            assert self.made.acquire(timeout=30), "no beat came"


def failing(error: Exception) -> Callable[[], None]:
    def then() -> None:
        raise error

    return then


def test_it_beats_while_the_block_runs_from_another_thread() -> None:
    beat = Counted()
    with Pulse(QUICK).beating(beat):
        beat.wait(3)
    assert threading.current_thread() not in beat.threads


def test_a_pulse_serves_one_block_after_another() -> None:
    pulse = Pulse(QUICK)
    for beat in (Counted(), Counted(), Counted()):
        with pulse.beating(beat):
            beat.wait()


def test_a_quick_block_is_left_alone() -> None:
    beat = Counted()
    with Pulse(3600.0).beating(beat):
        pass
    assert not beat.threads


def test_a_beat_can_be_asked_for_and_is_made_in_the_asking_thread() -> None:
    beat = Counted()
    with Pulse(3600.0).beating(beat) as now:
        now()
    assert beat.threads == {threading.current_thread()}


def test_leaving_waits_for_the_beat_that_is_under_way_and_no_other_follows() -> None:
    released, ended = threading.Event(), []

    def long() -> None:
        assert released.wait(30)
        ended.append(threading.current_thread())

    pulse, beat = Pulse(QUICK), Counted(long)
    releasing = threading.Thread(target=released.set)
    with pulse.beating(beat):
        beat.wait()
        releasing.start()
    count = len(ended)
    releasing.join()
    with pulse.beating(other := Counted()):
        other.wait(3)
    assert 0 < count == len(ended)


def test_what_a_beat_raises_leaves_the_block_at_its_end_and_is_the_last() -> None:
    beat = Counted(failing(LeaseLostError()))
    pulse = Pulse(QUICK)
    reached = []

    def block() -> None:
        with pulse.beating(beat):
            beat.wait()
            reached.append(True)

    with pytest.raises(LeaseLostError):
        block()
    assert reached
    with pulse.beating(other := Counted()) as now:
        other.wait(3)
        now()
    assert not beat.made.acquire(blocking=False)


def test_what_a_beat_raised_meets_the_next_one_that_is_asked_for() -> None:
    beat = Counted(failing(LeaseLostError()))
    paid = []

    def block() -> None:
        with Pulse(QUICK).beating(beat) as now:
            beat.wait()
            now()
            paid.append(True)

    with pytest.raises(LeaseLostError):
        block()
    assert not paid


def test_the_blocks_own_error_is_the_one_that_leaves() -> None:
    beat = Counted(failing(LeaseLostError()))

    def block() -> None:
        with Pulse(QUICK).beating(beat):
            beat.wait()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()


class Waiting(Model):
    """A model that answers with the row's number once it is told to, and notes who called it."""

    def __init__(self, until: Callable[[], object]) -> None:
        self.callers: list[threading.Thread] = []
        self._until = until

    def call(self, batch: Batch) -> list[Any]:
        self.callers.append(threading.current_thread())
        self._until()
        return list(batch.rows)

    def check(self) -> str:
        return "here"

    def close(self) -> None:
        pass


BATCH = Batch(("n",), [(float(row),) for row in range(50)])
OUTPUTS = {"p": OutputType(OutputKind.FLOAT)}


@pytest.mark.parametrize("rows_per_call", [50, 10])
def test_scoring_beats_while_a_call_is_in_flight(rows_per_call: int) -> None:
    beat = Counted()
    model = Waiting(lambda: beat.wait(10))
    options: dict[str, Any] = {"before_call": beat, "pulse": Pulse(QUICK)}
    scores = score(model, BATCH, OUTPUTS, rows_per_call=rows_per_call, concurrency=2, **options)
    assert scores.outcomes == BATCH.rows
    if rows_per_call == 50:
        assert model.callers == [threading.current_thread()], "it may rely on what it keeps in its thread"


@pytest.mark.parametrize("rows_per_call", [50, 10])
def test_a_lease_lost_during_a_call_ends_the_batch_after_it(rows_per_call: int) -> None:
    lost = threading.Event()
    ended = []

    def hook() -> None:
        if model.callers:
            lost.set()
            raise LeaseLostError

    model = Waiting(lambda: ended.append(lost.wait(30)))
    with pytest.raises(LeaseLostError):
        score(model, BATCH, OUTPUTS, rows_per_call=rows_per_call, before_call=hook, pulse=Pulse(QUICK))
    assert len(model.callers) == 1
    assert ended == [True], "the call in flight was not cut off"
