"""`mode = "select"`: the function runs in statements that lock nothing; what they answered is kept, whatever fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, ago, one, own
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
from tests.support.routines import Gate, add_function, refuse
from worker.config import Configuration
from worker.leases import Lease, Leases
from worker.states import RowState

CONFORMANCE = True
PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value


def configured(url: str, **overrides: Any) -> Configuration:
    return configuration(url, model={"sql": "predict", "mode": "select"}, **overrides)


def redefine(connection: Session, body: str) -> None:
    """predict(a, b) counts its call, does this, and answers; it may wait for as long as it likes."""
    add_function(connection, "predict", "a double precision, b int", "a + b", calls=True, before=body)


SERVICE_GONE = "a > 6", "the endpoint is gone", "53000"
POISON = "a = 2", "nobody can score this", None


@pytest.mark.parametrize(
    ("ways", "held", "expected"),
    [
        pytest.param([SERVICE_GONE], 5, {SCORED: 4, PENDING: 6}, id="between two stretches"),
        pytest.param([POISON, SERVICE_GONE], -1, {SCORED: 4, FAILED: 1, PENDING: 5}, id="during a bisection"),
    ],
)
def test_a_fault_of_the_service_keeps_the_answers_that_were_paid_for_before(
    database_url: str, connect: Connect, ways: list[Any], held: int, expected: dict[int, int]
) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    redefine(application, " ".join(refuse(application, *way) for way in ways))
    with opened(configured(database_url)) as engine:
        applied(engine)
        add_items(application, 10)
        holder.execute("SELECT id FROM items WHERE id = %s FOR UPDATE", [held])
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (expected[SCORED], expected.get(FAILED, 0))
        assert "the endpoint is gone" in (summary.fault or "")
        assert states(application) == expected
        circuit = own(application, "circuit")
        faults = application.execute(f"SELECT failures, failure_class FROM {circuit}").fetchall()
        assert faults == [(1, "service-temporary")]
        holder.rollback()
        redefine(application, refuse(application, *POISON) if FAILED in expected else "")
        application.execute(f"UPDATE {circuit} SET open_until = NULL")
        calls(application)
        assert drain(engine).scored == expected[PENDING], "the window was handed back at once"
        assert calls(application) == expected[PENDING]


def test_a_worker_that_is_told_to_stop_hands_the_rest_of_the_window_back(
    database_url: str, connect: Connect
) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    gate = Gate(connect())
    redefine(application, gate.passage)
    with opened(configured(database_url)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 10)
        holder.execute("SELECT id FROM items WHERE id = 5 FOR UPDATE")
        running = pool.submit(drain, engine)
        eventually(gate.waiting, "the function of the first stretch")
        engine.stop.set()
        gate.open()
        assert running.result().scored == 4
        assert states(application) == {SCORED: 4, PENDING: 6}
        now = ago(application, 0)
        live = f"SELECT count(*) FROM {own(application, 'lease')} WHERE expires_at > {now}"
        assert one(application, f"SELECT count(*) FROM {own(application, 'lease')}") == 1
        assert one(application, live) == 0, "whoever comes next takes it over"


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
    gate = Gate(connect())
    redefine(application, gate.passage)
    with opened(configured(database_url, lease_time="3s")) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 10)
        running = pool.submit(drain, engine)
        in_time = renewed.wait(10)
        gate.open()
        assert running.result().scored == 10
        assert in_time
