"""Tests of what older servers lack, which are skipped there with the reason."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest


def reaches(connection: psycopg.Connection[Any], major: int) -> bool:
    """Whether the server is of this major version of PostgreSQL or a later one."""
    return connection.info.server_version >= major * 10_000


def needs(connection: psycopg.Connection[Any], major: int, what: str) -> None:
    """Skip the test where the server is older than what it tests."""
    if not reaches(connection, major):
        pytest.skip(f"{what} came with PostgreSQL {major}")
