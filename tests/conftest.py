"""Fixtures for every floor: one embedded server a session, one fresh database a test, copied from a template."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from worker.database import Database
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
_numbers = itertools.count(1)

Connect = Callable[..., psycopg.Connection[Any]]


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
def administrator(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection that makes and drops the tests' databases."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        yield connection


@pytest.fixture
def database_url(postgres: PostgresServer, administrator: psycopg.Connection[Any]) -> Iterator[str]:
    """A fresh empty database; the test fails if it leaves a connection of its own open."""
    name = f"test_{next(_numbers)}"
    administrator.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    yield postgres.url(name)
    administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def connect(database_url: str) -> Iterator[Connect]:
    """Opens autocommit connections to the test's database; all are closed at the end."""
    with ExitStack() as stack:

        def opened(**options: Any) -> psycopg.Connection[Any]:
            connection = psycopg.connect(database_url, **{"autocommit": True, **options})
            return stack.enter_context(connection)

        yield opened


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Rowscore's own pool to the test's database; no connection may be checked out when the test ends."""
    opened = Database(database_url)
    yield opened
    checked_out = opened.engine.pool.checkedout()  # type: ignore[attr-defined]
    opened.dispose()
    assert checked_out == 0, f"{checked_out} connections were not given back"
