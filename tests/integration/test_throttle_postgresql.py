"""What holds work up on PostgreSQL alone: vacuum, WAL that nobody archives, standbys, Aurora's readers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.databases import one
from tests.support.deadlines import eventually
from tests.support.findings import findings, the
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened
from worker.demo.postgres import PostgresServer
from worker.doctor.findings import Level
from worker.engine import Engine
from worker.limits import Lag, Reading, Signal, Unreadable

SETTINGS = {"autovacuum": "off", "fsync": "off", "shared_buffers": "16MB", "max_connections": "30"}


def reading(engine: Engine, signal: Signal) -> Reading:
    """What the signal says now."""
    m = engine.materialisation(engine.prediction())
    return engine.watch(engine.prediction()).signals.read(m)[signal]


def ready(url: str, connection: Any, **limits: Any) -> Engine:
    """Apply the prediction with these limits; five rows wait."""
    make_items(connection)
    with opened(configuration(url, throttle=limits)) as engine:
        applied(engine)
    add_items(connection, 5)
    return engine


@contextmanager
def vacuuming(
    session: psycopg.Connection[Any], table: str, observer: psycopg.Connection[Any]
) -> Iterator[None]:
    """A VACUUM of the table that rests after each page, for as long as the block lasts."""
    session.execute("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 1")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.execute, f"VACUUM (INDEX_CLEANUP off, TRUNCATE false) {table}")
        try:
            vacuums = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = %s::regclass"
            eventually(lambda: one(observer, vacuums, [table]) == 1, f"{table} is being vacuumed")
            yield
        finally:
            session.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.result(30)


FILLED = "SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i"


@pytest.mark.parametrize("as_account", [False, True])
def test_a_vacuum_of_the_table_whoever_looks(
    database_url: str, connect: Connect, account: Account, as_account: bool
) -> None:
    application = connect()
    ready(database_url, application, avoid_vacuum=True)
    application.execute("CREATE TABLE other (id bigint, note text)")
    application.execute(f"INSERT INTO other {FILLED}")
    application.execute(
        "INSERT INTO items (a, note, churn_state) SELECT 1, repeat('x', 500), 1 FROM generate_series(1, 20000)"
    )
    application.execute(f"GRANT USAGE ON SCHEMA rowscore TO {account.quoted}")
    for what in ("TABLES", "SEQUENCES"):
        application.execute(f"GRANT ALL ON ALL {what} IN SCHEMA rowscore, public TO {account.quoted}")
    url = account.url if as_account else database_url
    config = configuration(url, throttle={"avoid_vacuum": True})
    with vacuuming(connect(), "other", application), opened(config) as engine:
        assert reading(engine, Signal.VACUUM) == 0
    with vacuuming(connect(), "items", application), opened(config) as engine:
        summary = drain(engine)
        assert (summary.ended, summary.batches) == ("throttled: the table is being vacuumed", 0)
    with opened(config) as engine:
        assert drain(engine).scored == 5


def test_a_vacuum_of_a_partition(database_url: str, connect: Connect) -> None:
    application = connect()
    application.execute(
        "CREATE TABLE items (id bigint PRIMARY KEY, a float8, b int, note text) PARTITION BY RANGE (id)"
    )
    application.execute("CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (1) TO (1000000)")
    application.execute(
        "CREATE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE sql AS 'SELECT a + b'"
    )
    application.execute(
        "INSERT INTO items (id, note) SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i"
    )
    with opened(configuration(database_url, throttle={"avoid_vacuum": True})) as engine:
        applied(engine)
        with vacuuming(connect(), "items_1", application):
            assert reading(engine, Signal.VACUUM) == 1
        assert reading(engine, Signal.VACUUM) == 0


def test_wal_that_waits_for_its_archive(tmp_path: Path) -> None:
    settings = {**SETTINGS, "archive_mode": "on", "archive_command": "false", "max_wal_size": "64MB"}
    with PostgresServer(tmp_path / "archiving", settings=settings) as server:
        url = server.url()
        with psycopg.connect(url, autocommit=True) as application:
            ready(url, application)
            config = configuration(url, throttle={"max_unarchived_wal": "1MB"})
            with opened(config) as engine:
                assert reading(engine, Signal.UNARCHIVED_WAL) == 0
            application.execute("SELECT pg_switch_wal()")
            with opened(config) as engine:
                eventually(lambda: reading(engine, Signal.UNARCHIVED_WAL), "a segment waits")
                summary = drain(engine)
            assert (
                "bytes of WAL that wait for their archive: 16,777,216, more than 1,048,576" in summary.ended
            )
            application.execute("ALTER SYSTEM SET archive_command = 'true'")
            application.execute("SELECT pg_reload_conf()")
            application.execute("SELECT pg_switch_wal()")  # wakes the archiver
            with opened(config) as engine:
                eventually(lambda: reading(engine, Signal.UNARCHIVED_WAL) == 0, "it is archived", 90.0)
                assert drain(engine).scored == 5


class Standby(PostgresServer):
    """A copy of another server that follows it."""

    primary = ""

    def _initialise(self, programs: Path, data: Path) -> None:
        words = ("-D", data, "-d", self.primary, "-R", "-X", "stream", "-c", "fast")
        done = self._run(programs / "pg_basebackup", *words, cwd=self.home)
        assert done.returncode == 0, done.stderr


def test_a_standby_that_falls_behind_and_who_may_see_it(tmp_path: Path) -> None:
    trust = ("host replication all 127.0.0.1/32 trust",)
    with PostgresServer(tmp_path / "primary", settings=SETTINGS, hba_lines=trust) as primary:
        follows = {
            "primary_conninfo": f"{primary.url()}?application_name=two",
            "wal_receiver_status_interval": "1s",
        }
        standby = Standby(tmp_path / "standby", settings={**SETTINGS, **follows})
        standby.primary = primary.url()
        url = primary.url()
        with standby, psycopg.connect(url, autocommit=True) as application:
            _fall_behind(url, standby.url(), application)


def _fall_behind(url: str, standby_url: str, application: psycopg.Connection[Any]) -> None:
    ready(url, application)
    near = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= pg_current_wal_lsn()"
    eventually(lambda: one(application, near) == 1, "the standby has caught up")
    primary = configuration(url, throttle={"max_replica_lag": "1h"})
    itself = configuration(url, throttle={"max_replica_lag": "1h", "replicas": [standby_url]})
    for config in (primary, itself):
        with opened(config) as engine:
            known = reading(engine, Signal.REPLICA_LAG)
            assert isinstance(known, Lag)
            assert known.seconds < 60
    application.execute("CREATE ROLE nobody LOGIN")
    hidden = configuration(re.sub("//postgres@", "//nobody@", url), throttle={"max_replica_lag": "1h"})
    with opened(hidden) as engine:
        unknown = engine.watch(engine.prediction()).signals
        m = _materialisation(primary)
        assert isinstance(unknown.read(m)[Signal.REPLICA_LAG], Unreadable)
    application.execute("GRANT pg_monitor TO nobody")
    with opened(hidden) as engine:
        assert isinstance(engine.watch(engine.prediction()).signals.read(m)[Signal.REPLICA_LAG], Lag)
    with psycopg.connect(standby_url, autocommit=True) as there:
        there.execute("SELECT pg_wal_replay_pause()")
        paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
        eventually(lambda: one(there, paused), "the standby replays nothing")
        application.execute("CREATE TABLE bulk AS SELECT i FROM generate_series(1, 50000) i")
        impatient = {"max_replica_lag": "1ms"}
        for limits in (impatient, {**impatient, "replicas": [standby_url]}):
            with opened(configuration(url, throttle=limits)) as engine:
                eventually(
                    lambda engine=engine: _late(reading(engine, Signal.REPLICA_LAG)), "it falls behind"
                )
                summary = drain(engine)
                assert summary.throttled
                assert "replica" in summary.ended
        there.execute("SELECT pg_wal_replay_resume()")
    eventually(lambda: one(application, near) == 1, "the standby has caught up")
    with opened(primary) as engine:
        assert drain(engine).scored == 5


def _materialisation(config: Any) -> Any:
    with opened(config) as engine:
        return engine.materialisation(engine.prediction())


def _late(found: Reading) -> bool:
    return isinstance(found, Unreadable) or (isinstance(found, Lag) and found.seconds > 0.001)


def test_a_replica_that_does_not_answer_or_is_none_pauses(database_url: str, connect: Connect) -> None:
    application = connect()
    ready(database_url, application)
    for replica, words in (
        (database_url, "reports none"),
        ("postgresql://u@127.0.0.1:1/x", "replica 127.0.0.1:1"),
    ):
        limits = {"max_replica_lag": "1h", "replicas": [replica]}
        with opened(configuration(database_url, throttle=limits)) as engine:
            summary = drain(engine)
            assert (summary.batches, summary.throttled) == (0, True)
            assert "the replicas' lag is unknown" in summary.ended
            assert words in summary.ended


def test_without_a_standby_it_scores_and_doctor_says_that_the_limit_is_idle(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    config = configuration(database_url, throttle={"max_replica_lag": "10s"})
    ready(database_url, application)
    with opened(config) as engine:
        assert reading(engine, Signal.REPLICA_LAG) is None
        assert drain(engine).scored == 5
    found = the(findings(config), "throttle")
    assert (found.level, found.message) == (
        Level.WARNING,
        "max_replica_lag holds nothing up: no replica is connected",
    )


def test_auroras_readers(database_url: str, connect: Connect) -> None:
    """The function has the columns that AWS documents, but for those that nobody asks for."""
    application = connect()
    ready(database_url, application)
    application.execute(
        "CREATE TABLE readers (server_id text, session_id text, replica_lag_in_msec float8); "
        "INSERT INTO readers VALUES ('writer', 'MASTER_SESSION_ID', NULL), ('a', 'x', 20), ('b', 'y', 2500); "
        "CREATE FUNCTION aurora_replica_status() RETURNS SETOF readers LANGUAGE sql AS 'SELECT * FROM readers'"
    )
    with opened(configuration(database_url, throttle={"max_replica_lag": "2s"})) as engine:
        assert reading(engine, Signal.REPLICA_LAG) == Lag(2.5, "b")
        assert drain(engine).ended == "throttled: replica b is 2.5 s behind, more than 2 s"
        application.execute("UPDATE readers SET replica_lag_in_msec = NULL WHERE server_id = 'a'")
        assert isinstance(reading(engine, Signal.REPLICA_LAG), Unreadable)


def test_limits_of_another_database_are_said_to_be_idle(database_url: str, connect: Connect) -> None:
    application = connect()
    config = configuration(database_url, throttle={"max_history_list": 1000})
    ready(database_url, application)
    with opened(config) as engine:
        assert drain(engine).scored == 5
    found = the(findings(config), "throttle")
    assert found.level is Level.WARNING
    assert found.message == "max_history_list holds nothing up: PostgreSQL has no such signal"
