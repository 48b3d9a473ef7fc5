"""Engines, transactions and error translation: the one seam between rowscore and the database drivers.

Nothing here knows what a prediction is. Every transaction runs at READ COMMITTED whatever the server's default is
(at REPEATABLE READ a lease's second statement cannot see what the first one waited for), and settings are made with
SET LOCAL only, so that PgBouncer in transaction mode may stand between.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, CursorResult, Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InvalidatePoolError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from worker import errors
from worker.capabilities import Capabilities, capabilities_of, seconds

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",  # which of the two it is the server itself says
}

_TRUSTED_FOR = 1.0  # seconds after its last use in which a connection is not asked whether it still lives


def normalise_url(url: str) -> sqlalchemy.URL:
    """A user's URL as SQLAlchemy's, with the driver that rowscore brings.

    Raises:
        ConfigurationError: not a database URL, or a database that rowscore does not speak to.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise errors.ConfigurationError(
            "database: not a database URL; expected postgresql://user:password@host:5432/name or mysql://..."
        ) from error
    driver = parsed.drivername
    parsed = parsed.set(drivername=_DRIVERS.get(driver, driver))
    if parsed.get_backend_name() not in ("postgresql", "mysql", "mariadb"):
        raise errors.ConfigurationError(
            f"database: rowscore speaks to PostgreSQL, MySQL and MariaDB, not to {driver}"
        )
    return parsed


class Transaction:
    """One open transaction. Statements are rendered by `sql.Statement.render`, values bound by name."""

    def __init__(self, connection: Connection, capabilities: Capabilities) -> None:
        self.connection = connection
        self.capabilities = capabilities

    def execute(self, sql: str, **parameters: Any) -> CursorResult[Any]:
        """Run one statement with bound parameters."""
        return self.connection.exec_driver_sql(sql, parameters)

    def rows(self, sql: str, **parameters: Any) -> Sequence[Any]:
        """All rows of one statement."""
        return self.execute(sql, **parameters).all()

    def row(self, sql: str, **parameters: Any) -> Any | None:
        """The first row of one statement, or None."""
        return self.execute(sql, **parameters).first()

    def value(self, sql: str, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.row(sql, **parameters)
        return None if row is None else row[0]

    def describe(self, sql: str) -> list[int]:
        """The driver's code for the type of each column that the statement answers with; PostgreSQL's is an oid."""
        result = self.connection.exec_driver_sql(sql, {})
        description: Any = result.cursor.description if result.cursor else ()
        return [column[1] for column in description or ()]

    def script(self, sql: str) -> None:
        """Run SQL text that binds nothing (so `%` is itself), several statements in one round trip."""
        cursor = self.connection.connection.cursor()
        try:
            cursor.execute(sql)
            while cursor.nextset():
                pass  # the errors of later statements come with their results
        finally:
            cursor.close()

    def set_local(self, **settings: str | int) -> None:
        """Make settings that hold until the transaction ends."""
        self.script(self.capabilities.local_settings(settings))

    def fetch_binary(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """All rows by the driver's binary protocol, for the hot path; placeholders are the driver's own.

        Two to three times as fast as text for 20 numeric columns.
        """
        with self.capabilities.binary_cursor(self.connection) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()  # type: ignore[no-any-return]

    def fetch_named(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The same with the columns' names, for answers whose columns the server chooses."""
        with self.capabilities.binary_cursor(self.connection) as cursor:
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def execute_binary(self, sql: str, parameters: Mapping[str, Any]) -> int:
        """Run one statement with parameters sent in binary; returns the rows affected."""
        with self.capabilities.binary_cursor(self.connection) as cursor:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)


class Database:
    """A connection pool to one database, with its capabilities; open transactions with `transaction`.

    Args:
        url: any form that `normalise_url` takes.
        pool_size: connections kept open; one a thread is enough.
    """

    def __init__(self, url: str, *, pool_size: int = 2, application_name: str = "rowscore") -> None:
        self.url = normalise_url(url)
        self.capabilities = capabilities_of(self.url.get_backend_name())
        if self.capabilities.own_schema is None and not self.url.database:
            raise errors.ConfigurationError(
                f"database: the URL names no database, where rowscore's own tables would be: {self.label}/NAME"
            )
        self.engine: Engine = _create_engine(self.url, pool_size, self.capabilities, application_name)

    @property
    def label(self) -> str:
        """The URL without its passwords, for messages; libpq takes some of them as parameters, too."""
        shown = {name: "..." if "pass" in name else value for name, value in self.url.query.items()}
        url = self.url.set(drivername=self.url.get_backend_name(), query=shown)
        return url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self, **settings: str | int) -> Iterator[Transaction]:
        """A READ COMMITTED transaction, committed at the end of the block and rolled back on an error.

        Args:
            settings: session settings that hold for this transaction only, such as `lock_timeout="50ms"`; on MySQL
                `statement_timeout` is for the whole block.

        Raises:
            DatabaseError: the subclass that says what went wrong; the driver's error is its cause.
        """
        with self.translated(), self._connect() as connection, connection.begin():
            transaction = Transaction(connection, self.capabilities)
            transaction.set_local(**settings)
            with self._limited(connection, settings.get("statement_timeout", 0)):
                yield transaction

    @contextmanager
    def _limited(self, connection: Connection, setting: str | int) -> Iterator[None]:
        """End the statement that the block still runs after so long, where no setting of the server's would.

        By a thread of its own, which is gone when the block ends: no later statement is hit, and no COMMIT. It tries
        again each second, since between two statements there is none to end.
        """
        interruption = self.capabilities.interruption(connection)
        limit = seconds(setting) if interruption is not None else 0.0
        if interruption is None or not limit:
            yield
            return
        done, ended = threading.Event(), threading.Event()

        def watch() -> None:
            wait = limit
            while not done.wait(wait):
                ended.set()
                wait = 1.0
                with suppress(SQLAlchemyError), self._connect() as other:
                    other.exec_driver_sql(interruption)

        watcher = threading.Thread(target=watch, name="rowscore-limit", daemon=True)
        watcher.start()
        try:
            yield
        except (DBAPIError, self.capabilities.driver_error) as error:
            if ended.is_set() and isinstance(self.translate(error), errors.StatementTimeoutError):
                raise errors.StatementTimeoutError(
                    f"a statement was ended because it ran for {limit:g} s"
                ) from error
            raise
        finally:
            done.set()
            watcher.join()

    @contextmanager
    def autocommit(self) -> Iterator[Transaction]:
        """A connection outside any transaction, for statements that refuse one (CREATE INDEX CONCURRENTLY)."""
        with self.translated(), self._connect() as connection:
            yield Transaction(connection.execution_options(isolation_level="AUTOCOMMIT"), self.capabilities)

    def _connect(self) -> Connection:
        try:
            connection = self.engine.connect()
        except (
            AttributeError,
            TypeError,
        ) as error:  # a parameter of the URL that the driver has not, or not so
            raise errors.ConfigurationError(
                f"database: the driver does not take what the URL says behind the question mark: {one_line(str(error))}"
            ) from error
        except ssl.SSLError as error:  # before the server is asked: a file that holds no certificate
            raise errors.ConfigurationError(f"database: TLS: {one_line(str(error))}") from error
        if getattr(connection.dialect, "is_mariadb", False):
            self.capabilities = capabilities_of("mariadb")
        return connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the drivers' errors into rowscore's."""
        try:
            yield
        except (DBAPIError, self.capabilities.driver_error) as error:
            if _interrupted(error):
                raise KeyboardInterrupt from error
            raise self.translate(error) from error
        except SQLAlchemyError as error:
            raise errors.DatabaseError(one_line(str(error))) from error

    def translate(self, error: Exception) -> errors.DatabaseError:
        """The error of ours that a driver's error means."""
        origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        sqlstate = self.capabilities.sqlstate(origin)
        message = one_line(self.capabilities.message(origin))
        kind = self.capabilities.classify(origin)
        if kind is errors.ConnectionFailedError:
            message = f"{self.label}: {message}"
        return kind(message, sqlstate=sqlstate)

    def dispose(self) -> None:
        """Close all connections, or forget those that a parent process opened."""
        self.engine.dispose()


def _interrupted(error: BaseException | None) -> bool:
    """Whether somebody pressed Ctrl-C: PyMySQL then gives up the connection, so that the rollback fails as well."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def one_line(message: str) -> str:
    """A driver's message as one line, without the statement's position marks."""
    message = message.replace("\n\tIs the server", "; is the server")
    kept = [part for part in message.splitlines() if not re.match(r"LINE \d+:|\s*\^|CONTEXT:", part)]
    return re.sub(r"\s+", " ", " ".join(kept)).strip()


def _create_engine(url: sqlalchemy.URL, pool_size: int, capabilities: Capabilities, name: str) -> Engine:
    try:
        engine = sqlalchemy.create_engine(
            url,
            pool_size=pool_size,
            max_overflow=4,
            isolation_level="READ COMMITTED",
            connect_args=capabilities.connect_arguments(name, url),
        )
    except (NoSuchModuleError, ArgumentError, ImportError) as error:
        raise errors.ConfigurationError(f"database: {one_line(str(error))}") from error
    event.listen(engine, "do_connect", lambda _dialect, _record, _, named: capabilities.connect(named))
    _ask_the_idle(engine, capabilities)
    return engine


def _ask_the_idle(engine: Engine, capabilities: Capabilities) -> None:
    """Replace connections that broke while nobody used them.

    `pool_pre_ping` would ask before each of a batch's three transactions, which is 2 % of a row's processor time.
    """

    def note(_: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    def ask(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get("used", time.monotonic()) < _TRUSTED_FOR:
            return
        try:
            engine.dialect.do_ping(connection)
        except capabilities.driver_error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", note)
    event.listen(engine, "checkout", ask)
