"""The staleness trigger: it fires for changed inputs, however they change, and for nothing else."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import make_items, partition_items, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import Session, dialect, each, is_postgresql, one, quote
from tests.support.routines import add_trigger, assign
from tests.support.versions import needs
from worker.apply import apply, drift
from worker.database import Database
from worker.errors import RefusedError

CONFORMANCE = True
WRITE = "UPDATE items SET p = 1, churn_state = 1, churn_scored_at = CURRENT_TIMESTAMP"


def state(connection: Session, statement: str, where: str = "1 = 1") -> int:
    """The state after the statement of a row that was scored before it."""
    connection.execute(WRITE)
    connection.execute(statement)
    return int(one(connection, f"SELECT churn_state FROM items WHERE {where}"))


@pytest.fixture
def items(connect: Connect) -> Session:
    """The table items with one row."""
    connection: Session = connect()
    make_items(connection, 1)
    return connection


UPSERT = {
    "postgresql": "INSERT INTO items (id, a) SELECT id, 9 FROM items ON CONFLICT (id) DO UPDATE SET a = 99",
    "mysql": "INSERT INTO items (id, a) SELECT * FROM (SELECT id, 9 FROM items) AS i ON DUPLICATE KEY UPDATE a = 99",
}


def test_changed_inputs_and_nothing_else(items: Session, database: Database) -> None:
    apply(database, resolved(database))
    assert state(items, "SELECT 1") == 1  # rowscore's own write
    assert state(items, "UPDATE items SET a = a + 1") == 0
    assert state(items, "UPDATE items SET b = NULL") == 0
    assert state(items, "UPDATE items SET b = NULL") == 1
    assert state(items, "UPDATE items SET a = a, note = 'other', p = 7") == 1
    assert state(items, "UPDATE items SET id = id + 1000") == 1  # a row keeps its state under another key
    assert state(items, UPSERT[dialect(items)]) == 0
    if is_postgresql(items):
        merge = "MERGE INTO items t USING items s ON s.id = t.id WHEN MATCHED THEN UPDATE SET a = 7"
        assert state(items, merge) == 0


def test_a_state_written_by_hand_is_left_alone(items: Session, database: Database) -> None:
    apply(database, resolved(database))
    assert state(items, "UPDATE items SET a = a + 1, churn_state = 3") == 3
    assert state(items, "UPDATE items SET churn_state = 0") == 0


def test_a_clock_among_the_inputs_does_not_make_rows_stale_for_ever(
    items: Session, database: Database
) -> None:
    add_trigger(items, "touch", "BEFORE UPDATE", assign(items, "b", "coalesce(NEW.b, 0) + 1"))
    apply(database, resolved(database))
    assert state(items, "SELECT 1") == 1  # scored, although the write itself changed b
    assert state(items, "UPDATE items SET note = 'x'") == 0


def test_inputs_that_another_trigger_changes(items: Session, database: Database) -> None:
    add_trigger(items, "yyy_derive", "BEFORE UPDATE", assign(items, "a", "length(NEW.note)"))
    apply(database, resolved(database))
    assert state(items, "UPDATE items SET note = 'longer'") == 0


UNICODE_CI = "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
TYPES = {
    "postgresql": [
        ("json", """'{"a": 1}'""", """'{"a": 1}'""", """'{"a":1}'"""),
        ("point", "'(1,2)'", "'(1,2)'", "'(1,3)'"),
        ("jsonb", """'{"a": 1}'""", """'{"a":1}'""", """'{"a": 2}'"""),
        ("interval", "'1 day'", "'1 day'", "'24 hours'"),  # equal, and another text
        ("text[]", "'{a,NULL}'", "'{a,null}'", "'{a}'"),
        ("bytea", r"'\x00'", r"'\x00'", r"'\x01'"),
        ("text", "repeat('x', 100000)", "repeat('x', 100000)", "repeat('x', 99999) || 'y'"),
        ("tsvector", "'b a'", "'a b'", "NULL"),
        ("double precision", "'NaN'", "'NaN'", "'Infinity'"),
        ("vector(2)", "'[1,2]'", "'[1,2]'", "'[1,3]'"),
    ],
    "mysql": [
        (UNICODE_CI, "'e'", "'e'", "'E'"),
        (UNICODE_CI, "'e'", "'e'", "'é'"),
        ("varchar(20)", "'e'", "'e'", "'e '"),
        ("longtext", "REPEAT('x', 100000)", "REPEAT('x', 100000)", "CONCAT(REPEAT('x', 99999), 'X')"),
        ("json", """'{"a": "x"}'""", """'{"a": "x"}'""", """'{"a": "X"}'"""),
        ("blob", "x'00'", "x'00'", "x'01'"),
        ("float", "16777215", "16777215", "16777216"),
        ("decimal(30,10)", "1.0000000001", "1.0000000001", "1.0000000002"),
        ("datetime(6)", "'2024-01-01'", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"),
        ("enum('a','B')", "'a'", "'a'", "NULL"),
        ("set('a','b')", "'a,b'", "'b,a'", "'a'"),
        ("point", *(f"ST_GeomFromText('POINT(1 {y})')" for y in (2, 2, 3))),
        ("bit(5)", "b'101'", "5", "6"),
    ],
}


@each("kind, old, same, other", TYPES)
def test_inputs_of_types_with_and_without_equality(
    *, items: Session, database: Database, kind: str, old: str, same: str, other: str
) -> None:
    if is_postgresql(items):
        items.execute("CREATE EXTENSION IF NOT EXISTS vector")
    items.execute(f"ALTER TABLE items ADD COLUMN x {kind}")
    items.execute(f"UPDATE items SET x = {old}")
    apply(database, resolved(database, inputs=["x"]))
    assert state(items, f"UPDATE items SET x = {same}") == 1
    assert state(items, f"UPDATE items SET x = {other}") == 0


ODD_EXPRESSION = {
    "postgresql": """coalesce(c.note, '%s :x other') || "odd `x" /* other */""",
    "mysql": """CONCAT(c.NOTE, 'other %s :x', `odd ``x`, LENGTH("other")) /* other */""",
}


@pytest.mark.parametrize("kept", ["STORED", "VIRTUAL"])
def test_expressions_where_and_generated_columns(items: Session, database: Database, kept: str) -> None:
    if kept == "VIRTUAL" and is_postgresql(items):
        needs(items, 18, "a VIRTUAL generated column")
    odd = quote(items, "odd `x")
    items.execute(
        f"ALTER TABLE items ADD COLUMN g integer GENERATED ALWAYS AS (b * 2) {kept}, ADD COLUMN other varchar(9), "
        f"ADD COLUMN {odd} int, ADD COLUMN {quote(items, 'length')} int"
    )
    inputs = ["g", {"name": "n", "sql": ODD_EXPRESSION[dialect(items)]}]
    apply(database, resolved(database, inputs=inputs, where="a > 0"))
    assert state(items, "UPDATE items SET b = b + 1") == 0
    assert state(items, "UPDATE items SET note = 'changed'") == 0
    assert state(items, f"UPDATE items SET {odd} = 5") == 0
    assert state(items, "UPDATE items SET a = -1") == 0
    assert state(items, f"UPDATE items SET other = 'changed', {quote(items, 'length')} = 5") == 1


def test_rowscores_output_as_an_input_is_refused(items: Session, database: Database) -> None:
    items.execute("ALTER TABLE items ADD COLUMN p double precision")
    items.execute("ALTER TABLE items ADD COLUMN g double precision GENERATED ALWAYS AS (p * 2) STORED")
    with pytest.raises(RefusedError, match="computed from column p"):
        apply(database, resolved(database, inputs=["g"]))


def test_other_inputs_make_another_trigger_and_ignore_none(items: Session, database: Database) -> None:
    apply(database, resolved(database, inputs=["a"]))
    apply(database, resolved(database, inputs=["b"]))
    assert state(items, "UPDATE items SET a = a + 1") == 1
    assert state(items, "UPDATE items SET b = b + 1") == 0
    ignoring = resolved(database, inputs=["b"], on_input_change="ignore")
    apply(database, ignoring)
    left = catalogue(items)
    assert (left["triggers"], left["functions"]) == ([], [])
    assert state(items, "UPDATE items SET b = b + 1") == 1
    assert apply(database, ignoring) == []


def test_a_trigger_that_is_not_in_force_is_drift(items: Session, database: Database) -> None:
    """One that was disabled; in MySQL, one that another comes after, which may change an input unseen."""
    wanted = resolved(database)
    apply(database, wanted)
    if is_postgresql(items):
        items.execute("ALTER TABLE items DISABLE TRIGGER zzz_rowscore_churn")
    else:
        add_trigger(items, "later", "BEFORE UPDATE", assign(items, "b", "length(NEW.note)"))
    with database.transaction() as transaction:
        assert len(drift(transaction, wanted)) == 1
    apply(database, wanted)
    assert apply(database, wanted) == []
    assert state(items, "UPDATE items SET a = a + 1") == 0
    assert state(items, "UPDATE items SET note = 'as long as this'") == (1 if is_postgresql(items) else 0)


def test_rows_that_move_to_another_partition(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    apply(database, resolved(database, inputs=["a"]))
    assert state(connection, "UPDATE items SET id = 150 WHERE id = 50", "id = 150") == 1
    moved = "UPDATE items SET id = 60, b = 9, a = -1 WHERE id = 150"
    assert state(connection, moved, "id = 60 AND a = -1") == 0
    assert state(connection, "UPDATE items SET a = -2 WHERE id = 103", "id = 103") == 0
