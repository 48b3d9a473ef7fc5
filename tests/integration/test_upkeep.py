"""Retrying and pruning, and what a tick finds, against real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, ago, is_postgresql, own
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened, states
from worker import upkeep
from worker.app import create_app
from worker.database import Database
from worker.engine import Engine
from worker.errors import NotAppliedError
from worker.leases import Lease, Leases
from worker.outlook import look
from worker.states import RowState, RunKind

CONFORMANCE = True


def due(connection: Session, last: int) -> None:
    """The rows up to this one may be tried again."""
    key = "(row_key ->> 0)::int" if is_postgresql(connection) else "JSON_VALUE(row_key, '$[0]') + 0"
    connection.execute(
        f"UPDATE {own(connection, 'failure')} SET next_retry_at = {ago(connection, 0)} WHERE {key} <= {last}"
    )


@pytest.fixture
def rows(connect: Connect) -> Session:
    connection = connect()
    make_items(connection)
    return connection


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with opened(configuration(database_url)) as engine:
        yield engine


def make_failed(rows: Session, count: int) -> None:
    """Rows in quarantine, none of them due."""
    add_items(rows, count)
    rows.execute("UPDATE items SET churn_state = %s", [RowState.FAILED])
    columns, values = "row_key", "jsonb_build_array(id::text)"
    if not is_postgresql(rows):
        text = "JSON_ARRAY(CAST(id AS CHAR))"
        columns, values = "row_key, key_hash", f"{text}, UNHEX(SHA2({text}, 256))"
    rows.execute(
        f"""INSERT INTO {own(rows, "failure")} (prediction, {columns}, failure_class, message, next_retry_at)
        SELECT 'churn', {values}, 'row-temporary', 'no', {ago(rows, -3600)} FROM items"""
    )


def test_rows_that_are_due_wait_again_in_batches(rows: Session, engine: Engine) -> None:
    applied(engine)
    make_failed(rows, 2500)
    assert upkeep.retry_failures(engine, "churn") == 0
    due(rows, 2200)
    assert upkeep.retry_failures(engine, "churn") == 2200
    assert states(rows) == {RowState.PENDING: 2200, RowState.FAILED: 300}
    assert upkeep.retry_failures(engine, "churn") == 0
    assert upkeep.retry_failures(engine, "churn", everything=True) == 300


def test_a_row_that_a_session_holds_is_stepped_over(rows: Session, engine: Engine, connect: Connect) -> None:
    applied(engine)
    make_failed(rows, 10)
    due(rows, 10)
    other = connect(autocommit=False)
    other.execute("SELECT id FROM items WHERE id = 3 FOR UPDATE")
    assert upkeep.retry_failures(engine) == 9
    other.rollback()
    assert upkeep.retry_failures(engine) == 1


def test_the_log_keeps_its_newest_lines_and_errors_of_gone_rows_go(rows: Session, engine: Engine) -> None:
    applied(engine)
    make_failed(rows, 10)
    for _ in range(5):
        add_items(rows, 1)
        drain(engine)
    rows.execute("DELETE FROM items WHERE id <= 4")
    rows.execute("UPDATE items SET churn_state = %s WHERE id = 5", [RowState.SKIPPED])
    assert upkeep.prune(engine, keep=2) == upkeep.Pruned(batches=3, failures=5)
    kept = rows.execute(f"SELECT id FROM {own(rows, 'batch')} ORDER BY id").fetchall()
    assert kept == [(4,), (5,)]
    assert upkeep.prune(engine, keep=2) == upkeep.Pruned(batches=0, failures=0)


def test_a_tick_finds_room_beside_live_leases_and_over_expired_ones(
    rows: Session, engine: Engine, database: Database
) -> None:
    applied(engine)
    add_items(rows, 10)
    assert (look(engine).live, look(engine).free) == (0, 2)
    leases = Leases(database, engine.materialisation(engine.prediction()), "test")
    assert isinstance(leases.acquire(RunKind.DRAIN, 5), Lease)
    assert (look(engine).live, look(engine).free) == (1, 1)
    rows.execute(f"UPDATE {own(rows, 'lease')} SET expires_at = {ago(rows, 0)}")
    assert (look(engine).live, look(engine).free) == (0, 2)
    rows.execute(f"UPDATE {own(rows, 'circuit')} SET open_until = {ago(rows, -40)}, reason = 'it burns'")
    found = look(engine)
    assert found.free == 0
    assert found.reason in {f"the circuit is open for {seconds} s: it burns" for seconds in (39, 40)}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("task", ["tick", "drain", "backfill", "retry", "prune", "refresh", "view"])
def test_a_task_fails_in_one_line(database_url: str, task: str) -> None:
    """Run in this process, without a broker."""
    app = create_app(configuration(database_url, max_age="30d"))
    app.loader.import_default_modules()
    try:
        result = app.tasks[f"rowscore.{task}"].apply(("churn",))
    finally:
        app.engine.dispose()
    assert isinstance(result.result, NotAppliedError)
    assert str(result.result) == "churn is not applied to this database; run `rowscore apply churn`"
    assert result.traceback.count("\n") < 20


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_an_unreachable_database_is_one_line(scheme: str) -> None:
    app = create_app(configuration(f"{scheme}://someone:secret@127.0.0.1:1/nowhere"))
    app.loader.import_default_modules()
    result = app.tasks["rowscore.drain"].apply(("churn",))
    app.engine.dispose()
    assert type(result.result).__name__ == "ConnectionFailedError"
    assert f"{scheme}://someone:***@127.0.0.1:1/nowhere: " in str(result.result)
    assert "\n" not in str(result.result)
    assert "secret" not in result.traceback
