"""What goes wrong, each in one line on stderr with the right exit status and no password in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.cli import SECRET, Cli
from tests.support.predictions import add_items, states
from worker.demo.servers import PostgresServer
from worker.states import RowState


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
            "predictions.churn.inputs: public.items has no column 'bee'; it has id, a, b, note",
        ),
        ({"table": "itmes"}, 1, "predictions.churn.table: there is no table itmes that this role can see"),
        ({"model": {"sql": "predikt"}}, 1, "predictions.churn.model.sql: there is no function predikt"),
        ({"outputs": {"p": "vektor"}}, 1, "predictions.churn.outputs.p: the database has no type 'vektor'"),
    ],
)
def test_what_is_missing_in_the_database_is_named(
    cli: Cli, options: dict[str, Any], status: int, message: str
) -> None:
    cli.configure(**options)
    assert message in cli.error("apply", status=status)


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


def test_a_host_that_is_down(cli: Cli) -> None:
    url = f"postgresql://someone:{SECRET}@127.0.0.1:1/x?application_name=a&sslpassword={SECRET}"
    message = cli.error("status", status=1, DATABASE_URL=url)
    assert message.startswith("postgresql://someone:***@127.0.0.1:1/x")
    assert "Connection refused" in message


def test_a_database_that_does_not_exist(cli: Cli, postgres: PostgresServer) -> None:
    message = cli.error("status", status=1, DATABASE_URL=postgres.url("nowhere"))
    assert message.endswith('database "nowhere" does not exist')


def test_a_wrong_password(cli: Cli, tmp_path: Path) -> None:
    lines = ["host all guarded 127.0.0.1/32 scram-sha-256"]
    settings = {"shared_buffers": "16MB", "fsync": "off", "max_connections": "10"}
    with PostgresServer(tmp_path / "scram", settings=settings, hba_lines=lines) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        url = server.url(user=f"guarded:{SECRET}")
        message = cli.error("status", status=1, DATABASE_URL=url)
    assert 'password authentication failed for user "guarded"' in message


def test_missing_privileges_are_named(
    cli: Cli, postgres: PostgresServer, rows: psycopg.Connection[Any]
) -> None:
    role = f"restricted_{rows.info.dbname}"
    rows.execute(f"CREATE ROLE {role} LOGIN")
    url = postgres.url(rows.info.dbname, user=role)
    assert "permission denied for table items" in cli.error("apply", status=1, DATABASE_URL=url)
    rows.execute(f"GRANT SELECT ON items TO {role}")
    assert "GRANT CREATE ON DATABASE" in cli.error("apply", status=1, DATABASE_URL=url)
    cli.call("apply")
    assert "permission denied" in cli.error("run", status=1, DATABASE_URL=url)
    assert "permission denied" in cli.error("status", status=1, DATABASE_URL=url)
    rows.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_model_at_fault_fails_the_run_with_its_reason(cli: Cli, rows: psycopg.Connection[Any]) -> None:
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
