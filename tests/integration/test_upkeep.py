"""Retrying and pruning, and what a tick finds, against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened, states
from worker import upkeep
from worker.app import create_app
from worker.database import Database
from worker.engine import Engine
from worker.errors import NotAppliedError
from worker.leases import Lease, Leases
from worker.outlook import look
from worker.states import RowState, RunKind

DUE = "UPDATE rowscore.failure SET next_retry_at = clock_timestamp() WHERE (row_key ->> 0)::int <= %s"


@pytest.fixture
def rows(connect: Connect) -> psycopg.Connection:
    connection = connect()
    make_items(connection)
    return connection


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    with opened(configuration(database_url)) as engine:
        yield engine


def make_failed(rows: psycopg.Connection, count: int) -> None:
    """Rows in quarantine, none of them due."""
    add_items(rows, count)
    rows.execute("UPDATE items SET churn_state = %s", [RowState.FAILED])
    rows.execute(
        "INSERT INTO rowscore.failure (prediction, row_key, failure_class, message, next_retry_at) "
        "SELECT 'churn', jsonb_build_array(id::text), 'row-temporary', 'no', 'infinity' FROM items"
    )


def test_rows_that_are_due_wait_again_in_batches(rows: psycopg.Connection, engine: Engine) -> None:
    applied(engine)
    make_failed(rows, 2500)
    assert upkeep.retry_failures(engine, "churn") == 0
    rows.execute(DUE, [2200])
    assert upkeep.retry_failures(engine, "churn") == 2200
    assert states(rows) == {RowState.PENDING: 2200, RowState.FAILED: 300}
    assert upkeep.retry_failures(engine, "churn") == 0
    assert upkeep.retry_failures(engine, "churn", everything=True) == 300


def test_a_row_that_a_session_holds_is_stepped_over(
    rows: psycopg.Connection, engine: Engine, connect: Connect
) -> None:
    applied(engine)
    make_failed(rows, 10)
    rows.execute(DUE, [10])
    other = connect(autocommit=False)
    other.execute("SELECT FROM items WHERE id = 3 FOR UPDATE")
    assert upkeep.retry_failures(engine) == 9
    other.rollback()
    assert upkeep.retry_failures(engine) == 1


def test_the_log_keeps_its_newest_lines_and_errors_of_gone_rows_go(
    rows: psycopg.Connection, engine: Engine
) -> None:
    applied(engine)
    make_failed(rows, 10)
    for _ in range(5):
        add_items(rows, 1)
        drain(engine)
    rows.execute("DELETE FROM items WHERE id <= 4")
    rows.execute("UPDATE items SET churn_state = %s WHERE id = 5", [RowState.SKIPPED])
    assert upkeep.prune(engine, keep=2) == upkeep.Pruned(batches=3, failures=5)
    assert rows.execute("SELECT array_agg(id ORDER BY id) FROM rowscore.batch").fetchone() == ([4, 5],)
    assert upkeep.prune(engine, keep=2) == upkeep.Pruned(batches=0, failures=0)


def test_a_tick_finds_room_beside_live_leases_and_over_expired_ones(
    rows: psycopg.Connection, engine: Engine, database: Database
) -> None:
    applied(engine)
    add_items(rows, 10)
    assert (look(engine).live, look(engine).free) == (0, 2)
    leases = Leases(database, engine.materialisation(engine.prediction()), "test")
    assert isinstance(leases.acquire(RunKind.DRAIN, 5), Lease)
    assert (look(engine).live, look(engine).free) == (1, 1)
    rows.execute("UPDATE rowscore.lease SET expires_at = clock_timestamp()")
    assert (look(engine).live, look(engine).free) == (0, 2)
    rows.execute(
        "UPDATE rowscore.circuit SET open_until = clock_timestamp() + interval '40 s', reason = 'it burns'"
    )
    found = look(engine)
    assert found.free == 0
    assert found.reason in {f"the circuit is open for {seconds} s: it burns" for seconds in (39, 40)}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("task", ["tick", "drain", "retry", "prune"])
def test_a_task_fails_in_one_line(database_url: str, task: str) -> None:
    """Run in this process, without a broker."""
    app = create_app(configuration(database_url))
    app.loader.import_default_modules()
    try:
        result = app.tasks[f"rowscore.{task}"].apply(("churn",))
    finally:
        app.engine.dispose()
    assert isinstance(result.result, NotAppliedError)
    assert str(result.result) == "churn is not applied to this database; run `rowscore apply churn`"
    assert result.traceback.count("\n") < 20


def test_an_unreachable_database_is_one_line() -> None:
    app = create_app(configuration("postgresql://someone:secret@127.0.0.1:1/nowhere"))
    app.loader.import_default_modules()
    result = app.tasks["rowscore.drain"].apply(("churn",))
    app.engine.dispose()
    assert type(result.result).__name__ == "ConnectionFailedError"
    assert "\n" not in str(result.result)
    assert "secret" not in result.traceback
