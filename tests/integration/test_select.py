"""`mode = "select"`: the function runs in statements that lock nothing; what they answered is kept, whatever fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.applied import one
from tests.support.deadlines import eventually
from tests.support.predictions import (
    add_items,
    applied,
    calls,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker.config import Configuration
from worker.leases import Lease, Leases
from worker.states import RowState

PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value


def configured(url: str, **overrides: Any) -> Configuration:
    return configuration(url, model={"sql": "predict", "mode": "select"}, **overrides)


def redefine(connection: psycopg.Connection[Any], body: str) -> None:
    """predict(a, b) does this before it counts its call and answers; it may wait for a lock as long as it likes."""
    connection.execute(
        f"""CREATE OR REPLACE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE plpgsql SET lock_timeout = 0 AS
        $$ BEGIN {body} PERFORM nextval('calls'); RETURN a + b; END $$"""
    )


DOWN = "IF a > 6 THEN RAISE 'the endpoint is gone' USING ERRCODE = '53000'; END IF;"
POISON = "IF a = 2 THEN RAISE 'nobody can score this'; END IF;"


@pytest.mark.parametrize(
    ("body", "held", "expected"),
    [
        pytest.param(DOWN, 5, {SCORED: 4, PENDING: 6}, id="between two stretches"),
        pytest.param(POISON + DOWN, None, {SCORED: 4, FAILED: 1, PENDING: 5}, id="during a bisection"),
    ],
)
def test_a_fault_of_the_service_keeps_the_answers_that_were_paid_for_before(
    database_url: str, connect: Connect, body: str, held: int | None, expected: dict[int, int]
) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    redefine(application, body)
    with opened(configured(database_url)) as engine:
        applied(engine)
        add_items(application, 10)
        holder.execute("SELECT FROM items WHERE id = %s FOR UPDATE", [held])  # none where that is NULL
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (expected[SCORED], expected.get(FAILED, 0))
        assert "the endpoint is gone" in (summary.fault or "")
        assert states(application) == expected
        circuit = application.execute("SELECT failures, failure_class FROM rowscore.circuit").fetchall()
        assert circuit == [(1, "service-temporary")]
        holder.rollback()
        redefine(application, POISON if FAILED in expected else "")
        application.execute("UPDATE rowscore.circuit SET open_until = NULL")
        calls(application)
        assert drain(engine).scored == expected[PENDING], "the window was handed back at once"
        assert calls(application) == expected[PENDING]


WAIT = "PERFORM pg_advisory_xact_lock(1);"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


def test_a_worker_that_is_told_to_stop_hands_the_rest_of_the_window_back(
    database_url: str, connect: Connect
) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    redefine(application, WAIT)
    with opened(configured(database_url)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 10)
        holder.execute("SELECT FROM items WHERE id = 5 FOR UPDATE")
        application.execute("SELECT pg_advisory_lock(1)")
        running = pool.submit(drain, engine)
        eventually(lambda: one(application, WAITING), "the function of the first stretch")
        engine.stop.set()
        application.execute("SELECT pg_advisory_unlock(1)")
        assert running.result().scored == 4
        assert states(application) == {SCORED: 4, PENDING: 6}
        assert one(application, "SELECT expires_at = '-infinity' FROM rowscore.lease") is True


def test_the_lease_is_renewed_while_a_statement_runs(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, renew = threading.Event(), Leases.renew

    def noted(leases: Leases, lease: Lease) -> None:
        renew(leases, lease)
        renewed.set()

    monkeypatch.setattr(Leases, "renew", noted)
    application = connect()
    make_items(application)
    redefine(application, WAIT)
    with opened(configured(database_url, lease_time="3s")) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 10)
        application.execute("SELECT pg_advisory_lock(1)")
        running = pool.submit(drain, engine)
        in_time = renewed.wait(10)
        application.execute("SELECT pg_advisory_unlock(1)")
        assert running.result().scored == 10
        assert in_time
