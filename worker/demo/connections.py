"""Connections to the demo's databases that speak alike: psycopg's own, and PyMySQL's behind the same few methods.

Rowscore itself has its own seam (worker/database.py); these are the application's. Production uses none of them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeAlias

import psycopg
import pymysql
from psycopg.rows import namedtuple_row
from pymysql.constants import CLIENT
from sqlalchemy.engine import make_url

MYSQL_URLS = ("mysql", "mariadb")

Values: TypeAlias = Sequence[Any] | Mapping[str, Any]


class CannotConnectError(Exception):
    """The database cannot be reached, in one line."""


@cache
def _row(names: tuple[str, ...]) -> Any:
    """The class of rows with such fields; names that Python does not take are numbered."""
    return namedtuple("Row", names, rename=True)


class Answer:
    """What a statement answered, as psycopg's cursor gives it; rows have named fields."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[Any]], rowcount: int) -> None:
        self.rowcount = rowcount
        self._rows = [_row(tuple(names))(*row) for row in rows]

    def fetchone(self) -> Any | None:
        """The first row."""
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        """All rows."""
        return self._rows


class MySQLConnection:
    """A connection to a MySQL or MariaDB that commits each statement; closed at the end of the `with` block.

    Sessions are READ COMMITTED, as many applications choose, and their times are UTC whatever the server's are.

    Raises:
        pymysql.MySQLError: the database cannot be reached, or refuses a statement.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.driver = pymysql.connect(
            host=parsed.host or "127.0.0.1",
            port=parsed.port or 3306,
            user=parsed.username,
            password=parsed.password or "",
            database=parsed.database,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            connect_timeout=10,
            init_command="SET time_zone = '+00:00'",
        )
        self.driver.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def execute(self, text: str, values: Values | None = None) -> Answer:
        """Runs a statement, or several, and answers with the last one's rows."""
        with self.driver.cursor() as cursor:
            cursor.execute(text, values)
            while True:
                names = [column[0] for column in cursor.description or ()]
                answer = Answer(names, cursor.fetchall() or (), cursor.rowcount)
                if not cursor.nextset():
                    return answer

    def close(self) -> None:
        """Ends the session."""
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Connection: TypeAlias = psycopg.Connection[Any] | MySQLConnection


def connect(url: str) -> Connection:
    """Opens a connection that commits each statement and whose rows have named fields.

    Raises:
        CannotConnectError: the database cannot be reached.
    """
    try:
        if is_mysql(url):
            return MySQLConnection(url)
        return psycopg.connect(url, autocommit=True, row_factory=namedtuple_row)
    except (psycopg.OperationalError, pymysql.MySQLError) as exc:
        raise CannotConnectError(message(exc)) from exc


def is_mysql(url: str) -> bool:
    """Whether the URL is one of MySQL or MariaDB; what else there may be is for libpq to say."""
    return url.startswith(MYSQL_URLS)


def dialect_of(connection: object) -> str:
    """The folder of the statements that a connection understands, psycopg's or another one's."""
    return "postgresql" if isinstance(connection, psycopg.Connection) else "mysql"


def message(error: Exception) -> str:
    """A driver's words without PyMySQL's number."""
    words = error.args[1] if len(error.args) > 1 else error
    return str(words).strip()
