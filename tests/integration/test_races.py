"""Races between rowscore and the application, each with real connections and ordered by events."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Connect
from tests.support.databases import only, own, waiting_sessions
from tests.support.deadlines import eventually
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    in_the_model,
    make_items,
    opened,
    series,
    states,
)
from tests.support.routines import Gate, add_function
from worker.errors import StaleDefinitionError
from worker.leases import Lease, Leases
from worker.models.protocol import Batch
from worker.states import RowState

PYTHON = {"model": {"python": "tests.support.predictions:add_up"}}
CONFORMANCE = True
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value


@pytest.mark.parametrize("mode", ["update", "select"])
def test_rows_that_a_session_holds_are_stepped_over_and_not_paid_for(
    database_url: str, connect: Connect, mode: str
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, model={"sql": "predict", "mode": mode})) as engine:
        applied(engine)
        add_items(application, 100)
        holder = connect(autocommit=False)
        holder.execute("SELECT id FROM items WHERE id BETWEEN 11 AND 20 FOR UPDATE")
        summary = drain(engine)
        assert calls(application) == 90
        assert summary.scored == 90
        assert states(application) == {PENDING: 10, SCORED: 90}
        holder.rollback()
        calls(application)
        assert drain(engine).scored == 10
        assert calls(application) == 10
        assert states(application) == {SCORED: 100}


def test_the_worker_side_model_is_not_called_for_rows_that_a_session_holds(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **PYTHON), add_up) as engine:
        applied(engine)
        add_items(application, 100)
        holder = connect(autocommit=False)
        holder.execute("UPDATE items SET note = 'held' WHERE id <= 30")
        summary = drain(engine)
        assert (summary.scored, summary.call_rows) == (70, 70)
        holder.commit()
        summary = drain(engine)
        assert (summary.scored, summary.call_rows) == (30, 30)


def test_an_update_of_the_inputs_between_read_and_write_leaves_the_row_pending(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    with opened(configuration(database_url, **PYTHON), model) as engine:
        applied(engine)
        add_items(application, 10)
        with in_the_model(engine, model, seconds=0.001) as running:
            application.execute("UPDATE items SET a = 1000 WHERE id = 3")
        summary = running.result()
        assert (summary.scored, summary.lost) == (9, 1)
        assert application.execute("SELECT p, churn_state FROM items WHERE id = 3").fetchone() == (
            None,
            PENDING,
        )
        drain(engine)
        assert application.execute("SELECT p, churn_state FROM items WHERE id = 3").fetchone() == (
            1010.0,
            SCORED,
        )


def test_an_update_of_the_inputs_that_bypasses_the_trigger_is_caught_by_the_fingerprint(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    config = configuration(database_url, **PYTHON, on_input_change="ignore")
    with opened(config, model) as engine:
        applied(engine)
        add_items(application, 5)
        with in_the_model(engine, model, seconds=0.001) as running:
            application.execute("UPDATE items SET b = 11 WHERE id = 5")
            application.execute("UPDATE items SET note = 'not an input' WHERE id = 4")
        assert running.result().scored == 4
        assert application.execute("SELECT p FROM items WHERE id = 5").fetchone() == (None,)


def test_a_row_deleted_meanwhile_stays_deleted(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    with opened(configuration(database_url, **PYTHON), model) as engine:
        applied(engine)
        add_items(application, 5)
        with in_the_model(engine, model) as running:
            application.execute("DELETE FROM items WHERE id = 2")
        summary = running.result()
        assert (summary.scored, summary.lost) == (4, 1)
        assert application.execute("SELECT count(*) FROM items").fetchone() == (4,)


def test_a_row_inserted_into_a_live_window_is_scored_on_a_later_pass(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    with opened(configuration(database_url, **PYTHON), model) as engine:
        applied(engine)
        application.execute(
            f"INSERT INTO items (id, a, b) SELECT 2 * i, 2 * i, 0 FROM {series(application, 1, 10)}"
        )
        late = connect(autocommit=False)
        late.execute("INSERT INTO items (id, a, b) VALUES (7, 7, 0)")
        with in_the_model(engine, model) as running:
            application.execute("INSERT INTO items (id, a, b) VALUES (5, 5, 0)")
        assert running.result().scored == 11, "the same drain finds it when it wraps"
        late.commit()
        assert drain(engine).scored == 1, "a low key that committed late is found on the next pass"
        assert states(application) == {SCORED: 12}


def test_a_write_steps_over_a_row_that_the_application_holds_and_keeps_the_answers(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    with opened(configuration(database_url, **PYTHON), model) as engine:
        applied(engine)
        add_items(application, 50)
        with in_the_model(engine, model, seconds=0.001) as running:
            holder = connect(autocommit=False)
            holder.execute("SELECT id FROM items WHERE id = 25 FOR UPDATE")
            waiter = connect()
        summary = running.result()
        assert (summary.scored, summary.lost) == (49, 1)
        assert waiting_sessions(waiter) == 0
        holder.rollback()
        assert drain(engine).scored == 1


def test_two_drains_at_once_score_each_row_once(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, max_rows_per_claim=100, workers=2)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one)
        add_items(application, 3000)
        first, second = pool.submit(drain, one), pool.submit(drain, two)
        assert first.result().scored + second.result().scored == 3000
        drain(one)
        assert calls(application) == 3000
        assert states(application) == {SCORED: 3000}
        assert application.execute("SELECT count(*) FROM items WHERE p <> a + b").fetchone() == (0,)


def test_the_window_of_a_dead_worker_is_taken_over_and_its_late_answer_is_still_right(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    frozen = Barrier()
    config = configuration(database_url, **PYTHON)
    with opened(config, frozen) as one, opened(config, add_up) as two:
        applied(one)
        add_items(application, 40)
        with in_the_model(one, frozen, seconds=0.001) as running:
            assert drain(two).scored == 0, "the lease holds"
            application.execute(f"UPDATE {own(application, 'lease')} SET expires_at = '2020-01-01'")
            application.execute("UPDATE items SET a = -1 WHERE id = 40")
            assert drain(two).scored == 40, "taken over"
            application.execute("UPDATE items SET churn_state = 0, p = NULL WHERE id IN (1, 40)")
        summary = running.result()
        assert (summary.scored, summary.lost) == (1, 39), "written only where it is still right"
        rows = application.execute("SELECT id, p FROM items WHERE id IN (1, 40) ORDER BY id").fetchall()
        assert rows == [(1, 11.0), (40, None)]


class Slow(Barrier):
    """A model whose first call outlasts its worker's lease: it has to be renewed three times, a third of it each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.rows: list[float] = []
        self.outlasted = False
        renewals, renew = threading.Semaphore(0), Leases.renew

        def counted(leases: Leases, lease: Lease) -> None:
            renew(leases, lease)
            renewals.release()

        monkeypatch.setattr(Leases, "renew", counted)
        self._renewals = renewals

    def __call__(self, batch: Batch) -> list[tuple[float]]:
        """Wait for the renewals, then for the test."""
        self.rows += [row[0] for row in batch.rows]
        if not self.entered.is_set():
            self.outlasted = all(self._renewals.acquire(timeout=10) for _ in range(3))
            super().__call__(batch)
        return add_up(batch)


def test_a_call_that_outlasts_the_lease_is_paid_for_once(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = connect()
    make_items(application)
    model = Slow(monkeypatch)
    config = configuration(database_url, **PYTHON, lease_time="2s")
    with opened(config, model) as one, opened(config, add_up) as two:
        applied(one)
        add_items(application, 10)
        with in_the_model(one, model) as running:
            summary = drain(two)
        assert running.result().scored == 10
        assert summary.calls == 0, "nobody else pays for the rows"
        assert model.outlasted
    assert application.execute(f"SELECT count(*) FROM {own(application, 'failure')}").fetchone() == (0,)


def test_a_window_taken_in_advance_that_lapses_during_a_long_call_is_paid_for_once(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = connect()
    make_items(application)
    model = Slow(monkeypatch)
    config = configuration(database_url, **PYTHON, lease_time="2s", max_rows_per_claim=50)
    with opened(config, model) as one, opened(config, add_up) as two:
        applied(one)
        add_items(application, 100)
        with in_the_model(one, model) as running:
            assert eventually(lambda: drain(two).scored, "a take-over") == 50
        assert running.result().scored == 50
    assert sorted(model.rows) == [float(a) for a in range(1, 51)]
    assert states(application) == {SCORED: 100}


def test_a_frozen_worker_that_wakes_after_a_new_model_version_writes_nothing(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    old = configuration(database_url, **PYTHON, version={"column": "model", "value": "1"})
    new = configuration(database_url, **PYTHON, version={"column": "model", "value": "2"})
    frozen = Barrier()
    with opened(old, frozen) as one, opened(new, add_up) as two:
        applied(one)
        add_items(application, 30)
        with in_the_model(one, frozen, seconds=60) as running:
            applied(two)
        summary = running.result()
        assert (summary.scored, summary.ended) == (0, "a newer generation of the prediction began")
        with pytest.raises(StaleDefinitionError, match="model version '1'"):
            drain(one)
        assert states(application) == {PENDING: 30}
        assert drain(two).scored == 30
        assert application.execute("SELECT DISTINCT model FROM items").fetchall() == [("2",)]


@only("postgresql")
def test_child_rows_can_be_inserted_while_a_batch_is_being_written(
    database_url: str, connect: Connect
) -> None:
    """InnoDB has one kind of row lock: there a child waits for the statement that writes its parent."""
    application = connect()
    make_items(application)
    application.execute("CREATE TABLE children (item bigint REFERENCES items)")
    gate = Gate(connect())
    add_function(application, "predict", "a float8, b int", "a + b", calls=True, before=gate.passage)
    child = connect()
    child.execute("SET lock_timeout = '5s'")
    with opened(configuration(database_url)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 10)
        running = pool.submit(drain, engine)
        eventually(gate.waiting, "the function")
        child.execute("INSERT INTO children SELECT id FROM items")
        gate.open()
        assert running.result().scored == 10


def test_leases_that_are_out_are_never_more_than_workers(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    config = configuration(database_url, **PYTHON, workers=1)
    with opened(config, model) as one, opened(config, add_up) as two:
        applied(one)
        add_items(application, 10)
        with in_the_model(one, model) as running:
            summary = drain(two)
            assert summary.scored == 0
            assert "which is all that may" in summary.ended
        assert running.result().scored == 10


def test_stop_hands_the_window_back(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, **PYTHON, max_rows_per_batch=10, concurrency=1)
    reached = threading.Event()
    with opened(config) as engine:

        def stopping(batch: object) -> list[tuple[float]]:
            reached.set()
            engine.stop.set()
            return add_up(batch)  # type: ignore[arg-type]

        engine._models.clear()
        with opened(config, stopping) as one:
            one.stop = engine.stop
            applied(one)
            add_items(application, 30)
            summary = drain(one)
        assert reached.is_set()
        assert summary.scored == 10, "what was paid for is written"
        out = f"SELECT count(*) FROM {own(application, 'lease')} WHERE expires_at > now()"
        assert application.execute(out).fetchone() == (0,)
    with opened(config, add_up) as engine:
        assert drain(engine).scored == 20
