"""Fixtures for every floor: one embedded server a session, one fresh database a test, copied from a template."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import accounts
from tests.support.databases import MySQLSession, databases, session
from tests.support.mysql import MySQL, served
from worker.database import Database
from worker.demo.installs import mariadb_install, mysql_install
from worker.demo.postgres import wheel_install_16
from worker.demo.servers import PostgresServer

_SERVER_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "deadlock_timeout": "200ms",
}
_MEMORY = "/dev/shm"  # on Linux; Docker gives 64 MB
_ROOM = 6 << 30  # bytes
_numbers = itertools.count(1)

Connect = Callable[..., Any]  # a psycopg connection, or what speaks like one


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One PostgreSQL for this test process, without durability: 18, or the one in $ROWSCORE_TEST_POSTGRESQL."""
    folder: Path = tmp_path_factory.mktemp("postgres")
    other = os.environ.get("ROWSCORE_TEST_POSTGRESQL")
    install = wheel_install_16() if other == "16" else Path(other) if other else None
    with PostgresServer(folder, settings=_SERVER_SETTINGS, install=install) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """An older server, for what differs there."""
    folder: Path = tmp_path_factory.mktemp("postgres16")
    with PostgresServer(folder, settings=_SERVER_SETTINGS, install=wheel_install_16()) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MySQL]:
    """One MariaDB for this test process, without durability, or the server in $ROWSCORE_TEST_MYSQL_URL."""
    yield from served(tmp_path_factory.mktemp("mariadb"), mariadb_install)


@pytest.fixture(scope="session")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MySQL]:
    """The same with MySQL; skipped unless $ROWSCORE_TEST_MYSQL is set."""
    yield from served(tmp_path_factory.mktemp("mysql"), mysql_install)


@pytest.fixture(scope="session")
def administrator(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection that makes and drops the tests' databases."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        yield connection


def pytest_configure() -> None:
    """Temporary files in memory, and Ctrl-C counts."""
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY
    # In the commands that tests start as well: a shell's background jobs begin with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _has_room() -> bool:
    """Whether there is a file system in memory that holds the servers of some test processes.

    A thousand databases come and go, each of hundreds of files: the suite takes a third less time there.
    """
    try:
        return shutil.disk_usage(_MEMORY).free >= _ROOM and os.access(_MEMORY, os.W_OK)
    except OSError:
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The conformance suite runs once for each database, or for each of those that a module is about."""
    suite = getattr(metafunc.module, "CONFORMANCE", False)
    marked = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    chosen = any(
        "database_url" in (names.split(",") if isinstance(names, str) else names) for names in marked
    )
    if suite and not chosen and "database_url" in metafunc.fixturenames:
        here = [name for name in databases() if suite is True or name in suite]
        metafunc.parametrize("database_url", here, indirect=True, scope="function")


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh empty database, of PostgreSQL unless the module is of the conformance suite."""
    name = f"test_{next(_numbers)}"
    kind = getattr(request, "param", "postgresql")
    if kind == "postgresql":
        administrator: psycopg.Connection[Any] = request.getfixturevalue("administrator")
        administrator.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        yield request.getfixturevalue("postgres").url(name)
        administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        return
    server: MySQL = request.getfixturevalue(kind)
    name = f"{name}_{os.getpid()}"  # a server that was given is shared by the test processes
    with MySQLSession(server.url()) as administrators:
        administrators.execute(f"CREATE DATABASE {name}")
        yield server.url(name)
        administrators.execute(f"DROP DATABASE {name}")


@pytest.fixture
def connect(database_url: str) -> Iterator[Connect]:
    """Opens sessions of the application's on the test's database, autocommitting; all are closed at the end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(session(database_url, **options))


@pytest.fixture
def account(database_url: str, connect: Connect) -> Iterator[accounts.Account]:
    """An account of the test's server that may log in and nothing else."""
    with accounts.made(connect(), database_url) as made:
        yield made


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Rowscore's own pool to the test's database; no connection may be checked out when the test ends."""
    opened = Database(database_url)
    yield opened
    checked_out = opened.engine.pool.checkedout()  # type: ignore[attr-defined]
    opened.dispose()
    assert checked_out == 0, f"{checked_out} connections were not given back"
