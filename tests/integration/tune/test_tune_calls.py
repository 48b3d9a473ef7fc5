"""`tune` writes nothing, holds nobody up, and pays for no call beyond its cap and the day's budget."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, is_postgresql, one, own
from tests.support.predictions import (
    add_items,
    applied,
    calls,
    configuration,
    drain,
    opened,
    states,
)
from tests.support.service import Service
from tests.support.tuning import everything, over_http, point_of, trying
from worker.states import RowState
from worker.tune import Tuning, Wishes

CONFORMANCE = True


# --- nothing is written, and nothing waits -----------------------------------------------------------------


@pytest.mark.parametrize("path", ["http", "update", "select"])
@pytest.mark.parametrize("state", [RowState.EXISTING, RowState.PENDING, RowState.SCORED])
def test_nothing_is_written(
    database_url: str, connect: Connect, items: Session, service: Service, path: str, state: RowState
) -> None:
    config = (
        over_http(database_url, service)
        if path == "http"
        else configuration(database_url, model={"sql": "predict", "mode": path})
    )
    with opened(config) as engine:
        applied(engine)
        if state is not RowState.EXISTING:
            items.execute(f"UPDATE items SET churn_state = {RowState.PENDING.value}")
        if state is RowState.SCORED:
            drain(engine)
        assert states(items) == {state: 2000}
        service.sizes.clear()
        calls(items)
        before = everything(items)
        holder = connect(autocommit=False)
        holder.execute("SELECT id FROM items WHERE id % 3 = 0 FOR UPDATE")
        held = everything(items) if is_postgresql(items) else before
        tuning = trying(engine)
        assert tuning.choice is not None
        assert everything(items) == held
        holder.rollback()
        assert [row[3:] for row in everything(items)[:2000]] == [row[3:] for row in before[:2000]]
    assert 0 < tuning.paid.calls <= 60
    if path == "http":
        assert len(service.sizes) == tuning.paid.calls
        assert sum(service.sizes) == tuning.paid.rows
    else:
        assert calls(items) == tuning.paid.rows, "the function was called once a row"


def test_other_sessions_write_every_row_while_the_model_is_called(
    database_url: str, items: Session, service: Service
) -> None:
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        service.hold()
        found: list[Tuning] = []
        thread = threading.Thread(target=lambda: found.append(trying(engine)))
        thread.start()
        assert service.entered.wait(60)
        assert items.execute("UPDATE items SET note = 'mine'").rowcount == 2000, "no row is locked"
        service.release()
        thread.join(60)
        assert found[0].choice is not None
        assert one(items, "SELECT count(*) FROM items WHERE note = 'mine'") == 2000


def test_what_a_function_of_the_database_writes_is_rolled_back(database_url: str, items: Session) -> None:
    if is_postgresql(items):
        items.execute(
            """CREATE TABLE log (a float8);
            CREATE FUNCTION logged(a float8, b int) RETURNS float8 LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO log VALUES (a); RETURN a + b; END $$"""
        )
    else:
        items.execute("CREATE TABLE log (a double)")
        items.execute(
            """CREATE FUNCTION logged(a double, b int) RETURNS double NOT DETERMINISTIC MODIFIES SQL DATA
            BEGIN INSERT INTO log VALUES (a); RETURN a + b; END"""
        )
    with opened(configuration(database_url, model={"sql": "logged"})) as engine:
        applied(engine)
        assert trying(engine).choice is not None
        assert one(items, "SELECT count(*) FROM log") == 0


# --- the cap -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [2, 3, 7, 20, 45])
def test_the_endpoint_sees_no_more_calls_than_the_cap(
    database_url: str, items: Session, service: Service, cap: int
) -> None:
    service.most = 500
    with opened(over_http(database_url, service, concurrency=4)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=cap))
    assert len(service.sizes) == tuning.paid.calls <= cap
    assert sum(service.sizes) == tuning.paid.rows
    for point in tuning.points:
        assert point.refused or point.calls >= 2
    assert tuning.choice is not None
    assert one(items, "SELECT count(*) FROM items") == 2000


def test_throttled_requests_are_waited_for_and_not_counted(
    database_url: str, items: Session, service: Service
) -> None:
    service.throttle = 5
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=20, concurrencies=(1,)))
    assert tuning.paid.throttled == 5
    assert len(service.sizes) == tuning.paid.calls <= 20
    assert any("throttled 5 requests" in finding for finding in tuning.findings)
    assert tuning.fault is None
    assert point_of(tuning)[0] > 1
    assert states(items) == {RowState.EXISTING: 2000}


@pytest.mark.parametrize(("budget", "most"), [("7 calls", 7), ("200 rows", 200), ("3.50", 350)])
def test_calls_are_drawn_from_the_daily_budget_and_end_with_it(
    database_url: str, items: Session, service: Service, budget: str, most: int
) -> None:
    """Money is a cent a row here."""
    options: dict[str, Any] = {"daily_budget": budget, "concurrency": 2, "model": {"cost_per_row": 0.01}}
    wishes = Wishes(calls=100, sizes=(10, 20, 40), concurrencies=(2,))
    with opened(over_http(database_url, service, **options)) as engine:
        applied(engine)
        tuning = trying(engine, wishes)
        assert (
            str(tuning.fault) == f"the daily budget of {budget} is spent; its sums begin anew at midnight UTC"
        )
        assert len(service.sizes) == tuning.paid.calls
        assert sum(service.sizes) == tuning.paid.rows
        spent = len(service.sizes) if "calls" in budget else sum(service.sizes)
        assert most - 40 < spent <= most
        assert of_the_day(items) == (len(service.sizes), sum(service.sizes), sum(service.sizes) * 0.01)
        assert not any("budget" in finding for finding in tuning.findings)
        service.sizes.clear()
        items.execute(f"UPDATE {own(items, 'run')} SET spent_on = DATE '2020-01-01'")
        assert trying(engine, Wishes(calls=4, sizes=(2,), concurrencies=(2,))).fault is None
        assert of_the_day(items)[0] == len(service.sizes)


def test_statements_are_drawn_from_the_daily_budget_and_end_with_it(
    database_url: str, items: Session
) -> None:
    with opened(configuration(database_url, daily_budget="500 rows")) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=100, sizes=(50, 100), concurrencies=(1,)))
        assert str(tuning.fault).startswith("the daily budget of 500 rows is spent")
        assert tuning.choice is not None
        assert calls(items) == tuning.paid.rows == of_the_day(items)[1]
        assert 400 < tuning.paid.rows <= 500
        add_items(items, 400)
        assert drain(engine).scored == 500 - tuning.paid.rows, "new rows have what is left of the day"


def test_a_day_that_is_spent_lets_no_call_be_made(
    database_url: str, items: Session, service: Service
) -> None:
    with opened(over_http(database_url, service, daily_budget="10 rows")) as engine:
        applied(engine)
        add_items(items, 30)
        assert drain(engine).scored == 10
        service.sizes.clear()
        tuning = trying(engine)
        assert (tuning.choice, tuning.paid.calls, service.sizes) == (None, 0, [])
        assert str(tuning.fault).startswith("the daily budget of 10 rows is spent")


def of_the_day(connection: Session) -> tuple[int, int, float]:
    """Calls, rows and money that the day's budget counts."""
    query = f"SELECT spent_calls, spent_rows, spent_money FROM {own(connection, 'run')} WHERE kind = 'drain'"
    spent_calls, spent_rows, money = connection.execute(query).fetchone() or (0, 0, 0)
    return int(spent_calls), int(spent_rows), pytest.approx(float(money))


def test_it_stops_when_it_is_told_to(database_url: str, items: Session, service: Service) -> None:
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(engine, progress=lambda paid, _: engine.stop.set() if paid.calls >= 5 else None)
        assert tuning.paid.calls == 5
        assert states(items) == {RowState.EXISTING: 2000}
