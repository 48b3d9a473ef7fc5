"""What goes wrong while `tune` tries sizes is a finding, and nothing is written."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, is_postgresql, one, own
from tests.support.predictions import (
    add_items,
    applied,
    configuration,
    fail_at,
    make_items,
    opened,
    states,
)
from tests.support.service import Service
from tests.support.tuning import over_http, point_of, trying
from worker.errors import NotAppliedError, RowscoreError, ServiceRefusedError
from worker.states import RowState
from worker.tune import Wishes

CONFORMANCE = True


def test_a_payload_limit_bounds_the_size(database_url: str, items: Session, service: Service) -> None:
    service.most = 300
    service.cost = lambda rows: 0.065 + 1e-6 * rows
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
    assert 150 <= point_of(tuning)[0] <= 300
    assert any("are too large" in finding and "at most 300 rows" in finding for finding in tuning.findings)
    refused = [size for size in service.sizes if size > 300]
    assert len(refused) == len(set(refused)), "a size that was refused is not asked again"
    assert len(states(items)) == 1


def test_max_bytes_bounds_the_size_and_sends_nothing(
    database_url: str, items: Session, service: Service
) -> None:
    with opened(over_http(database_url, service, model={"max_bytes": 2000})) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
    assert point_of(tuning)[0] == max(service.sizes) < 300
    assert any("max_bytes = 2000" in finding for finding in tuning.findings)
    assert len(states(items)) == 1


def test_a_size_that_times_out_is_not_chosen(database_url: str, items: Session, service: Service) -> None:
    service.hangs = 100
    with opened(over_http(database_url, service, model={"timeout": "2s"})) as engine:
        applied(engine)
        tuning = trying(
            engine, Wishes(calls=20, sizes=(10, 50, 100, 500), concurrencies=(1,)), clock=service.clock
        )
    assert point_of(tuning) == (100, 1)
    assert any("500 rows are too slow" in finding for finding in tuning.findings)
    assert service.sizes.count(500) == 1
    assert len(states(items)) == 1


def test_a_poison_row_is_a_finding_and_stays_in_its_place(
    database_url: str, items: Session, service: Service
) -> None:
    service.poison = {5}
    service.cost = lambda rows: 0.065 + 1e-6 * rows
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(
            engine, Wishes(calls=40, sizes=(10, 100, 900), concurrencies=(1,)), clock=service.clock
        )
    assert point_of(tuning) == (900, 1), "other rows are tried than those in which a call failed"
    assert any("failed" in finding and "500" in finding for finding in tuning.findings)
    assert len(service.sizes) == tuning.paid.calls <= 40
    assert states(items) == {RowState.EXISTING: 2000}


def test_a_poison_row_of_a_function_of_the_database(database_url: str, items: Session) -> None:
    fail_at(items, 5)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=40, sizes=(50, 400)))
    assert {point.size for point in tuning.points if point.rate} == {50, 400}
    assert any("a = 5 is poison" in finding for finding in tuning.findings)
    assert states(items) == {RowState.EXISTING: 2000}
    assert one(items, f"SELECT count(*) FROM {own(items, 'failure')}") == 0


@pytest.mark.parametrize(("status", "most"), [(401, 1), (503, 3), (500, 3)])
def test_a_service_that_answers_nothing_is_the_fault(
    database_url: str, items: Session, service: Service, status: int, most: int
) -> None:
    service.status = status
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(engine)
    assert tuning.choice is None
    assert str(status) in str(tuning.fault)
    assert isinstance(tuning.fault, ServiceRefusedError) == (status == 401)
    assert len(service.sizes) == tuning.paid.calls == most
    assert not tuning.settings
    assert one(items, f"SELECT failures FROM {own(items, 'circuit')}") == 0, "the circuit is the drains' own"


def test_a_function_that_is_not_there(database_url: str, items: Session) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        items.execute("DROP FUNCTION predict" + ("(float8, int)" if is_postgresql(items) else ""))
        with pytest.raises(RowscoreError, match="predict"):
            trying(engine)


def test_without_rows_or_before_apply_it_says_so(
    database_url: str, connect: Connect, service: Service
) -> None:
    connection = connect()
    make_items(connection)
    with opened(over_http(database_url, service)) as engine:
        with pytest.raises(NotAppliedError, match="rowscore apply churn"):
            trying(engine)
        applied(engine)
        with pytest.raises(RowscoreError, match="has no row to try the model with"):
            trying(engine)
        add_items(connection, 1)
        tuning = trying(engine)
    assert point_of(tuning) == (1, 1)
    assert set(service.sizes) == {1}
