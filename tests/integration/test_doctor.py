"""What `doctor` finds on real databases about tables and what `apply` made, and that its advice mends it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import (
    Session,
    another_schema,
    each,
    is_postgresql,
    one,
    schema_of,
    session_number,
)
from tests.support.deadlines import eventually
from tests.support.findings import about, bad, findings, the
from tests.support.predictions import applied, configuration, make_items, opened
from tests.support.routines import add_trigger, assign
from worker.config import parse_configuration
from worker.database import Database
from worker.demo.loopback import free_port
from worker.doctor.findings import Finding, Level
from worker.doctor.server import check_snapshots, read_server

CONFORMANCE = True


@pytest.fixture
def owner(connect: Connect) -> Session:
    """The application's connection; its table items has three rows."""
    connection: Session = connect()
    make_items(connection, 3)
    return connection


# --- all is well ------------------------------------------------------------------------------------------


def test_an_applied_prediction_is_well(database_url: str, owner: Session) -> None:
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
    found = findings(config)
    assert bad(found) == []
    subjects = [finding.subject for finding in found]
    assert subjects[:3] == ["configuration", "import names", "connection"]
    assert {
        "transactions", "table", "key", "privileges", "function", "applied", "pending index", "view", "triggers",
        "inserts",
    } <= set(subjects)  # fmt: skip
    if is_postgresql(owner):
        assert "PostgreSQL 1" in the(found, "connection").message
        return
    assert {"isolation", "binary log", "ownership"} <= set(subjects)
    assert not {"vacuum", "row security", "aws_ml"} & set(subjects), "what is not there is not spoken of"
    product = "MariaDB 1" if "MariaDB" in one(owner, "SELECT VERSION()") else "MySQL "
    assert product in the(found, "connection").message
    assert "repeatable read" in the(found, "isolation").message


def test_before_apply_it_says_so_and_nothing_fails(database_url: str, owner: Session) -> None:
    found = findings(configuration(database_url))
    assert [finding.subject for finding in bad(found)] == ["applied"]
    assert the(found, "applied").remedy == "rowscore apply churn"
    if not is_postgresql(owner):
        assert "are not there yet" in the(found, "own tables").message


# --- the table and what apply made ------------------------------------------------------------------------


def broken(url: str, owner: Session, statement: str, **overrides: Any) -> list[Finding]:
    """The findings after `apply` and then some statement of somebody's."""
    config = configuration(url, **overrides)
    with opened(config) as engine:
        applied(engine)
    owner.execute(statement)
    return findings(config)


INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowscore_churn_pending'::regclass"
OTHER_INDEX = (
    "ALTER TABLE items DROP KEY rowscore_churn_pending, ADD KEY rowscore_churn_pending (churn_state, a)"
)
BROKEN = {
    "postgresql": [
        ("DROP INDEX rowscore_churn_pending", "pending index", Level.ERROR, "is missing"),
        (INVALID, "pending index", Level.ERROR, "is invalid"),
        ("DROP VIEW items_scored", "view", Level.WARNING, "is missing"),
        ("ALTER TABLE items DISABLE TRIGGER zzz_rowscore_churn", "applied", Level.WARNING, "trigger"),
    ],
    "mysql": [
        ("ALTER TABLE items DROP KEY rowscore_churn_pending", "pending index", Level.ERROR, "is missing"),
        (OTHER_INDEX, "pending index", Level.ERROR, "is over other columns"),
        ("DROP VIEW items_scored", "view", Level.WARNING, "is missing"),
        ("DROP TRIGGER zzz_rowscore_churn", "applied", Level.WARNING, "trigger"),
    ],
}


@each("statement, subject, level, words", BROKEN)
def test_what_was_broken_since_is_found_and_mended_by_apply(
    *, database_url: str, owner: Session, statement: str, subject: str, level: Level, words: str
) -> None:
    broke = broken(database_url, owner, statement)
    found = [item for item in about(broke, subject) if item.level is not Level.OK]
    assert [item.level for item in found if words in item.message] == [level]
    assert {finding.remedy for finding in bad(broke)} == {"rowscore apply churn"}
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
    assert bad(findings(config)) == []


def test_a_view_with_its_owners_rights_is_mended(database_url: str, owner: Session) -> None:
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
    if is_postgresql(owner):
        owner.execute("ALTER VIEW items_scored RESET (security_invoker)")
    else:
        text = "SELECT view_definition FROM information_schema.views WHERE table_schema = DATABASE()"
        owner.execute(f"ALTER SQL SECURITY DEFINER VIEW items_scored AS {one(owner, text)}")
    found = the(findings(config), "view")
    assert found.level is Level.WARNING
    owner.execute(str(found.remedy))
    with opened(config) as engine:
        applied(engine)
    assert the(findings(config), "view").level is Level.OK


@pytest.mark.usefixtures("owner")
def test_another_definition_than_the_applied_one_is_an_error(database_url: str) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
    found = the(findings(configuration(database_url, inputs=["a", {"column": "b", "default": 0}])), "applied")
    assert found.level is Level.ERROR
    assert "refuse to score" in found.message


def test_triggers_of_the_applications_that_a_prediction_fires_are_named(
    database_url: str, owner: Session
) -> None:
    add_trigger(owner, "stamps", "BEFORE UPDATE", assign(owner, "note", "'x'"))
    add_trigger(owner, "audit", "AFTER UPDATE", "" if is_postgresql(owner) else "SET @seen = 1;")
    add_trigger(owner, "births", "BEFORE INSERT", assign(owner, "note", "'y'"))
    found = about(findings(configuration(database_url)), "triggers")
    assert [item.level for item in found] == [Level.WARNING] * 2
    assert {
        item.message.split()[0]: item.message.partition(" (")[2].partition(" UPDATE")[0] for item in found
    } == {
        "stamps": "BEFORE",
        "audit": "AFTER",
    }
    assert all("fires for each row that rowscore" in item.message for item in found)
    assert all(item.remedy is not None for item in found)


@pytest.mark.parametrize("timing", ["BEFORE", "AFTER"])
def test_a_trigger_that_still_calls_the_model_in_every_insert_is_named_with_what_drops_it(
    database_url: str, owner: Session, timing: str
) -> None:
    postgresql = is_postgresql(owner)
    ask = "PERFORM predict(NEW.a, NEW.b);" if postgresql else "SET @asked = predict(NEW.a, NEW.b);"
    named = '"ask it"' if postgresql else "`ask it`"
    add_trigger(owner, named, f"{timing} INSERT", ask)
    add_trigger(owner, "harmless", "BEFORE INSERT", assign(owner, "note", "'x'"))
    config = configuration(database_url)
    removal = (
        f"DROP TRIGGER {named} ON items;" if postgresql else f"DROP TRIGGER `{schema_of(owner)}`.`ask it`;"
    )
    assert the(findings(config), "inserts").remedy == f"once rowscore scores the rows: {removal}"
    with opened(config) as engine:
        applied(engine)
    found = the(findings(config), "inserts")
    assert found.level is Level.WARNING
    assert found.message == f"every INSERT still waits for the model: ask it ({timing} INSERT) calls it"
    assert found.remedy == removal
    owner.execute(removal)
    assert the(findings(config), "inserts").level is Level.OK


# --- what does not fit ------------------------------------------------------------------------------------


MISFITS: list[tuple[dict[str, Any], str, str]] = [
    ({"table": "nowhere"}, "table", "there is no table nowhere"),
    ({"inputs": ["a", "bb"]}, "definition", "has no column 'bb'"),
    ({"inputs": ["a", {"name": "x", "sql": "b +"}]}, "definition", "inputs: x: the database refuses it"),
    ({"inputs": ["a"]}, "definition", "takes 2 arguments"),
    ({"model": {"sql": "predicted"}}, "function", "there is no function predicted"),
    ({"table": "keyless"}, "table", "it has no key that is unique and NOT NULL"),
    ({"model": {"python": "no_such_module:predict"}}, "model", "cannot import no_such_module"),
]
HIDDEN = "is in schema elsewhere, which is not on the search path"
UNFIT = "answers double precision, which cannot be stored in p (jsonb)"


@each(
    "overrides, subject, words",
    {
        "postgresql": [
            *MISFITS,
            ({"table": "hidden"}, "table", HIDDEN),
            ({"inputs": ["note", "b"]}, "function", "predict(text, integer) does not exist"),
            ({"outputs": {"p": "jsonb"}}, "function", UNFIT),
        ],
        "mysql": [*MISFITS, ({"table": "calls"}, "table", "not a table of InnoDB")],
    },
)
def test_what_does_not_fit_is_named(
    database_url: str, owner: Session, overrides: dict[str, Any], subject: str, words: str
) -> None:
    owner.execute("CREATE TABLE keyless (a double precision, b int)")
    elsewhere = "elsewhere" if is_postgresql(owner) else f"{schema_of(owner)}_elsewhere"
    with another_schema(owner, elsewhere) as schema:
        owner.execute(f"CREATE TABLE {schema}.hidden (id int PRIMARY KEY, a double precision, b int)")
        found = [
            item for item in findings(configuration(database_url, **overrides)) if item.level is Level.ERROR
        ]
    assert [(item.subject, words in item.message) for item in found] == [(subject, True)], found


@pytest.mark.usefixtures("owner")
def test_an_endpoint_that_does_not_answer_is_an_error(database_url: str) -> None:
    model = {"http": f"http://127.0.0.1:{free_port()}/invocations"}
    found = the(findings(configuration(database_url, model=model)), "model")
    assert found.level is Level.ERROR
    assert found.remedy is not None


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_database_that_is_not_there_is_one_error_and_the_rest_is_checked(scheme: str) -> None:
    config = configuration(
        f"{scheme}://nobody:secret@127.0.0.1:{free_port()}/nothing", model={"python": "math:fsum"}
    )
    found = findings(config)
    assert [item.subject for item in found if item.level is Level.ERROR] == ["connection"]
    assert the(found, "model").level is Level.OK
    assert "secret" not in str(found)


@pytest.mark.usefixtures("owner")
def test_an_unset_variable_is_named_and_several_predictions_share_one_connection(database_url: str) -> None:
    section = {
        "table": "items",
        "inputs": ["a", "b"],
        "outputs": {"p": "double precision"},
        "model": {"sql": "predict"},
    }
    predictions = {"first": section, "second": {**section, "outputs": {"q": "double precision"}}}
    found = findings(parse_configuration({"database": database_url, "predictions": predictions}))
    assert len(about(found, "connection")) == 1
    assert [item.prediction for item in about(found, "key")] == ["first", "second"]
    unset = parse_configuration({"database": "$H7_NOT_SET", "predictions": {"first": section}})
    assert "the environment variable H7_NOT_SET is not set" in the(findings(unset), "connection").message


# --- the server -------------------------------------------------------------------------------------------


def test_old_transactions_are_named_with_the_session_to_end(
    database: Database, connect: Connect, owner: Session
) -> None:
    idle = connect(autocommit=False)
    if is_postgresql(owner):
        idle.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    number = session_number(idle)
    idle.execute("SELECT * FROM items")

    def named(older_than: float) -> list[Finding]:
        with database.transaction() as transaction:
            found = list(check_snapshots(transaction, read_server(transaction), older_than))
        return [item for item in found if f"session {number} (" in item.message]

    assert named(600) == []
    (found,) = named(0 if is_postgresql(owner) else -1)
    assert found.level is Level.WARNING
    owner.execute(str(found.remedy).partition("or: ")[2])
    with pytest.raises(Exception, match=r"terminat|Lost connection|gone away|killed"):
        idle.execute("SELECT 1")
    eventually(lambda: named(-1) == [], "its end")
