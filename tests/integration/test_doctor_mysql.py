"""What `doctor` finds on MySQL and MariaDB, and that its advice mends it: each remedy is run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.databases import MySQLSession, databases, schema_of, session
from tests.support.deadlines import eventually
from tests.support.mysql import provided
from tests.support.predictions import applied, configuration, drain, make_items, opened, states
from worker.config import Configuration
from worker.database import Database
from worker.demo.installs import mariadb_install
from worker.demo.mysql import MySQLServer
from worker.doctor.examination import examine
from worker.doctor.findings import Finding, Level
from worker.doctor.server import check_binary_log, check_connection, check_snapshots, read_server
from worker.errors import DatabaseError
from worker.states import RowState

_accounts = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL, of whose `doctor` another module speaks."""
    if "database_url" in metafunc.fixturenames:
        here = [name for name in databases() if name != "postgresql"]
        metafunc.parametrize("database_url", here, indirect=True)


@pytest.fixture
def owner(connect: Connect) -> MySQLSession:
    """The application's connection; its table items has three rows."""
    connection: MySQLSession = connect()
    make_items(connection, 3)
    return connection


@pytest.fixture
def account(connect: Connect) -> Iterator[tuple[str, str]]:
    """An account that may log in and see one table that is not ours: its name as URLs have it, and quoted."""
    name = f"h7 o'worker {next(_accounts)}"
    quoted = "'" + name.replace("'", "''") + "'@'%'"
    connection = connect()
    connection.execute(f"DROP USER IF EXISTS {quoted}")
    connection.execute(f"CREATE USER {quoted} IDENTIFIED BY 'secret'")
    connection.execute("CREATE TABLE other (id int PRIMARY KEY)")
    connection.execute(f"GRANT SELECT ON other TO {quoted}")
    yield name, quoted
    connection.execute(f"DROP USER {quoted}")


def as_account(url: str, account: tuple[str, str]) -> str:
    named = make_url(url).set(username=account[0], password="secret")
    return named.render_as_string(hide_password=False)


def findings(config: Configuration) -> list[Finding]:
    """All but the broker's, which these tests do without."""
    with opened(config) as engine:
        found = list(examine(engine, config.predictions.values()))
    assert [item.subject for item in found[-1:]] == ["broker"]
    return found[:-1]


def about(found: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in found if finding.subject == subject]


def the(found: list[Finding], subject: str) -> Finding:
    (finding,) = about(found, subject)
    return finding


def bad(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is not Level.OK]


def mended(admin: MySQLSession, ask: Callable[[], list[Finding]], rounds: int = 6) -> list[str]:
    """Runs the remedies of all errors until there is none; returns them in order. No remedy comes twice."""
    run: list[str] = []
    for _ in range(rounds):
        errors = [finding for finding in ask() if finding.level is Level.ERROR]
        if not errors:
            return run
        remedies = [finding.remedy for finding in errors]
        assert all(remedy and remedy.endswith(";") for remedy in remedies), errors
        assert not set(remedies) & set(run), f"a remedy did not mend it: {errors}"
        for remedy in remedies:
            admin.execute(str(remedy))
            run.append(str(remedy))
    raise AssertionError(f"still errors after {run}")


# --- all is well ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_an_applied_prediction_is_well(database_url: str) -> None:
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
    found = findings(config)
    assert bad(found) == []
    subjects = [finding.subject for finding in found]
    assert subjects[:5] == ["configuration", "import names", "connection", "isolation", "transactions"]
    expected = {"binary log", "table", "key", "privileges", "function", "applied", "ownership", "pending index",
                "view", "triggers", "inserts"}  # fmt: skip
    assert expected <= set(subjects)
    assert not {"vacuum", "row security", "aws_ml"} & set(subjects), "what is not there is not spoken of"
    product = "MariaDB 1" if "mariadb" in the(found, "connection").message.lower() else "MySQL "
    assert product in the(found, "connection").message
    assert "repeatable read" in the(found, "isolation").message


@pytest.mark.usefixtures("owner")
def test_before_apply_it_says_so_and_nothing_fails(database_url: str) -> None:
    found = findings(configuration(database_url))
    assert [finding.subject for finding in bad(found)] == ["applied"]
    assert the(found, "applied").remedy == "rowscore apply churn"
    assert "are not there yet" in the(found, "own tables").message


# --- privileges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["update", "select"])
def test_the_grants_that_it_names_let_a_worker_score(
    database_url: str, owner: MySQLSession, account: tuple[str, str], mode: str
) -> None:
    shape: dict[str, Any] = {"model": {"sql": "predict", "mode": mode}}
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
    restricted = configuration(as_account(database_url, account), **shape)
    remedies = mended(owner, lambda: findings(restricted))
    schema, quoted = f"`{schema_of(owner)}`", account[1]
    own = ["batch", "circuit", "failure", "learned", "lease", "prediction", "run"]
    grants = [f"GRANT SELECT ON {schema}.`rowscore_alembic_version` TO {quoted};"]
    grants += [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.`rowscore_{name}` TO {quoted};" for name in own
    ]
    assert remedies == [
        f"GRANT SELECT ON {schema}.`items` TO {quoted};",
        "\n".join(grants),
        f"GRANT EXECUTE ON FUNCTION {schema}.`predict` TO {quoted};",
        f"GRANT UPDATE (`churn_state`, `p`, `churn_scored_at`) ON {schema}.`items` TO {quoted};",
    ]
    owner.execute("INSERT INTO items (a, b) VALUES (1, 2), (3, 4)")
    with opened(restricted) as engine:
        assert drain(engine).scored == 2
    assert states(owner) == {RowState.EXISTING: 3, RowState.SCORED: 2}
    found = findings(restricted)
    assert bad(found) == []
    assert "it may not `apply`" in the(found, "ownership").message
    assert "GRANT PROCESS ON *.* TO" in the(found, "transactions").message


def test_single_columns_and_rights_of_own_tables_are_named(
    database_url: str, owner: MySQLSession, account: tuple[str, str]
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
    quoted, schema = account[1], f"`{schema_of(owner)}`"
    owner.execute(f"GRANT SELECT (id, a), UPDATE (p) ON items TO {quoted}")
    owner.execute(f"GRANT EXECUTE ON FUNCTION predict TO {quoted}")
    for (name,) in owner.execute("SHOW TABLES LIKE 'rowscore\\_%'").fetchall():
        owner.execute(f"GRANT SELECT, INSERT, UPDATE ON {name} TO {quoted}")
        if name != "rowscore_lease":
            owner.execute(f"GRANT DELETE ON {name} TO {quoted}")
    restricted = configuration(as_account(database_url, account))
    remedies = mended(owner, lambda: findings(restricted))
    assert f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.`rowscore_lease` TO {quoted};" in remedies
    assert any(remedy.startswith("GRANT UPDATE (") for remedy in remedies)
    assert bad(findings(restricted)) == []


def test_rights_that_a_role_or_a_whole_schema_gives_count(
    database_url: str, owner: MySQLSession, account: tuple[str, str]
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
    owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `{schema_of(owner)}`.* TO {account[1]}")
    assert bad(findings(configuration(as_account(database_url, account)))) == []


def test_an_account_that_may_not_apply_is_told_what_it_lacks(
    database_url: str, owner: MySQLSession, account: tuple[str, str]
) -> None:
    owner.execute(f"GRANT SELECT, UPDATE, EXECUTE ON `{schema_of(owner)}`.* TO {account[1]}")
    found = findings(configuration(as_account(database_url, account)))
    assert [finding.subject for finding in bad(found)] == ["applied", "ownership"]
    assert "ALTER" in the(found, "ownership").message


# --- the table and what apply made ------------------------------------------------------------------------


def broken(url: str, owner: MySQLSession, statement: str, **overrides: Any) -> list[Finding]:
    """The findings after `apply` and then some statement of somebody's."""
    config = configuration(url, **overrides)
    with opened(config) as engine:
        applied(engine)
    owner.execute(statement)
    return findings(config)


@pytest.mark.parametrize(
    ("statement", "subject", "level", "words"),
    [
        ("ALTER TABLE items DROP KEY rowscore_churn_pending", "pending index", Level.ERROR, "is missing"),
        (
            "ALTER TABLE items DROP KEY rowscore_churn_pending, ADD KEY rowscore_churn_pending (churn_state, a)",
            "pending index",
            Level.ERROR,
            "is over other columns",
        ),
        ("DROP VIEW items_scored", "view", Level.WARNING, "is missing"),
        ("DROP TRIGGER zzz_rowscore_churn", "applied", Level.WARNING, "trigger"),
    ],
)
def test_what_was_broken_since_is_found_and_mended_by_apply(
    *,
    database_url: str,
    owner: MySQLSession,
    statement: str,
    subject: str,
    level: Level,
    words: str,
) -> None:
    broke = broken(database_url, owner, statement)
    found = [item for item in about(broke, subject) if item.level is not Level.OK]
    assert [item.level for item in found if words in item.message] == [level]
    assert {finding.remedy for finding in bad(broke)} == {"rowscore apply churn"}
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
    assert bad(findings(config)) == []


def test_a_view_with_its_definers_rights_is_mended(database_url: str, owner: MySQLSession) -> None:
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
        text = "SELECT view_definition FROM information_schema.views WHERE table_schema = DATABASE()"
        ((definition,),) = owner.execute(text).fetchall()
        owner.execute(f"ALTER SQL SECURITY DEFINER VIEW items_scored AS {definition}")
        found = the(findings(config), "view")
        assert found.level is Level.WARNING
        owner.execute(str(found.remedy))
        applied(engine)
    assert the(findings(config), "view").level is Level.OK


def test_triggers_of_the_applications_that_a_prediction_fires_are_named(
    database_url: str, owner: MySQLSession
) -> None:
    owner.execute("CREATE TRIGGER stamps BEFORE UPDATE ON items FOR EACH ROW SET NEW.note = 'x'")
    owner.execute("CREATE TRIGGER audit AFTER UPDATE ON items FOR EACH ROW SET @seen = 1")
    owner.execute("CREATE TRIGGER births BEFORE INSERT ON items FOR EACH ROW SET NEW.note = 'y'")
    found = about(findings(configuration(database_url)), "triggers")
    assert [(item.level, item.message) for item in found] == [
        (Level.WARNING, "stamps (BEFORE UPDATE) fires for each row that rowscore writes"),
        (Level.WARNING, "audit (AFTER UPDATE) fires for each row that rowscore writes"),
    ]
    assert all("NEW.column <=> OLD.column" in str(item.remedy) for item in found)


def test_a_trigger_that_still_calls_the_model_in_every_insert_is_named_with_what_drops_it(
    database_url: str, owner: MySQLSession
) -> None:
    owner.execute(
        "CREATE TRIGGER `ask it` BEFORE INSERT ON items FOR EACH ROW SET NEW.note = predict(NEW.a, NEW.b)"
    )
    config = configuration(database_url)
    removal = f"DROP TRIGGER `{schema_of(owner)}`.`ask it`;"
    assert the(findings(config), "inserts").remedy == f"once rowscore scores the rows: {removal}"
    with opened(config) as engine:
        applied(engine)
    found = the(findings(config), "inserts")
    assert found.message == "every INSERT still waits for the model: ask it (BEFORE INSERT) calls it"
    assert found.remedy == removal
    owner.execute(removal)
    assert the(findings(config), "inserts").level is Level.OK


# --- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "subject", "words"),
    [
        ({"table": "nowhere"}, "table", "there is no table nowhere"),
        ({"inputs": ["a", "bb"]}, "definition", "has no column 'bb'"),
        ({"inputs": ["a", {"name": "x", "sql": "b +"}]}, "definition", "inputs: x: the database refuses it"),
        ({"inputs": ["a"]}, "definition", "takes 2 arguments"),
        ({"model": {"sql": "predicted"}}, "function", "there is no function predicted"),
        ({"table": "keyless"}, "table", "it has no key that is unique and NOT NULL"),
        ({"table": "calls"}, "table", "not a table of InnoDB"),
        ({"model": {"python": "no_such_module:predict"}}, "model", "cannot import no_such_module"),
    ],
)
def test_what_does_not_fit_is_named(
    database_url: str, owner: MySQLSession, overrides: dict[str, Any], subject: str, words: str
) -> None:
    owner.execute("CREATE TABLE keyless (a double, b int)")
    found = [item for item in findings(configuration(database_url, **overrides)) if item.level is Level.ERROR]
    assert [(item.subject, words in item.message) for item in found] == [(subject, True)], found


# --- the server -------------------------------------------------------------------------------------------


def test_old_transactions_are_named_with_the_session_to_end(database: Database, connect: Connect) -> None:
    idle = connect(autocommit=False)
    idle.execute("CREATE TABLE seen (id int)")
    idle.execute("SELECT * FROM seen")
    ((number,),) = idle.execute("SELECT CONNECTION_ID()").fetchall()

    def named() -> list[Finding]:
        with database.transaction() as transaction:
            found = list(check_snapshots(transaction, read_server(transaction), -1))
        return [item for item in found if f"session {number} (" in item.message]

    (found,) = named()
    assert found.level is Level.WARNING
    assert "no purge removes dead rows meanwhile" in found.message
    connect().execute(str(found.remedy).partition("or: ")[2])
    with pytest.raises(pymysql.err.OperationalError):
        idle.execute("SELECT 1")
    eventually(lambda: named() == [], "its end")


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
