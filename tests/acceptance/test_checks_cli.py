"""`rowscore init`, `doctor` and `explain` as processes: what they print, where, and their exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import add_items, applied, make_items, opened
from worker.config import read_configuration
from worker.demo.servers import python_path

TABLE = """
[predictions.{name}]
table = "items"
inputs = ["a", "b"]
outputs = {{ {output} = "double precision" }}
model = {{ sql = "predict" }}
"""


@pytest.fixture
def owner(connect: Connect) -> psycopg.Connection[Any]:
    connection = connect()
    make_items(connection, 20)
    return connection


class Folder:
    """A folder in which `rowscore` is run."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.file = path / "rowscore.toml"
        self._environment = {**os.environ, **python_path(), "DATABASE_URL": url}
        for name in ("CELERY_BROKER_URL", "ROWSCORE_CONFIG"):
            self._environment.pop(name, None)

    def write(self, *sections: str) -> None:
        self.file.write_text('database = "$DATABASE_URL"\n' + "".join(sections))

    def run(self, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        changed = {**self._environment, **environment}
        return subprocess.run(
            [sys.executable, "-P", "-m", "worker.cli", *arguments],
            cwd=self.path,
            env={name: value for name, value in changed.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def folder(tmp_path: Path, database_url: str) -> Folder:
    return Folder(tmp_path, database_url)


def apply_here(folder: Folder, url: str) -> None:
    """Apply what the folder's file says."""
    config = read_configuration(folder.file)
    with opened(config.model_copy(update={"database": url})) as engine:
        applied(engine)


# --- init -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_init_writes_a_file_that_doctor_takes(folder: Folder) -> None:
    done = folder.run("init")
    assert done.returncode == 0, done.stderr
    assert "wrote rowscore.toml" in done.stdout
    assert "rowscore doctor" in done.stdout
    prediction = read_configuration(folder.file).prediction()
    assert [item.column for item in prediction.inputs] == ["a", "b"]
    assert prediction.model.model_dump() == {"sql": "predict", "mode": "update"}
    checked = folder.run("doctor")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.usefixtures("owner")
def test_init_never_overwrites_unless_it_is_told_to(folder: Folder) -> None:
    folder.file.write_text("precious\n")
    done = folder.run("init")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert folder.file.read_text() == "precious\n"
    assert folder.run("init", "--force").returncode == 0
    assert "precious" not in folder.file.read_text()


@pytest.mark.usefixtures("owner")
def test_init_to_stdout_prints_the_file_and_nothing_else_there(folder: Folder) -> None:
    done = folder.run("init", "--output", "-")
    assert done.returncode == 0
    assert not folder.file.exists()
    (folder.path / "other.toml").write_text(done.stdout)
    assert read_configuration(folder.path / "other.toml").prediction().table == "items"
    assert "table" in done.stderr


def test_init_lists_the_tables_where_it_cannot_ask(folder: Folder, connect: Connect) -> None:
    for name in ("orders", "people"):
        connect().execute(f"CREATE TABLE {name} (id int PRIMARY KEY, a int)")
    done = folder.run("init")
    assert done.returncode == 2
    assert "public.orders" in done.stdout
    assert "--table" in done.stdout
    assert not folder.file.exists()
    found = json.loads(folder.run("init", "--json").stdout)
    assert sorted(item["table"] for item in found["candidates"]) == ["public.orders", "public.people"]
    assert folder.run("init", "--table", "people").returncode == 0
    assert read_configuration(folder.file).prediction().table == "people"


@pytest.mark.usefixtures("owner")
def test_init_in_json_tells_all(folder: Folder) -> None:
    done = folder.run("init", "--json", "--output", "mine.toml")
    found = json.loads(done.stdout)
    assert (found["file"], found["table"], found["functions"]) == ("mine.toml", "public.items", ["predict"])
    assert found["toml"] == (folder.path / "mine.toml").read_text()


def test_init_without_a_database_says_what_to_set(folder: Folder) -> None:
    done = folder.run("init", DATABASE_URL=None)
    assert done.returncode == 2
    assert "DATABASE_URL" in done.stderr


@pytest.mark.usefixtures("owner")
def test_init_keeps_a_given_password_out_of_everything(folder: Folder, database_url: str) -> None:
    url = database_url.replace("postgres@", "postgres:hush-hush@")
    done = folder.run("init", "--database", url, DATABASE_URL=None)
    assert done.returncode == 0, done.stderr
    assert "hush-hush" not in done.stdout + done.stderr + folder.file.read_text()
    assert "export DATABASE_URL" in done.stdout


# --- doctor -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_doctor_prints_one_line_a_check_and_the_remedy_below(folder: Folder) -> None:
    folder.write(TABLE.format(name="churn", output="p"))
    done = folder.run("doctor")
    lines = done.stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("warning  applied"))
    assert lines[place + 1] == "         rowscore apply churn"
    assert any(line.startswith("ok       connection") for line in lines)
    assert any(line.startswith("warning  broker") for line in lines)
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_fails_with_what_is_wrong_and_how_to_mend_it(
    folder: Folder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    folder.write(TABLE.format(name="churn", output="p"))
    apply_here(folder, database_url)
    owner.execute("DROP INDEX rowscore_churn_pending")
    done = folder.run("doctor", "churn", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["ok"], found["errors"]) == (False, 1)
    (error,) = [item for item in found["findings"] if item["level"] == "error"]
    assert (error["subject"], error["prediction"], error["remedy"]) == (
        "pending index",
        "churn",
        "rowscore apply churn",
    )


@pytest.mark.usefixtures("owner")
def test_doctor_checks_all_predictions_or_the_one_named(folder: Folder) -> None:
    folder.write(TABLE.format(name="first", output="p"), TABLE.format(name="second", output="q"))
    everything = folder.run("doctor").stdout
    assert "first: key" in everything
    assert "second: key" in everything
    assert "second" not in folder.run("doctor", "first").stdout.partition("\n")[2]


@pytest.mark.usefixtures("owner")
def test_doctor_names_a_folder_that_shadows_rowscores_packages(folder: Folder) -> None:
    folder.write(TABLE.format(name="churn", output="p"))
    (folder.path / "tasks").mkdir()
    (folder.path / "tasks" / "__init__.py").touch()
    done = folder.run("doctor")
    assert done.returncode == 1
    assert f"`import tasks` finds {folder.path / 'tasks'}" in done.stdout


@pytest.mark.parametrize("command", ["doctor", "explain"])
def test_without_a_file_it_is_bad_usage(folder: Folder, command: str) -> None:
    done = folder.run(command)
    assert done.returncode == 2
    assert done.stderr == "rowscore: error: rowscore.toml: no such file; `rowscore init` writes one\n"


# --- explain ----------------------------------------------------------------------------------------------


def test_explain_shows_plans_verdicts_and_batch_mode(
    folder: Folder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    folder.write(TABLE.format(name="churn", output="p"))
    apply_here(folder, database_url)
    add_items(owner, 100)
    done = folder.run("explain")
    assert done.returncode == 0, done.stderr
    assert "planned for the next 100 rows of public.items that wait" in done.stdout
    assert "Index Only Scan using rowscore_churn_pending" in done.stdout
    assert done.stdout.count("ok       no sequential scan or hash join over public.items") == 4
    assert "batch mode: no, because public.predict calls no service" in done.stdout
    found = json.loads(folder.run("explain", "--json").stdout)
    assert found["by_index"]
    assert [item["name"] for item in found["statements"]] == [
        "probe_window",
        "claim_rows",
        "score_rows_in_place",
        "score_rows",
    ]
    assert found["batch_mode"]["batched"] is False


def test_explain_fails_where_the_cost_follows_the_table(
    folder: Folder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    folder.write(TABLE.format(name="churn", output="p"))
    apply_here(folder, database_url)
    owner.execute("DROP INDEX rowscore_churn_pending")
    add_items(owner, 100)
    done = folder.run("explain")
    assert done.returncode == 1
    assert "failed   by items_pkey, not by the pending index" in done.stdout


@pytest.mark.usefixtures("owner")
def test_explain_before_apply_says_what_to_do(folder: Folder) -> None:
    folder.write(TABLE.format(name="churn", output="p"))
    done = folder.run("explain")
    assert done.returncode == 1
    assert "rowscore apply churn" in done.stderr
