"""Rates that workers share through Redis: what never happens, what is waited for, and what happens without Redis."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.children import children
from tests.support.databases import one, own
from tests.support.drawing import Noted, draw
from tests.support.predictions import add_items, add_up, applied, configuration, drain, make_items, opened
from worker.demo.loopback import free_port
from worker.doctor.findings import Level
from worker.doctor.services import check_store
from worker.errors import (
    PayloadTooLargeError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.kinds.rates import parse_rates
from worker.models.protocol import Batch, Weight
from worker.patience import StoppedError
from worker.rates import LONGEST_REST, Rates, fitting
from worker.store import Store

NEVER = threading.Event()
SECOND = 1_000_000  # microseconds


def rates(store: Store, *texts: str, name: str = "churn") -> Noted:
    return Noted(store, name, parse_rates(list(texts)))


def used(store: Store, rate: str, name: str = "churn") -> int:
    """How much of a rate is drawn."""
    found: Any = store._ask(lambda client: client.hvals(f"rowscore:rate:{{{name}}}:{rate}"))
    return sum(map(int, found))


# --- two processes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "weight", "limits", "draws"),
    [
        (["40 requests/s"], Weight(1, 100), [(40, 1)], 60),
        (["1000 requests/s", "500 rows/s", "9000 tokens/s"], Weight(2, 15, 100), [(33, 1)], 50),
        (["300 requests/s", "40 requests/s"], Weight(1, 1), [(40, 1)], 60),
    ],
)
def test_two_processes_never_exceed_a_rate_in_any_window(
    redis_url: str, texts: list[str], weight: Weight, limits: list[tuple[int, int]], draws: int
) -> None:
    started, told = children.Event(), children.Queue()
    processes = [
        children.Process(target=draw, args=(redis_url, texts, weight, draws, started, told)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    started.set()
    moments = sorted(told.get(timeout=60) + told.get(timeout=60))
    for process in processes:
        process.join()
    assert len(moments) == 2 * draws
    for most, seconds in limits:
        windows = [sum(start <= at < start + seconds * SECOND for at in moments) for start in moments]
        assert max(windows) == most, "all of it is used, and no more"


def test_a_turn_comes_one_slice_after_the_window_at_the_latest(store: Store) -> None:
    limited = rates(store, "5 requests/h")
    for _ in range(5):
        limited.enter(Weight(1, 1), NEVER)
    wait, now = limited._draw(limited._arguments(Weight(1, 1)))
    due = now + wait * SECOND
    assert limited.moments[0] + 3600 * SECOND < due <= limited.moments[0] + 1.01 * 3600 * SECOND


def test_all_rates_are_drawn_on_or_none(store: Store) -> None:
    limited = rates(store, "10 requests/h", "100 rows/h")
    limited.enter(Weight(1, 60), NEVER)
    with pytest.raises(ThrottledError):
        limited.enter(Weight(1, 60), NEVER)
    assert (used(store, "10-requests-3600"), used(store, "100-rows-3600")) == (1, 60)
    limited.enter(Weight(1, 40), NEVER)
    assert (used(store, "10-requests-3600"), used(store, "100-rows-3600")) == (2, 100)


def test_predictions_have_rates_of_their_own(store: Store) -> None:
    rates(store, "1 requests/h").enter(Weight(1, 1), NEVER)
    rates(store, "1 requests/h", name="other").enter(Weight(1, 1), NEVER)
    with pytest.raises(ThrottledError):
        rates(store, "1 requests/h").enter(Weight(1, 1), NEVER)


# --- waiting ---------------------------------------------------------------------------------------------------


def test_a_long_wait_is_told_and_nothing_is_drawn(store: Store) -> None:
    limited = rates(store, "3 requests/h")
    limited.enter(Weight(3, 3), NEVER)
    with pytest.raises(
        ThrottledError, match=r"the next call is due in \d+ s \(rate_limit: 3 requests/h"
    ) as caught:
        limited.enter(Weight(1, 1), NEVER)
    assert caught.value.retry_after is not None
    assert 3500 < caught.value.retry_after <= 3636
    assert not caught.value.sent
    assert used(store, "3-requests-3600") == 3


def test_a_process_that_stops_waits_no_longer(store: Store) -> None:
    limited, stop = rates(store, "1 requests/m"), threading.Event()
    limited.enter(Weight(1, 1), stop)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(limited.enter, Weight(1, 1), stop)
        stop.set()
        with pytest.raises(StoppedError):
            waiting.result(timeout=30)
    assert used(store, "1-requests-60") == 1


def test_what_was_not_sent_is_given_back(store: Store) -> None:
    limited = rates(store, "10 requests/h", "100 tokens/h")
    failed = limited.enter(Weight(2, 5, 40), NEVER)
    failed(PayloadTooLargeError("too large", sent=False))
    assert (used(store, "10-requests-3600"), used(store, "100-tokens-3600")) == (0, 0)
    failed = limited.enter(Weight(2, 5, 40), NEVER)
    failed(ServiceUnavailableError("it was sent"))
    assert (used(store, "10-requests-3600"), used(store, "100-tokens-3600")) == (2, 40)


def test_a_call_that_no_rate_ever_allows_is_too_large(store: Store) -> None:
    limited = rates(store, "100 requests/s", "1000 tokens/m")
    with pytest.raises(
        PayloadTooLargeError, match=r"20 rows are 2000 tokens, more than rate_limit 1000 tokens/m"
    ) as caught:
        limited.enter(Weight(1, 20, 2000), NEVER)
    assert not caught.value.sent


def test_whole_calls_fill_a_rate_of_rows() -> None:
    five = parse_rates("5000 rows/s")
    assert [fitting(five, rows) for rows in (2000, 5000, 9000, 100, 1)] == [1666, 5000, 5000, 100, 1]
    assert fitting(parse_rates(["7 rows/s", "4 requests/s"]), 1000) == 7


# --- the service's own wish ------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [[], ["1000 requests/s"]])
def test_a_rest_that_one_worker_is_told_to_take_holds_for_the_others(
    store: Store, redis_url: str, texts: list[str]
) -> None:
    failed = rates(store, *texts).enter(Weight(1, 1), NEVER)
    failed(ThrottledError("status 429", retry_after=120.0))
    other = Store(redis_url)
    with pytest.raises(ThrottledError) as caught:
        rates(other, *texts).enter(Weight(1, 1), NEVER)
    assert caught.value.retry_after is not None
    assert 100 < caught.value.retry_after <= 120
    failed(ThrottledError("status 429", retry_after=1.0))
    with pytest.raises(ThrottledError):
        rates(other, *texts).enter(Weight(1, 1), NEVER)
    other.close()


def test_no_service_is_left_alone_for_a_day(store: Store) -> None:
    failed = rates(store).enter(Weight(1, 1), NEVER)
    failed(ThrottledError("status 429", retry_after=86_400.0))
    with pytest.raises(ThrottledError) as caught:
        rates(store).enter(Weight(1, 1), NEVER)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after <= LONGEST_REST


# --- without Redis ---------------------------------------------------------------------------------------------


def test_without_redis_nothing_is_sent_over_a_rate() -> None:
    away = Store(f"redis://somebody:hush@127.0.0.1:{free_port()}/0")
    with pytest.raises(
        ThrottledError, match=r"nothing is sent while nobody can say .* Redis at redis://127\.0\.0\.1:\d+/0"
    ) as caught:
        Rates(away, "churn", parse_rates("1 requests/s")).enter(Weight(1, 1), NEVER)
    assert "hush" not in str(caught.value)
    assert not caught.value.sent
    Rates(away, "churn", ()).enter(Weight(1, 1), NEVER)(ThrottledError("status 429", retry_after=5.0))
    away.close()


# --- a drain ---------------------------------------------------------------------------------------------------


def test_a_drain_ends_where_a_rate_does_and_no_row_pays_for_it(
    database_url: str, connect: Connect, redis_url: str
) -> None:
    application = connect()
    make_items(application)
    config = configuration(
        database_url,
        model={"python": "tests.support.predictions:add_up", "rate_limit": "25 rows/h"},
        max_rows_per_batch=10,
    ).model_copy(update={"broker": redis_url})
    sent: list[int] = []

    def model(batch: Batch) -> list[tuple[float]]:
        sent.append(len(batch))
        return add_up(batch)

    with opened(config, model) as engine:
        applied(engine)
        add_items(application, 40)
        summary = drain(engine)
        assert sent == [8, 8, 8], "whole calls within the rate"
        assert (summary.scored, summary.failed, summary.calls, summary.asked) == (24, 0, 3, 40)
        assert summary.ended == "the model is at fault (throttled)"
        assert summary.retry_after == 600, "as long as a circuit stays open at most"
        assert one(application, f"SELECT failures FROM {own(application, 'circuit')}") == 0
        assert one(application, f"SELECT count(*) FROM {own(application, 'failure')}") == 0
        again = drain(engine)
        assert (again.batches, again.ended) == (0, "the circuit is open: the model is left alone for now")


def test_a_drain_without_redis_sends_nothing(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    model = {"python": "tests.support.predictions:add_up", "rate_limit": "25 rows/h"}
    config = configuration(database_url, model=model)  # its broker is not there
    with opened(config, lambda _: pytest.fail("it was called")) as engine:
        applied(engine)
        add_items(application, 3)
        summary = drain(engine)
        assert (summary.scored, summary.calls) == (0, 0)
        assert "nothing is sent while nobody can say how much of rate_limit is used" in str(summary.fault)


# --- doctor ----------------------------------------------------------------------------------------------------


def found(url: str, **model: str) -> list[tuple[Level, str]]:
    """What `doctor` finds about the Redis of a prediction with such a model."""
    section = {"python": "tests.support.predictions:add_up", **model}
    config = configuration("postgresql:///x", model=section).model_copy(update={"broker": url})
    with opened(config) as engine:
        return [(item.level, item.message) for item in check_store(engine, engine.prediction())]


def test_doctor_tries_the_redis_that_a_prediction_needs(redis_url: str, store: Store) -> None:
    assert found(redis_url) == []
    assert found(redis_url, rate_limit="1 requests/s", remember="7d") == [
        (Level.OK, "it answers, for rate_limit and remember")
    ]
    store._ask(lambda client: client.config_set("maxmemory-policy", "allkeys-lru"))
    ((level, message),) = found(redis_url, rate_limit="1 requests/s")
    assert (level, "maxmemory-policy is allkeys-lru" in message) == (Level.WARNING, True)
    assert found(redis_url, remember="7d") == [(Level.OK, "it answers, for remember")]
    store._ask(lambda client: client.config_set("maxmemory-policy", "noeviction"))


def test_doctor_says_what_the_lack_of_redis_means() -> None:
    away = f"redis://:hush@127.0.0.1:{free_port()}/0"
    ((level, message),) = found(away, rate_limit="1 requests/s")
    assert level is Level.ERROR
    assert "nothing is sent meanwhile, because of rate_limit" in message
    assert "hush" not in message
    ((level, message),) = found(away, remember="7d")
    assert level is Level.WARNING
    assert "every row is paid for" in message
    ((level, message),) = found("$ROWSCORE_NO_BROKER", rate_limit="1 requests/s")
    assert (level, "ROWSCORE_NO_BROKER" in message) == (Level.ERROR, True)
