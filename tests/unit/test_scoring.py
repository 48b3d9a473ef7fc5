"""Scoring a batch: what is sent, how often and in what sizes, what is kept, and who is blamed."""

from __future__ import annotations

import gc
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.answers import OutputKind, OutputType
from worker.bisection import WITNESSES
from worker.errors import (
    BudgetSpentError,
    FailureClass,
    LeaseLostError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.models.protocol import Answer, Batch, Model, RowFailure, Weight, check_size
from worker.patience import Patience
from worker.scoring import Scores, score

OUTPUTS = {"p": OutputType(OutputKind.FLOAT)}
HURRIED = Patience(first_wait=0.001, longest_wait=0.01, throttle_wait=0.001, throttle_seconds=0.05)


class Doubler(Model):
    """Answers each row's number twice over, after `before` had a look at the rows and may have raised."""

    def __init__(self, before: Callable[[list[Any]], object] = lambda _rows: None) -> None:
        self.before = before
        self.calls: list[list[Any]] = []
        self.sent: Counter[Any] = Counter()
        self.lock = threading.Lock()

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        rows = [row[0] for row in batch.rows]
        with self.lock:
            self.calls.append(rows)
        self.before(rows)
        with self.lock:
            self.sent.update(rows)
        return [(row * 2.0,) for row in rows]

    def check(self) -> str:
        return "here"

    def close(self) -> None:
        pass


def scored(model: Any, rows: Any, **options: Any) -> Scores:
    settings: dict[str, Any] = {"rows_per_call": 1000, "patience": HURRIED, **options}
    return score(model, Batch(("n",), [(row,) for row in rows]), OUTPUTS, **settings)


def raising(*errors: ModelError | None) -> Callable[[list[Any]], None]:
    """Raises the errors in order, one a call, and then nothing."""
    left = list(errors)

    def before(_rows: list[Any]) -> None:
        if left and (error := left.pop(0)):
            raise error

    return before


def failing_for(*poison: Any, error: type[ModelError] = RowFaultError) -> Callable[[list[Any]], None]:
    def before(rows: list[Any]) -> None:
        if bad := set(poison) & set(rows):
            raise error(f"cannot score {min(bad)}")

    return before


def test_one_call_scores_a_batch() -> None:
    model = Doubler()
    scores = scored(model, range(5))
    assert scores.outcomes == [(0.0,), (2.0,), (4.0,), (6.0,), (8.0,)]
    assert scores.fault is None
    assert (scores.statistics.calls, scores.statistics.rows, scores.statistics.sizes) == (1, 5, [5])
    assert len(scores.statistics.seconds) == 1
    assert scores.rows_per_call == 1000


def test_an_empty_batch_is_no_call() -> None:
    model = Doubler()
    assert scored(model, []).outcomes == []
    assert not model.calls


@given(
    st.lists(st.integers(0, 40), max_size=60),
    st.integers(1, 20),
    st.integers(1, 3),
    st.sets(st.integers(0, 40)),
)
def test_every_row_has_its_outcome_and_is_paid_for_once(
    rows: list[int], rows_per_call: int, concurrency: int, poison: set[int]
) -> None:
    model = Doubler(failing_for(*poison, error=RowRejectedError))
    scores = scored(model, rows, rows_per_call=rows_per_call, concurrency=concurrency, proven=True)
    if scores.fault:
        assert len(set(rows) & poison) >= WITNESSES
        assert not model.sent
        return
    for row, outcome in zip(rows, scores.outcomes, strict=True):
        if row in poison:
            assert outcome == RowFailure(FailureClass.ROW_PERMANENT, f"cannot score {row}")
        else:
            assert outcome == (row * 2.0,)
    assert model.sent == Counter(set(rows) - poison)
    assert max(map(len, model.calls), default=0) <= rows_per_call
    assert scores.statistics.calls == len(model.calls)
    assert scores.statistics.rows == sum(map(len, model.calls))


def test_equal_rows_are_sent_once_and_share_their_answer() -> None:
    model = Doubler()
    scores = scored(model, [7, 7, 1, 7, True, 1.0])
    assert scores.outcomes == [(14.0,), (14.0,), (2.0,), (14.0,), (2.0,), (2.0,)]
    assert list(map(repr, model.calls[0])) == ["7", "1", "True", "1.0"]


def test_requests_are_in_flight_together() -> None:
    meeting = threading.Barrier(3, timeout=10)
    model = Doubler(lambda _rows: meeting.wait())
    scores = scored(model, range(9), rows_per_call=3, concurrency=3)
    assert scores.outcomes == [(row * 2.0,) for row in range(9)]


def test_a_poison_row_in_one_call_fails_alone() -> None:
    model = Doubler(failing_for(4321))
    scores = scored(model, range(5000), concurrency=4)
    assert scores.outcomes[4321] == RowFailure(FailureClass.ROW_TEMPORARY, "cannot score 4321")
    assert scores.outcomes.count(None) == 0
    assert sum(isinstance(outcome, RowFailure) for outcome in scores.outcomes) == 1
    assert scores.statistics.calls <= 5 + 2 * 10
    assert scores.fault is None


def test_a_service_that_fails_on_everything_blames_no_row() -> None:
    model = Doubler(failing_for(*range(5000)))
    scores = scored(model, range(5000), concurrency=2)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert scores.outcomes == [None] * 5000
    assert scores.statistics.calls <= 25


def test_one_row_a_call_needs_evidence_too() -> None:
    scores = scored(Doubler(failing_for(*range(30))), range(30), rows_per_call=1)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert scores.statistics.calls <= 9
    mixed = scored(Doubler(failing_for(*range(5))), range(30), rows_per_call=1)
    assert mixed.fault is None
    assert [isinstance(outcome, RowFailure) for outcome in mixed.outcomes] == [True] * 5 + [False] * 25


def test_a_service_that_answered_lately_may_convict_a_few_rows_alone() -> None:
    scores = scored(Doubler(failing_for(1, 2)), [1, 2], proven=True)
    assert scores.fault is None
    assert all(isinstance(outcome, RowFailure) for outcome in scores.outcomes)


def test_a_service_that_answered_lately_and_breaks_now_blames_no_row() -> None:
    scores = scored(Doubler(failing_for(*range(5000))), range(5000), concurrency=4, proven=True)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert scores.outcomes == [None] * 5000
    assert scores.statistics.calls <= 25


def test_a_short_failure_of_the_service_is_tried_again() -> None:
    model = Doubler(raising(ServiceUnavailableError("502"), ServiceUnavailableError("reset")))
    scores = scored(model, range(3))
    assert scores.fault is None
    assert scores.outcomes == [(0.0,), (2.0,), (4.0,)]
    assert (scores.statistics.calls, scores.statistics.retries, scores.statistics.throttled) == (3, 2, 0)


def test_a_long_failure_ends_the_batch_and_keeps_what_was_paid_for() -> None:
    down = [ServiceUnavailableError("502")] * 3
    scores = scored(Doubler(raising(None, *down)), range(30), rows_per_call=10)
    assert str(scores.fault) == "502"
    assert scores.outcomes == [(row * 2.0,) for row in range(10)] + [None] * 20
    assert scores.statistics.retries == 2


def test_a_service_that_asks_for_a_long_pause_is_not_asked_again() -> None:
    scores = scored(Doubler(raising(ServiceUnavailableError("down", retry_after=60))), range(3))
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert scores.fault.retry_after == 60
    assert scores.statistics.calls == 1


def test_throttling_is_waited_for_and_charged_to_nobody() -> None:
    errors = (ThrottledError("429", retry_after=0.01), ThrottledError("429"))
    scores = scored(Doubler(raising(*errors)), range(3))
    assert scores.fault is None
    assert scores.statistics.throttled == 2
    assert scores.statistics.retries == 2


def test_throttling_that_lasts_is_reported_as_such() -> None:
    scores = scored(Doubler(raising(*[ThrottledError("429")] * 9)), range(3))
    assert isinstance(scores.fault, ThrottledError)
    assert (scores.statistics.calls, scores.statistics.throttled) == (3, 3)
    assert scores.outcomes == [None] * 3
    patient = scored(Doubler(raising(ThrottledError("429", retry_after=30))), range(3))
    assert isinstance(patient.fault, ThrottledError)
    assert patient.fault.retry_after == 30
    assert patient.statistics.calls == 1


def test_throttling_does_not_use_up_the_attempts() -> None:
    errors = [
        ThrottledError("429"),
        ServiceUnavailableError("502"),
        ThrottledError("429"),
        ServiceUnavailableError("5"),
    ]
    assert scored(Doubler(raising(*errors)), range(3)).fault is None


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_wait_ends_at_once_when_the_process_is_asked_to_stop(concurrency: int) -> None:
    stop = threading.Event()

    def before(_rows: list[Any]) -> None:
        stop.set()
        raise ThrottledError("429", retry_after=600)

    endless = Patience(throttle_seconds=3600)
    scores = scored(
        Doubler(before), range(9), rows_per_call=1, concurrency=concurrency, stop=stop, patience=endless
    )
    assert scores.fault is None
    assert scores.outcomes == [None] * 9


def test_stop_is_looked_at_between_calls() -> None:
    stop = threading.Event()
    scores = scored(Doubler(lambda _rows: stop.set()), range(30), rows_per_call=10, stop=stop)
    assert scores.outcomes == [(row * 2.0,) for row in range(10)] + [None] * 20
    assert scores.fault is None
    unused = Doubler()
    assert scored(unused, range(3), stop=stop).outcomes == [None] * 3
    assert not unused.calls


def at_most(most: int, error: type[ModelError] = PayloadTooLargeError) -> Callable[[list[Any]], None]:
    def before(rows: list[Any]) -> None:
        if len(rows) > most:
            raise error(f"{len(rows)} are too many")

    return before


def test_too_large_a_payload_halves_the_calls_and_the_size_is_learned() -> None:
    model = Doubler(at_most(300))
    scores = scored(model, range(5000))
    assert scores.fault is None
    assert scores.outcomes == [(row * 2.0,) for row in range(5000)]
    assert scores.rows_per_call == 250
    assert scores.statistics.calls <= 5000 // 250 + 3


def test_a_single_row_that_is_too_large_fails_for_good_and_slows_nobody() -> None:
    model = Doubler(failing_for(0, error=PayloadTooLargeError))
    scores = scored(model, range(5000))
    assert scores.outcomes[0] == RowFailure(
        FailureClass.ROW_PERMANENT, "this row alone is too large: cannot score 0"
    )
    assert scores.outcomes[1:] == [(row * 2.0,) for row in range(1, 5000)]
    assert scores.rows_per_call == 1000
    assert scores.statistics.calls <= 5 + 2 * 10
    assert isinstance(scored(model, [0]).outcomes[0], RowFailure)


def test_timeouts_halve_the_calls_twice() -> None:
    scores = scored(Doubler(at_most(250, ServiceTimeoutError)), range(1000))
    assert scores.fault is None
    assert scores.rows_per_call == 250
    hopeless = scored(Doubler(at_most(0, ServiceTimeoutError)), range(1000))
    assert isinstance(hopeless.fault, ServiceTimeoutError)
    assert hopeless.statistics.calls == 3
    assert hopeless.rows_per_call == 125


def test_a_row_that_hangs_alone_where_others_do_not_is_convicted() -> None:
    model = Doubler(failing_for(5, error=ServiceTimeoutError))
    scores = scored(model, range(8), rows_per_call=1)
    assert scores.fault is None
    assert isinstance(scores.outcomes[5], RowFailure)
    assert scores.outcomes[5].failure is FailureClass.ROW_TEMPORARY
    alone = scored(model, [5])
    assert isinstance(alone.fault, ServiceTimeoutError)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_refusal_ends_the_batch(concurrency: int) -> None:
    model = Doubler(raising(None, ServiceRefusedError("403")))
    scores = scored(model, range(100), rows_per_call=10, concurrency=concurrency)
    assert str(scores.fault) == "403"
    assert scores.statistics.calls <= 1 + concurrency * 2
    assert (0.0,) in scores.outcomes
    assert None in scores.outcomes


def test_an_answer_that_does_not_fit_fails_its_row_alone() -> None:
    class Odd(Doubler):
        def call(self, batch: Batch) -> list[Answer | RowFailure]:
            answers = super().call(batch)
            return [("n/a",) if answer == (6.0,) else answer for answer in answers]

    scores = scored(Odd(), range(5))
    message = "p: expected a number, the model answered 'n/a'"
    assert scores.outcomes[3] == RowFailure(FailureClass.ROW_PERMANENT, message)
    assert scores.outcomes[4] == (8.0,)


def test_a_model_that_answers_nonsense_blames_no_row_even_in_small_calls() -> None:
    class Nonsense(Doubler):
        def call(self, batch: Batch) -> list[Answer | RowFailure]:
            return [("<html>",)] * len(batch)

    scores = scored(Nonsense(), range(12), rows_per_call=3)
    assert isinstance(scores.fault, ServiceRefusedError)
    assert scores.outcomes == [None] * 12
    one_input = scored(Nonsense(), [7] * 100)
    assert one_input.fault is None
    assert all(isinstance(outcome, RowFailure) for outcome in one_input.outcomes)


def test_a_wrong_number_of_answers_is_bisected() -> None:
    class Forgetful(Doubler):
        def call(self, batch: Batch) -> list[Answer | RowFailure]:
            return [answer for answer in super().call(batch) if answer != (6.0,)]

    scores = scored(Forgetful(), range(8))
    assert scores.outcomes[3] == RowFailure(
        FailureClass.ROW_TEMPORARY, "the model answered 0 rows where 1 were sent"
    )
    assert scores.outcomes[4] == (8.0,)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_the_hook_runs_before_each_call_in_the_calling_thread(concurrency: int) -> None:
    threads: list[threading.Thread] = []
    model = Doubler()
    scored(
        model,
        range(50),
        rows_per_call=10,
        concurrency=concurrency,
        before_call=lambda: threads.append(threading.current_thread()),
    )
    assert threads == [threading.current_thread()] * 5


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_the_hook_raises_leaves(concurrency: int) -> None:
    model = Doubler()

    def hook() -> None:
        if model.calls:
            raise LeaseLostError

    with pytest.raises(LeaseLostError):
        scored(model, range(50), rows_per_call=10, concurrency=concurrency, before_call=hook)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_mistake_in_a_model_is_not_hidden(concurrency: int) -> None:
    def before(_rows: list[Any]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        scored(Doubler(before), range(50), rows_per_call=10, concurrency=concurrency)


def test_a_scored_batch_leaves_nothing_to_the_garbage_collector() -> None:
    class Value(float):
        """A float that can be referred to weakly."""

    class Forgetful(Doubler):
        def call(self, batch: Batch) -> list[Answer | RowFailure]:
            return [(1.0,) for _ in batch.rows]

    def one_batch() -> weakref.ref[Value]:
        value = Value(1.0)
        assert scored(Forgetful(), [value]).outcomes == [(1.0,)]
        return weakref.ref(value)

    gc.disable()
    try:
        assert one_batch()() is None, "a cycle keeps the rows: each batch would need memory of its own"
    finally:
        gc.enable()


# --- what the model takes, what calls weigh, and what they pass -------------------------------------------------


class Weighed(Doubler):
    """Takes three rows a call; a row is two requests, and ten tokens each."""

    most_rows = 3

    def weigh(self, batch: Batch) -> Weight:
        return Weight(2 * len(batch), len(batch), 10 * len(batch))


class Gatekeeper:
    """Notes who passes, and who comes back with an error; closed after so many."""

    def __init__(self, *, most: int = 1000, refusal: ModelError | None = None) -> None:
        self.passed: list[Weight] = []
        self.back: list[tuple[Weight, ModelError]] = []
        self.most = most
        self.refusal = refusal or BudgetSpentError("spent")

    def enter(self, weight: Weight, _stop: threading.Event) -> Callable[[ModelError], None]:
        if len(self.passed) == self.most:
            raise self.refusal
        self.passed.append(weight)
        return lambda error: self.back.append((weight, error))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_call_has_more_rows_than_the_model_takes(concurrency: int) -> None:
    model, gate = Weighed(), Gatekeeper()
    scores = scored(model, range(7), concurrency=concurrency, gates=[gate])
    assert sorted(map(len, model.calls)) == [1, 3, 3]
    assert scores.outcomes == [(row * 2.0,) for row in range(7)]
    assert sorted(gate.passed, key=lambda weight: weight.rows) == [
        Weight(2, 1, 10), Weight(6, 3, 30), Weight(6, 3, 30),
    ]  # fmt: skip
    assert (scores.statistics.calls, scores.statistics.rows, scores.rows_per_call) == (14, 7, 3)
    assert scores.statistics.sizes == [1] * 14, "of each request"
    assert len(scores.statistics.seconds) == 14


def test_a_request_that_is_too_large_before_it_is_sent_is_no_call() -> None:
    def refuse(rows: list[Any]) -> None:
        check_size(10 * len(rows), 30, len(rows))

    model, gate = Doubler(refuse), Gatekeeper()
    scores = scored(model, range(10), rows_per_call=10, gates=[gate])
    assert scores.outcomes == [(row * 2.0,) for row in range(10)]
    tried, sent = len(model.calls), sum(1 for rows in model.calls if len(rows) <= 3)
    assert tried > sent == scores.statistics.calls == len(scores.statistics.seconds)
    assert scores.statistics.rows == 10
    assert len(gate.passed) - len(gate.back) == sent
    assert all(not error.sent for _, error in gate.back)


def test_wide_rows_are_cut_to_what_fits_after_one_look() -> None:
    def refuse(rows: list[Any]) -> None:
        check_size(1000 * len(rows), 200_000, len(rows))

    model = Doubler(refuse)
    scores = scored(model, range(10_000), rows_per_call=2048)
    assert [len(rows) for rows in model.calls if len(rows) > 200] == [2048]
    assert (scores.rows_per_call, scores.statistics.calls) == (190, -(-10_000 // 190))
    model.calls.clear()
    scores = scored(model, range(10_000), rows_per_call=199)
    assert (len(model.calls), scores.rows_per_call) == (-(-10_000 // 199), 199)


def test_one_giant_row_makes_other_calls_no_smaller() -> None:
    def refuse(rows: list[Any]) -> None:
        check_size(10 * len(rows) + 5000 * (1234 in rows), 5000, len(rows))

    model = Doubler(refuse)
    scores = scored(model, range(5000), rows_per_call=500)
    assert sum(isinstance(outcome, RowFailure) for outcome in scores.outcomes) == 1
    assert isinstance(scores.outcomes[1234], RowFailure)
    assert scores.rows_per_call == 500
    assert scores.statistics.calls < 40


def test_a_gate_that_closes_ends_the_batch_and_what_was_passed_before_is_given_back() -> None:
    first, second = Gatekeeper(), Gatekeeper(most=2)
    model = Doubler()
    scores = scored(model, range(6), rows_per_call=2, gates=[first, second])
    assert isinstance(scores.fault, BudgetSpentError)
    assert scores.outcomes == [(0.0,), (2.0,), (4.0,), (6.0,), None, None]
    assert (len(first.passed), len(first.back), len(second.back)) == (3, 1, 0)
    assert scores.statistics.calls == 2


def test_an_error_of_a_call_that_was_sent_is_told_to_the_gates() -> None:
    error, gate = ThrottledError("slow down", retry_after=0.001), Gatekeeper()
    scores = scored(Doubler(raising(error)), range(2), gates=[gate])
    assert gate.back == [(Weight(1, 2), error)]
    assert len(gate.passed) == 2
    assert (scores.statistics.calls, scores.statistics.retries, scores.statistics.throttled) == (2, 1, 1)


def test_calls_of_a_single_row_are_counted_where_there_were_more() -> None:
    assert scored(Doubler(), range(1)).statistics.single == 0
    assert scored(Doubler(), range(4), rows_per_call=3).statistics.single == 1
    assert scored(Doubler(), range(4), rows_per_call=1).statistics.single == 4
    assert scored(Doubler(failing_for(2)), range(4)).statistics.single == 2, "found by bisection"


def test_equal_rows_are_counted_apart_from_those_that_were_sent() -> None:
    statistics = scored(Doubler(), [1, 1, 1, 2]).statistics
    assert (statistics.rows, statistics.equal, statistics.remembered) == (2, 2, 0)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_after_its_time_a_batch_begins_no_further_call_and_keeps_what_it_has(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, lock = [0.0], threading.Lock()
    told = SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter)
    monkeypatch.setattr("worker.scoring.time", told)

    def take_a_second(_rows: list[Any]) -> None:
        with lock:
            clock[0] += 1.0

    model = Doubler()
    scores = scored(model, range(100), rows_per_call=1, concurrency=concurrency, seconds=0.0)
    assert (model.calls, scores.outcomes, scores.fault) == ([], [None] * 100, None)
    held = Doubler(take_a_second)
    scores = scored(held, range(1000), rows_per_call=1, concurrency=concurrency, seconds=10.0)
    answered = [row for row, outcome in enumerate(scores.outcomes) if outcome is not None]
    assert len(answered) == len(held.calls) == scores.statistics.calls
    begun = 0 if concurrency == 1 else concurrency + 2  # at most, when the tenth second is over
    assert 10 <= len(answered) <= 10 + begun
    assert scores.fault is None


def test_the_next_calls_are_prepared_while_others_are_waited_for() -> None:
    prepared, go = threading.Semaphore(0), threading.Event()

    class Slow(Doubler):
        inside = most = 0

        def prepare(self, batch: Batch) -> Any:
            prepared.release()
            return lambda: self.call(batch)

        def call(self, batch: Batch) -> list[Answer | RowFailure]:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            assert go.wait(30)
            with self.lock:
                self.inside -= 1
            return super().call(batch)

    model = Slow()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(scored, model, range(10), rows_per_call=1, concurrency=2)
        assert all(prepared.acquire(timeout=30) for _ in range(4)), "two in flight, two more prepared"
        assert len(model.calls) == 0
        go.set()
        scores = running.result()
    assert scores.outcomes == [(row * 2.0,) for row in range(10)]
    assert model.most <= 2


def test_what_cannot_be_prepared_was_not_sent() -> None:
    class Choosy(Doubler):
        def prepare(self, batch: Batch) -> Any:
            if 3 in (row[0] for row in batch.rows):
                raise RowRejectedError("three has no place", sent=False)
            return lambda: self.call(batch)

    model, gate = Choosy(), Gatekeeper()
    scores = scored(model, range(8), gates=[gate])
    assert scores.outcomes[3] == RowFailure(FailureClass.ROW_PERMANENT, "three has no place")
    assert scores.statistics.calls == len(model.calls) == len(gate.passed)
    assert not gate.back


def test_threads_switch_quickly_while_calls_are_made_side_by_side_and_as_usual_afterwards() -> None:
    usual, seen = sys.getswitchinterval(), set()
    scored(
        Doubler(lambda _: seen.add(round(sys.getswitchinterval(), 6))),
        range(4),
        rows_per_call=1,
        concurrency=2,
    )
    assert seen == {0.0005}
    assert sys.getswitchinterval() == usual
    scored(Doubler(lambda _: seen.add(round(sys.getswitchinterval(), 6))), range(4))
    assert round(usual, 6) in seen
