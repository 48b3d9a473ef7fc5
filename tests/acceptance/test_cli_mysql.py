"""`rowscore` on MySQL and MariaDB: the whole way by the command line, and what goes wrong, each in one line."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.cli import SECRET, Cli
from tests.support.databases import MySQLSession, databases, schema_of
from tests.support.predictions import add_items, fail_at, make_items, states
from worker.states import RowState

_accounts = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL, of whose command line other modules speak."""
    if "database_url" in metafunc.fixturenames:
        here = [name for name in databases() if name != "postgresql"]
        metafunc.parametrize("database_url", here, indirect=True)


@pytest.fixture
def rows(connect: Connect) -> MySQLSession:
    """A connection to the database with the table items."""
    connection: MySQLSession = connect()
    make_items(connection, rows=1000)
    return connection


@pytest.fixture
def cli(tmp_path: Path, database_url: str, rows: MySQLSession) -> Cli:
    """The command in a folder of its own."""
    assert schema_of(rows) in database_url
    return Cli(tmp_path, database_url.replace("mysql+pymysql:", "mysql:"))


@pytest.fixture
def account(rows: MySQLSession) -> Iterator[str]:
    """An account with the secret for its password, and the privileges that the database's default plugin checks."""
    name = f"cli{next(_accounts)}"
    rows.execute(f"DROP USER IF EXISTS '{name}'@'%'")
    rows.execute(f"CREATE USER '{name}'@'%' IDENTIFIED BY '{SECRET}'")
    yield name
    rows.execute(f"DROP USER '{name}'@'%'")


def as_account(cli: Cli, account: str, **parts: str) -> str:
    """The URL for that account."""
    url = make_url(cli.environment["DATABASE_URL"]).set(username=account, password=SECRET, **parts)
    return url.render_as_string(hide_password=False)


def test_the_whole_way(cli: Cli, rows: MySQLSession) -> None:
    (cli.folder / "rowscore.toml").unlink()
    cli.call("init")
    written = tomllib.loads((cli.folder / "rowscore.toml").read_text())["predictions"]["predict"]
    assert written["model"] == {"sql": "predict"}
    assert written["outputs"] == {"predict_prediction": "double"}
    cli.configure()
    assert "not yet" in cli.call("doctor").out
    assert "churn is applied" in cli.call("apply").out
    add_items(rows, 500)
    fail_at(rows, 7)
    out = cli.call("run").out
    assert "499 rows scored" in out
    assert "1 failed" in out
    assert "a = 7 is poison" in cli.call("failures").out
    (failure,) = cli.call("failures", "--json").document["failures"]
    assert (failure["key"], failure["attempts"]) == (["1007"], 1)
    assert failure["last_failed_at"].endswith("+00:00")
    fail_at(rows, -1)
    assert "1 row waits" in cli.call("failures", "--retry").out
    cli.call("run")
    assert "backfill finished: 1,000 rows scored" in cli.call("backfill").out
    assert states(rows) == {RowState.SCORED.value: 1500}
    (status,) = cli.call("status", "--json").document["predictions"]
    assert status["rows"]["scored"] == 1500
    assert status["definition"]["applied_at"].endswith("+00:00")
    assert "1,500 scored" in cli.call("status").out
    assert "batch mode: no" in cli.call("explain").out
    assert "0 failures" in cli.call("doctor").out
    assert "FORCE INDEX (`rowscore_churn_pending`)" in cli.call("sql", "score_rows").out
    assert "try_delete" in cli.call("sql").out, "the statements of the configured database are listed"


@pytest.mark.parametrize("options", ["", "?ssl_disabled=true"], ids=["as the server likes it", "without TLS"])
def test_an_account_with_the_servers_usual_password_plugin_may_log_in(
    cli: Cli, rows: MySQLSession, account: str, options: str
) -> None:
    """MySQL's caching_sha2_password sends the password by TLS, or encrypted with the server's key."""
    rows.execute(f"GRANT ALL ON `{schema_of(rows)}`.* TO '{account}'@'%'")
    rows.execute("FLUSH PRIVILEGES")  # MySQL forgets who logged in before, to whom it asks less
    cli.environment["DATABASE_URL"] = as_account(cli, account) + options
    cli.call("apply")
    add_items(rows, 10)
    assert "10 rows scored" in cli.call("run").out


def test_a_wrong_password_a_foreign_database_and_a_host_that_is_down(cli: Cli, account: str) -> None:
    url = as_account(cli, account)
    label = url.replace(SECRET, "***")
    message = cli.error("status", status=1, DATABASE_URL=url.replace(SECRET, "wrong"))
    assert message.startswith(f"{label}: Access denied for user '{account}'@")
    assert message.endswith("(1045)")
    message = cli.error("status", status=1, DATABASE_URL=url)
    assert message.startswith(f"{label}: Access denied for user '{account}'@'%' to database")
    missing = cli.environment["DATABASE_URL"] + "x"
    assert cli.error("status", status=1, DATABASE_URL=missing).endswith("x' (1049)")
    down = f"mysql://someone:{SECRET}@127.0.0.1:1/x"
    assert "Can't connect" in cli.error("status", status=1, DATABASE_URL=down)
    assert "mysql://someone:***@127.0.0.1:1/x" in cli.error("status", status=1, DATABASE_URL=down)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "database: the URL names no database"),
        ("/x?ssl=true", "database: the driver does not take"),
        ("/x?no_such_parameter=1", "database: the driver does not take"),
    ],
)
def test_a_url_that_does_not_do_is_told(cli: Cli, rest: str, message: str) -> None:
    url = make_url(cli.environment["DATABASE_URL"])
    server = f"mysql://{url.username}@{url.host}:{url.port}"
    assert message in cli.error("status", status=2, DATABASE_URL=server + rest)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"inputs": ["a", "bee"]}, 2, "has no column 'bee'; it has id, a, b, note"),
        ({"table": "itmes"}, 1, "predictions.churn.table: there is no table itmes that this role can see"),
        ({"model": {"sql": "predikt"}}, 1, "predictions.churn.model.sql: there is no function predikt"),
        ({"outputs": {"p": "vektor"}}, 1, "predictions.churn.outputs.p: the database has no type 'vektor'"),
    ],
)
@pytest.mark.parametrize("command", ["apply", "run"])
def test_what_is_missing_in_the_database_is_named(
    *, cli: Cli, command: str, options: dict[str, object], status: int, message: str
) -> None:
    cli.configure(**options)
    assert message in cli.error(command, status=status)


def test_missing_privileges_are_named(cli: Cli, rows: MySQLSession, account: str) -> None:
    cli.call("apply")
    add_items(rows, 5)
    rows.execute(f"GRANT SELECT ON `{schema_of(rows)}`.* TO '{account}'@'%'")
    rows.execute(f"GRANT EXECUTE ON FUNCTION predict TO '{account}'@'%'")
    cli.environment["DATABASE_URL"] = as_account(cli, account)
    assert "denied to user" in cli.error("run", status=1)
    found = cli.run("doctor", status=1).out
    assert "GRANT UPDATE (`churn_state`, `p`, `churn_scored_at`) ON" in found
    assert "0 scored" in cli.call("status").out, "looking needs no more than SELECT"
