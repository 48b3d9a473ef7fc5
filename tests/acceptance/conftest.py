"""What the tests of the command line share: a table of a thousand items, the command beside it, a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.databases import Session
from tests.support.predictions import make_items
from tests.support.scorer import Scorer


@pytest.fixture
def rows(connect: Connect) -> Session:
    """A connection to the database with the table items."""
    connection: Session = connect()
    make_items(connection, rows=1000)
    return connection


@pytest.fixture
def cli(tmp_path: Path, database_url: str, rows: Session) -> Cli:
    """The command in a folder of its own; users write the URL without a driver."""
    assert rows is not None
    return Cli(tmp_path, database_url.replace("mysql+pymysql:", "mysql:"))


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    """A model behind HTTP in this process."""
    with Scorer() as server:
        yield server
