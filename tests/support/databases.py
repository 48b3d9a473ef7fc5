"""The databases that the conformance suite runs on, and sessions of the application that speak to each alike.

A module of the suite says `CONFORMANCE = True`; its tests then run once for each database. $ROWSCORE_TEST_DATABASES
names others than the usual ones, separated by commas: postgresql, mariadb, mysql.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import psycopg
import pymysql
from pymysql.constants import CLIENT
from sqlalchemy import make_url

CHOICE = "ROWSCORE_TEST_DATABASES"
USUAL = "postgresql,mariadb"


def databases() -> list[str]:
    """The databases of this run."""
    return os.environ.get(CHOICE, USUAL).split(",")


class MySQLSession:
    """A connection with the few methods of psycopg's that the tests use; READ COMMITTED, as applications choose."""

    def __init__(self, url: str, *, autocommit: bool = True) -> None:
        parsed = make_url(url)
        self._connection = pymysql.connect(
            host=parsed.host or "127.0.0.1",
            port=parsed.port or 3306,
            user=parsed.username or "root",
            password=parsed.password or "",
            database=parsed.database,
            charset="utf8mb4",
            autocommit=autocommit,
            client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            init_command="SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        )
        self.execute("SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = 5")

    def execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> Answer:
        """Run a statement, or several."""
        cursor = self._connection.cursor()
        cursor.execute(sql, parameters)
        answer = Answer(list(cursor.fetchall()), cursor.rowcount)
        while cursor.nextset():
            pass
        cursor.close()
        return answer

    def commit(self) -> None:
        """End the transaction."""
        self._connection.commit()

    def rollback(self) -> None:
        """Undo the transaction."""
        self._connection.rollback()

    def close(self) -> None:
        """End the session, if it has not ended yet."""
        if self._connection.open:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Answer:
    """What a statement answered, as psycopg's cursor gives it."""

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        rows, self._rows = self._rows, []
        return rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())


Session = psycopg.Connection[Any] | MySQLSession


def session(url: str, **options: Any) -> Session:
    """A session of the application's on the database of the URL."""
    options = {"autocommit": True, **options}
    return MySQLSession(url, **options) if url.startswith("mysql") else psycopg.connect(url, **options)


def is_postgresql(connection: Session) -> bool:
    """Which of the two worlds a session is in."""
    return isinstance(connection, psycopg.Connection)


def own(connection: Session, table: str) -> str:
    """One of rowscore's own tables."""
    return f"rowscore.{table}" if is_postgresql(connection) else f"rowscore_{table}"


def waiting_sessions(connection: Session) -> int:
    """How many sessions wait for a lock that another holds."""
    if is_postgresql(connection):
        (count,) = connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() or (0,)
        return int(count)
    # Not innodb_trx: who reads that more often than every 100 ms is shown the same picture for ever.
    (_, count) = connection.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'").fetchone() or (
        0,
        0,
    )
    return int(count)


def ago(connection: Session, seconds: float) -> str:
    """An expression for the time so many seconds ago, by the database's clock."""
    if is_postgresql(connection):
        return f"clock_timestamp() - interval '{seconds} s'"
    return f"UTC_TIMESTAMP(6) - INTERVAL {round(seconds * 1_000_000)} MICROSECOND"


def schema_of(connection: Session) -> str:
    """Where tables are that are made without naming a schema."""
    (name,) = connection.execute(
        "SELECT current_schema()" if is_postgresql(connection) else "SELECT DATABASE()"
    ).fetchone() or ("",)
    return str(name)


def analyse(connection: Session, table: str = "items") -> None:
    """Let the server look at the table's rows for its statistics."""
    connection.execute(f"ANALYZE {'' if is_postgresql(connection) else 'TABLE '}{table}")
