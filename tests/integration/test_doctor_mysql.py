"""What `doctor` finds where only MySQL and MariaDB are so: single columns' rights, versions, the binary log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.databases import INNODB, Session, schema_of, session
from tests.support.findings import bad, findings, mended
from tests.support.mysql import provided
from tests.support.predictions import applied, configuration, drain, make_items, opened
from worker.database import Database
from worker.demo.installs import mariadb_install
from worker.demo.mysql import MySQLServer
from worker.doctor.findings import Finding, Level
from worker.doctor.server import check_binary_log, check_connection, read_server
from worker.errors import DatabaseError

CONFORMANCE = INNODB


@pytest.fixture
def owner(connect: Connect) -> Session:
    """The application's connection; its table items has three rows."""
    connection: Session = connect()
    make_items(connection, 3)
    return connection


def test_single_columns_and_rights_of_own_tables_are_named(
    database_url: str, owner: Session, account: Account
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
    quoted, schema = account.quoted, f"`{schema_of(owner)}`"
    owner.execute(f"GRANT SELECT (id, a), UPDATE (p) ON items TO {quoted}")
    owner.execute(f"GRANT EXECUTE ON FUNCTION predict TO {quoted}")
    for (name,) in owner.execute("SHOW TABLES LIKE 'rowscore\\_%'").fetchall():
        owner.execute(f"GRANT SELECT, INSERT, UPDATE ON {name} TO {quoted}")
        if name != "rowscore_lease":
            owner.execute(f"GRANT DELETE ON {name} TO {quoted}")
    restricted = configuration(account.url)
    remedies = mended(owner, lambda: findings(restricted))
    assert f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.`rowscore_lease` TO {quoted};" in remedies
    assert any(remedy.startswith("GRANT UPDATE (") for remedy in remedies)
    assert bad(findings(restricted)) == []


def test_rights_that_a_role_or_a_whole_schema_gives_count(
    database_url: str, owner: Session, account: Account
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
    owner.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `{schema_of(owner)}`.* TO {account.quoted}"
    )
    assert bad(findings(configuration(account.url))) == []


def test_a_server_that_cannot_be_written_to_or_is_too_old_is_an_error(database: Database) -> None:
    with database.transaction() as transaction:
        server = read_server(transaction)
    assert next(check_connection(server, database)).level is Level.OK
    old = f"is older than {server.counsel.oldest_label}"
    for other, words in (
        (replace(server, read_only=True), "read-only by default"),
        (replace(server, replica=True), "read replica"),
        (replace(server, version_number=server.counsel.oldest - 1), old),
    ):
        found = next(check_connection(other, database))
        assert found.level is Level.ERROR
        assert words in found.message
        assert found.remedy


def test_a_binary_log_of_statements_is_an_error_and_really_keeps_rows_from_being_scored(
    tmp_path: Path,
) -> None:
    settings = {"log_bin": "bin", "binlog_format": "STATEMENT", "log_bin_trust_function_creators": "ON"}
    with MySQLServer(tmp_path, install=provided(mariadb_install), settings=settings) as server:
        with session(server.url("mysql")) as administrator:
            administrator.execute("CREATE DATABASE shop")
        url = server.url("shop")
        with session(url) as application:
            application.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            make_items(application, 3)
            found = asked(url)
            assert [item.level for item in found] == [Level.ERROR]
            with opened(configuration(url)) as engine, pytest.raises(DatabaseError, match="BINLOG_FORMAT"):
                applied(engine)
            application.execute(str(found[0].remedy))
        assert [item.level for item in asked(url)] == [Level.OK]
        with opened(configuration(url)) as engine, session(url) as application:
            applied(engine)
            application.execute("INSERT INTO items (a, b) VALUES (1, 2)")
            assert drain(engine).scored == 1


def asked(url: str) -> list[Finding]:
    """What is found about the binary log."""
    database = Database(url)
    with database.transaction() as transaction:
        found = list(check_binary_log(transaction, read_server(transaction)))
    database.dispose()
    return found
