"""Accounts of the database server that may log in and nothing else, with names that need quotes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import make_url

from tests.support.databases import Session, is_postgresql

SECRET = "s3cret-in-the-url"  # every account's password; whatever runs, this is never printed
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Account:
    """A role of PostgreSQL, a user of MySQL.

    Attributes:
        name: as the server has it.
        quoted: as GRANT has it.
        url: of the test's database, for this account.
    """

    name: str
    quoted: str
    url: str


@contextmanager
def made(connection: Session, url: str) -> Iterator[Account]:
    """An account of this test's own; dropped at the end with all that it owns and was granted."""
    name = (
        f"o'worker {next(_numbers)} {os.getpid()}"  # a server that was given is shared by the test processes
    )
    own = make_url(url).set(username=name, password=SECRET).render_as_string(hide_password=False)
    own = own.replace(" ", "%20")  # as libpq wants it
    if is_postgresql(connection):
        account = Account(name, f'"{name}"', own)
        connection.execute(f"CREATE ROLE {account.quoted} LOGIN")
        yield account
        connection.execute(f"DROP OWNED BY {account.quoted} CASCADE; DROP ROLE {account.quoted}")
        return
    account = Account(name, "'" + name.replace("'", "''") + "'@'%'", own)
    connection.execute(f"DROP USER IF EXISTS {account.quoted}")
    connection.execute(f"CREATE USER {account.quoted} IDENTIFIED BY '{SECRET}'")
    yield account
    connection.execute(f"DROP USER {account.quoted}")
