"""A budget is hard: it is reserved before each call, by however many workers, and whatever fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.integration.test_backfill import EXISTING, PENDING, SCORED, WAYS, double_of, model, right, work
from tests.integration.test_backfill_options import begun, runs
from tests.support.databases import Session, one, own
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker import backfill, errors
from worker.models.protocol import Batch
from worker.options import Options
from worker.purse import Purse

CONFORMANCE = True


class Counting:
    """The model a + b, which counts what it was sent."""

    def __init__(self) -> None:
        self.calls = self.rows = 0
        self._lock = threading.Lock()

    def __call__(self, batch: Batch) -> list[tuple[float]]:
        with self._lock:
            self.calls += 1
            self.rows += len(batch)
        return add_up(batch)


def spent(connection: Session, kind: str = "backfill") -> tuple[int, int, float]:
    """What the last run of that kind has reserved: calls, rows, money."""
    query = f"SELECT spent_calls, spent_rows, spent_money FROM {own(connection, 'run')} WHERE kind = '{kind}'"
    found = connection.execute(f"{query} ORDER BY id DESC LIMIT 1").fetchone()
    return int(found[0]), int(found[1]), float(found[2])


@pytest.mark.parametrize("way", WAYS)
def test_so_many_rows_are_paid_for_by_two_workers_and_it_stops_there(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application, 300)
    counting = Counting()
    config = configuration(database_url, model=model(way), max_rows_per_claim=13, max_rows_per_batch=5)
    with (
        opened(config, double_of(way) and counting) as one_engine,
        opened(config, double_of(way) and counting) as two_engine,
        ThreadPoolExecutor(2) as pool,
    ):
        applied(one_engine)
        run = backfill.begin(one_engine, None, Options(budget="100 rows"))
        working = [pool.submit(work, engine, run) for engine in (one_engine, two_engine)]
        summaries = [running.result(60) for running in working]
        paid = counting.rows if way == "worker" else calls(application)
        assert paid == 100
        assert states(application) == {SCORED: 100, EXISTING: 200}
        assert {summary.ended for summary in summaries} == {"the budget of 100 rows is spent"}
        assert all(summary.spent and not summary.empty for summary in summaries)
        assert runs(application) == ["running"]
        assert work(one_engine).scored == 0, "it is spent for the next call as well"
        more = backfill.begin(one_engine, None, Options(budget="1000 rows"))
        assert (more.id, more.options.budget) == (run.id, "1000 rows")
        assert work(one_engine, more).scored == 200
    assert right(application) == 300
    assert runs(application) == ["finished"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("budget", ["60 rows", "6 calls", "6.00"])
def test_a_budget_that_is_just_enough_is_enough(
    database_url: str, connect: Connect, way: str, budget: str
) -> None:
    application = connect()
    make_items(application, 60)
    prices = {**model(way), "cost_per_row": 0.1}
    config = configuration(database_url, model=prices, max_rows_per_claim=10, max_rows_per_batch=10)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        summary = begun(engine, budget=budget)
        assert (summary.scored, summary.empty, summary.spent) == (60, True, False)
        assert runs(application) == ["finished"]
        application.execute(f"UPDATE items SET churn_state = {EXISTING} WHERE id = 5 OR id > 40")
        summary = begun(engine, budget="2 calls")
        assert (summary.empty, summary.spent) == (False, True), "rows are left, beyond the cursor"
    assert runs(application) == ["finished", "running"]


def test_a_row_left_behind_the_cursor_keeps_a_spent_run_alive(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 60)
    config = configuration(database_url, max_rows_per_claim=10)
    with opened(config) as engine:
        applied(engine)
        run = backfill.begin(engine, None, Options(budget="60 rows"))
        assert work(engine, run).empty is True
        application.execute(f"UPDATE {own(application, 'run')} SET status = 'running', finished_at = NULL")
        application.execute(f"UPDATE items SET churn_state = {EXISTING} WHERE id = 5")
        summary = work(engine, run)
        assert (summary.scored, summary.empty, summary.spent) == (0, False, True)
    assert runs(application) == ["running"]


@pytest.mark.parametrize("failing", [False, True])
def test_so_many_calls_are_made_those_that_fail_included(
    database_url: str, connect: Connect, failing: bool
) -> None:
    application = connect()
    make_items(application, 200)
    made: list[int] = []

    def flaky(batch: Batch) -> list[tuple[float]]:
        made.append(len(batch))
        if failing and any(row[0] in (7, 8, 61) for row in batch.rows):
            raise errors.RowFaultError("poison")
        return add_up(batch)

    config = configuration(database_url, model=model("worker"), max_rows_per_claim=50, max_rows_per_batch=10)
    with opened(config, flaky) as engine:
        applied(engine)
        summary = begun(engine, budget="12 calls")
        assert len(made) == 12
        assert summary.ended == "the budget of 12 calls is spent"
        assert summary.spent
        assert spent(application)[0] == 12
        circuit = f"SELECT failures FROM {own(application, 'circuit')}"
        assert one(application, circuit) == 0, "no fault of the service's"
        if not failing:
            assert states(application) == {SCORED: 120, EXISTING: 80}


@pytest.mark.parametrize("way", WAYS)
def test_money_is_calls_and_rows_by_their_prices(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application, 200)
    prices = {**model(way), "cost_per_call": 0.5, "cost_per_row": 0.1}
    config = configuration(database_url, model=prices, max_rows_per_claim=10, max_rows_per_batch=10)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        summary = begun(engine, budget="4.50")
        assert summary.scored == 30, "three calls of ten rows"
        assert spent(application) == (3, 30, 4.5)
        assert summary.ended == "the budget of 4.50 is spent"


def test_money_needs_a_price(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 5)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        with pytest.raises(errors.ConfigurationError, match="neither cost_per_call nor cost_per_row"):
            backfill.begin(engine, None, Options(budget="20.00"))
    assert runs(application) == []


def test_many_draw_at_once_and_none_too_much(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 5)
    with opened(configuration(database_url)) as engine, ThreadPoolExecutor(6) as pool:
        applied(engine)
        run = backfill.begin(engine, None, Options(budget="50 rows"))
        prediction = engine.prediction()
        cap = run.options.cap
        assert cap is not None
        purse = Purse(engine.database(prediction), engine.materialisation(prediction), cap, daily=False)

        def draw(_: int) -> int:
            try:
                purse.draw(run.id, 1, 3)
            except errors.BudgetSpentError:
                return 0
            return 3

        assert sum(pool.map(draw, range(40))) == 48
        purse.draw(run.id, 1, 2)
        purse.give_back(run.id, 0, 10)
    assert spent(application) == (17, 40, 0.0)


def test_what_the_service_throttles_costs_nothing(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 40)
    refused = 0

    def throttling(batch: Batch) -> list[tuple[float]]:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise errors.ThrottledError("slow down", retry_after=0.01)
        return add_up(batch)

    config = configuration(database_url, model=model("worker"), max_rows_per_batch=10, concurrency=1)
    with opened(config, throttling) as engine:
        applied(engine)
        assert begun(engine, budget="4 calls").scored == 40
    assert spent(application) == (4, 40, 0.0)


@pytest.mark.parametrize("way", WAYS)
def test_a_daily_budget_holds_fresh_rows_until_midnight(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model(way), daily_budget="30 rows", max_rows_per_claim=8)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 100)
        summary = drain(engine)
        assert (summary.scored, summary.spent) == (30, True)
        assert summary.ended == "the daily budget of 30 rows is spent"
        assert drain(engine).scored == 0
        yesterday: Any = f"UPDATE {own(application, 'run')} SET spent_on = DATE '2020-01-01'"
        application.execute(yesterday)
        assert drain(engine).scored == 30
        assert spent(application, "drain")[1] == 30, "sums begin anew each day"
        application.execute(yesterday)
        assert drain(engine).scored == 30
    assert states(application) == {SCORED: 90, PENDING: 10}
