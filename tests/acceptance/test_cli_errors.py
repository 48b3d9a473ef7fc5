"""What goes wrong, each in one line on stderr with the right exit status and no password in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.support.accounts import SECRET, Account
from tests.support.cli import Cli
from tests.support.databases import INNODB, Session, is_postgresql, only, schema_of
from tests.support.predictions import add_items, states
from worker.demo.servers import PostgresServer
from worker.states import RowState

CONFORMANCE = True


@only("postgresql")  # no database is asked
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("database = ", "rowscore.toml: not valid TOML"),
        (
            '[predictions.churn]\ntable = "items"\ntabel = 1',
            "rowscore.toml: predictions.churn.tabel: unknown key",
        ),
        ("[predictions.churn]\nevery = 5", 'every: expected a duration such as "500ms"'),
        (
            'database = "$NOWHERE_SET"\n' + "{}",
            "rowscore.toml: database: the environment variable NOWHERE_SET is not set",
        ),
        ('database = "not a url"\n' + "{}", "database: not a database URL; expected postgresql://"),
        (f'database = "oracle://u:{SECRET}@db/x"\n' + "{}", "database:"),
    ],
)
def test_a_bad_file_is_told_by_key(cli: Cli, content: str, message: str) -> None:
    section = (
        '[predictions.churn]\ntable = "items"\ninputs = ["a"]\noutputs = {p = "float8"}\nmodel = {sql = "f"}'
    )
    (cli.folder / "rowscore.toml").write_text(content.replace("{}", section))
    result = cli.run("status", status=2)
    assert result.out == ""
    assert all(line.startswith("rowscore: error: ") for line in result.err.splitlines())
    assert message in result.err


def test_a_missing_file_says_how_to_get_one(cli: Cli) -> None:
    assert (
        cli.error("status", "-c", "no.toml", status=2) == "no.toml: no such file; `rowscore init` writes one"
    )


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (
            {"inputs": ["a", "bee"]},
            2,
            "has no column 'bee'; it has id, a, b, note",
        ),
        ({"table": "itmes"}, 1, "predictions.churn.table: there is no table itmes that this role can see"),
        ({"model": {"sql": "predikt"}}, 1, "predictions.churn.model.sql: there is no function predikt"),
        ({"outputs": {"p": "vektor"}}, 1, "predictions.churn.outputs.p: the database has no type 'vektor'"),
    ],
)
@pytest.mark.parametrize("command", ["apply", "run"])
def test_what_is_missing_in_the_database_is_named(
    *, cli: Cli, rows: Session, command: str, options: dict[str, Any], status: int, message: str
) -> None:
    cli.configure(**options)
    said = cli.error(command, status=status)
    assert message in said
    if "bee" in message:
        assert f"predictions.churn.inputs: {schema_of(rows)}.items has" in said


def test_an_unknown_prediction_is_told_with_the_known_ones(cli: Cli) -> None:
    assert cli.error("run", "chrun", status=2) == "rowscore.toml has no prediction 'chrun'; it has churn"


@pytest.mark.parametrize("command", ["run", "backfill", "failures", "status churn", "status churn --json"])
def test_not_applied_yet_says_what_to_do(cli: Cli, command: str) -> None:
    expected = "churn is not applied to this database; run `rowscore apply churn`"
    assert cli.error(*command.split(), status=1) == expected


def test_one_prediction_that_is_not_applied_does_not_hide_the_others(cli: Cli) -> None:
    cli.call("apply")
    file = cli.folder / "rowscore.toml"
    head, section = file.read_text().split("[predictions.churn]")
    later = section.replace("{ p =", "{ q =")
    file.write_text(f"{head}[predictions.later]{later}\n[predictions.churn]{section}")
    out = cli.call("status").out
    assert "not applied yet: rowscore apply later" in out
    assert "0 scored, 1,000 existing" in out
    found = cli.call("status", "--json").document["predictions"]
    assert [(item["prediction"], item["definition"] is None) for item in found] == [
        ("later", True),
        ("churn", False),
    ]
    assert "1,000 existing" in cli.call("status", "churn").out


def test_a_stale_definition_is_refused(cli: Cli) -> None:
    cli.call("apply")
    cli.configure(where="b > 0")
    assert "rowscore apply churn" in cli.error("run", status=1)
    found = cli.call("status")
    assert "rowscore apply churn, or update this file" in found.out


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("postgresql", f"?application_name=a&sslpassword={SECRET}", "Connection refused"),
        ("mysql", "", "Can't connect"),
    ],
)
def test_a_host_that_is_down(tmp_path: Path, scheme: str, options: str, message: str) -> None:
    url = f"{scheme}://someone:{SECRET}@127.0.0.1:1/x{options}"
    said = Cli(tmp_path, url).error("status", status=1)
    assert said.startswith(f"{scheme}://someone:***@127.0.0.1:1/x")
    assert message in said


def test_a_database_that_does_not_exist(cli: Cli, rows: Session) -> None:
    url = make_url(cli.environment["DATABASE_URL"]).set(database="nowhere")
    message = cli.error("status", status=1, DATABASE_URL=url.render_as_string(hide_password=False))
    expected = 'database "nowhere" does not exist' if is_postgresql(rows) else "'nowhere' (1049)"
    assert message.endswith(expected)


@only(*INNODB)
def test_a_wrong_password_and_a_foreign_database(cli: Cli, account: Account) -> None:
    """PostgreSQL of these tests lets everybody in; see the next one."""
    url = account.url.replace("mysql+pymysql:", "mysql:")
    message = cli.error("status", status=1, DATABASE_URL=url.replace(SECRET, "wrong"))
    assert "Access denied for user" in message
    assert message.endswith("(1045)")
    message = cli.error("status", status=1, DATABASE_URL=url)
    assert "@'%' to database" in message
    assert SECRET not in message


@only(*INNODB)
@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "database: the URL names no database"),
        ("/x?ssl=true", "database: the driver does not take"),
        ("/x?no_such_parameter=1", "database: the driver does not take"),
        ("/x?ssl_verify_cert=perhaps", "database: ssl_verify_cert: expected true or false"),
    ],
)
def test_a_url_that_does_not_do_is_told(cli: Cli, rest: str, message: str) -> None:
    url = make_url(cli.environment["DATABASE_URL"])
    server = f"mysql://{url.username}@{url.host}:{url.port}"
    assert message in cli.error("status", status=2, DATABASE_URL=server + rest)


@only("postgresql")
def test_a_wrong_password(cli: Cli, tmp_path: Path) -> None:
    lines = ["host all guarded 127.0.0.1/32 scram-sha-256"]
    settings = {"shared_buffers": "16MB", "fsync": "off", "max_connections": "10"}
    with PostgresServer(tmp_path / "scram", settings=settings, hba_lines=lines) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        url = server.url(user=f"guarded:{SECRET}")
        message = cli.error("status", status=1, DATABASE_URL=url)
    assert 'password authentication failed for user "guarded"' in message


DENIED = r"(permission denied for (table|schema)|denied to user)"


def test_missing_privileges_are_named(cli: Cli, rows: Session, account: Account) -> None:
    url = account.url.replace("mysql+pymysql:", "mysql:")
    if is_postgresql(rows):
        assert "permission denied for table items" in cli.error("apply", status=1, DATABASE_URL=url)
        rows.execute(f"GRANT SELECT ON items TO {account.quoted}")
        assert "GRANT CREATE ON DATABASE" in cli.error("apply", status=1, DATABASE_URL=url)
    else:
        rows.execute(f"GRANT SELECT ON `{schema_of(rows)}`.* TO {account.quoted}")
        rows.execute(f"GRANT EXECUTE ON FUNCTION predict TO {account.quoted}")
        assert "GRANT" in cli.error("apply", status=1, DATABASE_URL=url)
    cli.call("apply")
    add_items(rows, 5)
    assert re.search(DENIED, cli.error("run", status=1, DATABASE_URL=url))
    found = cli.run("doctor", status=1, DATABASE_URL=url).out
    if is_postgresql(rows):
        assert "permission denied" in cli.error("status", status=1, DATABASE_URL=url)
        assert "GRANT USAGE ON SCHEMA rowscore TO" in found
    else:
        assert "GRANT UPDATE (`churn_state`, `p`, `churn_scored_at`) ON" in found
        assert "0 scored" in cli.run("status", DATABASE_URL=url).out, "looking needs no more than SELECT"


def test_a_model_at_fault_fails_the_run_with_its_reason(cli: Cli, rows: Session) -> None:
    cli.configure(model={"http": "http://127.0.0.1:1/invocations", "attempts": 1})
    cli.call("apply")
    add_items(rows, 5)
    for _ in range(2):  # the second finds the circuit open
        failed = cli.call("run", status=1)
        assert "no row scored" in failed.out
        assert "127.0.0.1:1" in failed.err
    assert states(rows)[RowState.PENDING] == 5, "no row is charged for it"
    assert "circuit" in cli.call("status").out


def test_an_unreachable_broker_is_the_doctors_finding(cli: Cli) -> None:
    cli.call("apply")
    found = cli.run("doctor", status=1, CELERY_BROKER_URL=f"redis://:{SECRET}@127.0.0.1:1/0")
    assert "broker" in found.out


def test_the_unexpected_is_one_line_with_a_way_to_see_more(cli: Cli) -> None:
    (cli.folder / "broken.py").write_text("raise RuntimeError('at import')")
    cli.configure(model={"python": "broken:score"})
    cli.call("apply")
    assert "RuntimeError: at import" in cli.error("run", status=1)
    with cli.started("run", "--verbose") as running:
        ended = running.end()
    assert ended.status == 1
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1] == "rowscore: error: RuntimeError: at import"
