"""What the tests of `tune` share: a table of two thousand items, and a model that counts what it costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Connect
from tests.support.databases import Session
from tests.support.predictions import (
    make_items,
)
from tests.support.service import Service


@pytest.fixture
def service() -> Iterator[Service]:
    """A model behind HTTP whose time is counted."""
    with Service() as server:
        yield server


@pytest.fixture
def items(connect: Connect) -> Session:
    """A session on the database with the table items, of 2,000 rows."""
    connection: Session = connect()
    make_items(connection, rows=2000)
    return connection
