"""A worker is killed at each boundary of its SQL statements: no row is lost, one batch at most is paid for again.

A child process really runs a drain or a backfill and sends itself SIGKILL before, or right after, its n-th statement,
whatever cursor runs it. Then another worker finishes. Before the n-th statement may be after a commit, right after it
before one: together they are all the boundaries there are.
"""

from __future__ import annotations

import signal
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.deadlines import eventually
from tests.support.dying import BATCH, POISON, child, model_of, options, run
from tests.support.predictions import add_items, applied, calls, configuration, make_items, opened, states
from worker.engine import Engine
from worker.states import RowState

ROWS = 6
WAYS = ["update", "select", "worker"]
SCORED, FAILED = RowState.SCORED.value, RowState.FAILED.value
EXPIRE = "UPDATE rowscore.lease SET expires_at = clock_timestamp() - interval '1 s'"
OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def fill(application: psycopg.Connection[Any], kind: str) -> None:
    """Six rows for the drain or for the backfill; the last is poison, and calls and pauses begin anew."""
    application.execute("DELETE FROM items")
    application.execute("DELETE FROM rowscore.failure")
    application.execute("UPDATE rowscore.circuit SET failures = 0, open_until = NULL")
    application.execute("UPDATE rowscore.run SET wrapped_at = NULL")
    add_items(application, ROWS)
    application.execute("UPDATE items SET a = %s WHERE id = (SELECT max(id) FROM items)", [POISON])
    application.execute("UPDATE items SET b = 0 WHERE a = 2")
    if kind == "backfill":
        application.execute(f"UPDATE items SET churn_state = {RowState.EXISTING.value}")
    calls(application)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("way", "kind"), [*((way, "drain") for way in WAYS), ("worker", "backfill")])
def test_death_at_each_statement(
    database_url: str, connect: Connect, way: str, kind: str, moment: str
) -> None:
    application = connect()
    make_items(application)
    application.execute(
        f"""CREATE OR REPLACE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
        PERFORM nextval('calls'); IF a = {POISON} THEN RAISE 'poison'; END IF; RETURN a + b; END $$"""
    )
    with opened(configuration(database_url, **options(way)), model_of(way, database_url)) as engine:
        applied(engine)
        fill(application, kind)
        code, statements = child(database_url, way, kind, 0, moment)
        assert code == 0
        usual = calls(application)
        check(application)
        step = 7  # one in seven, others for each way and moment
        first = 15 + 2 * WAYS.index(way) + 3 * (moment == "after")  # before that a table is only looked up
        deaths = 0
        for fatal in range(first, statements, step):
            fill(application, kind)
            code, _ = child(database_url, way, kind, fatal, moment)
            deaths += code == -signal.SIGKILL
            eventually(
                lambda: application.execute(OTHERS).fetchone()[0] <= idle(engine), "its sessions have ended"
            )
            application.execute(EXPIRE)
            run(engine, kind)
            check(application, f"{moment} statement {fatal}")
            assert calls(application) <= usual + 2 * BATCH, f"{moment} statement {fatal}"
        assert deaths >= 0.8 * ((statements - first) // step), "the children did die"


def idle(engine: Engine) -> int:
    """Connections of this process's own pool."""
    return int(engine.database(engine.prediction()).engine.pool.checkedin())  # type: ignore[attr-defined]


def check(application: psycopg.Connection[Any], when: str = "") -> None:
    """Four rows scored rightly, one skipped, one failed, nothing left behind."""
    assert states(application) == {SCORED: 4, RowState.SKIPPED.value: 1, FAILED: 1}, when
    right = application.execute(f"SELECT count(*) FROM items WHERE churn_state = {SCORED} AND p = a + b")
    assert right.fetchone() == (4,), when
    failures = application.execute(
        "SELECT count(*), max(attempts), max(message) FROM rowscore.failure"
    ).fetchone()
    assert failures is not None
    assert failures[:2] == (1, 1), when
    assert "poison" in failures[2], when
    assert application.execute("SELECT count(*) FROM rowscore.lease").fetchone() == (0,), when
    running = "SELECT count(*) FROM rowscore.run WHERE kind = 'backfill' AND status = 'running'"
    assert application.execute(running).fetchone() == (0,), when
