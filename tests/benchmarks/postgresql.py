"""The benchmark's PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

import psycopg

from tests.benchmarks.contenders import Outcome
from tests.benchmarks.subject import CALL, FEATURES, Subject
from worker.demo import churn
from worker.demo.servers import DEMO_SETTINGS, PostgresServer

SETTINGS = {
    **DEMO_SETTINGS,
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}


class PostgreSQL(Subject):
    """PostgreSQL 18, without durability and autovacuum."""

    rows = 1_000_000
    targets: ClassVar[Mapping[str, float]] = {
        "in-database, 1 worker": 0.8,
        "in-database, 2 workers": 1.2,
        "worker-side, 1 worker": 0.5,
        "worker-side, 2 workers": 0.85,
    }

    def _open(self, stack: ExitStack) -> None:
        server = stack.enter_context(PostgresServer(self._folder, settings=SETTINGS))
        self.url = server.url()
        self.connection = stack.enter_context(psycopg.connect(self.url, autocommit=True))

    def _drop(self) -> None:
        self.connection.execute(f"DROP TABLE IF EXISTS {churn.TABLE} CASCADE")
        self.connection.execute("DROP SCHEMA IF EXISTS rowscore CASCADE")

    def _settle(self) -> None:
        self.connection.execute(f"VACUUM ANALYZE {churn.TABLE}")
        self.connection.execute("CHECKPOINT")

    def one_statement(self, rows: int) -> Outcome:
        """Everything in one UPDATE, with the same columns set."""
        started = time.perf_counter()
        done = self.connection.execute(
            f"UPDATE {churn.TABLE} SET churn_probability = {CALL}, "
            "churn_state = 1, churn_scored_at = clock_timestamp() WHERE churn_state = 0"
        ).rowcount
        seconds = time.perf_counter() - started
        assert done == rows
        return Outcome(rows / seconds)

    def inserter(self, table: str) -> Callable[[churn.Row], Any]:
        """A prepared statement."""
        marks = ", ".join(["%s"] * len(churn.FEATURES))
        statement = f"INSERT INTO {table} ({FEATURES}) VALUES ({marks})"
        return lambda row: self.connection.execute(statement, row, prepare=True)
