"""The size that `tune` finds and with which rows, by what calls cost and not by the clock on the wall."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, is_postgresql, quote
from tests.support.predictions import (
    add_items,
    applied,
    calls,
    configuration,
    make_items,
    opened,
    states,
)
from tests.support.service import Service
from tests.support.tuning import over_http, point_of, trying
from worker.errors import ConfigurationError
from worker.tune import Wishes

CONFORMANCE = True


# --- the knee, by what the service's calls cost and not by the clock on the wall ---------------------------


def test_the_knee_of_a_service_with_a_fixed_cost_a_call(
    database_url: str, items: Session, service: Service
) -> None:
    """The more rows the better, up to all that there are."""
    service.cost = lambda rows: 0.065 + 1e-6 * rows
    with opened(over_http(database_url, service, max_rows_per_batch=100)) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
    assert tuning.setting == "max_rows_per_batch"
    assert tuning.present == (100, 1)
    assert tuning.settings == {"max_rows_per_batch": 2000}
    assert tuning.choice is not None
    assert tuning.choice.point.rate == pytest.approx(2000 / 0.067)
    assert tuning.choice.point.latency == pytest.approx(0.067)
    assert any("2,000 different rows" in finding for finding in tuning.findings)
    assert len(states(items)) == 1


def test_the_knee_of_a_service_whose_cost_grows_with_the_square(
    database_url: str, items: Session, service: Service
) -> None:
    def cost(rows: int) -> float:
        return 0.065 + 6.5e-6 * rows * rows  # best at 100 rows

    service.cost = cost
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
    size, _ = point_of(tuning)
    best = max(point.size / cost(point.size) for point in tuning.points)
    assert size / cost(size) >= 0.95 * best
    assert size / cost(size) >= 0.9 * 100 / cost(100)
    assert max(service.sizes) < 1000, "sizes far beyond the peak are not paid for"
    assert len(states(items)) == 1


def test_the_sizes_that_are_asked_for_are_tried_and_no_others(
    database_url: str, items: Session, service: Service
) -> None:
    service.cost = lambda rows: 0.065 + 1e-6 * rows
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        wishes = Wishes(calls=60, sizes=(10, 150, 900, 5000), concurrencies=(1,))
        tuning = trying(engine, wishes, clock=service.clock)
        assert {point.size for point in tuning.points} == set(service.sizes) == {10, 150, 900}
        assert point_of(tuning) == (900, 1)
        assert any("no call had more than 900 rows" in finding for finding in tuning.findings)
        with pytest.raises(ConfigurationError, match="2,000 different rows to try with"):
            trying(engine, Wishes(sizes=(5000,)))
        with pytest.raises(ConfigurationError, match="800 different rows to try with"):
            trying(engine, Wishes(sizes=(900,), rows=800))
    assert len(states(items)) == 1


def test_a_claim_bounds_a_call(database_url: str, items: Session, service: Service) -> None:
    with opened(over_http(database_url, service, max_rows_per_claim=300)) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
    assert point_of(tuning) == (300, 1)
    assert max(service.sizes) == 300
    assert any("max_rows_per_claim is 300" in finding for finding in tuning.findings)
    assert len(states(items)) == 1


def test_equal_rows_are_sent_once_so_they_make_no_call_larger(
    database_url: str, items: Session, service: Service
) -> None:
    items.execute("UPDATE items SET b = 7, a = id % 40")
    inputs = [{"name": "k", "column": "b"}, "a", "b"]
    config = over_http(database_url, service, inputs=inputs)
    with opened(config) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
    assert max(service.sizes) == 40
    assert point_of(tuning) == (40, 1)


# --- which rows --------------------------------------------------------------------------------------------


def test_a_few_rows_that_wait_do_not_hide_the_others(
    database_url: str, items: Session, service: Service
) -> None:
    with opened(over_http(database_url, service, where="a > 500")) as engine:
        applied(engine)
        add_items(items, 3)
        tuning = trying(engine, clock=service.clock)
    assert point_of(tuning) == (1500, 1), "rows that `where` excludes are never sent"


def test_keys_of_two_columns_and_of_texts(database_url: str, connect: Connect) -> None:
    connection = connect()
    make_items(connection, rows=600)
    text = "text" if is_postgresql(connection) else "varchar(40)"
    connection.execute(
        f"CREATE TABLE {quote(connection, 'Odd ones')} (region {text} NOT NULL, n int NOT NULL, "
        f"a double precision, b int, PRIMARY KEY (region, n))"
    )
    label = "'r ' || id % 7" if is_postgresql(connection) else "CONCAT('r ', id % 7)"
    connection.execute(f"INSERT INTO {quote(connection, 'Odd ones')} SELECT {label}, id, a, b FROM items")
    with opened(configuration(database_url, table='"Odd ones"', outputs={"p": "double precision"})) as engine:
        applied(engine)
        calls(connection)
        tuning = trying(engine, Wishes(calls=20, sizes=(50, 600)))
    assert tuning.choice is not None
    assert not any(point.trouble for point in tuning.points)
    assert calls(connection) == tuning.paid.rows
    assert max(point.size for point in tuning.points) == 600
