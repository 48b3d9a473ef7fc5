"""The MariaDB or MySQL that tests run against: an embedded one, or a server of yours in $ROWSCORE_TEST_MYSQL_URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import make_url

from worker.demo.installs import Install, mysql_install
from worker.demo.mysql import MySQLServer
from worker.demo.process import ProcessError

URL = "ROWSCORE_TEST_MYSQL_URL"  # of an account that may make databases and accounts
REAL = "ROWSCORE_TEST_MYSQL"  # 1: tests of MySQL run, too, beside those of MariaDB


class MySQL(Protocol):
    """A server by the URLs of its databases."""

    def url(self, database: str = "mysql") -> str:
        """The URL of a database, for SQLAlchemy and PyMySQL."""
        ...


class GivenServer:
    """A server that runs somewhere else."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def url(self, database: str = "mysql") -> str:
        """The URL that was given, with this database for its own."""
        return self._url.set(database=database).render_as_string(hide_password=False)


def provided(install: Callable[[], Install]) -> Install:
    """The programs, downloaded if need be; the test is skipped where they can not be had."""
    try:
        return install()
    except ProcessError as exc:
        pytest.skip(f"{exc}, or set {URL}")


def skip_unless_real() -> None:
    """Skips a test of MySQL itself, which starts slowly, in the ordinary run."""
    if not os.environ.get(REAL):
        pytest.skip(f"tests of MySQL run with {REAL}=1")


def served(folder: Path, install: Callable[[], Install]) -> Iterator[MySQL]:
    """The server that was given, or an embedded one until the caller is done with it."""
    if given := os.environ.get(URL):
        yield GivenServer(given)
        return
    if install is mysql_install:
        skip_unless_real()
    with MySQLServer(folder, install=provided(install)) as server:
        yield server
