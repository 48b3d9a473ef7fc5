"""What a backfill is begun with: which rows, how many, how fast; and the word of somebody at another terminal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.integration.test_backfill import EXISTING, SCORED, SKIPPED, WAYS, double_of, model, right, work
from tests.support.databases import Session, ago, is_postgresql, own, series
from tests.support.deadlines import eventually
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    make_items,
    opened,
    states,
)
from worker import backfill, errors
from worker.drain import Summary
from worker.engine import Engine
from worker.leases import Idle, Lease, Leases
from worker.options import Options
from worker.states import RunKind, RunStatus

CONFORMANCE = True


def begun(engine: Engine, **options: Any) -> Summary:
    """A backfill with these options, worked on until it ends."""
    return work(engine, backfill.begin(engine, None, Options(**options)))


def scored(connection: Session) -> list[int]:
    """The keys of the rows that are scored."""
    rows = connection.execute(f"SELECT id FROM items WHERE churn_state = {SCORED} ORDER BY id").fetchall()
    return [int(row[0]) for row in rows]


def runs(connection: Session) -> list[str]:
    """The status of each backfill, oldest first."""
    query = f"SELECT status FROM {own(connection, 'run')} WHERE kind = 'backfill' ORDER BY id"
    return [row[0] for row in connection.execute(query).fetchall()]


# --- which rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_range_of_keys_ends_where_it_was_asked_to(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application, 100)
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=7), double_of(way)
    ) as engine:
        applied(engine)
        run = backfill.begin(engine, None, Options(from_key="21", to_key="60"))
        assert run.total == 40
        assert work(engine, run).scored == 40
        assert scored(application) == list(range(21, 61))
        assert begun(engine, from_key="90", to_key="1000").scored == 11
        assert begun(engine, to_key="20").scored == 20
        assert begun(engine, from_key="50", to_key="10").scored == 0
    assert states(application) == {SCORED: 71, EXISTING: 29}
    assert runs(application) == ["finished"] * 4


@pytest.mark.parametrize("way", WAYS)
def test_rows_outside_its_condition_are_left_as_they_are(
    database_url: str, connect: Connect, way: str
) -> None:
    """The prediction's own `where` skips rows; the run's says which rows it is about."""
    application = connect()
    make_items(application, 100)
    config = configuration(database_url, model=model(way), max_rows_per_claim=9, where="id % 10 <> 0")
    with opened(config, double_of(way)) as engine:
        applied(engine)
        run = backfill.begin(engine, None, Options(where="a > 50 OR note = '%:x'"))
        assert run.total == 50
        summary = work(engine, run)
        assert (summary.scored, summary.skipped, summary.empty) == (45, 5, True)
        assert states(application) == {SCORED: 45, SKIPPED: 5, EXISTING: 50}
        if way != "worker":
            assert calls(application) == 45, "nobody pays for rows that it is not about"
        assert work(engine).scored == 45
    assert right(application) == 90


@pytest.mark.parametrize("way", WAYS)
def test_only_missing_leaves_rows_that_hold_an_answer(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application, 50)
    application.execute("ALTER TABLE items ADD COLUMN p double precision")
    application.execute("UPDATE items SET p = -1 WHERE id <= 20")
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=8), double_of(way)
    ) as engine:
        applied(engine)
        assert begun(engine, only_missing=True).scored == 30
        assert scored(application) == list(range(21, 51))
        kept = application.execute("SELECT count(*) FROM items WHERE p = -1").fetchone()
        assert kept == (20,)
        assert begun(engine, only_missing=True).scored == 0


@pytest.mark.parametrize("way", WAYS)
def test_so_many_rows_are_dealt_with_and_no_more_by_two_workers(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application, 500)
    config = configuration(database_url, model=model(way), max_rows_per_claim=17, backfill_workers=2)
    with (
        opened(config, double_of(way)) as one,
        opened(config, double_of(way)) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        applied(one)
        run = backfill.begin(one, None, Options(max_rows=123))
        assert run.total == 123
        working = [pool.submit(work, engine, run) for engine in (one, two)]
        summaries = [running.result(60) for running in working]
        assert sum(summary.scored for summary in summaries) == 123
        assert states(application) == {SCORED: 123, EXISTING: 377}
        assert backfill.read(one, None, run).status is RunStatus.FINISHED
        if way != "worker":
            assert calls(application) == 123
        assert begun(one, max_rows=1000).scored == 377
    assert right(application) == 500


def test_a_composite_key_has_a_value_for_each_column(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    application.execute(
        "CREATE TABLE parts (region varchar(10), id bigint, a float8, b int, PRIMARY KEY (region, id))"
        if "postgresql" in database_url
        else "CREATE TABLE parts (region varchar(10), id bigint, a double, b int, PRIMARY KEY (region, id))"
    )
    for region in ("eu", "us"):
        application.execute(f"INSERT INTO parts SELECT '{region}', i, i, 1 FROM {series(application, 1, 20)}")
    with opened(configuration(database_url, table="parts", max_rows_per_claim=6)) as engine:
        applied(engine)
        assert begun(engine, from_key="eu,15", to_key="us, 3").scored == 9
        with pytest.raises(
            errors.ConfigurationError, match=r"--from-key: 'eu' is no key of .*parts.*2 columns"
        ):
            backfill.begin(engine, None, Options(from_key="eu"))
    rows = application.execute(f"SELECT region, id FROM parts WHERE churn_state = {SCORED} ORDER BY 1, 2")
    assert [tuple(row) for row in rows.fetchall()] == [("eu", i) for i in range(15, 21)] + [
        ("us", i) for i in range(1, 4)
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"where": "nope > 1"}, "--where: the database refuses it: .*nope"),
        ({"where": "a >"}, "--where: the database refuses it"),
        ({"from_key": "abc"}, "--from-key: 'abc' is no key of "),
        ({"to_key": "1,2"}, "--to-key: '1,2' is no key of "),
    ],
)
def test_what_the_database_does_not_take_is_one_line_and_begins_nothing(
    database_url: str, connect: Connect, options: dict[str, Any], words: str
) -> None:
    application = connect()
    make_items(application, 10)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        with pytest.raises(errors.ConfigurationError, match=words) as caught:
            backfill.begin(engine, None, Options(**options))
        assert "\n" not in str(caught.value)
    assert runs(application) == []


def test_a_later_call_goes_on_with_the_options_and_refuses_others(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application, 100)
    asked = Options(where="a > 50", rate="100000/s")
    with opened(configuration(database_url, max_rows_per_claim=10)) as engine:
        applied(engine)
        run = backfill.begin(engine, None, asked)
        engine.stop.set()
        assert work(engine, run).scored == 0
        engine.stop.clear()
        with pytest.raises(
            errors.RefusedError, match='under way with --where "a > 50" --rate 100000/s; call'
        ):
            backfill.begin(engine, None, Options(max_rows=3))
        assert backfill.begin(engine, None, asked).resumed
        again = backfill.begin(engine)
        assert (again.id, again.options, again.resumed) == (run.id, asked, True)
        assert work(engine, again).scored == 50
    assert states(application) == {SCORED: 50, EXISTING: 50}


def test_the_cursor_is_the_lowest_window_that_is_not_finished(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 100)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        run = backfill.begin(engine)
        assert run.at is None
        leases = leases_of(engine, run, "one")
        windows = [leases.acquire(RunKind.BACKFILL, 10) for _ in range(3)]
        assert backfill.read(engine, None, run).at == ("1",)
        for place, at in ((2, ("1",)), (0, ("11",)), (1, ("30",))):
            lease = windows[place]
            assert isinstance(lease, Lease)
            with leases.database.transaction() as transaction:
                assert leases.finish(transaction, lease)
            assert backfill.read(engine, None, run).at == at


# --- pause, resume, cancel --------------------------------------------------------------------------------


def test_a_paused_backfill_waits_and_goes_on(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 60)
    waits: list[str] = []
    barrier = Barrier()
    config = configuration(database_url, model=model("worker"), max_rows_per_claim=10)
    with opened(config, barrier) as one, opened(config, add_up) as two, ThreadPoolExecutor(1) as pool:
        applied(one)
        running = pool.submit(work, one, None, waits.append)
        assert barrier.entered.wait(30)
        assert backfill.change(two, None, RunStatus.PAUSED).status is RunStatus.PAUSED
        barrier.released.set()
        eventually(lambda: "it is paused" in waits, "a worker that waits")
        before = scored(application)
        assert 10 <= len(before) < 60, "what was leased is finished, and nothing more is"
        assert backfill.live(two).status is RunStatus.PAUSED  # type: ignore[union-attr]
        assert backfill.begin(two).status is RunStatus.PAUSED, "another call does not begin a second one"
        assert scored(application) == before
        backfill.change(two, None, RunStatus.RUNNING)
        assert running.result(30).empty
    assert right(application) == 60
    assert runs(application) == ["finished"]


def test_a_cancelled_backfill_ends_for_good_and_the_next_one_is_another(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application, 60)
    barrier = Barrier()
    config = configuration(database_url, model=model("worker"), max_rows_per_claim=10)
    with opened(config, barrier) as one, opened(config, add_up) as two, ThreadPoolExecutor(1) as pool:
        applied(one)
        running = pool.submit(work, one)
        assert barrier.entered.wait(30)
        assert backfill.change(two, None, RunStatus.CANCELLED).status is RunStatus.CANCELLED
        other = backfill.begin(two, None, Options(where="a > 50"))
        assert not other.resumed
        barrier.released.set()
        assert running.result(30).scored < 60
        before = len(scored(application))
        assert before <= 20, "the batch in flight and the one read ahead are paid for; they may be written"
        assert work(two, other).scored == 10, "the first worker took no window of the other run"
        with pytest.raises(errors.RefusedError, match="no backfill of churn is under way"):
            backfill.change(two, None, RunStatus.PAUSED)
    assert states(application)[SCORED] == before + 10
    assert runs(application) == ["cancelled", "finished"]


def test_one_is_live_whoever_begins_it(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 20)
    config = configuration(database_url)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one)
        first = backfill.begin(one)
        backfill.change(one, None, RunStatus.PAUSED)
        found = [started.result() for started in [pool.submit(backfill.begin, e) for e in (one, two)]]
        assert {run.id for run in found} == {first.id}
        backfill.change(two, None, RunStatus.PAUSED)  # it is already
        backfill.change(two, None, RunStatus.RUNNING)
        assert work(one, first).scored == 20


def test_a_new_definition_cancels_a_paused_one_too(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 20)
    with (
        opened(configuration(database_url)) as one,
        opened(configuration(database_url, where="a > 5")) as two,
    ):
        applied(one)
        backfill.begin(one)
        backfill.change(one, None, RunStatus.PAUSED)
        applied(two)
        assert backfill.live(two) is None
    assert runs(application) == ["cancelled"]


# --- how fast, and when -----------------------------------------------------------------------------------


def leases_of(engine: Engine, run: backfill.BackfillRun, owner: str) -> Leases:
    prediction = engine.prediction()
    m = engine.materialisation(prediction)
    return Leases(engine.database(prediction), m, owner, run=run.id, options=run.options)


def test_a_rate_is_kept_by_all_workers_together(database_url: str, connect: Connect) -> None:
    """No clock is waited for: the next window's time is moved by what the last one was worth, whoever asks."""
    application = connect()
    make_items(application, 1000)
    config = configuration(database_url, backfill_workers=8)
    with opened(config) as one, opened(config) as two:
        applied(one)
        run = backfill.begin(one, None, Options(rate="3600/h"))
        first, second = leases_of(one, run, "one"), leases_of(two, run, "two")
        lease = first.acquire(RunKind.BACKFILL, 500)
        assert isinstance(lease, Lease)
        assert lease.rows == 1, "a window is a second's worth at most"
        for leases in (first, second):
            kept = leases.acquire(RunKind.BACKFILL, 500)
            assert isinstance(kept, Idle)
            assert kept.reason == "it keeps to --rate 3600/h"
            assert 0 < (kept.retry_after or 0) <= 1
        application.execute(f"UPDATE {own(application, 'run')} SET next_at = {ago(application, 5)}")
        assert isinstance(second.acquire(RunKind.BACKFILL, 500), Lease)
        assert isinstance(second.acquire(RunKind.BACKFILL, 500), Idle), "what was not used is not made up for"


def log_windows(connection: Session) -> None:
    """From now on the database itself notes when each window is handed out, and its rows."""
    lease = own(connection, "lease")
    if is_postgresql(connection):
        connection.execute(
            f"""CREATE TABLE handed_out (at double precision, size int);
            CREATE FUNCTION note_window() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              INSERT INTO handed_out VALUES (extract(epoch FROM clock_timestamp()), NEW.size); RETURN NEW; END $$;
            CREATE TRIGGER note_window BEFORE INSERT ON {lease} FOR EACH ROW EXECUTE FUNCTION note_window()"""
        )
        return
    connection.execute("CREATE TABLE handed_out (at double, size int)")
    connection.execute(
        f"""CREATE TRIGGER note_window BEFORE INSERT ON {lease} FOR EACH ROW INSERT INTO handed_out
        VALUES (TIMESTAMPDIFF(MICROSECOND, '2020-01-01', UTC_TIMESTAMP(6)) / 1e6, NEW.size)"""
    )


def test_windows_add_up_to_the_rate(database_url: str, connect: Connect) -> None:
    """Over any span, by the times that the database noted: what was handed out before its end was worth no more."""
    application = connect()
    make_items(application, 400)
    rate = 2000
    config = configuration(database_url, max_rows_per_claim=50, backfill_workers=2)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one)
        log_windows(application)
        run = backfill.begin(one, None, Options(rate=f"{rate}/s"))
        working = [pool.submit(work, engine, run) for engine in (one, two)]
        assert sum(worker.result(60).scored for worker in working) == 400
    rows = application.execute("SELECT at, size FROM handed_out ORDER BY at").fetchall()
    windows = [(float(at), int(size)) for at, size in rows]
    assert sum(size for _, size in windows) == 400
    assert len(windows) >= 400 / 50
    for first, (begun_at, _) in enumerate(windows):
        for last, (at, _) in enumerate(windows[first + 1 :], first + 1):
            handed_out = sum(size for _, size in windows[first:last])
            assert handed_out <= rate * (at - begun_at) + 0.05, (first, last)  # of a row: microseconds


def test_outside_its_hours_it_waits(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 20)
    hour = int(application.execute(_HOUR[is_postgresql(application)]).fetchone()[0])
    closed = f"{(hour + 2) % 24:02}:00-{(hour + 3) % 24:02}:00"
    opens = f"{hour:02}:00-{(hour + 2) % 24:02}:00"
    with opened(configuration(database_url)) as engine:
        applied(engine)
        run = backfill.begin(engine, None, Options(between=closed))
        kept = leases_of(engine, run, "one").acquire(RunKind.BACKFILL, 10)
        assert isinstance(kept, Idle)
        assert kept.reason == f"it is not between {closed}"
        assert not kept.empty
        backfill.change(engine, None, RunStatus.CANCELLED)
        assert begun(engine, between=opens).scored == 20


_HOUR = {
    True: "SELECT extract(hour FROM clock_timestamp() AT TIME ZONE 'UTC')",
    False: "SELECT HOUR(UTC_TIME())",
}


def test_rows_that_come_meanwhile_are_not_the_runs(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 30)
    with opened(configuration(database_url, max_rows_per_claim=10)) as engine:
        applied(engine)
        run = backfill.begin(engine, None, Options(from_key="11"))
        add_items(application, 10)
        assert work(engine, run).scored == 20
