"""What holds work up, under real conditions: nothing is leased meanwhile, and it goes on when they are over."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.databases import Session, is_postgresql, one, own, schema_of, waiting_sessions
from tests.support.deadlines import eventually
from tests.support.findings import about, findings
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    configuration,
    drain,
    in_the_model,
    opened,
    states,
)
from tests.support.throttling import Stop, gated, held, leases, limited, look_anew, record, scores
from worker import backfill, throttle
from worker.batch import BatchResult
from worker.database import Database
from worker.doctor.findings import Level
from worker.drain import Summary
from worker.engine import Engine
from worker.limits import Signal, Unreadable
from worker.models.protocol import Batch
from worker.states import RowState
from worker.status import read_status

CONFORMANCE = True
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value


@pytest.fixture
def application(connect: Connect) -> Session:
    """The application's session; see `gated`."""
    return gated(connect())


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
