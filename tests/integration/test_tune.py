"""`tune` on real servers: real rows, real calls, a cap that holds, and nothing written but what --save asks for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, is_postgresql, one, only, own, quote
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    fail_at,
    make_items,
    opened,
    states,
)
from tests.support.service import Service
from worker.config import Configuration
from worker.engine import Engine
from worker.errors import ConfigurationError, NotAppliedError, RowscoreError, ServiceRefusedError
from worker.models.protocol import Batch
from worker.states import RowState
from worker.tune import Tuning, Wishes, save, tune

CONFORMANCE = True
OWN = ("batch", "circuit", "failure", "learned", "lease", "prediction", "run")
ALONE = Wishes(calls=60, concurrencies=(1,))


@pytest.fixture
def service() -> Iterator[Service]:
    """A model behind HTTP whose time is counted."""
    with Service() as server:
        yield server


@pytest.fixture
def items(connect: Connect) -> Session:
    """A session on the database with the table items, of 2,000 rows."""
    connection: Session = connect()
    make_items(connection, rows=2000)
    return connection


def over_http(url: str, service: Service, **options: Any) -> Configuration:
    """Items are scored by the service, one call at a time."""
    model = {"http": service.url, **options.pop("model", {})}
    return configuration(url, **{"inputs": ["id", "a", "b"], "model": model, "concurrency": 1, **options})


def everything(connection: Session) -> list[Any]:
    """Each row of the table, with the version that any write or lock would change, and rowscore's own tables."""
    version = "xmin::text, xmax::text, ctid::text, " if is_postgresql(connection) else ""
    found: list[Any] = connection.execute(f"SELECT {version}items.* FROM items ORDER BY id").fetchall()
    for table in OWN:
        found.append(
            sorted(map(repr, connection.execute(f"SELECT * FROM {own(connection, table)}").fetchall()))
        )
    return found


def trying(engine: Engine, wishes: Wishes = ALONE, **options: Any) -> Tuning:
    """Tune the engine's only prediction."""
    return tune(engine, None, wishes, **options)


def point_of(tuning: Tuning) -> tuple[int, int]:
    """Size and concurrency of the knee."""
    assert tuning.choice is not None
    return tuning.choice.point.size, tuning.choice.point.concurrency


# --- nothing is written, and nothing waits ----------------------------------------------------------------


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


# --- the cap ----------------------------------------------------------------------------------------------


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


def test_it_stops_when_it_is_told_to(database_url: str, items: Session, service: Service) -> None:
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(engine, progress=lambda paid, _: engine.stop.set() if paid.calls >= 5 else None)
        assert tuning.paid.calls == 5
        assert states(items) == {RowState.EXISTING: 2000}


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


# --- trouble is a finding ---------------------------------------------------------------------------------


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


# --- which rows -------------------------------------------------------------------------------------------


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


# --- a model in Python, money, and --save -----------------------------------------------------------------


def swallowing(batch: Batch) -> list[tuple[float]]:
    """A model that has no memory for more than 100 rows."""
    if len(batch) > 100:
        raise MemoryError
    return add_up(batch)


def test_a_model_that_runs_out_of_memory_takes_fewer_rows(database_url: str, items: Session) -> None:
    model = {"python": "tests.integration.test_tune:swallowing", "cost_per_call": 0.5, "cost_per_row": 0.001}
    with opened(configuration(database_url, model=model, concurrency=1)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=20, sizes=(50, 200), concurrencies=(1,)))
    assert point_of(tuning)[0] == 50
    assert any("do not fit into memory" in finding for finding in tuning.findings)
    assert tuning.money == pytest.approx(0.5 * tuning.paid.calls + 0.001 * tuning.paid.rows)
    assert len(states(items)) == 1


@pytest.mark.parametrize("best", [20, 1600])
def test_saved_sizes_are_those_that_drains_begin_with(
    database_url: str, items: Session, service: Service, best: int
) -> None:
    service.cost = lambda rows: 0.065 + 0.065 * (rows / best) ** 2
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(
            engine, Wishes(calls=60, sizes=(5, 20, 100, 400, 1600), concurrencies=(1,)), clock=service.clock
        )
        assert point_of(tuning) == (best, 1)
        assert one(items, f"SELECT rows_per_call FROM {own(items, 'learned')}") is None
        assert save(engine, tuning)
        assert tuning.saved
        assert one(items, f"SELECT rows_per_call FROM {own(items, 'learned')}") == best
        items.execute(f"UPDATE items SET churn_state = {RowState.PENDING.value}")
        items.execute(f"UPDATE {own(items, 'learned')} SET rows_per_claim = 2000")
        service.sizes.clear()
        assert drain(engine).scored == 2000
    assert service.sizes[0] == best
    if best > 1000:
        assert one(items, f"SELECT rows_per_call FROM {own(items, 'learned')}") == best, "and it stays so"


def test_saved_claims_of_a_function_of_the_database(database_url: str, items: Session) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=30, sizes=(50, 70)))
        assert tuning.setting == "max_rows_per_claim"
        assert save(engine, tuning)
        claim = one(items, f"SELECT rows_per_claim FROM {own(items, 'learned')}")
    assert claim == point_of(tuning)[0]
    assert claim in (50, 70)


def test_the_files_limit_is_not_overruled(database_url: str, items: Session, service: Service) -> None:
    with opened(over_http(database_url, service, max_rows_per_batch=100)) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
        assert point_of(tuning)[0] > 100
        before = everything(items)
        assert not save(engine, tuning)
        assert everything(items) == before


@only("postgresql")
def test_a_function_that_is_told_its_batch_size_is_told_the_size_that_is_tried(
    database_url: str, items: Session
) -> None:
    """As Aurora's functions are; the size is then theirs, and not a claim's."""
    items.execute(
        """CREATE SEQUENCE told_rows;
        CREATE FUNCTION batched(a float8, b int, max_rows_per_batch int) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
            IF max_rows_per_batch NOT IN (50, 500) THEN RAISE 'told %', max_rows_per_batch; END IF;
            PERFORM nextval('told_rows'); RETURN a + b; END $$"""
    )
    with opened(configuration(database_url, model={"sql": "batched"}, max_rows_per_batch=7)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=20, sizes=(50, 500)))
        assert not tuning.findings
        assert (tuning.setting, tuning.present) == ("max_rows_per_batch", (7, None))
        assert point_of(tuning)[0] in (50, 500)
        assert one(items, "SELECT last_value FROM told_rows") == tuning.paid.rows
        assert not save(engine, tuning), "the file's number is part of the statement"
