"""The MariaDB or MySQL that tests run against: an embedded one, or a server of yours in $ROWSCORE_TEST_MYSQL_URL.

`python -m tests.support.mysql` says which MySQL that is, or what is missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from worker.database import Database, normalise_url
from worker.demo.installs import Install, mysql_install
from worker.demo.mysql import MySQLServer
from worker.demo.process import ProcessError
from worker.errors import RowscoreError

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
        self._url = normalise_url(url)

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


def found() -> str:
    """The MySQL that its tests are going to run against, downloaded if need be; ProcessError where there is none."""
    given = os.environ.get(URL)
    if not given:
        try:
            return mysql_install().title
        except ProcessError as exc:
            raise ProcessError(f"{exc}, or set {URL}") from exc
    try:
        with Database(GivenServer(given).url()).transaction() as transaction:
            version = transaction.value("SELECT VERSION()")
    except RowscoreError as exc:
        raise ProcessError(f"{URL}: {exc}") from exc
    if transaction.capabilities.dialect != "mysql":
        raise ProcessError(f"{URL} names no MySQL; its version is {version}")
    return f"MySQL {version}, the one of {URL}"


if __name__ == "__main__":
    try:
        print(f"The tests run against {found()}")
    except ProcessError as error:
        sys.exit(f"Error: {error}")
