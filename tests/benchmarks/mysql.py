"""The benchmark's MariaDB and MySQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from tests.benchmarks.contenders import Outcome
from tests.benchmarks.subject import CALL, Subject
from worker.demo import churn
from worker.demo.connections import MySQLConnection
from worker.demo.installs import Install, mariadb_install, mysql_install
from worker.demo.mysql import FAST_SETTINGS, MySQLServer

OWN = ("throttle", "batch", "learned", "circuit", "failure", "lease", "run", "prediction", "alembic_version")


class MariaDB(Subject):
    """MariaDB, without durability and binary log."""

    rows = 500_000
    targets: ClassVar[Mapping[str, float]] = {
        "in-database, 1 worker": 0.7,
        "in-database, 2 workers": 1.1,
        "worker-side, 1 worker": 0.35,
        "worker-side, 2 workers": 0.55,
    }
    flat = 1.3

    settings: ClassVar[Mapping[str, str]] = {"innodb_log_file_size": "4G"}
    settling: ClassVar[tuple[str, ...]] = (
        "SET GLOBAL innodb_max_purge_lag_wait = 0",  # returns when nothing is left to purge
    )

    def _open(self, stack: ExitStack) -> None:
        settings = {**FAST_SETTINGS, "innodb_buffer_pool_size": "1G", **self.settings}
        server = stack.enter_context(MySQLServer(self._folder, settings=settings, install=self._install()))
        with MySQLConnection(server.url()) as connection:
            connection.execute(f"CREATE DATABASE {churn.SCHEMA}")
        self.url = server.url(churn.SCHEMA)
        self.connection = stack.enter_context(MySQLConnection(self.url))

    def _install(self) -> Install:
        return mariadb_install()

    def _drop(self) -> None:
        self.connection.execute(f"DROP VIEW IF EXISTS {churn.TABLE}_scored")
        self.connection.execute(f"DROP TABLE IF EXISTS {churn.TABLE}")
        for table in OWN:
            self.connection.execute(f"DROP TABLE IF EXISTS {churn.SCHEMA}.rowscore_{table}")

    def _settle(self) -> None:
        churn.analyze(self.connection)
        for statement in self.settling:
            self.connection.execute(statement)

    def one_statement(self, rows: int) -> Outcome:
        """Everything in one UPDATE, with the same columns set."""
        started = time.perf_counter()
        done = self.connection.execute(
            f"UPDATE {churn.TABLE} SET churn_probability = {CALL}, "
            "churn_state = 1, churn_scored_at = CURRENT_TIMESTAMP(6) WHERE churn_state = 0"
        ).rowcount
        seconds = time.perf_counter() - started
        assert done == rows
        return Outcome(rows / seconds)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A REPEATABLE READ transaction: what it could still see is not purged."""
        with MySQLConnection(self.url) as connection:
            connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            yield

    def inserter(self, table: str) -> Callable[[churn.Row], Any]:
        """PyMySQL writes the values into the statement."""
        statement = churn.statement("insert_row", "mysql", **churn.named(table)).rstrip(";")
        cursor = self.connection.driver.cursor()
        return lambda row: cursor.execute(statement, row)


class MySQL(MariaDB):
    """MySQL, likewise."""

    settings: ClassVar[Mapping[str, str]] = {"innodb_redo_log_capacity": "4G"}
    settling: ClassVar[tuple[str, ...]] = ()

    def _install(self) -> Install:
        return mysql_install()
