"""The view over scored and unscored rows: one branch a row, the reader's rights, one call a row, drift."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.applied import make_items, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import (
    Session,
    another_schema,
    columns_of,
    each,
    is_postgresql,
    one,
    quote,
    schema_of,
    series,
    session,
)
from tests.support.predictions import calls
from tests.support.predictions import make_items as make_scored_items
from tests.support.routines import add_function
from worker.apply import apply, drift
from worker.database import Database
from worker.errors import RefusedError
from worker.view import ViewColumn, view_sql

CONFORMANCE = True
SCORE = (
    "UPDATE items SET p = a / 2, churn_state = 1, churn_scored_at = CURRENT_TIMESTAMP WHERE churn_state = 0"
)

GOLDEN = """\
CREATE VIEW {view} AS
SELECT {scored} AS prediction_state, c.{id}, c.{p}
FROM {table} AS c
WHERE c.{state} = 1
UNION ALL
SELECT CASE c.{state} WHEN 2 THEN 'failed' WHEN 3 THEN 'skipped' WHEN 4 THEN 'existing' \
WHEN 0 THEN CASE WHEN c.{scored_at} IS NULL THEN 'pending' ELSE 'stale' END END, c.{id}, c.{p}
FROM {table} AS c
WHERE c.{state} <> 1"""


def test_the_sql_reads_like_this(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    columns = [ViewColumn("id", "bigint"), ViewColumn("p", "double precision")]
    schema = schema_of(connection)
    names = {"id": "id", "p": "p", "state": "churn_state", "scored_at": "churn_scored_at"}
    quoted = {word: quote(connection, name) for word, name in names.items()}
    view, table = (
        f"{quote(connection, schema)}.{quote(connection, name)}" for name in ("items_scored", "items")
    )
    plain = GOLDEN.format(
        **quoted, view=view, table=table, scored="'scored'::text" if is_postgresql(connection) else "'scored'"
    )
    invoker = plain
    if is_postgresql(connection):
        invoker = plain.replace(f"{view} AS", f"{view} WITH (security_invoker = true) AS")
    else:
        invoker = plain.replace("CREATE VIEW", "CREATE SQL SECURITY INVOKER VIEW")
    address = (schema, "items_scored")
    assert view_sql(resolved(database), address, columns, security_invoker=True) == invoker
    if is_postgresql(connection):  # of which older versions have no such option
        old_server = view_sql(resolved(database), address, columns, security_invoker=False, replace=True)
        assert old_server == plain.replace("CREATE", "CREATE OR REPLACE")


def test_it_says_how_each_row_stands_and_hides_the_state(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    connection.execute("INSERT INTO items (id, a) VALUES (2, 2), (3, 3)")
    connection.execute(SCORE)
    connection.execute("UPDATE items SET a = 7 WHERE id = 3")
    connection.execute("INSERT INTO items (id, a, churn_state) VALUES (4, 4, 0), (5, 5, 2), (6, 6, 3)")
    assert columns_of(connection, "items_scored") == [
        "prediction_state", "id", "a", "b", "note", "p", "churn_scored_at",
    ]  # fmt: skip
    assert connection.execute("SELECT prediction_state, id, p FROM items_scored ORDER BY id").fetchall() == [
        ("existing", 1, None), ("scored", 2, 1.0), ("stale", 3, 1.5),
        ("pending", 4, None), ("failed", 5, None), ("skipped", 6, None),
    ]  # fmt: skip


def test_each_row_is_in_one_branch_in_any_snapshot(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    apply(database, resolved(database))
    connection.execute(f"INSERT INTO items (id, a) SELECT i, i FROM {series(connection, 1, 200)}")
    done, turned = threading.Event(), threading.Event()

    def turn() -> None:
        writer = connect()
        while not done.is_set():
            writer.execute("UPDATE items SET churn_state = 1 - churn_state WHERE mod(id, 3) = 0")
            turned.set()

    writer = threading.Thread(target=turn)
    writer.start()
    assert turned.wait(30)
    for _ in range(200):
        rows = connection.execute("SELECT count(*), count(DISTINCT id) FROM items_scored").fetchone()
        assert rows == (200, 200)
    done.set()
    writer.join()


def test_the_reader_sees_what_the_reader_may(connect: Connect, database: Database, account: Account) -> None:
    connection = connect()
    make_items(connection, 4)
    apply(database, resolved(database))
    connection.execute(f"GRANT SELECT ON items_scored TO {account.quoted}")
    with session(account.url) as reader:
        with pytest.raises(
            Exception, match=r"(?i)permission denied for table items|lack rights|lacks? .*rights"
        ):
            reader.execute("SELECT id FROM items_scored")
        connection.execute(f"GRANT SELECT ON items TO {account.quoted}")
        assert reader.execute("SELECT count(*) FROM items_scored").fetchone() == (4,)


def test_a_waiting_row_is_read_by_its_key(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    apply(database, resolved(database))
    connection.execute(f"INSERT INTO items (id, a) SELECT i, i FROM {series(connection, 1, 900)}")
    read = rows_read(connection, "SELECT * FROM items_scored WHERE id = 5")
    assert read < 20


def rows_read(connection: Session, query: str) -> int:
    """Rows of tables and entries of indexes that the query reads."""
    if is_postgresql(connection):
        connection.execute("ANALYZE items")
        (plan,) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}").fetchone() or ([],)
        return sum(scanned(plan[0]["Plan"]))
    connection.execute("FLUSH STATUS")
    connection.execute(query)
    counters = connection.execute(
        "SHOW SESSION STATUS WHERE Variable_name IN ('Handler_read_key', 'Handler_read_next', 'Handler_read_rnd_next')"
    )
    return sum(int(count) for _, count in counters)


def scanned(node: dict[str, Any]) -> list[int]:
    """Rows that each scan of the plan looked at."""
    here = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    own = [int(here * node["Actual Loops"])] if "Scan" in node["Node Type"] else []
    return own + [count for child in node.get("Plans", ()) for count in scanned(child)]


KEYS = {
    "postgresql": [
        ("id bigint, b integer", "id, b"),
        ("id uuid", "id"),
        ('id varchar(8) COLLATE "C", b date', "b, id"),
    ],
    "mysql": [
        ("id bigint unsigned, b integer", "id, b"),
        ("id binary(16)", "id"),
        ("id varchar(8) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, b date", "b, id"),
    ],
}


@each("columns, key", KEYS)
def test_keys_of_any_kind(connect: Connect, database: Database, columns: str, key: str) -> None:
    connection = connect()
    connection.execute(f"CREATE TABLE items ({columns}, a numeric(8, 2), PRIMARY KEY ({key}))")
    apply(database, resolved(database, inputs=["a"]))
    if is_postgresql(connection):
        definition = one(connection, "SELECT pg_get_indexdef('rowscore_churn_pending'::regclass)")
        keys = ", ".join(f"{name} NULLS FIRST" for name in key.split(", "))
        assert f"(churn_state, {keys}) WHERE" in definition
    else:
        keys = ",".join(f"`{name}`" for name in ["churn_state", *key.split(", ")])
        assert f"KEY `rowscore_churn_pending` ({keys})" in str(catalogue(connection)["items"])
    assert connection.execute("SELECT * FROM items_scored").fetchall() == []


# --- drift --------------------------------------------------------------------------------------------------


def made_over(connection: Session) -> list[str]:
    return [f"make the view {schema_of(connection)}.items_scored over scored and unscored rows"]


def test_a_column_added_later_joins_and_grants_and_views_upon_it_stay(
    connect: Connect, database: Database, account: Account
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("CREATE VIEW report AS SELECT id FROM items_scored")
    for relation in ("items", "items_scored"):
        connection.execute(f"GRANT SELECT ON {relation} TO {account.quoted}")
    connection.execute("ALTER TABLE items ADD COLUMN extra varchar(9)")
    with database.transaction() as transaction:
        assert drift(transaction, wanted) == made_over(connection)
    (change,) = apply(database, wanted)
    assert "CREATE OR REPLACE" in change.sql
    with session(account.url) as reader:
        assert reader.execute("SELECT extra FROM items_scored").fetchall() == [(None,)]
    assert connection.execute("SELECT id FROM report").fetchall() == [(1,)]


def test_a_renamed_column_is_followed_and_grants_stay(
    connect: Connect, database: Database, account: Account
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    for relation in ("items", "items_scored"):
        connection.execute(f"GRANT SELECT ON {relation} TO {account.quoted}")
    connection.execute("ALTER TABLE items RENAME COLUMN note TO remark")
    (change,) = apply(database, wanted)
    assert change.title == made_over(connection)[0]
    assert apply(database, wanted) == []
    with session(account.url) as reader:
        assert reader.execute("SELECT remark FROM items_scored").fetchall() == [("x",)]


@pytest.mark.parametrize("kind", ["VIEW items_scored AS SELECT 1 AS one", "TABLE items_scored (one int)"])
def test_somebody_elses_view_or_table_is_left_alone(connect: Connect, database: Database, kind: str) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute(f"CREATE {kind}")
    with pytest.raises(RefusedError, match="is there already"):
        apply(database, resolved(database))
    apply(database, resolved(database, view="other"))
    assert columns_of(connection, "items_scored") == ["one"]


def test_another_name_or_none_takes_the_old_view_away(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    own = schema_of(connection)
    there = f"{own}_reports"
    views = f"SELECT table_name FROM information_schema.views WHERE table_schema IN ('{own}', '{there}')"
    with another_schema(connection, there):
        apply(database, resolved(database))
        apply(database, resolved(database, view=f"{there}.items"))
        assert connection.execute(views).fetchall() == [("items",)]
        apply(database, resolved(database, view=False))
        assert connection.execute(views).fetchall() == []


# --- live ---------------------------------------------------------------------------------------------------


LIVE: dict[str, Any] = {"model": {"sql": "predict"}, "live": True, "where": "note <> 'no'"}


def test_live_calls_the_function_once_for_each_waiting_row_that_is_read(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_scored_items(connection)
    connection.execute("INSERT INTO items (id, a, b, note) VALUES (1, 1, 10, 'x')")
    wanted = resolved(database, **LIVE)
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute(
        """INSERT INTO items (id, a, b, note, churn_state, churn_scored_at, p) VALUES
           (2, 2, 1, 'yes', 0, NULL, NULL), (3, 3, 1, 'yes', 0, '2024-01-01', 9), (4, 4, 1, 'no', 0, NULL, NULL),
           (5, 5, 1, NULL, 0, NULL, NULL), (6, 6, 1, 'yes', 1, '2024-01-01', 9), (7, 7, 1, 'yes', 2, NULL, NULL)"""
    )
    calls(connection)
    assert connection.execute("SELECT id, prediction_state, p FROM items_scored ORDER BY id").fetchall() == [
        (1, "existing", None), (2, "pending", 3.0), (3, "stale", 4.0), (4, "pending", None), (5, "pending", None),
        (6, "scored", 9.0), (7, "failed", None),
    ]  # fmt: skip
    assert calls(connection) == 2
    assert connection.execute("SELECT p FROM items_scored WHERE id = 2").fetchall() == [(3.0,)]
    assert calls(connection) == 1
    assert connection.execute("SELECT id FROM items_scored WHERE p > 3.5 AND id < 6").fetchall() == [(3,)]
    assert calls(connection) == 2


def test_live_reads_a_waiting_row_by_its_key(connect: Connect, database: Database) -> None:
    connection = connect()
    make_scored_items(connection)
    apply(database, resolved(database, **LIVE))
    connection.execute(
        f"INSERT INTO items (id, a, b, note) SELECT i, i, 1, 'yes' FROM {series(connection, 1, 900)}"
    )
    calls(connection)
    assert rows_read(connection, "SELECT * FROM items_scored WHERE id = 5") < 50
    assert calls(connection) == 1


@pytest.mark.parametrize("kind", ["double precision", "varchar(20)", "numeric(10,2)", "integer", "boolean"])
def test_live_answers_have_the_type_of_their_column(connect: Connect, database: Database, kind: str) -> None:
    connection = connect()
    make_items(connection)
    answer = "b > 0" if kind == "boolean" else "b"
    returns = kind if kind != "boolean" or is_postgresql(connection) else "tinyint(1)"
    add_function(connection, "predict", "a double precision, b int", answer, returns=returns)
    apply(database, resolved(database, model={"sql": "predict"}, live=True, outputs={"p": kind}))
    connection.execute("INSERT INTO items (id, a, b) VALUES (1, 1, 1)")
    before = one(connection, "SELECT p FROM items_scored")
    connection.execute("UPDATE items SET p = 1, churn_state = 1" if kind != "boolean" else
                       "UPDATE items SET p = true, churn_state = 1")  # fmt: skip
    after = one(connection, "SELECT p FROM items_scored")
    assert (before, type(before)) == (after, type(after))
