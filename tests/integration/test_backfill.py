"""Backfills: nobody pays before somebody asks, every old row is scored once, and nothing that stops one loses a row."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, ago, own
from tests.support.deadlines import eventually
from tests.support.predictions import (
    Barrier,
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
from worker import backfill, errors
from worker.backfill import BackfillRun
from worker.drain import Summary
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.models.protocol import Batch
from worker.states import RowState, RunKind

CONFORMANCE = True
PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value
SKIPPED, EXISTING = RowState.SKIPPED.value, RowState.EXISTING.value
WAYS = ["update", "select", "worker"]


def model(way: str) -> dict[str, str]:
    """The model section for one of the three ways that an answer takes."""
    return {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}


def expire(connection: Session) -> None:
    """The leases that are out may be taken over."""
    connection.execute(f"UPDATE {own(connection, 'lease')} SET expires_at = {ago(connection, 1)}")


def rest(connection: Session) -> None:
    """The model may be called again."""
    connection.execute(f"UPDATE {own(connection, 'circuit')} SET open_until = {ago(connection, 0)}")


def double_of(way: str) -> Any:
    """The model in this process, where the worker calls it."""
    return add_up if way == "worker" else None


def work(
    engine: Engine, run: BackfillRun | None = None, waits: Callable[[str], None] | None = None
) -> Summary:
    """Begin, or go on, and work until it ends."""
    run = run or backfill.begin(engine)
    return backfill.work(engine, None, run, lambda *_: None, waits or (lambda _: None))


def status(connection: Session) -> list[Any]:
    """Status, total and counts of each backfill."""
    return connection.execute(
        f"SELECT status, rows_total, rows_scored, rows_failed, rows_skipped FROM {own(connection, 'run')} "
        f"WHERE kind = 'backfill' ORDER BY id"
    ).fetchall()


def right(connection: Session) -> int:
    """Scored rows whose prediction is a + b."""
    row = connection.execute(
        f"SELECT count(*) FROM items WHERE p = a + b AND churn_state = {SCORED}"
    ).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.parametrize("way", WAYS)
def test_old_rows_wait_for_an_explicit_backfill_and_are_scored_once(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application, 200)
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=30), double_of(way)
    ) as engine:
        applied(engine)
        assert drain(engine).scored == 0
        add_items(application, 10)
        assert drain(engine).scored == 10
        assert states(application) == {EXISTING: 200, SCORED: 10}
        run = backfill.begin(engine)
        assert (run.total, run.resumed, run.done) == (200, False, 0)
        summary = work(engine, run)
        assert (summary.scored, summary.failed, summary.lost, summary.empty) == (200, 0, 0, True)
        assert backfill.read(engine, None, run).done == 200
        assert status(application) == [("finished", 200, 200, 0, 0)]
        if way != "worker":
            assert calls(application) == 210
        assert work(engine).scored == 0
    if way != "worker":
        assert calls(application) == 0
    assert right(application) == 210
    assert status(application)[1] == ("finished", 0, 0, 0, 0)


def test_a_backfill_of_an_empty_table_ends_at_once(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        run = backfill.begin(engine)
        add_items(application, 5)
        assert work(engine, run).scored == 0
    assert states(application) == {PENDING: 5}
    assert status(application) == [("finished", 0, 0, 0, 0)]


@pytest.mark.parametrize("seed", range(3))
def test_a_process_that_is_interrupted_again_and_again_loses_no_row_and_pays_for_one_batch(
    database_url: str, connect: Connect, seed: int
) -> None:
    application = connect()
    make_items(application, 100)
    chance = random.Random(seed)
    paid: dict[float, int] = {}
    deaths = 0

    def deadly(batch: Batch) -> list[tuple[float]]:
        nonlocal deaths
        for row in batch.rows:
            paid[row[0]] = paid.get(row[0], 0) + 1
        if deaths < 8 and chance.random() < 0.6:
            deaths += 1
            raise KeyboardInterrupt
        return add_up(batch)

    config = configuration(database_url, model=model("worker"), max_rows_per_claim=9)
    total = 0
    resumed = []
    while True:
        with opened(config, deadly) as engine:
            if not resumed:
                applied(engine)
            run = backfill.begin(engine)
            resumed.append(run.resumed)
            try:
                total += work(engine, run).scored
            except KeyboardInterrupt:
                expire(application)
                continue
            break
    assert right(application) == 100
    assert sum(paid.values()) <= 100 + 9 * deaths
    assert resumed == [False] + [True] * deaths
    assert status(application) == [("finished", 100, 100, 0, 0)]


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_come_and_go_meanwhile(database_url: str, connect: Connect, way: str) -> None:
    """New rows are the drain's; deleted ones are nobody's; changed ones are scored with what they say now."""
    application = connect()
    make_items(application, 100)
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=10), double_of(way)
    ) as engine:
        applied(engine)
        batches = 0

        def meddle(*_: Any) -> None:
            nonlocal batches
            batches += 1
            if batches == 2:
                add_items(application, 20)
                application.execute("DELETE FROM items WHERE id IN (1, 55, 100)")
                application.execute("UPDATE items SET a = 1000 WHERE id IN (5, 56)")  # behind and ahead
                application.execute("UPDATE items SET id = id + 1000 WHERE id = 60")

        run = backfill.begin(engine)
        backfill.work(engine, None, run, meddle, lambda _: None)
        assert drain(engine).scored == 22
        assert states(application) in ({SCORED: 116, EXISTING: 1}, {SCORED: 117})
        work(engine)  # the row that took a key beyond the last is found by the next one
    assert states(application) == {SCORED: 117}
    assert right(application) == 117


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_the_application_holds_are_found_by_the_last_walk(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application, 50)
    holder = connect(autocommit=False)
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=10), double_of(way)
    ) as engine:
        applied(engine)
        holder.execute("SELECT id FROM items WHERE id IN (3, 33) FOR UPDATE")
        walked = 0

        def release(summary: Summary, _: Any) -> None:
            nonlocal walked
            walked += 1
            if summary.scored == 48:
                holder.rollback()

        run = backfill.begin(engine)
        summary = backfill.work(engine, None, run, release, lambda _: None)
        assert (summary.scored, summary.empty) == (50, True)
    assert right(application) == 50
    if way != "worker":
        assert calls(application) == 50, "rows that are held are not paid for"


@pytest.mark.parametrize("way", ["select"])  # the way that locks nothing while it calls the model
def test_a_row_that_stays_held_ends_the_work_without_paying_again_and_again(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application, 50)
    holder = connect(autocommit=False)
    waits: list[str] = []
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=10), double_of(way)
    ) as engine:
        applied(engine)
        holder.execute("SELECT id FROM items WHERE id = 3 FOR UPDATE")
        summary = work(engine, waits=waits.append)
        assert summary.scored == 49
        assert "other sessions hold the rows that are left" in summary.ended
        assert waits
        holder.rollback()
        assert work(engine).scored == 1
    if way != "worker":
        assert calls(application) == 50
    assert status(application) == [("finished", 50, 50, 0, 0)]


def test_two_at_once_share_one_run(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 2000)
    config = configuration(database_url, max_rows_per_claim=50, workers=2)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one)
        runs = [
            started.result() for started in [pool.submit(backfill.begin, engine) for engine in (one, two)]
        ]
        assert runs[0].id == runs[1].id
        working = [pool.submit(work, engine, run) for engine, run in zip((one, two), runs, strict=True)]
        summaries = [running.result(60) for running in working]
    assert sum(summary.scored for summary in summaries) == 2000
    assert calls(application) == 2000
    assert right(application) == 2000
    assert status(application) == [("finished", 2000, 2000, 0, 0)]


@pytest.mark.parametrize("way", WAYS)
def test_where_and_poison_rows(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application, 100)
    fail_at(application, 7, 77)

    def poisoned(batch: Batch) -> list[tuple[float]]:
        if any(row[0] in (7, 77) for row in batch.rows):
            raise errors.RowFaultError("a = 7 or 77 is poison")
        return add_up(batch)

    config = configuration(database_url, model=model(way), where="id % 10 <> 0", max_rows_per_claim=40)
    with opened(config, poisoned if way == "worker" else None) as engine:
        applied(engine)
        summary = work(engine)
        assert (summary.scored, summary.failed, summary.skipped) == (88, 2, 10)
    assert states(application) == {SCORED: 88, FAILED: 2, SKIPPED: 10}
    assert status(application) == [("finished", 100, 88, 2, 10)]


def test_a_model_that_is_down_in_the_middle_and_comes_back(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 60)
    waits: list[str] = []
    answered = 0

    def flaky(batch: Batch) -> list[tuple[float]]:
        nonlocal answered
        if answered == 2 and not waits:
            raise errors.ServiceTimeoutError("the service does not answer")
        answered += 1
        return add_up(batch)

    def back_again(reason: str) -> None:
        waits.append(reason)
        rest(application)

    config = configuration(database_url, model=model("worker"), max_rows_per_claim=10, max_rows_per_batch=10)
    with opened(config, flaky) as engine:
        applied(engine)
        summary = work(engine, waits=back_again)
    assert (summary.scored, summary.failed, summary.empty) == (60, 0, True)
    assert waits == ["the service does not answer"]


def test_a_model_that_refuses_for_good_ends_the_work_and_the_run_can_be_resumed(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application, 30)

    def refuse(_batch: Batch) -> list[tuple[float]]:
        raise errors.ServiceRefusedError("401 the key is not valid")

    config = configuration(database_url, model=model("worker"))
    with opened(config, refuse) as engine:
        applied(engine)
        with pytest.raises(RowscoreError, match="401 the key is not valid"):
            work(engine)
    assert states(application) == {EXISTING: 30}
    rest(application)
    with opened(config, add_up) as engine:
        run = backfill.begin(engine)
        assert run.resumed
        assert work(engine, run).scored == 30


def test_a_drain_and_a_backfill_at_once_stay_with_their_own_rows(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 300)
    config = configuration(database_url, max_rows_per_claim=20)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one)
        run = backfill.begin(one)
        add_items(application, 300)
        old, new = pool.submit(work, one, run), pool.submit(drain, two)
        assert (old.result().scored, new.result().scored) == (300, 300)
    assert calls(application) == 600
    assert right(application) == 600


def test_a_new_definition_cancels_the_backfill_that_was_agreed_to(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application, 50)
    barrier = Barrier()
    old = configuration(database_url, model=model("worker"), max_rows_per_claim=10)
    new = configuration(database_url, model=model("worker"), max_rows_per_claim=10, where="a > 25")
    with opened(old, barrier) as one, opened(new, add_up) as two, ThreadPoolExecutor(1) as pool:
        applied(one)
        running = pool.submit(work, one)
        assert barrier.entered.wait(30)
        applied(two)
        barrier.released.set()
        with pytest.raises(errors.StaleDefinitionError):
            running.result()
        assert states(application) == {EXISTING: 50}, "the old answers are void"
        summary = work(two)
        assert (summary.scored, summary.skipped) == (25, 25)
    assert [row[0] for row in status(application)] == ["cancelled", "finished"]


def test_a_window_whose_worker_died_does_not_end_the_backfill(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 40)
    barrier = Barrier()
    config = configuration(database_url, model=model("worker"), max_rows_per_claim=10, workers=4)
    waits: list[str] = []

    def give_up(reason: str) -> None:
        waits.append(reason)
        expire(application)

    with opened(config, barrier) as one, opened(config, add_up) as two, ThreadPoolExecutor(1) as pool:
        applied(one)
        running = pool.submit(work, one)
        assert barrier.entered.wait(30)
        leased = f"SELECT count(*) FROM {own(application, 'lease')}"
        eventually(lambda: application.execute(leased).fetchone() == (2,), "one window is read ahead")
        run = backfill.begin(two)
        summary = work(two, run, waits=give_up)
        assert (summary.scored, summary.empty) == (40, True)
        assert waits
        barrier.released.set()
        assert running.result().scored == 0
    assert right(application) == 40
    assert RunKind.BACKFILL.claims is RowState.EXISTING
