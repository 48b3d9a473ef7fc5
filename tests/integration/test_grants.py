"""`rowscore apply --grants`: what it prints is run by the real servers; a worker with it scores, and can do no more."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from sqlalchemy import make_url

import sql
from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.databases import Session, ago, is_postgresql, own, session
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    fail_at,
    make_items,
    opened,
    states,
)
from worker import backfill, upkeep
from worker.config import Configuration
from worker.database import Database
from worker.doctor.examination import examine
from worker.doctor.findings import Level
from worker.doctor.grants import worker_grants
from worker.errors import NotAppliedError
from worker.materialisation import resolve
from worker.states import RowState, RunKind
from worker.verification import verify_slice

CONFORMANCE = True
_numbers = itertools.count(1)
REFUSED = (psycopg.errors.InsufficientPrivilege, pymysql.err.OperationalError, pymysql.err.ProgrammingError)
ARRIVED = {"arrived_at": "seen", "where": "note <> 'skip me'"}


@pytest.fixture
def owner(connect: Connect) -> Session:
    """The table items with columns that a worker has nothing to do with, and one that moves by itself in MySQL."""
    connection: Session = connect()
    make_items(connection)
    zoned = "timestamptz" if is_postgresql(connection) else "timestamp NULL"
    connection.execute(f"ALTER TABLE items ADD COLUMN secret text, ADD COLUMN seen {zoned}")
    if not is_postgresql(connection):
        connection.execute(
            "ALTER TABLE items ADD COLUMN touched timestamp(6) NOT NULL DEFAULT '2001-01-01 00:00:00'"
            " ON UPDATE CURRENT_TIMESTAMP(6)"
        )
    return connection


@pytest.fixture
def role(owner: Session) -> Iterator[str]:
    """A name that nothing has yet; what bears it is dropped at the end."""
    name = f"scorer's-{os.getpid()}-{next(_numbers)}"
    yield name
    if is_postgresql(owner):
        quoted = sql.quote(name, "postgresql")
        owner.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")
    else:
        owner.execute("DROP USER %s@'%%'", [name])


def granted(owner: Session, config: Configuration, role: str) -> list[str]:
    """Run what is printed; the password is what a person fills in."""
    database = Database(config.database_url(config.prediction()))
    with database.transaction() as transaction:
        found = worker_grants(transaction, resolve(transaction, config.prediction()), role)
    database.dispose()
    for statement in found:
        for part in statement.replace("'...'", "'secret'").split(";\n"):
            owner.execute(part)
    return found


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role, password="secret").render_as_string(hide_password=False)


def refuses(connection: Session, statement: str) -> None:
    with pytest.raises(REFUSED):
        connection.execute(statement)


@pytest.mark.parametrize("mode", ["update", "select"])
def test_a_worker_with_these_grants_scores_and_can_do_no_more(
    database_url: str, owner: Session, role: str, mode: str
) -> None:
    shape: dict[str, Any] = {
        "model": {"sql": "predict", "mode": mode},
        **ARRIVED,
        "fingerprint": "churn_inputs",
    }
    config = configuration(database_url, **shape)
    with opened(config) as engine:
        applied(engine)
    if is_postgresql(owner):
        owner.execute("REVOKE ALL ON FUNCTION predict FROM PUBLIC; ALTER FUNCTION predict SECURITY DEFINER")
    granted(owner, config, role)
    restricted = configuration(as_role(database_url, role), **shape)
    fail_at(owner, 3)
    if is_postgresql(owner):  # the function that was put in its place
        owner.execute("ALTER FUNCTION predict SECURITY DEFINER")
    else:
        owner.execute(f"GRANT EXECUTE ON FUNCTION predict TO '{role.replace(chr(39), chr(39) * 2)}'@'%'")
    add_items(owner, 5)
    owner.execute("UPDATE items SET note = CASE WHEN a = 5 THEN 'skip me' ELSE '' END")
    if not is_postgresql(owner):
        owner.execute("UPDATE items SET touched = '2002-02-02 00:00:00'")
    with opened(restricted) as engine:
        assert drain(engine).scored == 3
        found = list(examine(engine, [engine.prediction()]))[:-1]
        verified = verify_slice(engine).found
        assert verified is not None
        assert (verified.rows, verified.changed, verified.unknown) == (5, 0, 0)
    assert states(owner) == {RowState.SCORED.value: 3, RowState.FAILED.value: 1, RowState.SKIPPED.value: 1}
    assert [item for item in found if item.level is Level.ERROR] == []
    if not is_postgresql(owner):
        moved = "SELECT DISTINCT touched FROM items"
        assert [str(at) for (at,) in owner.execute(moved)] == ["2002-02-02 00:00:00"], (
            "held still for this role, too"
        )
    with session(as_role(database_url, role)) as worker:
        worker.execute("SELECT id, a, b, note, churn_state FROM items")
        worker.execute("UPDATE items SET p = 1 WHERE id = -1")
        refuses(worker, "SELECT secret FROM items")
        refuses(worker, "UPDATE items SET a = 1 WHERE id = -1")
        refuses(worker, "DELETE FROM items WHERE id = -1")
        refuses(worker, "INSERT INTO items (a) VALUES (1)")
        refuses(worker, "ALTER TABLE items ADD COLUMN x int")
        refuses(
            worker,
            "CREATE TABLE mine (x int)" if not is_postgresql(worker) else "CREATE TABLE rowscore.x (y int)",
        )


def test_a_worker_with_these_grants_rescores_prunes_and_looks_at_the_view(
    database_url: str, owner: Session, role: str
) -> None:
    def shaped(url: str, version: str) -> Configuration:
        named = {"column": "model", "value": version}
        return configuration(url, model={"python": "tests:none"}, version=named, max_age="1d")

    with opened(shaped(database_url, "1"), add_up) as engine:
        applied(engine)
        add_items(owner, 20)
        drain(engine)
    with opened(shaped(database_url, "2")) as engine:
        applied(engine)
    config = shaped(as_role(database_url, role), "2")
    granted(owner, shaped(database_url, "2"), role)
    with opened(config, add_up) as engine:
        for begin in (
            lambda: backfill.begin(engine, kind=RunKind.RESCORE),
            lambda: upkeep.refresh(engine).begun,
        ):
            run = begin()
            assert run is not None
            assert (run.total, backfill.work(engine, None, run, lambda *_: None, lambda _: None).scored) == (
                20,
                20,
            )
            owner.execute(f"UPDATE items SET churn_scored_at = {ago(owner, 2 * 86400)}")
            owner.execute(f"UPDATE {own(owner, 'run')} SET started_at = {ago(owner, 2 * 86400)}")
        assert upkeep.prune(engine, keep_runs=1).runs == 1
        assert upkeep.look_at_view(engine).fits is (True if is_postgresql(owner) else None)
    assert owner.execute("SELECT model, count(*) FROM items GROUP BY 1").fetchall() == [("2", 20)]


def test_a_model_outside_the_database_needs_no_function(database_url: str, owner: Session, role: str) -> None:
    config = configuration(database_url, model={"python": "math:fsum"})
    with opened(config) as engine:
        applied(engine)
    found = granted(owner, config, role)
    assert not any("EXECUTE" in statement for statement in found)
    assert sum("GRANT UPDATE (" in statement for statement in found) == 1
    add_items(owner, 2)
    restricted = configuration(as_role(database_url, role), model={"python": "math:fsum"})
    with opened(restricted, lambda batch: [(row[0],) for row in batch.rows]) as engine:
        assert drain(engine).scored == 2


def test_before_apply_it_says_so(database_url: str, owner: Session) -> None:
    database = Database(database_url)
    config = configuration(database_url)
    with (
        pytest.raises(NotAppliedError, match="the grants name what `rowscore apply churn` makes"),
        database.transaction() as transaction,
    ):
        worker_grants(transaction, resolve(transaction, config.prediction()), "scorer")
    database.dispose()
    assert states(owner, column="b") == {}


def test_the_command_prints_sql_and_changes_nothing(
    tmp_path: Path, database_url: str, owner: Session
) -> None:
    cli = Cli(tmp_path, database_url)
    cli.call("apply")
    printed = cli.call("apply", "--grants", "scorer").out.splitlines()
    assert printed[0].startswith("-- rowscore apply churn --grants scorer: what a worker needs")
    assert all(line.endswith(";") for line in printed[1:])
    found = cli.call("apply", "--grants", "scorer", "--json").document
    assert "\n".join(found["statements"]).splitlines() == printed[1:]
    known = "SELECT rolname FROM pg_roles" if is_postgresql(owner) else "SELECT user FROM mysql.user"
    assert "scorer" not in {name for (name,) in owner.execute(known)}


def test_iams_commands_are_printed_without_a_connection(tmp_path: Path, database_url: str) -> None:
    url = make_url(database_url).set(port=1)  # nobody answers there
    cli = Cli(tmp_path, url.render_as_string(hide_password=False))
    cli.configure(model={"sql": "predict", "aurora": {"sagemaker": "churn-endpoint"}})
    lines = cli.call("apply", "--iam").out.splitlines()
    assert lines[0] == "# rowscore apply churn --iam: lets the cluster call SageMaker"
    found = cli.call("apply", "--iam", "--json").document
    assert found["commands"] == lines[2:]
    assert ('"${PARAMETERS:?}"' in lines[1]) is database_url.startswith("mysql")
    assert found["parameter"] == ("aws_default_sagemaker_role" if database_url.startswith("mysql") else None)
    cli.configure()
    assert "names no service under `aurora`" in cli.error("apply", "--iam", status=2)


# --- the services that a function calls -------------------------------------------------------------------


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_services_that_a_wrapper_calls_are_granted_with_it(
    database_url: str, owner: Session, role: str
) -> None:
    owner.execute(sql.load("postgresql", "aurora")["aws_ml"].show())
    owner.execute("DROP FUNCTION predict(float8, int)")
    owner.execute("CREATE FUNCTION aws_sagemaker.e(text[]) RETURNS text LANGUAGE sql AS 'SELECT $1[1]'")
    shape: dict[str, Any] = {"model": {"sql": "predict", "aurora": {"sagemaker": "e"}}}
    config = configuration(database_url, **shape)
    with opened(config) as engine:
        applied(engine)
    found = granted(owner, config, role)
    quoted = sql.quote(role, "postgresql")
    assert f"GRANT USAGE ON SCHEMA aws_sagemaker TO {quoted};" in found
    assert any(item.startswith("GRANT EXECUTE ON FUNCTION aws_sagemaker.invoke_endpoint(") for item in found)
    add_items(owner, 2)
    with opened(configuration(as_role(database_url, role), **shape)) as engine:
        assert drain(engine).scored == 2
