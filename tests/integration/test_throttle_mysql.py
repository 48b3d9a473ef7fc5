"""What holds work up on MySQL and MariaDB alone: the history list, replicas that are asked themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import INNODB, MySQLSession, one
from tests.support.deadlines import eventually
from tests.support.findings import findings, the
from tests.support.mysql import provided
from tests.support.predictions import add_items, add_up, applied, configuration, drain, make_items, opened
from worker.config import Configuration
from worker.demo.installs import mariadb_install, mysql_install
from worker.demo.mysql import FAST_SETTINGS, MySQLServer
from worker.doctor.findings import Level
from worker.engine import Engine
from worker.limits import Lag, Reading, Signal, Unreadable

CONFORMANCE = INNODB


def reading(engine: Engine, signal: Signal) -> Reading:
    """What the signal says now."""
    m = engine.materialisation(engine.prediction())
    return engine.watch(engine.prediction()).signals.read(m)[signal]


def ready(config: Configuration, connection: Any) -> None:
    """Apply the prediction; five rows wait."""
    make_items(connection)
    with opened(config) as engine:
        applied(engine)
    add_items(connection, 5)


def test_a_history_that_an_open_snapshot_keeps(database_url: str, connect: Connect) -> None:
    application, reader = connect(), connect(autocommit=False)
    config = configuration(database_url, throttle={"max_history_list": 500})
    ready(config, application)
    application.execute("CREATE TABLE busy (i int PRIMARY KEY, n int)")
    application.execute("INSERT INTO busy VALUES (1, 0)")
    reader.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    reader.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    for _ in range(600):
        application.execute("UPDATE busy SET n = n + 1")
    with opened(config) as engine:
        eventually(lambda: float(str(reading(engine, Signal.HISTORY_LIST))) > 500, "old versions are kept")
        summary = drain(engine)
    assert (summary.batches, summary.throttled) == (0, True)
    assert "transactions whose old row versions wait for purge" in summary.ended
    reader.rollback()
    with opened(config) as engine:

        def purged() -> bool:
            application.execute("UPDATE busy SET n = n + 1")  # MySQL's purge wakes up for a write
            return float(str(reading(engine, Signal.HISTORY_LIST))) <= 500

        eventually(purged, "they are purged", 60.0)
        assert drain(engine).scored == 5


def test_a_lag_that_nobody_can_know_pauses_and_doctor_says_what_to_write(
    database_url: str, connect: Connect
) -> None:
    ready(configuration(database_url), connect())
    unnamed = configuration(database_url, throttle={"max_replica_lag": "10s"})
    with opened(unnamed) as engine:
        summary = drain(engine)
    assert (summary.batches, summary.throttled) == (0, True)
    assert "name them in `replicas` under `throttle`" in summary.ended
    found = the(findings(unnamed), "throttle")
    assert (found.level, found.remedy) == (Level.ERROR, 'replicas = ["$REPLICA_URL"]')
    none = configuration(database_url, throttle={"max_replica_lag": "10s", "replicas": [database_url]})
    with opened(none) as engine:
        assert "reports none" in drain(engine).ended, "this server is nobody's replica"


CHANGE = {
    "mariadb": "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'copy', "
    "MASTER_PASSWORD = 'copy', MASTER_USE_GTID = slave_pos",
    "mysql": "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'copy', "
    "SOURCE_PASSWORD = 'copy', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
}  # fmt: skip
GTID: dict[str, dict[str, str | None]] = {
    "mariadb": {},
    "mysql": {"gtid_mode": "ON", "enforce_gtid_consistency": "ON"},
}


@pytest.fixture(params=["mariadb", "mysql"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two; MySQL where its tests run."""
    if request.param == "mysql":
        request.getfixturevalue("mysql")
    return str(request.param)


def test_a_replica_is_asked_for_its_lag_itself(kind: str, tmp_path: Path) -> None:
    install = provided(mariadb_install if kind == "mariadb" else mysql_install)
    logged = {**FAST_SETTINGS, "innodb_buffer_pool_size": "32M", "log_bin": "binlog", **GTID[kind]}
    logged["log_bin_trust_function_creators"] = "ON"
    source = MySQLServer(tmp_path / "source", install=install, settings={**logged, "server_id": "1"})
    replica = MySQLServer(tmp_path / "replica", install=install, settings={**logged, "server_id": "2"})
    with source, replica, MySQLSession(source.url()) as there, MySQLSession(replica.url()) as here:
        there.execute("CREATE USER copy@'%' IDENTIFIED BY 'copy'")
        there.execute("GRANT REPLICATION SLAVE ON *.* TO copy@'%'")
        there.execute("CREATE DATABASE shop")
        here.execute(CHANGE[kind].format(port=source.port))
        here.execute("START REPLICA")
        _follow(source.url("shop"), replica, here)


def _follow(url: str, replica: MySQLServer, here: MySQLSession) -> None:
    limits = {"max_replica_lag": "1h", "replicas": [replica.url()]}
    config = configuration(url, throttle=limits, model={"python": "tests:none"})
    with MySQLSession(url) as application:
        ready(config, application)
    there = (
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 'items'"
    )
    eventually(lambda: one(here, there) == 1, "the replica has the table", 60.0)
    with opened(config, add_up) as engine:
        eventually(lambda: isinstance(reading(engine, Signal.REPLICA_LAG), Lag), "the replica knows its lag")
        here.execute("STOP REPLICA SQL_THREAD")
        assert isinstance(reading(engine, Signal.REPLICA_LAG), Unreadable)
        summary = drain(engine)
        assert (summary.batches, summary.throttled) == (0, True)
        assert "the replicas' lag is unknown" in summary.ended
        here.execute("START REPLICA SQL_THREAD")
        eventually(lambda: isinstance(reading(engine, Signal.REPLICA_LAG), Lag), "the replica knows its lag")
    with opened(config, add_up) as engine:
        assert drain(engine).scored == 5
