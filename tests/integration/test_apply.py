"""`apply` on real tables: what it makes, what it leaves alone, and that it can stop anywhere and be run again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.applied import add_partition, make_items, partition_items, resolved
from tests.support.catalogue import catalogue, described, storage
from tests.support.databases import (
    another_schema,
    columns_of,
    dialect,
    each,
    is_postgresql,
    one,
    quote,
    schema_of,
)
from tests.support.predictions import states
from worker.apply import apply, drift, remove
from worker.changes import Change
from worker.database import Database
from worker.errors import MissingObjectError, RefusedError
from worker.states import RowState

CONFORMANCE = True
PENDING, EXISTING = RowState.PENDING.value, RowState.EXISTING.value


def test_rows_from_before_are_existing_and_new_ones_pending_without_a_rewrite(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 100)
    before = storage(connection)
    apply(database, resolved(database))
    connection.execute("INSERT INTO items (id, a, b) VALUES (1000, 1, 1)")
    assert states(connection) == {PENDING: 1, EXISTING: 100}
    assert storage(connection) == before


def test_a_second_time_changes_nothing(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 3)
    wanted = resolved(
        database, version={"column": "model", "value": "it's"}, where="note LIKE 'a%:b' OR b > 0"
    )
    made = apply(database, wanted)
    assert len(made) == 6
    before = catalogue(connection)
    assert apply(database, wanted) == []
    assert catalogue(connection) == before
    with database.transaction() as transaction:
        assert drift(transaction, wanted) == []


ODD_EXPRESSION = {"postgresql": r"note || ':x %s %% \ '''", "mysql": r"CONCAT(note, ':x %s %% \\ \'')"}


def test_a_dry_run_changes_nothing_and_its_sql_by_hand_does_the_same(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 3)
    wanted = resolved(
        database,
        inputs=["a", {"name": "t", "sql": ODD_EXPRESSION[dialect(connection)]}],
        outputs={"p": "double precision", "Label": "varchar(20)"},
        version={"column": "model", "value": r"\'v"},
    )
    untouched = catalogue(connection)
    planned = apply(database, wanted, dry_run=True)
    assert catalogue(connection) == untouched
    with database.transaction() as transaction:
        assert drift(transaction, wanted) == [change.title for change in planned]
    for change in planned:
        connection.execute(change.script)
    by_hand = catalogue(connection)
    assert apply(database, wanted) == []
    remove(database, wanted, drop_outputs=True)
    connection.execute("DROP TABLE items")
    make_items(connection, 3)
    assert apply(database, wanted) == planned
    assert catalogue(connection) == by_hand


# A schema, a table, its key, an input, and the state.
NAMES = {
    "postgresql": [
        ("Sales Dept", 'Order "x" %s :y \'', "select", "In Put", "user"),
        ("public", "größe", "Schlüssel ä", "group", "états " * 8),
        ("a.b", "t.u", "Key", "$x$", "$rowscore$"),
    ],
    "mysql": [
        (" other `db`", 'Order "x" %s :y \' ` `', "select", "user", "group"),
        ("", "größe", "Schlüssel ä", "日本", "états " * 7 + "é"),
        (".b", "t.u", "Key", "$x$", "$rowscore$"),
    ],
}


@each("schema, table, key, value, state", NAMES)
def test_names_of_any_kind(
    *, connect: Connect, database: Database, schema: str, table: str, key: str, value: str, state: str
) -> None:
    connection = connect()
    own = schema_of(connection)
    schema = schema if is_postgresql(connection) else own + schema

    def written(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'  # as the configuration has it, whatever the database

    with ExitStack() as stack:
        if schema != own:
            stack.enter_context(another_schema(connection, schema))
        target = f"{quote(connection, schema)}.{quote(connection, table)}"
        view = f"{quote(connection, schema)}.{quote(connection, 'V :v % `')}"
        connection.execute(
            f"CREATE TABLE {target} ({quote(connection, key)} varchar(36) PRIMARY KEY, "
            f"{quote(connection, value)} varchar(20))"
        )
        connection.execute(f"INSERT INTO {target} VALUES ('1', 'x')")
        before = catalogue(connection)
        wanted = resolved(
            database,
            table=f"{written(schema)}.{written(table)}",
            inputs=[value],
            outputs={'Out %s "q" `q`': "json"},
            state=state,
            view=f"{written(schema)}.{written('V :v % `')}",
        )
        assert apply(database, wanted)
        assert apply(database, wanted) == []
        connection.execute(f"UPDATE {target} SET {quote(connection, value)} = 'y'")
        assert one(connection, f"SELECT prediction_state FROM {view}") == "pending"
        remove(database, wanted, drop_outputs=True)
        assert catalogue(connection) == before


TYPES = {
    "postgresql": [
        "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(10,2)", "boolean",
        "text", "varchar(10)", "character(3)", "uuid", "date", "timestamp", "timestamptz(3)", "interval",
        "bytea", "json", "jsonb", "inet", "point", "tsvector", "int4range", "float8[]", "text[]",
        "numeric(5,1)[]", "vector(3)", "halfvec(2)", "time with time zone", "money", "float8",
        "INT -- a comment",
    ],
    "mysql": [
        "tinyint", "smallint unsigned", "int", "integer", "bigint", "float", "double", "double precision", "real",
        "numeric", "decimal(10,2)", "boolean", "bool", "text", "mediumtext", "varchar(10)", "char(3)", "date",
        "datetime(3)", "timestamp", "time", "year", "json", "blob", "varbinary(16)", "bit(3)", "enum('Yes','it''s')",
        "varchar(5) character set latin1",
    ],
}  # fmt: skip


def test_every_type_of_output_is_a_column_that_is_null(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    if is_postgresql(connection):
        connection.execute("CREATE EXTENSION vector")
    outputs = {f"o{number}": kind for number, kind in enumerate(TYPES[dialect(connection)])}
    wanted = resolved(database, outputs=outputs)
    before = storage(connection)
    apply(database, wanted)
    assert apply(database, wanted) == []
    assert storage(connection) == before
    connection.execute("UPDATE items SET note = 'touched'")
    row = connection.execute(f"SELECT {', '.join(outputs)} FROM items_scored").fetchone()
    assert row == (None,) * len(outputs)


NO_TYPES = {
    "postgresql": [
        ("serial", MissingObjectError),
        ("strict_text", RefusedError),
        ("above", RefusedError),
        ("filled", RefusedError),
        ("double precision DEFAULT random()", Exception),
        ("integer, ADD COLUMN x integer", Exception),
    ],
    "mysql": [
        ("serial", MissingObjectError),
        ("nonsense", MissingObjectError),
        ("double DEFAULT 1", MissingObjectError),
        ("varchar(10) DEFAULT 'x'", MissingObjectError),
        ("int, ADD COLUMN x int", MissingObjectError),
    ],
}


@each("kind, error", NO_TYPES)
def test_what_is_no_type_or_would_rewrite_the_table_is_refused(
    connect: Connect, database: Database, kind: str, error: type[Exception]
) -> None:
    connection = connect()
    make_items(connection, 1)
    if is_postgresql(connection):
        connection.execute("CREATE DOMAIN strict_text AS text CHECK (value <> '')")
        connection.execute("CREATE DOMAIN above AS strict_text")
        connection.execute("CREATE DOMAIN filled AS double precision DEFAULT random()")
    before = catalogue(connection)
    with pytest.raises(error):
        apply(database, resolved(database, outputs={"p": kind}))
    assert catalogue(connection) == before


def test_a_column_that_was_there_keeps_its_values_type_and_comment(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    if is_postgresql(connection):
        make_items(connection, 2, ", p real")
        connection.execute("COMMENT ON COLUMN items.p IS 'ours since 1999'")
    else:
        make_items(connection, 2, ", p float COMMENT 'ours since 1999'")
    connection.execute("CREATE INDEX mine ON items (p)")
    connection.execute("UPDATE items SET p = 0.5")
    before, column = catalogue(connection), described(connection, "p")
    apply(database, resolved(database))
    assert connection.execute("SELECT DISTINCT p FROM items").fetchall() == [(0.5,)]
    assert described(connection, "p") == column
    assert column[1] == "ours since 1999"
    remove(database, resolved(database), drop_outputs=True)
    assert catalogue(connection) == before


@pytest.mark.parametrize("over", ["(churn_state, b)", "(id, churn_state)", "(churn_state, id, note)"])
def test_an_index_over_other_columns_is_built_anew(connect: Connect, database: Database, over: str) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database)
    apply(database, wanted)
    before = catalogue(connection)
    if is_postgresql(connection):
        connection.execute("DROP INDEX rowscore_churn_pending")
        connection.execute(f"CREATE INDEX rowscore_churn_pending ON items {over} WHERE churn_state = 0")
    else:
        connection.execute("DROP INDEX rowscore_churn_pending ON items")
        connection.execute(f"CREATE INDEX rowscore_churn_pending ON items {over.replace('note', 'note(3)')}")
    titles = [change.title.split()[0] for change in apply(database, wanted)]
    assert titles == ["drop", "build"]
    assert catalogue(connection) == before


def test_another_key_makes_another_index(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 2, ", code integer")
    connection.execute("UPDATE items SET code = id")
    connection.execute(
        "ALTER TABLE items ALTER COLUMN code SET NOT NULL, ADD UNIQUE (code)"
        if is_postgresql(connection)
        else "ALTER TABLE items MODIFY COLUMN code integer NOT NULL, ADD UNIQUE (code)"
    )
    apply(database, resolved(database))
    apply(database, resolved(database, key="code"))
    definition = str(
        one(connection, "SELECT pg_get_indexdef('rowscore_churn_pending'::regclass)")
        if is_postgresql(connection)
        else catalogue(connection)["items"]
    )
    expected = "(churn_state, code NULLS FIRST)" if is_postgresql(connection) else "(`churn_state`,`code`)"
    assert expected in definition
    assert apply(database, resolved(database, key="code")) == []


class CrashError(Exception):
    """The process dies between two steps."""


def crash_at(step: int) -> Callable[[Change], None]:
    """Dies before the step of that number."""
    seen: list[Change] = []

    def told(change: Change) -> None:
        seen.append(change)
        if len(seen) == step:
            raise CrashError

    return told


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_crash_before_any_change_is_mended_by_the_next_run(
    connect: Connect, database: Database, partitioned: bool
) -> None:
    """Of `apply`, and then of `remove`."""
    connection = connect()
    partition_items(connection) if partitioned else make_items(connection, 5)
    before = catalogue(connection)
    wanted = resolved(database)
    for _ in range(len(apply(database, wanted, dry_run=True)) - 1):  # one step further each time
        with pytest.raises(CrashError):
            apply(database, wanted, on_change=crash_at(2))
    assert len(apply(database, wanted)) == 1
    assert apply(database, wanted) == []
    for _ in range(len(remove(database, wanted, drop_outputs=True, dry_run=True)) - 1):
        with pytest.raises(CrashError):
            remove(database, wanted, drop_outputs=True, on_change=crash_at(2))
    remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


def test_partitions_of_two_levels_and_one_that_comes_later(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    wanted = resolved(database)
    apply(database, wanted)
    add_partition(connection)
    assert apply(database, wanted) == []
    connection.execute("INSERT INTO items (id, a, b) VALUES (120, 1, 9), (250, 1, 1)")
    assert states(connection) == {PENDING: 2, EXISTING: 100}
    connection.execute("UPDATE items SET churn_state = 1")
    connection.execute("UPDATE items SET a = 7 WHERE id IN (60, 250)")
    assert states(connection) == {PENDING: 2, RowState.SCORED.value: 100}


def test_another_prediction_and_another_table(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute(
        "CREATE TABLE others (LIKE items INCLUDING ALL)"
        if is_postgresql(connection)
        else "CREATE TABLE others LIKE items"
    )
    apply(database, resolved(database))
    fraud: dict[str, Any] = {"outputs": {"f": "boolean"}, "view": "fraud_view"}
    apply(database, resolved(database, "fraud", **fraud))
    assert apply(database, resolved(database, "fraud", **fraud)) == []
    with pytest.raises(RefusedError, match="column p is written by prediction churn"):
        apply(database, resolved(database, "third", view=False))
    with pytest.raises(RefusedError, match=rf"applied to {schema_of(connection)}\.items"):
        apply(database, resolved(database, table="others"))
    old, new = (quote(connection, name) for name in ("churn_state", "s"))
    with pytest.raises(RefusedError, match=f"RENAME COLUMN {old} TO {new}"):
        apply(database, resolved(database, state="s"))


def test_a_renamed_table_is_followed(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    connection.execute("ALTER TABLE items RENAME TO things")
    made = apply(database, resolved(database, table="things"))
    assert all("build" not in change.title and "add" not in change.title for change in made)
    assert apply(database, resolved(database, table="things")) == []
    assert columns_of(connection, "items_scored") == []
    connection.execute("UPDATE things SET churn_state = 1")
    connection.execute("UPDATE things SET a = 7")
    assert one(connection, "SELECT prediction_state FROM things_scored") == "pending"
