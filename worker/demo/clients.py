"""The traffic's connections, one for each client of the application; they insert a row and measure nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import psycopg
import pymysql

from worker.demo.churn import Row, named, statement
from worker.demo.connections import CannotConnectError, MySQLConnection, is_mysql, message

ERRORS = (psycopg.Error, pymysql.MySQLError, CannotConnectError)
"""What the methods of an inserter raise."""


class Inserter(Protocol):
    """A connection that inserts rows into one table."""

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that has not been lost."""
        ...

    async def connect(self) -> None:
        """Opens the connection, or another one; CannotConnectError if that fails."""

    async def insert(self, row: Row) -> None:
        """Inserts a row and commits it."""

    async def close(self) -> None:
        """Closes the connection."""


class PostgresInserter:
    """By psycopg; inserts are prepared from the first on."""

    def __init__(self, url: str, table: str) -> None:
        self._url = url
        self._insert = statement("insert_row", **named(table)).rstrip(";")
        self._cursor: psycopg.AsyncRawCursor[Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that has not been lost."""
        return self._cursor is not None and not self._cursor.connection.broken

    async def connect(self) -> None:
        """Opens the connection."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._url, autocommit=True, prepare_threshold=0
            )
        except psycopg.OperationalError as exc:
            raise CannotConnectError(message(exc)) from exc
        self._cursor = psycopg.AsyncRawCursor(connection)

    async def insert(self, row: Row) -> None:
        """Inserts a row."""
        assert self._cursor is not None  # noqa: S101  connect() comes first
        await self._cursor.execute(self._insert, row)

    async def close(self) -> None:
        """Closes the connection."""
        if self._cursor is not None:
            await self._cursor.connection.close()


class MySQLInserter:
    """By PyMySQL, which blocks: each connection has a thread of its own, as it would in an application."""

    def __init__(self, url: str, table: str) -> None:
        self._url = url
        self._insert = statement("insert_row", "mysql", **named(table)).rstrip(";")
        self._connection: MySQLConnection | None = None
        self._thread = ThreadPoolExecutor(1)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that has not been lost."""
        return self._connection is not None and self._connection.driver.open

    async def connect(self) -> None:
        """Opens the connection."""
        try:
            self._connection = await self._run(lambda: MySQLConnection(self._url))
        except pymysql.MySQLError as exc:
            raise CannotConnectError(message(exc)) from exc

    async def insert(self, row: Row) -> None:
        """Inserts a row."""
        connection = self._connection
        assert connection is not None  # noqa: S101  connect() comes first
        await self._run(lambda: connection.driver.cursor().execute(self._insert, row))

    async def close(self) -> None:
        """Closes the connection and ends the thread."""
        if self._connection is not None and self._connection.driver.open:
            await self._run(self._connection.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def inserter(url: str, table: str) -> Inserter:
    """The inserter of the URL's database."""
    return MySQLInserter(url, table) if is_mysql(url) else PostgresInserter(url, table)
