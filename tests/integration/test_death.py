"""A worker is killed at each boundary of its SQL statements: no row is lost, one batch at most is paid for again.

A child process really runs a drain, a backfill or a rescore and sends itself SIGKILL before, or right after, its n-th
statement, whatever cursor runs it. Then another worker finishes. Before the n-th statement may be after a commit, right
after it before one: together they are all the boundaries there are.
"""

from __future__ import annotations

import signal

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, ago, is_postgresql, one, own
from tests.support.deadlines import eventually
from tests.support.dying import BATCH, POISON, child, model_of, options, run
from tests.support.predictions import add_items, applied, calls, configuration, make_items, opened, states
from tests.support.routines import add_function, refuse
from worker.engine import Engine
from worker.states import RowState

CONFORMANCE = True
ROWS = 6
WAYS = ["update", "select", "worker"]
KINDS = [*((way, "drain") for way in WAYS), ("worker", "backfill"), ("worker", "rescore")]
SCORED, FAILED = RowState.SCORED.value, RowState.FAILED.value


def others(application: Session) -> int:
    """Sessions on the database besides this one."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        if is_postgresql(application)
        else "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    return int(one(application, query))


def fill(application: Session, kind: str) -> None:
    """Six rows for the drain, the backfill or the rescore; the last is poison, and calls and pauses begin anew."""
    application.execute("DELETE FROM items")
    application.execute(f"DELETE FROM {own(application, 'failure')}")
    application.execute(f"UPDATE {own(application, 'circuit')} SET failures = 0, open_until = NULL")
    application.execute(f"UPDATE {own(application, 'run')} SET wrapped_at = NULL")
    add_items(application, ROWS)
    last = one(application, "SELECT max(id) FROM items")
    application.execute("UPDATE items SET a = %s WHERE id = %s", [POISON, last])
    application.execute("UPDATE items SET b = 0 WHERE a = 2")
    if kind == "backfill":
        application.execute(f"UPDATE items SET churn_state = {RowState.EXISTING.value}")
    elif kind == "rescore":
        old = ago(application, 2 * 86400)
        application.execute(f"UPDATE items SET churn_state = {SCORED}, p = -1, churn_scored_at = {old}")
    calls(application)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("way", "kind"), KINDS)
def test_death_at_each_statement(
    database_url: str, connect: Connect, way: str, kind: str, moment: str
) -> None:
    application = connect()
    make_items(application)
    body = refuse(application, f"a = {POISON}", "poison")
    add_function(application, "predict", "a double precision, b int", "a + b", calls=True, before=body)
    with opened(configuration(database_url, **options(way)), model_of(way, database_url)) as engine:
        applied(engine)
        fill(application, kind)
        code, statements = child(database_url, way, kind, 0, moment)
        assert code == 0
        usual = calls(application)
        check(application)
        step = 11 if is_postgresql(application) else 19  # one in so many, others for each way and moment
        first = 15 + 2 * WAYS.index(way) + 3 * (moment == "after")  # before that a table is only looked up
        deaths = 0
        for fatal in range(first, statements, step):
            fill(application, kind)
            code, _ = child(database_url, way, kind, fatal, moment)
            deaths += code == -signal.SIGKILL
            eventually(lambda: others(application) <= idle(engine), "its sessions have ended")
            application.execute(f"UPDATE {own(application, 'lease')} SET expires_at = {ago(application, 1)}")
            run(engine, kind)
            check(application, f"{moment} statement {fatal}")
            assert calls(application) <= usual + 2 * BATCH, f"{moment} statement {fatal}"
        assert deaths >= 0.8 * ((statements - first) // step), "the children did die"


def idle(engine: Engine) -> int:
    """Connections of this process's own pool."""
    return int(engine.database(engine.prediction()).engine.pool.checkedin())  # type: ignore[attr-defined]


def check(application: Session, when: str = "") -> None:
    """Four rows scored rightly, one skipped, one failed, nothing left behind."""
    assert states(application) == {SCORED: 4, RowState.SKIPPED.value: 1, FAILED: 1}, when
    right = application.execute(f"SELECT count(*) FROM items WHERE churn_state = {SCORED} AND p = a + b")
    assert right.fetchone() == (4,), when
    failures = application.execute(
        f"SELECT count(*), max(attempts), max(message) FROM {own(application, 'failure')}"
    ).fetchone()
    assert failures is not None
    assert failures[:2] == (1, 1), when
    assert "poison" in failures[2], when
    assert one(application, f"SELECT count(*) FROM {own(application, 'lease')}") == 0, when
    running = f"SELECT count(*) FROM {own(application, 'run')} WHERE kind <> 'drain' AND status = 'running'"
    assert one(application, running) == 0, when
