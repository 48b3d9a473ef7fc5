"""The databases that the conformance suite runs on, and sessions of the application that speak to each alike.

A module of the suite says `CONFORMANCE = True`; its tests then run once for each database. One that is about MySQL and
MariaDB alone says `CONFORMANCE = INNODB`. $ROWSCORE_TEST_DATABASES names others than the usual databases, separated by
commas: postgresql, mariadb, mysql.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import psycopg
import pytest
from pymysql.constants import CLIENT
from sqlalchemy import make_url

import sql
from worker.capabilities.tls import Connection

CHOICE = "ROWSCORE_TEST_DATABASES"
USUAL = "postgresql,mariadb"
INNODB = ("mariadb", "mysql")


def databases() -> list[str]:
    """The databases of this run."""
    return os.environ.get(CHOICE, USUAL).split(",")


def only(*names: str) -> pytest.MarkDecorator:
    """For a test of the suite that is about some databases alone."""
    return pytest.mark.parametrize(
        "database_url", [name for name in databases() if name in names], indirect=True
    )


def each(parameter: str, cases: Mapping[str, Iterable[Any]]) -> pytest.MarkDecorator:
    """For a test of the suite whose cases differ: those of the dialect, for each of its databases.

    A case is a value, or a tuple of values where `parameter` names several.
    """
    found = []
    for name in databases():
        of_dialect = cases["postgresql" if name == "postgresql" else "mysql"]
        for number, case in enumerate(of_dialect):
            values = case if "," in parameter and isinstance(case, tuple) else (case,)
            plain = isinstance(values[0], str) and values[0].isascii() and len(values[0]) < 40
            found.append(pytest.param(name, *values, id=f"{name}-{values[0] if plain else number}"))
    names = ["database_url", *(item.strip() for item in parameter.split(","))]
    return pytest.mark.parametrize(names, found, indirect=["database_url"])


class MySQLSession:
    """A connection with the few methods of psycopg's that the tests use; READ COMMITTED, as applications choose."""

    def __init__(self, url: str, *, autocommit: bool = True) -> None:
        parsed = make_url(url)
        self._connection = Connection(
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


def dialect(connection: Session) -> str:
    """postgresql, or mysql for MariaDB as well."""
    return "postgresql" if is_postgresql(connection) else "mysql"


def quote(connection: Session, identifier: str) -> str:
    """An identifier as the database quotes it."""
    return sql.quote(identifier, dialect(connection))


def one(connection: Session, query: str, parameters: Any = None) -> Any:
    """The first column of the first row."""
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]


def session_number(connection: Session) -> int:
    """What the server calls the session."""
    return int(
        one(connection, "SELECT pg_backend_pid()" if is_postgresql(connection) else "SELECT CONNECTION_ID()")
    )


def columns_of(connection: Session, table: str) -> list[str]:
    """The names of a table's or a view's columns, in order."""
    query = "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
    rows = connection.execute(f"{query} ORDER BY ordinal_position", [schema_of(connection), table])
    return [name for (name,) in rows.fetchall()]


@contextmanager
def another_schema(connection: Session, name: str) -> Iterator[str]:
    """Another place for tables, gone with all that is in it at the end; yields its name, quoted.

    In MySQL, where a server's databases are what schemas are in PostgreSQL, call it after the test's own database.
    """
    quoted = quote(connection, name)
    connection.execute(f"CREATE SCHEMA {quoted}")
    try:
        yield quoted
    finally:
        connection.execute(f"DROP SCHEMA {quoted}{' CASCADE' if is_postgresql(connection) else ''}")


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


def series(connection: Session, first: int, last: int) -> str:
    """A table expression with the numbers from first to last in its column i."""
    if is_postgresql(connection):
        return f"generate_series({first}, {last}) AS s(i)"
    numbers = f"[{','.join(map(str, range(first, last + 1)))}]"
    return f"JSON_TABLE('{numbers}', '$[*]' COLUMNS (i bigint PATH '$')) AS s"
