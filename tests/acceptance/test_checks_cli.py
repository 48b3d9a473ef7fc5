"""`rowscore init`, `doctor` and `explain` as a user runs them: what they print, where, and exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.cli import SECRET, Cli
from tests.support.databases import Session, analyse, dialect, is_postgresql, schema_of
from tests.support.predictions import add_items, make_items
from worker.config import read_configuration

CONFORMANCE = True
SECOND = """
[predictions.second]
table = "items"
inputs = ["a", "b"]
outputs = { q = "double precision" }
model = { sql = "predict" }
"""


@pytest.fixture
def owner(connect: Connect) -> Session:
    """The application's connection; its table items has 20 rows."""
    connection = connect()
    make_items(connection, 20)
    return connection


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Cli:
    """A folder with a file for churn; no broker is set."""
    made = Cli(tmp_path, database_url.replace("mysql+pymysql:", "mysql:"))
    made.environment.pop("CELERY_BROKER_URL", None)
    return made


@pytest.fixture
def empty(cli: Cli) -> Cli:
    """The same without the file."""
    file(cli).unlink()
    return cli


def file(cli: Cli) -> Path:
    return cli.folder / "rowscore.toml"


# --- init -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_init_writes_a_file_that_doctor_takes(empty: Cli) -> None:
    done = empty.run("init")
    assert "wrote rowscore.toml" in done.out
    assert "rowscore doctor" in done.out
    prediction = read_configuration(file(empty)).prediction()
    assert [item.column for item in prediction.inputs] == ["a", "b"]
    assert prediction.model.model_dump(exclude_none=True) == {"sql": "predict", "mode": "update"}
    empty.call("doctor")


@pytest.mark.usefixtures("owner")
def test_init_never_overwrites_unless_it_is_told_to(empty: Cli) -> None:
    file(empty).write_text("precious\n")
    assert "--force" in empty.error("init", status=2)
    assert file(empty).read_text() == "precious\n"
    empty.call("init", "--force")
    assert "precious" not in file(empty).read_text()


@pytest.mark.usefixtures("owner")
def test_init_to_stdout_prints_the_file_and_nothing_else_there(empty: Cli) -> None:
    done = empty.call("init", "--output", "-")
    assert not file(empty).exists()
    file(empty).write_text(done.out)
    assert read_configuration(file(empty)).prediction().table == "items"
    assert "inputs" in done.err


def test_init_lists_the_tables_where_it_cannot_ask(empty: Cli, connect: Connect) -> None:
    connection = connect()
    schema = schema_of(connection)
    for name in ("orders", "people"):
        connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, a int)")
    done = empty.run("init", status=2)
    assert f"{schema}.orders" in done.out
    assert "--table" in done.out
    assert not file(empty).exists()
    found = empty.run("init", "--json", status=2).document
    assert sorted(item["table"] for item in found["candidates"]) == [f"{schema}.orders", f"{schema}.people"]
    empty.call("init", "--table", "people")
    assert read_configuration(file(empty)).prediction().table == "people"


def test_init_in_json_tells_all(empty: Cli, owner: Session) -> None:
    found = empty.call("init", "--json", "--output", "mine.toml").document
    assert (found["file"], found["table"], found["functions"]) == (
        "mine.toml",
        f"{schema_of(owner)}.items",
        ["predict"],
    )
    assert found["toml"] == (empty.folder / "mine.toml").read_text()


def test_init_without_a_database_says_what_to_set(empty: Cli) -> None:
    del empty.environment["DATABASE_URL"]
    assert "DATABASE_URL" in empty.error("init", status=2)


def test_init_keeps_a_given_password_out_of_everything(empty: Cli, owner: Session, account: Account) -> None:
    given = make_url(empty.environment.pop("DATABASE_URL"))
    if is_postgresql(owner):  # which lets everybody in
        url = given.set(password=SECRET).render_as_string(hide_password=False)
    else:
        owner.execute(f"GRANT ALL ON `{schema_of(owner)}`.* TO {account.quoted}")
        url = account.url.replace("mysql+pymysql:", "mysql:")
    done = empty.run("init", "--database", url)  # which looks for the secret in all that it prints
    assert SECRET not in file(empty).read_text()
    assert "export DATABASE_URL" in done.out


# --- doctor -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_doctor_prints_one_line_a_check_and_the_remedy_below(cli: Cli) -> None:
    done = cli.run("doctor")
    lines = done.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("warning  applied"))
    assert lines[place + 1] == "         rowscore apply churn"
    assert any(line.startswith("ok       connection") for line in lines)
    assert any(line.startswith("warning  broker") for line in lines)
    assert lines[-1].startswith("0 failures, ")
    assert done.err == ""


def test_doctor_fails_with_what_is_wrong_and_how_to_mend_it(cli: Cli, owner: Session) -> None:
    cli.call("apply")
    owner.execute(f"DROP INDEX rowscore_churn_pending{'' if is_postgresql(owner) else ' ON items'}")
    found = cli.call("doctor", "churn", "--json", status=1).document
    assert (found["ok"], found["errors"]) == (False, 1)
    (error,) = [item for item in found["findings"] if item["level"] == "error"]
    assert (error["subject"], error["prediction"]) == ("pending index", "churn")
    assert error["remedy"] == "rowscore apply churn"
    cli.call("apply")
    assert cli.call("doctor", "--json").document["ok"]


@pytest.mark.usefixtures("owner")
def test_doctor_checks_all_predictions_or_the_one_named(cli: Cli) -> None:
    with file(cli).open("a") as opened:
        opened.write(SECOND)
    everything = cli.call("doctor").out
    assert "churn: key" in everything
    assert "second: key" in everything
    assert "second" not in cli.call("doctor", "churn").out.partition("\n")[2]


@pytest.mark.usefixtures("owner")
def test_doctor_names_a_folder_that_shadows_rowscores_packages(cli: Cli) -> None:
    (cli.folder / "tasks").mkdir()
    (cli.folder / "tasks" / "__init__.py").touch()
    assert f"`import tasks` finds {cli.folder / 'tasks'}" in cli.run("doctor", status=1).out


@pytest.mark.parametrize("command", ["doctor", "explain"])
def test_without_a_file_it_is_bad_usage(empty: Cli, command: str) -> None:
    assert empty.error(command, status=2) == "rowscore.toml: no such file; `rowscore init` writes one"


# --- explain ----------------------------------------------------------------------------------------------


NAMES = {
    "postgresql": ["probe_window", "claim_rows", "score_rows_in_place", "score_rows"],
    "mysql": ["probe_window", "score_rows"],
}


def test_explain_shows_plans_verdicts_and_batch_mode(cli: Cli, owner: Session) -> None:
    cli.call("apply")
    add_items(owner, 100)
    analyse(owner)
    out = cli.run("explain").out
    schema = schema_of(owner)
    assert f"planned for the next 100 rows of {schema}.items that wait" in out
    assert (
        "Index Only Scan using rowscore_churn_pending" if is_postgresql(owner) else "rowscore_churn_pending"
    ) in out
    names = NAMES[dialect(owner)]
    assert out.count(f"ok       no sequential scan or hash join over {schema}.items") == len(names)
    assert f"batch mode: no, because {schema}.predict calls no service" in out
    found = cli.call("explain", "--json").document
    assert [item["name"] for item in found["statements"]] == names
    assert found["by_index"]
    assert found["batch_mode"]["batched"] is False


def test_explain_fails_where_the_cost_follows_the_table(cli: Cli, owner: Session) -> None:
    """MySQL's statements name the index, so there the server itself refuses them."""
    cli.call("apply")
    owner.execute(f"DROP INDEX rowscore_churn_pending{'' if is_postgresql(owner) else ' ON items'}")
    add_items(owner, 100)
    said = cli.run("explain", status=1)
    if is_postgresql(owner):
        assert "failed   a sequential scan over items: its cost follows the table" in said.out
    else:
        assert "Key 'rowscore_churn_pending' doesn't exist in table" in said.err


@pytest.mark.usefixtures("owner")
def test_explain_before_apply_says_what_to_do(cli: Cli) -> None:
    assert "rowscore apply churn" in cli.error("explain", status=1)
