"""What holds work up, under real conditions: nothing is leased meanwhile, and it goes on when they are over."""

from __future__ import annotations

import signal as signals
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.cli import Cli
from tests.support.databases import Session, is_postgresql, one, own, schema_of, waiting_sessions
from tests.support.deadlines import eventually
from tests.support.findings import about, findings
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    in_the_model,
    make_items,
    opened,
    states,
)
from worker import backfill, throttle
from worker.batch import BatchResult
from worker.database import Database
from worker.doctor.findings import Level
from worker.drain import Summary
from worker.engine import Engine
from worker.errors import NotAppliedError
from worker.limits import Signal, Unreadable
from worker.models.protocol import Batch
from worker.outlook import look
from worker.states import RowState
from worker.status import read_status
from worker.throttle import read_standing

CONFORMANCE = True
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value
PYTHON = {"python": "tests:none"}


@pytest.fixture
def application(connect: Connect) -> Session:
    """The application's session; the table items is empty, and so is the table gate, which a query may ask."""
    connection: Session = connect()
    make_items(connection)
    connection.execute("CREATE TABLE gate (reason text)")
    return connection


@contextmanager
def limited(url: str, model: Any = None, **limits: Any) -> Iterator[Engine]:
    """An engine with these limits, over ten rows that wait."""
    options = {"model": PYTHON} if model is not None else {}
    with opened(configuration(url, throttle=limits, max_rows_per_claim=10, **options), model) as engine:
        applied(engine)
        yield engine


def leases(connection: Session) -> int:
    """Windows that somebody may score now."""
    now = "clock_timestamp()" if is_postgresql(connection) else "UTC_TIMESTAMP(6)"
    return int(one(connection, f"SELECT count(*) FROM {own(connection, 'lease')} WHERE expires_at > {now}"))


def record(connection: Session) -> Any:
    """What is on record: signal, reason and when it began."""
    return connection.execute(f"SELECT kind, reason, since FROM {own(connection, 'throttle')}").fetchone()


def look_anew(engine: Engine) -> None:
    """The next check asks the servers, as it would a second later."""
    engine.watch(engine.prediction())._looked = None


def held(engine: Engine, connection: Session) -> Summary:
    """A drain that finds the work held up: nothing is leased, scored or charged."""
    look_anew(engine)
    before = states(connection)
    summary = drain(engine)
    assert summary.throttled, summary
    assert (summary.batches, summary.calls, summary.fault, summary.empty) == (0, 0, None, False)
    assert summary.retry_after is not None
    assert summary.retry_after > 0
    assert states(connection) == before
    assert leases(connection) == 0
    assert one(connection, f"SELECT count(*) FROM {own(connection, 'failure')}") == 0
    return summary


def scores(engine: Engine, rows: int) -> None:
    """A drain that finds nothing in its way."""
    look_anew(engine)
    summary = drain(engine)
    assert (summary.scored, summary.throttled) == (rows, False), summary


# --- signals ----------------------------------------------------------------------------------------------


def test_sessions_that_wait_for_locks_of_ours(
    database_url: str, connect: Connect, application: Session, database: Database
) -> None:
    other = connect()
    with limited(database_url, max_blocked_sessions=0) as engine, ThreadPoolExecutor(1) as pool:
        add_items(application, 10)
        with database.transaction() as transaction:  # a session of rowscore's, by its name or account
            transaction.rows("SELECT id FROM items WHERE id = 3 FOR UPDATE")
            waiting = pool.submit(other.execute, "UPDATE items SET note = 'x' WHERE id = 3")
            eventually(lambda: waiting_sessions(application) == 1, "a session waits for ours")
            summary = held(engine, application)
            assert summary.ended == "throttled: sessions that wait for locks of rowscore's: 1, more than 0"
            assert record(application)[0] == "max_blocked_sessions"
        waiting.result(30)
        scores(engine, 10)
    assert record(application) == (None, None, None)


def test_sessions_that_wait_for_others_are_not_ours(
    database_url: str, connect: Connect, application: Session
) -> None:
    if not is_postgresql(application) and "MariaDB" in one(application, "SELECT VERSION()"):
        pytest.skip("MariaDB tells sessions apart by their account, and here all have the same")
    holder, other = connect(autocommit=False), connect()
    with limited(database_url, max_blocked_sessions=0) as engine, ThreadPoolExecutor(1) as pool:
        application.execute("CREATE TABLE theirs (i int PRIMARY KEY)")
        application.execute("INSERT INTO theirs VALUES (1)")
        add_items(application, 10)
        holder.execute("SELECT i FROM theirs WHERE i = 1 FOR UPDATE")
        waiting = pool.submit(other.execute, "DELETE FROM theirs WHERE i = 1")
        eventually(lambda: waiting_sessions(application) == 1, "a session waits for another")
        scores(engine, 10)
        holder.rollback()
        waiting.result(30)


def test_active_sessions(database_url: str, connect: Connect, application: Session) -> None:
    take, give = "SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"
    if not is_postgresql(application):
        take, give = "SELECT GET_LOCK('throttle', 60)", "SELECT RELEASE_LOCK('throttle')"
    running = [connect() for _ in range(4)]
    with limited(database_url, max_active_sessions=3) as engine, ThreadPoolExecutor(4) as pool:
        add_items(application, 10)
        application.execute(take)

        def wait_and_pass_on(session: Session) -> None:
            session.execute(take)
            session.execute(give)

        waiting: list[Future[None]] = [pool.submit(wait_and_pass_on, session) for session in running]
        watch = engine.watch(engine.prediction())
        m = engine.materialisation(engine.prediction())
        eventually(lambda: float(str(watch.signals.read(m)[Signal.ACTIVE_SESSIONS])) > 3, "four sessions run")
        summary = held(engine, application)
        assert summary.ended.startswith("throttled: active sessions: ")
        application.execute(give)
        for future in waiting:
            future.result(30)
        scores(engine, 10)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT reason FROM gate", "throttle.query: the month's end; 100 % of it"),
        ("SELECT count(*) FROM gate WHERE reason LIKE '%:end%' OR true;", "throttle.query answered 1"),
    ],
)
def test_a_query_of_the_users(database_url: str, application: Session, query: str, reason: str) -> None:
    with limited(database_url, query=query) as engine:
        add_items(application, 10)
        application.execute("INSERT INTO gate VALUES ('the month''s end; 100 % of it')")
        assert held(engine, application).ended == f"throttled: {reason}"
        application.execute("DELETE FROM gate")
        scores(engine, 10)


@pytest.mark.parametrize(
    "query", ["SELECT nothing FROM nowhere", "SELECT 1 / (id - id) FROM", "DELETE FROM gate"]
)
def test_a_query_that_fails_or_answers_nothing_holds_nothing_up(
    database_url: str, application: Session, query: str
) -> None:
    with limited(database_url, query=query) as engine:
        add_items(application, 10)
        scores(engine, 10)
        assert unread(engine) == {"query"}
    assert record(application) is None, "nothing was there to write down"


def test_a_signal_that_cannot_be_read_is_warned_of_once(
    database_url: str, application: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = LogCapture()
    monkeypatch.setattr(
        throttle,
        "_log",
        structlog.wrap_logger(
            None, processors=[said], wrapper_class=structlog.make_filtering_bound_logger(0)
        ),
    )
    with limited(database_url, query="SELECT nothing FROM nowhere") as engine:
        add_items(application, 10)
        for rows in (10, 0, 0):
            scores(engine, rows)
    warned = [entry for entry in said.entries if entry["log_level"] == "warning"]
    assert [(entry["event"], entry["key"]) for entry in warned] == [("a throttle limits nothing", "query")]
    assert "nowhere" in warned[0]["reason"]


def test_a_slow_query_is_ended_and_holds_nothing_up(database_url: str, application: Session) -> None:
    query = "SELECT pg_sleep(600)" if is_postgresql(application) else "SELECT BENCHMARK(1e13, SHA2('x', 256))"
    with limited(database_url, query=query) as engine:
        add_items(application, 10)
        scores(engine, 10)


def test_outside_the_hours_of_work(database_url: str, application: Session) -> None:
    now = datetime.now(UTC)
    hours = [f"{now + timedelta(hours=ahead):%H:%M}" for ahead in (6, 12)]
    with limited(database_url, between="-".join(hours)) as engine:
        add_items(application, 10)
        assert held(engine, application).ended == f"throttled: it is not between {hours[0]}-{hours[1]}"
    with limited(database_url, between=f"{hours[1]}-{hours[0]} UTC") as engine:
        scores(engine, 10)


# --- a drain at work --------------------------------------------------------------------------------------


def test_a_window_that_was_taken_ahead_is_handed_back_and_no_row_is_charged(
    database_url: str, application: Session
) -> None:
    barrier = Barrier()
    with limited(database_url, barrier, query="SELECT reason FROM gate") as engine:
        add_items(application, 50)
        with in_the_model(engine, barrier) as running:
            eventually(lambda: leases(application) == 2, "the next window is read ahead")
            application.execute("INSERT INTO gate VALUES ('not now')")
            look_anew(engine)
            barrier.released.set()
            summary = running.result(60)
        assert (summary.scored, summary.batches, summary.throttled) == (10, 1, True)
        assert states(application) == {PENDING: 40, SCORED: 10}
        assert leases(application) == 0
        handed_back = application.execute(f"SELECT attempts FROM {own(application, 'lease')}").fetchall()
        assert handed_back == [(0,)], "the attempt does not count"
        application.execute("DELETE FROM gate")
        scores(engine, 40)


def test_a_backfill_waits_and_says_why(database_url: str, application: Session) -> None:
    add_items(application, 30)
    waits: list[str] = []

    def lift(reason: str) -> None:
        waits.append(reason)
        application.execute("DELETE FROM gate")
        look_anew(engine)

    with limited(database_url, query="SELECT reason FROM gate") as engine:
        application.execute("INSERT INTO gate VALUES ('not now')")
        run = backfill.begin(engine)
        summary = backfill.work(engine, None, run, lambda *_: None, lift)
    assert (summary.scored, summary.empty, summary.throttled) == (30, True, False)
    assert waits == ["throttled: throttle.query: not now"]


class Stop(threading.Event):
    """An event that notes for how long it is waited for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


def test_a_nice_worker_rests_for_its_share_and_takes_nothing_ahead(
    database_url: str, application: Session
) -> None:
    out: list[int] = []

    def answer(batch: Batch) -> list[tuple[float]]:
        out.append(leases(application))
        return add_up(batch)

    batches: list[float] = []

    def told(_: Summary, result: BatchResult) -> None:
        batches.append(result.database_seconds)

    with limited(database_url, answer, nice=1.5) as engine:
        engine.stop = Stop()
        add_items(application, 30)
        assert drain(engine, progress=told).scored == 30
        rests = [wait for wait in engine.stop.waits if wait in [1.5 * seconds for seconds in batches]]
    assert len(batches) == 3
    assert rests == [1.5 * seconds for seconds in batches]
    assert out == [1, 1, 1]


# --- the record -------------------------------------------------------------------------------------------


def test_the_record_is_written_when_something_changes_and_is_what_status_shows(
    database_url: str, application: Session
) -> None:
    with limited(database_url, query="SELECT reason FROM gate") as engine:
        add_items(application, 10)
        assert record(application) is None
        application.execute("INSERT INTO gate VALUES ('one')")
        held(engine, application)
        first = record(application)
        assert first[:2] == ("query", "throttle.query: one")
        held(engine, application)
        assert record(application) == first
        found = read_status(engine).throttle
        assert found is not None
        assert (found.kind, found.reason, found.paused) == ("query", "throttle.query: one", None)
        application.execute("UPDATE gate SET reason = 'two'")
        held(engine, application)
        second = record(application)
        assert second[1] == "throttle.query: two"
        assert second[2] > first[2]
        total = f"SELECT total_seconds FROM {own(application, 'throttle')}"
        counted = one(application, total)
        assert counted == pytest.approx((second[2] - first[2]).total_seconds(), abs=0.001)
        application.execute("DELETE FROM gate")
        scores(engine, 10)
        assert record(application) == (None, None, None)
        assert one(application, total) > counted


def test_it_is_sampled_once_a_second_however_many_batches_there_are(
    database_url: str, application: Session
) -> None:
    asked = "CREATE TABLE asked (n int)"
    count = "INSERT INTO asked VALUES (1)"
    application.execute(asked)
    if is_postgresql(application):
        body = f"LANGUAGE plpgsql AS $$ BEGIN {count}; RETURN 0; END $$"
    else:
        body = f"NOT DETERMINISTIC MODIFIES SQL DATA BEGIN {count}; RETURN 0; END"
    application.execute(f"CREATE FUNCTION ask() RETURNS int {body}")
    with limited(database_url, query="SELECT ask()") as engine:
        add_items(application, 200)
        engine.watch(engine.prediction())._looked = None
        summary = drain(engine)
        assert summary.batches >= 20
        assert one(application, "SELECT count(*) FROM asked") < summary.batches


# --- an operator ------------------------------------------------------------------------------------------


def test_a_pause_holds_ticks_up_outlasts_engines_and_ends(database_url: str, application: Session) -> None:
    with limited(database_url) as engine:
        add_items(application, 10)
        database = engine.database(engine.prediction())
        throttle.pause(database, "churn", None, "closing")
        assert held(engine, application).ended == "throttled: paused by an operator: closing"
    with limited(database_url) as engine:
        found = look(engine)
        assert (found.free, found.reason) == (0, "throttled: paused by an operator: closing")
        held(engine, application)
        status = read_status(engine).throttle
        assert status is not None
        assert (status.pause_reason, status.pause_left, status.kind) == ("closing", None, "pause")
        database = engine.database(engine.prediction())
        throttle.pause(database, "churn", 0.000001, None)  # another takes its place, and is over at once
        scores(engine, 10)
        assert look(engine).free == 2
        throttle.pause(database, "churn", 3600.0, None)
        left = read_standing(database, "churn").pause
        assert left is not None
        assert left.left is not None
        assert 3000 < left.left <= 3600
        assert throttle.resume(database, "churn")
        assert not throttle.resume(database, "churn")
        with pytest.raises(NotAppliedError, match="other is not applied"):
            throttle.pause(database, "other", None, None)


def test_rare_ticks_leave_looking_to_the_drains_that_look_already(
    database_url: str, application: Session
) -> None:
    with limited(database_url, query="SELECT reason FROM gate") as engine:
        add_items(application, 10)
        application.execute("INSERT INTO gate VALUES ('not now')")
        held(engine, application)
        assert look(engine, None, 30.0).free == 2
        looked = one(application, f"SELECT looked_at FROM {own(application, 'throttle')}")
        held(engine, application)
        assert one(application, f"SELECT looked_at FROM {own(application, 'throttle')}") == looked, (
            "not again at once"
        )
        assert look(engine, None, 3600.0).free == 0
        application.execute(f"UPDATE {own(application, 'throttle')} SET looked_at = NULL")
        assert look(engine, None, 3600.0).free == 2


def test_pause_and_resume_by_the_command_line_while_a_process_runs(
    database_url: str, application: Session, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, database_url)
    cli.call("apply")
    add_items(application, 10)
    with cli.started("run", "churn", "--for", "600s") as running:
        eventually(lambda: states(application).get(SCORED) == 10, "the process works")
        said = cli.run("pause", "--because", "closing", "--for", "2h")
        assert said.out == "churn: paused for 2 h.\n"
        running.says("throttled: paused by an operator: closing")
        add_items(application, 10)
        status = cli.call("status")
        assert ": closing; goes on with: rowscore resume churn" in status.out
        document = cli.call("status", "--json").document["predictions"][0]
        assert document["throttle"]["kind"] == "pause"
        assert document["throttle"]["pause_reason"] == "closing"
        assert states(application) == {SCORED: 10, PENDING: 10}
        assert leases(application) == 0
        assert cli.run("resume", "churn", "--json").document == {"resumed": ["churn"]}
        eventually(lambda: states(application).get(SCORED) == 20, "the process goes on")
        running.tell(signals.SIGINT)
        assert running.end().status == 130
    assert cli.call("resume").out == "churn: was not paused.\n"


def test_pause_of_what_was_never_applied_is_one_line(
    database_url: str, application: Session, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, database_url)
    assert application is not None
    for command in ("pause", "resume"):
        assert "run `rowscore apply churn`" in cli.error(command, status=1)


def test_tables_of_an_older_rowscore_are_one_line_and_not_a_lost_row(
    database_url: str, application: Session
) -> None:
    with limited(database_url) as engine:
        add_items(application, 10)
        application.execute(f"DROP TABLE {own(application, 'throttle')}")
        database = engine.database(engine.prediction())
        for attempt in (
            lambda: drain(engine),
            lambda: look(engine),
            lambda: read_status(engine),
            lambda: throttle.pause(database, "churn", None, None),
            lambda: throttle.resume(database, "churn"),
        ):
            with pytest.raises(
                NotAppliedError, match=r"are older than this rowscore.*run `rowscore apply churn`"
            ):
                attempt()
    assert states(application) == {PENDING: 10}
    assert leases(application) == 0


# --- rights -----------------------------------------------------------------------------------------------


def test_what_a_role_may_not_read_holds_nothing_up_and_doctor_names_the_grant(
    database_url: str, application: Session, account: Account
) -> None:
    limits: dict[str, Any] = {"max_blocked_sessions": 1000, "max_history_list": 10_000_000}
    grants = [f"GRANT ALL ON `{schema_of(application)}`.* TO {account.quoted}"]
    if is_postgresql(application):
        limits = {"max_active_sessions": 1000, "max_unarchived_wal": "1GB"}
        grants = [f"GRANT USAGE ON SCHEMA rowscore TO {account.quoted}"]
        grants += [
            f"GRANT ALL ON ALL {what} IN SCHEMA rowscore, public TO {account.quoted}"
            for what in ("TABLES", "SEQUENCES")
        ]
    with limited(database_url, **limits):
        add_items(application, 10)
    for grant in grants:
        application.execute(grant)
    restricted = configuration(account.url, throttle=limits)
    with opened(restricted) as engine:
        assert unread(engine) == set(limits)
        assert drain(engine).scored == 10
    found = [item for item in about(findings(restricted), "throttle") if item.level is Level.WARNING]
    assert {finding.message.split()[0] for finding in found} == set(limits)
    for remedy in {str(finding.remedy) for finding in found}:
        application.execute(remedy)
    with opened(restricted) as engine:
        assert unread(engine) == set()
    assert [item.level for item in about(findings(restricted), "throttle")] == [Level.OK] * len(limits)


def unread(engine: Engine) -> set[str]:
    """The signals that this engine's role cannot read."""
    m = engine.materialisation(engine.prediction())
    readings = engine.watch(engine.prediction()).signals.read(m)
    return {signal.value for signal, reading in readings.items() if isinstance(reading, Unreadable)}
