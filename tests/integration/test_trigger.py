"""The staleness trigger: it fires for changed inputs, however they change, and for nothing else."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.applied import make_items, one, partition_items, resolved
from tests.support.versions import needs
from worker.apply import apply, drift
from worker.database import Database
from worker.errors import RefusedError

WRITE = "UPDATE items SET p = 1, churn_state = 1, churn_scored_at = clock_timestamp()"


def state(connection: psycopg.Connection[Any], statement: str, where: str = "true") -> int:
    """The state after the statement of a row that was scored before it."""
    connection.execute(WRITE)
    connection.execute(statement)
    return int(one(connection, f"SELECT churn_state FROM items WHERE {where}"))


@pytest.fixture
def items(connect: Connect) -> psycopg.Connection[Any]:
    """The table items with one row."""
    connection = connect()
    make_items(connection, 1)
    return connection


def test_changed_inputs_and_nothing_else(items: psycopg.Connection[Any], database: Database) -> None:
    apply(database, resolved(database))
    assert state(items, "SELECT 1") == 1  # rowscore's own write
    assert state(items, "UPDATE items SET a = a + 1") == 0
    assert state(items, "UPDATE items SET b = NULL") == 0
    assert state(items, "UPDATE items SET b = NULL") == 1
    assert state(items, "UPDATE items SET a = a, note = 'other', p = 7") == 1
    assert state(items, "UPDATE items SET id = id + 1000") == 1  # a row keeps its state under another key
    assert (
        state(
            items, "INSERT INTO items (id, a) SELECT id, 99 FROM items ON CONFLICT (id) DO UPDATE SET a = 99"
        )
        == 0
    )
    merge = "MERGE INTO items t USING items s ON s.id = t.id WHEN MATCHED THEN UPDATE SET a = 7"
    assert state(items, merge) == 0


def test_a_state_written_by_hand_is_left_alone(items: psycopg.Connection[Any], database: Database) -> None:
    apply(database, resolved(database))
    assert state(items, "UPDATE items SET a = a + 1, churn_state = 3") == 3
    assert state(items, "UPDATE items SET churn_state = 0") == 0


def test_a_clock_among_the_inputs_does_not_make_rows_stale_for_ever(
    items: psycopg.Connection[Any], database: Database
) -> None:
    items.execute(
        """CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.b := coalesce(NEW.b, 0) + 1; RETURN NEW; END $$;
           CREATE TRIGGER touch BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch()"""
    )
    apply(database, resolved(database))
    assert state(items, "SELECT 1") == 1  # scored, although the write itself changed b
    assert state(items, "UPDATE items SET note = 'x'") == 0


def test_inputs_that_another_trigger_changes(items: psycopg.Connection[Any], database: Database) -> None:
    items.execute(
        """CREATE FUNCTION derive() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN NEW.a := length(NEW.note); RETURN NEW; END $$;
           CREATE TRIGGER yyy_derive BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION derive()"""
    )
    apply(database, resolved(database))
    assert state(items, "UPDATE items SET note = 'longer'") == 0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("json", ("""'{"a": 1}'""", """'{"a": 1}'""", """'{"a":1}'""")),
        ("point", ("'(1,2)'", "'(1,2)'", "'(1,3)'")),
        ("jsonb", ("""'{"a": 1}'""", """'{"a":1}'""", """'{"a": 2}'""")),
        ("interval", ("'1 day'", "'1 day'", "'24 hours'")),  # equal, and another text
        ("text[]", ("'{a,NULL}'", "'{a,null}'", "'{a}'")),
        ("bytea", (r"'\x00'", r"'\x00'", r"'\x01'")),
        ("text", ("repeat('x', 100000)", "repeat('x', 100000)", "repeat('x', 99999) || 'y'")),
        ("tsvector", ("'b a'", "'a b'", "NULL")),
        ("double precision", ("'NaN'", "'NaN'", "'Infinity'")),
        ("vector(2)", ("'[1,2]'", "'[1,2]'", "'[1,3]'")),
    ],
)
def test_inputs_of_types_with_and_without_equality(
    items: psycopg.Connection[Any], database: Database, kind: str, values: tuple[str, str, str]
) -> None:
    old, same, other = values
    items.execute("CREATE EXTENSION IF NOT EXISTS vector")
    items.execute(f"ALTER TABLE items ADD COLUMN x {kind} DEFAULT {old}")
    apply(database, resolved(database, inputs=["x"]))
    assert state(items, f"UPDATE items SET x = {same}") == 1
    assert state(items, f"UPDATE items SET x = {other}") == 0


@pytest.mark.parametrize("kept", ["STORED", "VIRTUAL"])
def test_expressions_where_and_generated_columns(
    items: psycopg.Connection[Any], database: Database, kept: str
) -> None:
    if kept == "VIRTUAL":
        needs(items, 18, "a VIRTUAL generated column")
    items.execute(
        f"ALTER TABLE items ADD COLUMN g integer GENERATED ALWAYS AS (b * 2) {kept}, ADD COLUMN other text"
    )
    apply(
        database,
        resolved(database, inputs=["g", {"name": "n", "sql": "coalesce(note, '%s :x')"}], where="a > 0"),
    )
    assert state(items, "UPDATE items SET b = b + 1") == 0
    assert state(items, "UPDATE items SET note = 'changed'") == 0
    assert state(items, "UPDATE items SET a = -1") == 0
    assert state(items, "UPDATE items SET other = 'changed'") == 1


def test_an_expression_over_the_whole_row(items: psycopg.Connection[Any], database: Database) -> None:
    items.execute("CREATE FUNCTION summary(items) RETURNS text LANGUAGE sql STABLE AS $$ SELECT $1.note $$")
    wanted = resolved(database, inputs=[{"name": "s", "sql": "summary(c) || a"}])
    apply(database, wanted)
    assert apply(database, wanted) == []
    assert state(items, "UPDATE items SET note = 'changed'") == 0


def test_rowscores_output_as_an_input_is_refused(items: psycopg.Connection[Any], database: Database) -> None:
    items.execute("ALTER TABLE items ADD COLUMN p double precision")
    items.execute("ALTER TABLE items ADD COLUMN g double precision GENERATED ALWAYS AS (p * 2) STORED")
    with pytest.raises(RefusedError, match="computed from column p"):
        apply(database, resolved(database, inputs=["g"]))


def test_ignore(items: psycopg.Connection[Any], database: Database) -> None:
    apply(database, resolved(database))
    apply(database, resolved(database, on_input_change="ignore"))
    assert one(items, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == 0
    assert one(items, "SELECT to_regproc('rowscore.churn_stale') IS NULL")
    assert state(items, "UPDATE items SET a = a + 1") == 1
    assert apply(database, resolved(database, on_input_change="ignore")) == []


def test_other_inputs_make_another_trigger(items: psycopg.Connection[Any], database: Database) -> None:
    apply(database, resolved(database, inputs=["a"]))
    apply(database, resolved(database, inputs=["b"]))
    assert state(items, "UPDATE items SET a = a + 1") == 1
    assert state(items, "UPDATE items SET b = b + 1") == 0


def test_a_disabled_trigger_is_drift(items: psycopg.Connection[Any], database: Database) -> None:
    wanted = resolved(database)
    apply(database, wanted)
    items.execute("ALTER TABLE items DISABLE TRIGGER zzz_rowscore_churn")
    with database.transaction() as transaction:
        assert len(drift(transaction, wanted)) == 1
    apply(database, wanted)
    assert state(items, "UPDATE items SET a = a + 1") == 0


def test_roles_without_a_right_on_rowscores_schema(
    items: psycopg.Connection[Any], database: Database
) -> None:
    apply(database, resolved(database))
    items.execute(WRITE)
    role = one(items, "SELECT 'writer_' || current_database()")
    items.execute(f"CREATE ROLE {role}; GRANT SELECT, UPDATE ON items TO {role}")
    items.execute(
        "CREATE SCHEMA evil; "
        "CREATE FUNCTION evil.int2(integer) RETURNS smallint LANGUAGE sql AS 'SELECT 3::smallint'"
    )
    items.execute(
        f"GRANT USAGE ON SCHEMA evil TO {role}; SET ROLE {role}; SET search_path = evil, public, pg_catalog"
    )
    items.execute("UPDATE items SET a = 5")
    assert one(items, "SELECT churn_state FROM items") == 0
    items.execute(f"RESET ROLE; RESET search_path; DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_rows_that_move_to_another_partition(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    apply(database, resolved(database, inputs=["a"]))
    assert state(connection, "UPDATE items SET id = 150 WHERE id = 50", "id = 150") == 1
    assert (
        state(connection, "UPDATE items SET id = 60, b = 1, a = -1 WHERE id = 150", "id = 60 AND a = -1") == 0
    )
    assert state(connection, 'UPDATE "items 2b" SET a = -2 WHERE id = 103', "id = 103") == 0
    connection.execute("CREATE TABLE items_3 PARTITION OF items FOR VALUES FROM (200) TO (300)")
    connection.execute("INSERT INTO items (id, a, b) VALUES (200, 1, 1)")
    assert state(connection, "UPDATE items SET a = 2 WHERE id = 200", "id = 200") == 0
