"""Rescores: after a change of version each row is scored once more, readable all along, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import Connect
from tests.integration.test_backfill import EXISTING, FAILED, PENDING, SCORED, SKIPPED, WAYS, expire, model
from tests.support.databases import Session, one, own
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from tests.support.routines import add_function, add_trigger, assign, refuse
from worker import backfill, errors
from worker.backfill import BackfillRun
from worker.config import Configuration
from worker.drain import Summary
from worker.engine import Engine
from worker.models.protocol import Batch
from worker.options import Options
from worker.states import RunKind, RunStatus

CONFORMANCE = True
RESCORE = RunKind.RESCORE
MORE = 1000  # that the second version adds to the sum of the first


def versioned(url: str, version: str, **options: Any) -> Configuration:
    """The prediction with a version, in small batches."""
    return configuration(
        url, **{"version": {"column": "model", "value": version}, "max_rows_per_claim": 30, **options}
    )


def second(batch: Batch) -> list[tuple[float]]:
    """The second version of the model."""
    return [(row[0] + row[1] + MORE,) for row in batch.rows]


def replace_function(application: Session, before: str = "") -> None:
    """The second version of the function, which counts its calls."""
    arguments = "a double precision, b int"
    add_function(application, "predict", arguments, f"a + b + {MORE}", calls=True, before=before)


def score_with_first(url: str, application: Session, rows: int, way: str) -> None:
    """The table with so many rows, all scored by version 1."""
    make_items(application)
    with opened(versioned(url, "1", model=model(way)), add_up if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, rows)
        assert drain(engine).scored == rows
    replace_function(application)
    calls(application)


@contextmanager
def at_second(
    url: str, way: str, double: Callable[[Batch], Any] = second, **options: Any
) -> Iterator[Engine]:
    """An engine of the second version, applied; `double` is its model where the worker calls it."""
    config = versioned(url, "2", model=model(way), **options)
    with opened(config, double if way == "worker" else None) as engine:
        applied(engine)
        yield engine


def work(
    engine: Engine,
    run: BackfillRun | None = None,
    progress: Callable[[], Any] = lambda: None,
    waits: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Begin, or go on, and work until it ends."""
    run = run or backfill.begin(engine, kind=RESCORE)
    return backfill.work(engine, None, run, lambda *_: progress(), waits)


def stamped(application: Session, version: str, more: int) -> int:
    """Scored rows with that version, whose prediction is that version's."""
    return int(
        one(
            application,
            f"SELECT count(*) FROM items WHERE churn_state = {SCORED} AND model = '{version}' AND p = a + b + {more}",
        )
    )


def runs(application: Session) -> list[Any]:
    """Status and counts of each rescore, oldest first."""
    return application.execute(
        f"SELECT status, rows_total, rows_scored, rows_failed, rows_skipped FROM {own(application, 'run')} "
        f"WHERE kind = 'rescore' ORDER BY id"
    ).fetchall()


# --- each row once, and readable all along ----------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_another_version_are_scored_once_more_and_no_others(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    score_with_first(database_url, application, 200, way)
    add_items(application, 10)
    for state, ids in ((FAILED, (201, 202)), (SKIPPED, (203,)), (EXISTING, (204, 205, 206))):
        application.execute(
            f"UPDATE items SET churn_state = {state} WHERE id IN ({', '.join(map(str, ids))})"
        )
    others = {FAILED: 2, SKIPPED: 1, EXISTING: 3, PENDING: 4}
    with at_second(database_url, way) as engine:
        run = backfill.begin(engine, kind=RESCORE)
        assert (run.kind, run.total, run.resumed, run.done) == (RESCORE, 200, False, 0)
        summary = work(engine, run)
        assert (summary.scored, summary.failed, summary.lost, summary.empty) == (200, 0, 0, True)
        assert states(application) == {SCORED: 200, **others}
        assert stamped(application, "2", MORE) == 200
        assert backfill.read(engine, None, run).status is RunStatus.FINISHED
        if way != "worker":
            assert calls(application) == 200
        assert work(engine).scored == 0, "there is nothing left of the old version"
        if way != "worker":
            assert calls(application) == 0
    assert runs(application) == [("finished", 200, 200, 0, 0), ("finished", 0, 0, 0, 0)]


@pytest.mark.parametrize("way", WAYS)
def test_a_reader_sees_every_row_scored_and_by_whom_after_each_batch(
    database_url: str, connect: Connect, way: str
) -> None:
    application, reader = connect(), connect()
    score_with_first(database_url, application, 120, way)
    seen: list[int] = []

    def read() -> None:
        (rows, new, right) = reader.execute(
            f"""SELECT count(*), sum(CASE WHEN model = '2' THEN 1 ELSE 0 END), sum(CASE
              WHEN model = '1' AND p = a + b THEN 1 WHEN model = '2' AND p = a + b + {MORE} THEN 1 ELSE 0 END)
            FROM items_scored WHERE prediction_state = 'scored' AND p IS NOT NULL AND churn_scored_at IS NOT NULL"""
        ).fetchone() or (0, 0, 0)
        assert (int(rows), int(right)) == (120, 120)
        seen.append(int(new))

    def watched(batch: Batch) -> list[tuple[float]]:
        read()
        return second(batch)

    with at_second(database_url, way, watched) as engine:
        read()
        assert work(engine, progress=read).scored == 120
    assert seen == sorted(seen)
    assert {0, 30, 60, 90, 120} <= set(seen)


@pytest.mark.parametrize("way", WAYS)
def test_two_workers_share_one_rescore_and_pay_once(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    score_with_first(database_url, application, 600, way)
    config = versioned(database_url, "2", model=model(way), max_rows_per_claim=20)
    paid: list[float] = []

    def counted(batch: Batch) -> list[tuple[float]]:
        paid.extend(row[0] for row in batch.rows)
        return second(batch)

    double = counted if way == "worker" else None
    with opened(config, double) as one_engine, opened(config, double) as two, ThreadPoolExecutor(2) as pool:
        applied(one_engine)
        run = backfill.begin(one_engine, kind=RESCORE)
        working = [pool.submit(work, engine, run) for engine in (one_engine, two)]
        assert sum(running.result(60).scored for running in working) == 600
    assert (len(paid) if way == "worker" else calls(application)) == 600
    assert stamped(application, "2", MORE) == 600
    assert runs(application) == [("finished", 600, 600, 0, 0)]


@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_is_interrupted_again_and_again_pays_for_one_batch_each_time(
    database_url: str, connect: Connect, seed: int
) -> None:
    application = connect()
    score_with_first(database_url, application, 100, "worker")
    paid: dict[float, int] = {}
    deaths = 0

    def deadly(batch: Batch) -> list[tuple[float]]:
        nonlocal deaths
        for row in batch.rows:
            paid[row[0]] = paid.get(row[0], 0) + 1
        if deaths < 6 and len(paid) % (seed + 2) == 0:
            deaths += 1
            raise KeyboardInterrupt
        return second(batch)

    config = versioned(database_url, "2", model=model("worker"), max_rows_per_claim=9)
    resumed, total = [], 0
    while True:
        with opened(config, deadly) as engine:
            if not resumed:
                applied(engine)
            run = backfill.begin(engine, kind=RESCORE)
            resumed.append(run.resumed)
            expire(application)
            try:
                total += work(engine, run).scored
                break
            except KeyboardInterrupt:
                continue
    assert deaths == 6
    assert resumed == [False, *[True] * 6]
    assert stamped(application, "2", MORE) == 100
    assert set(paid) == {float(number) for number in range(1, 101)}
    assert sum(paid.values()) <= 100 + 9 * deaths
    assert runs(application)[0][:3] == ("finished", 100, 100)


# --- who comes too late -----------------------------------------------------------------------------------


def frozen(pool: ThreadPoolExecutor, engine: Engine, barrier: Barrier) -> Future[Summary]:
    """A rescore in a thread of its own, inside the model."""
    running = pool.submit(work, engine)
    assert barrier.entered.wait(30)
    return running


def test_a_worker_that_was_frozen_with_the_old_versions_answers_writes_none(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    score_with_first(database_url, application, 60, "worker")
    barrier = Barrier(second)
    way = {"model": model("worker")}
    third = versioned(database_url, "3", **way)
    with (
        opened(versioned(database_url, "2", **way), barrier) as old,
        opened(third, lambda batch: [(row[0] + row[1] + 2 * MORE,) for row in batch.rows]) as new,
        ThreadPoolExecutor(1) as pool,
    ):
        applied(old)
        running = frozen(pool, old, barrier)
        applied(new)
        assert [row[0] for row in runs(application)] == ["cancelled"], "nobody agreed to pay for version 3"
        run = backfill.begin(new, kind=RESCORE)
        assert (run.resumed, run.total) == (False, 60)
        assert work(new, run).scored == 60
        barrier.released.set()
        with pytest.raises(errors.StaleDefinitionError):
            running.result(30)
    assert stamped(application, "3", 2 * MORE) == 60
    assert [row[:3] for row in runs(application)] == [("cancelled", 60, 0), ("finished", 60, 60)]


@pytest.mark.parametrize("where", [None, "a > 0"], ids=["row version", "fingerprint"])
def test_what_another_worker_has_rescored_meanwhile_is_not_written_and_counted_again(
    database_url: str, connect: Connect, where: str | None
) -> None:
    """Its row is scored before and after, with the same inputs: the version alone tells."""
    application = connect()
    make_items(application)
    options = {"model": model("worker"), "where": where, "backfill_workers": 4}
    with opened(versioned(database_url, "1", **options), add_up) as engine:
        applied(engine)
        add_items(application, 40)
        drain(engine)
    barrier = Barrier(lambda batch: [(-1.0,) for _ in batch.rows])
    config = versioned(database_url, "2", **options, max_rows_per_claim=10)
    with opened(config, barrier) as late, opened(config, second) as engine, ThreadPoolExecutor(1) as pool:
        applied(late)
        running = frozen(pool, late, barrier)
        run = backfill.begin(engine, kind=RESCORE)
        summary = work(engine, run, waits=lambda _: expire(application))
        assert summary.scored == 40
        barrier.released.set()
        assert running.result(30).scored == 0
    assert stamped(application, "2", MORE) == 40, "and no answer of the late one's is there"
    assert runs(application)[0][:3] == ("finished", 40, 40)


@pytest.mark.parametrize("way", WAYS)
def test_an_update_of_the_applications_ahead_of_it_is_scored_once_with_the_new_version(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    score_with_first(database_url, application, 120, way)
    done: list[None] = []
    paid: list[float] = []

    def update() -> None:
        done.append(None)
        if len(done) == 1:
            application.execute("UPDATE items SET b = 20 WHERE id = 110")

    def counted(batch: Batch) -> list[tuple[float]]:
        paid.extend(row[0] for row in batch.rows)
        return second(batch)

    with at_second(database_url, way, counted) as engine:
        assert work(engine, progress=update).scored == 119
        assert states(application) == {SCORED: 119, PENDING: 1}
        assert one(application, "SELECT model FROM items WHERE id = 110") == "1"
        assert drain(engine).scored == 1
        assert work(engine).scored == 0
    assert (len(paid) if way == "worker" else calls(application)) == 120
    assert stamped(application, "2", MORE) == 120


@pytest.mark.parametrize("where", [None, "a > 0"], ids=["row version", "fingerprint"])
def test_an_update_to_and_fro_while_the_model_has_the_row_is_scored_by_the_drain_alone(
    database_url: str, connect: Connect, where: str | None
) -> None:
    application = connect()
    score_with_first(database_url, application, 20, "worker")
    barrier = Barrier(lambda batch: [(-1.0,) for _ in batch.rows])
    config = versioned(database_url, "2", model=model("worker"), where=where)
    with opened(config, barrier) as late, opened(config, second) as engine, ThreadPoolExecutor(1) as pool:
        applied(late)
        running = frozen(pool, late, barrier)
        application.execute("UPDATE items SET b = b + 1 WHERE id <= 5")
        application.execute("UPDATE items SET b = b - 1 WHERE id <= 5")
        assert states(application) == {SCORED: 15, PENDING: 5}
        assert drain(engine).scored == 5
        barrier.released.set()
        summary = running.result(30)
        assert (summary.scored, summary.lost) == (15, 5)
    assert stamped(application, "2", MORE) == 5, "the drain's stand"
    assert one(application, "SELECT count(*) FROM items WHERE p = -1 AND model = '2'") == 15


# --- rows that fail, and rows that are left ---------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_the_new_version_fails_on_keeps_its_old_prediction_and_is_failed(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    score_with_first(database_url, application, 50, way)
    replace_function(application, refuse(application, "a IN (7, 33)", "poison"))

    def poisoned(batch: Batch) -> list[tuple[float]]:
        if any(row[0] in (7, 33) for row in batch.rows):
            raise errors.RowFaultError("poison")
        return second(batch)

    with at_second(database_url, way, poisoned, where="id <> 40") as engine:
        summary = work(engine)
        assert (summary.scored, summary.failed, summary.skipped, summary.empty) == (47, 2, 1, True)
        assert work(engine).scored == 0
    assert states(application) == {SCORED: 47, FAILED: 2, SKIPPED: 1}
    old = f"SELECT count(*) FROM items WHERE churn_state = {FAILED} AND p = a + b AND model = '1'"
    assert one(application, old) == 2
    failure = f"SELECT count(*) FROM {own(application, 'failure')} WHERE message LIKE '%poison%'"
    assert one(application, failure) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_the_application_holds_is_stepped_over_and_scored_later(
    database_url: str, connect: Connect, way: str
) -> None:
    application, holder = connect(), connect(autocommit=False)
    score_with_first(database_url, application, 50, way)
    with at_second(database_url, way) as engine:
        holder.execute("SELECT id FROM items WHERE id = 3 FOR UPDATE")
        summary = work(engine)
        assert summary.scored == 49
        assert "other sessions hold the rows that are left" in summary.ended
        holder.rollback()
        assert work(engine).scored == 1
    if way != "worker":
        assert calls(application) == 50
    assert stamped(application, "2", MORE) == 50


def test_a_trigger_that_changes_an_input_with_each_update_brings_no_row_back(
    database_url: str, connect: Connect
) -> None:
    """The state does not change by a rescore, so the time of scoring tells rowscore's own writes from others."""
    application = connect()
    make_items(application)
    add_trigger(application, "bump", "BEFORE UPDATE", assign(application, "b", "NEW.b + 1"))
    with opened(versioned(database_url, "1")) as engine:
        applied(engine)
        add_items(application, 30)
        assert drain(engine).scored == 30
    with opened(versioned(database_url, "2")) as engine:
        applied(engine)
        calls(application)
        assert work(engine).scored == 30
        assert states(application) == {SCORED: 30}
        assert calls(application) == 30
        application.execute("UPDATE items SET note = 'x' WHERE id = 1")
        assert states(application) == {SCORED: 29, PENDING: 1}, "of others each change counts"


def test_versions_are_told_apart_by_their_letters_and_none_is_another(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    odd = "O'Brien's \\ 50% :v {x}"
    with opened(versioned(database_url, odd)) as engine:
        applied(engine)
        add_items(application, 20)
        drain(engine)
        application.execute("UPDATE items SET model = NULL WHERE id <= 5")
        application.execute("UPDATE items SET model = 'o''brien''s' WHERE id > 18")
        assert work(engine).scored == 7
    with opened(versioned(database_url, odd.upper())) as engine:
        applied(engine)
        assert work(engine).scored == 20
        assert work(engine).scored == 0


def test_a_column_that_keeps_another_value_than_the_version_ends_nobodys_budget(
    database_url: str, connect: Connect
) -> None:
    """A trigger of the user's writes the version in its own way: each call of the command scores the rows once."""
    application = connect()
    make_items(application)
    with opened(versioned(database_url, "1")) as engine:
        applied(engine)
        add_items(application, 50)
        drain(engine)
        add_trigger(application, "spell", "BEFORE UPDATE", assign(application, "model", "'one'"))
        calls(application)
        application.execute("UPDATE items SET note = 'x'")
        batches: list[None] = []

        def bounded() -> None:
            batches.append(None)
            if len(batches) > 10:
                engine.stop.set()

        assert work(engine, progress=bounded).scored == 50
        assert calls(application) == 50


# --- which rows, and one run at a time --------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_keys_a_condition_and_a_number_of_rows_bound_it(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    score_with_first(database_url, application, 100, way)
    with at_second(database_url, way) as engine:

        def rescored(**options: Any) -> int:
            return work(engine, backfill.begin(engine, None, Options(**options), RESCORE)).scored

        assert rescored(from_key="11", to_key="40", where="a <> 20") == 29
        assert one(application, "SELECT count(*) FROM items WHERE model = '2' AND id BETWEEN 11 AND 40") == 29
        assert rescored(max_rows=15) == 15
        assert rescored(budget="10 rows") == 10
        assert backfill.change(engine, None, RunStatus.CANCELLED, RESCORE).status is RunStatus.CANCELLED
        if way != "worker":
            assert calls(application) == 54, "nobody pays for a row that it is not about"
        assert rescored() == 46
    assert stamped(application, "2", MORE) == 100


def test_without_a_version_it_says_what_to_add(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 5)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        with pytest.raises(errors.ConfigurationError, match="has no version, so nothing tells") as caught:
            backfill.begin(engine, kind=RESCORE)
        assert 'version = { column = "churn_version", value = "1" }' in str(caught.value)
        assert "\n" not in str(caught.value)
    assert runs(application) == []


@pytest.mark.parametrize(("first", "other"), [(RunKind.BACKFILL, RESCORE), (RESCORE, RunKind.BACKFILL)])
def test_a_backfill_and_a_rescore_are_not_under_way_at_once(
    database_url: str, connect: Connect, first: RunKind, other: RunKind
) -> None:
    application = connect()
    make_items(application, 20)
    with opened(versioned(database_url, "1")) as engine:
        applied(engine)
        run = backfill.begin(engine, kind=first)
        for status in (RunStatus.RUNNING, RunStatus.PAUSED):
            backfill.change(engine, None, status, first)
            with pytest.raises(
                errors.RefusedError, match=f"a {first.value} of churn is under way, and there"
            ):
                backfill.begin(engine, kind=other)
            with pytest.raises(errors.RefusedError, match=f"no {other.value} of churn is under way"):
                backfill.change(engine, None, RunStatus.CANCELLED, other)
        found = backfill.live(engine)
        assert found is not None
        assert (found.id, found.kind) == (run.id, first)
        backfill.change(engine, None, RunStatus.CANCELLED, first)
        assert backfill.begin(engine, kind=other).kind is other


@pytest.mark.parametrize("attempt", range(3))
def test_of_a_backfill_and_a_rescore_that_begin_at_once_one_does(
    database_url: str, connect: Connect, attempt: int
) -> None:
    application = connect()
    make_items(application, 20 + attempt)
    config = versioned(database_url, "1")
    with opened(config) as one_engine, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one_engine)
        started = [
            pool.submit(backfill.begin, engine, kind=kind)
            for engine, kind in ((one_engine, RunKind.BACKFILL), (two, RESCORE))
        ]
        refused = [running.exception(30) for running in started]
    assert sorted(type(error).__name__ for error in refused) == ["NoneType", "RefusedError"]
    live = f"SELECT count(*) FROM {own(application, 'run')} WHERE kind <> 'drain'"
    assert one(application, live) == 1


def test_it_is_paused_and_goes_on(database_url: str, connect: Connect) -> None:
    application = connect()
    score_with_first(database_url, application, 90, "worker")
    barrier = Barrier(second)
    config = versioned(database_url, "2", model=model("worker"))
    with opened(config, barrier) as one_engine, opened(config) as two, ThreadPoolExecutor(1) as pool:
        applied(one_engine)
        running = frozen(pool, one_engine, barrier)
        assert backfill.change(two, None, RunStatus.PAUSED, RESCORE).status is RunStatus.PAUSED
        assert backfill.begin(two, kind=RESCORE).resumed
        barrier.released.set()
        backfill.change(two, None, RunStatus.RUNNING, RESCORE)
        assert running.result(30).empty
    assert stamped(application, "2", MORE) == 90
