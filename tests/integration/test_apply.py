"""`apply` on real tables: what it makes, what it leaves alone, and that it can stop anywhere and be run
again.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.applied import (
    catalogue,
    make_items,
    one,
    partition_items,
    resolved,
)
from worker.apply import apply, drift
from worker.changes import Change
from worker.database import Database
from worker.errors import ConfigurationError, MissingObjectError, RefusedError

CURRENT = "SELECT churn_state, count(*) FROM items GROUP BY 1 ORDER BY 1"


def test_rows_from_before_are_existing_and_new_ones_pending_without_a_rewrite(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 100)
    before = one(connection, "SELECT pg_relation_filenode('items')")
    apply(database, resolved(database))
    connection.execute("INSERT INTO items VALUES (1000, 1, 1)")
    assert connection.execute(CURRENT).fetchall() == [(0, 1), (4, 100)]
    assert one(connection, "SELECT pg_relation_filenode('items')") == before
    missing = "SELECT attmissingval::text FROM pg_attribute WHERE attname = 'churn_state' AND atthasmissing"
    assert one(connection, missing) == "{4}"  # the catalogue's default, not one in every row


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


def test_a_dry_run_changes_nothing_and_its_sql_by_hand_does_the_same(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 3)
    wanted = resolved(
        database,
        inputs=["a", {"name": "t", "sql": r"note || ':x %s %% \ '''"}],
        outputs={"p": "double precision", "Label": "text"},
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
    connection.execute("DROP SCHEMA rowscore CASCADE")
    connection.execute("DROP TABLE items CASCADE")
    make_items(connection, 3)
    assert apply(database, wanted) == planned
    assert catalogue(connection) == by_hand


@pytest.mark.parametrize(
    "names",
    [
        ("Sales Dept", 'Order "x" %s :y \'', "select", "user"),
        ("public", "größe", "Schlüssel ä", "états " * 8),
        ("a.b", "t.u", "Key", "$rowscore$"),
    ],
)
def test_names_of_any_kind(connect: Connect, database: Database, names: tuple[str, str, str, str]) -> None:
    connection = connect()
    schema, table, key, state = names

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    target = f"{quoted(schema)}.{quoted(table)}"
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    connection.execute(f"CREATE TABLE {target} ({quoted(key)} uuid PRIMARY KEY, {quoted('In Put')} text)")
    connection.execute(f"INSERT INTO {target} VALUES (gen_random_uuid(), 'x')")
    wanted = resolved(
        database,
        table=target,
        inputs=["In Put"],
        outputs={'Out %s "q"': "integer[]"},
        state=state,
        view=f"{quoted(schema)}.{quoted('V :v %')}",
    )
    assert apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute(f"UPDATE {target} SET {quoted('In Put')} = 'y'")
    assert one(connection, f"SELECT prediction_state FROM {quoted(schema)}.{quoted('V :v %')}") == "pending"


SCALARS = [
    "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(10,2)", "boolean",
    "text", "varchar(10)", "character(3)", "uuid", "date", "timestamp", "timestamptz(3)", "interval",
    "bytea", "json", "jsonb", "inet", "point", "tsvector", "int4range", "float8[]", "text[]",
    "numeric(5,1)[]", "vector(3)", "halfvec(2)", "time with time zone", "money", "float8",
    "INT -- a comment",
]  # fmt: skip


def test_every_type_of_output_is_a_column_that_is_null(connect: Connect, database: Database) -> None:
    connection = connect()
    connection.execute("CREATE EXTENSION vector")
    make_items(connection, 1)
    outputs = {f"o{number}": kind for number, kind in enumerate(SCALARS)}
    wanted = resolved(database, outputs=outputs)
    before = one(connection, "SELECT pg_relation_filenode('items')")
    apply(database, wanted)
    assert apply(database, wanted) == []
    assert one(connection, "SELECT pg_relation_filenode('items')") == before
    row = connection.execute(f"SELECT {', '.join(outputs)} FROM items_scored").fetchone()
    assert row == (None,) * len(SCALARS)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("serial", MissingObjectError),
        ("strict_text", RefusedError),
        ("above", RefusedError),
        ("filled", RefusedError),
        ("double precision DEFAULT random()", Exception),
        ("integer, ADD COLUMN x integer", Exception),
    ],
)
def test_types_that_would_rewrite_the_table_are_refused(
    connect: Connect, database: Database, kind: str, error: type[Exception]
) -> None:
    connection = connect()
    make_items(connection, 1)
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
    make_items(connection, 2)
    connection.execute("ALTER TABLE items ADD COLUMN p real")
    connection.execute("COMMENT ON COLUMN items.p IS 'ours since 1999'")
    connection.execute("UPDATE items SET p = 0.5")
    connection.execute("CREATE INDEX ON items (p)")
    apply(database, resolved(database))
    assert connection.execute("SELECT DISTINCT p FROM items").fetchall() == [(0.5,)]
    described = "SELECT format_type(atttypid, -1), col_description(attrelid, attnum) FROM pg_attribute "
    described += "WHERE attrelid = 'items'::regclass AND attname = 'p'"
    assert connection.execute(described).fetchall() == [("real", "ours since 1999")]


def test_an_index_that_a_crash_left_invalid_is_built_anew(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database)
    apply(database, wanted)
    before = catalogue(connection)
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowscore_churn_pending'::regclass"
    )
    titles = [change.title.split()[0] for change in apply(database, wanted)]
    assert titles == ["drop", "build"]
    assert catalogue(connection) == before


def test_an_index_over_another_key_is_built_anew(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 2)
    connection.execute("ALTER TABLE items ALTER COLUMN b SET NOT NULL")
    connection.execute("UPDATE items SET b = id")
    connection.execute("ALTER TABLE items ADD UNIQUE (b)")
    apply(database, resolved(database))
    apply(database, resolved(database, key="b"))
    definition = one(connection, "SELECT pg_get_indexdef('rowscore_churn_pending'::regclass)")
    assert definition.endswith("USING btree (churn_state, b NULLS FIRST) WHERE (churn_state = 0)")


class CrashError(Exception):
    """The process dies between two steps."""


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_crash_before_any_step_is_mended_by_the_next_run(
    connect: Connect, database: Database, partitioned: bool
) -> None:
    connection = connect()
    partition_items(connection) if partitioned else make_items(connection, 5)
    wanted = resolved(database)
    steps = len(apply(database, wanted, dry_run=True))

    def crash_at(step: int) -> Any:
        seen: list[Change] = []

        def told(change: Change) -> None:
            seen.append(change)
            if len(seen) == step:
                raise CrashError

        return told

    for _ in range(steps - 1):  # one step further each time
        with pytest.raises(CrashError):
            apply(database, wanted, on_change=crash_at(2))
    assert len(apply(database, wanted)) == 1
    assert apply(database, wanted) == []


def test_partitions_of_two_levels_and_one_that_comes_later(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    wanted = resolved(database)
    apply(database, wanted)
    assert one(
        connection, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'rowscore_churn_pending'::regclass"
    )
    connection.execute("CREATE TABLE items_3 PARTITION OF items FOR VALUES FROM (200) TO (300)")
    connection.execute("CREATE TABLE loose (LIKE items INCLUDING DEFAULTS)")
    connection.execute("ALTER TABLE items ATTACH PARTITION loose FOR VALUES FROM (300) TO (400)")
    assert apply(database, wanted) == []
    connection.execute("INSERT INTO items (id, a, b) VALUES (120, 1, 1), (250, 1, 1), (350, 1, 1)")
    assert connection.execute(CURRENT).fetchall() == [(0, 3), (4, 100)]
    plan = connection.execute(
        "SET enable_seqscan = off; EXPLAIN SELECT id FROM items WHERE churn_state = 0 ORDER BY id LIMIT 5"
    )
    assert plan.nextset()
    assert "Seq Scan" not in str(plan.fetchall())


def test_a_partition_attached_by_hand_while_an_index_is_unfinished(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    partition_items(connection)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("DROP INDEX rowscore_churn_pending")  # takes all parts along
    connection.execute("CREATE INDEX rowscore_churn_pending ON ONLY items (id, b) WHERE churn_state = 0")
    apply(database, wanted)
    assert one(
        connection,
        "SELECT bool_and(indisvalid) FROM pg_index WHERE pg_get_expr(indpred, indrelid) IS NOT NULL",
    )


def test_a_copy_of_the_table_is_never_needed(connect: Connect, database: Database) -> None:
    make_items(connect(), 1)
    with pytest.raises(ConfigurationError, match="without copying"):
        apply(database, resolved(database), allow_copy=True)


def test_a_partition_itself_and_inheritance_are_refused(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    with pytest.raises(RefusedError, match="name the partitioned table"):
        apply(database, resolved(database, table="items_1"))
    connection.execute(
        "CREATE TABLE parent (id int PRIMARY KEY, a int, b int); CREATE TABLE child () INHERITS (parent)"
    )
    with pytest.raises(RefusedError, match="INHERITS"):
        apply(database, resolved(database, table="parent"))
