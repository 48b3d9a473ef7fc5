"""The view over scored and unscored rows: one branch a row, the reader's rights, one call a row, drift."""

from __future__ import annotations

import re
import threading
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.applied import catalogue, make_items, one, resolved
from worker.apply import apply, drift
from worker.database import Database
from worker.errors import RefusedError
from worker.view import ViewColumn, view_sql

SCORE = "UPDATE items SET p = a / 2, churn_state = 1, churn_scored_at = now() WHERE churn_state = 0"

GOLDEN = """\
CREATE VIEW "public"."items_scored" WITH (security_invoker = true) AS
SELECT 'scored'::text AS prediction_state, c."id", c."p"
FROM "public"."items" AS c
WHERE c."churn_state" = 1
UNION ALL
SELECT CASE c."churn_state" WHEN 2 THEN 'failed' WHEN 3 THEN 'skipped' WHEN 4 THEN 'existing' \
WHEN 0 THEN CASE WHEN c."churn_scored_at" IS NULL THEN 'pending' ELSE 'stale' END END, c."id", c."p"
FROM "public"."items" AS c
WHERE c."churn_state" <> 1"""


def test_the_sql_reads_like_this(connect: Connect, database: Database) -> None:
    make_items(connect())
    columns = [ViewColumn("id", "bigint"), ViewColumn("p", "double precision")]
    address = ("public", "items_scored")
    text = view_sql(resolved(database), address, columns, security_invoker=True)
    assert text == GOLDEN
    old_server = view_sql(resolved(database), address, columns, security_invoker=False, replace=True)
    assert old_server == GOLDEN.replace(" WITH (security_invoker = true)", "").replace(
        "CREATE", "CREATE OR REPLACE"
    )


def test_it_says_how_each_row_stands_and_hides_the_state(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    connection.execute("INSERT INTO items (id, a) VALUES (2, 2), (3, 3)")
    connection.execute(SCORE)
    connection.execute("UPDATE items SET a = 7 WHERE id = 3")
    connection.execute("INSERT INTO items (id, a, churn_state) VALUES (4, 4, 0), (5, 5, 2), (6, 6, 3)")
    rows = connection.execute("SELECT * FROM items_scored ORDER BY id")
    assert [column.name for column in rows.description or []] == [
        "prediction_state", "id", "a", "b", "note", "p", "churn_scored_at",
    ]  # fmt: skip
    found = [(row[0], row[1], row[5]) for row in rows.fetchall()]
    assert found == [
        ("existing", 1, None), ("scored", 2, 1.0), ("stale", 3, 1.5),
        ("pending", 4, None), ("failed", 5, None), ("skipped", 6, None),
    ]  # fmt: skip


def test_each_row_is_in_one_branch_in_any_snapshot(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    apply(database, resolved(database))
    connection.execute("INSERT INTO items (id, a) SELECT i, i FROM generate_series(1, 200) AS i")
    done, turned = threading.Event(), threading.Event()

    def turn() -> None:
        writer = connect()
        while not done.is_set():
            writer.execute("UPDATE items SET churn_state = 1 - churn_state WHERE id % 3 = 0")
            turned.set()

    writer = threading.Thread(target=turn)
    writer.start()
    assert turned.wait(30)
    for _ in range(200):
        rows = connection.execute("SELECT count(*), count(DISTINCT id) FROM items_scored").fetchone()
        assert rows == (200, 200)
    done.set()
    writer.join()


def test_the_reader_sees_what_the_reader_may(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 4)
    apply(database, resolved(database))
    role = one(connection, "SELECT 'reader_' || current_database()")
    connection.execute(
        f"""CREATE ROLE {role}; GRANT SELECT ON items, items_scored TO {role};
            ALTER TABLE items ENABLE ROW LEVEL SECURITY;
            CREATE POLICY even ON items FOR SELECT USING (id % 2 = 0)"""
    )
    connection.execute(f"SET ROLE {role}")
    assert connection.execute("SELECT id FROM items_scored ORDER BY 1").fetchall() == [(2,), (4,)]
    connection.execute(f"RESET ROLE; REVOKE SELECT ON items FROM {role}; SET ROLE {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT id FROM items_scored")
    connection.execute(f"RESET ROLE; DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("columns", "composite"),
    [
        ("id bigint, b integer", "id, b"),
        ("id uuid", "id"),
        ('id varchar(8) COLLATE "C", b date', "b, id"),
    ],
)
def test_keys_of_any_kind(connect: Connect, database: Database, columns: str, composite: str) -> None:
    connection = connect()
    connection.execute(f"CREATE TABLE items ({columns}, a numeric(8, 2)[], PRIMARY KEY ({composite}))")
    apply(database, resolved(database, inputs=["a"]))
    definition = one(connection, "SELECT pg_get_indexdef('rowscore_churn_pending'::regclass)")
    keys = ", ".join(f"{name} NULLS FIRST" for name in composite.split(", "))
    assert f"(churn_state, {keys}) WHERE" in definition


# --- drift --------------------------------------------------------------------------------------------------


def test_a_column_added_later_joins_at_the_end_and_grants_stay(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute(
        "CREATE VIEW report AS SELECT id FROM items_scored; GRANT SELECT ON items_scored TO PUBLIC"
    )
    connection.execute("ALTER TABLE items ADD COLUMN extra text")
    with database.transaction() as transaction:
        assert drift(transaction, wanted) == [
            "make the view public.items_scored over scored and unscored rows"
        ]
    (change,) = apply(database, wanted)
    assert "CREATE OR REPLACE VIEW" in change.sql
    assert one(connection, "SELECT has_table_privilege('public', 'items_scored', 'SELECT')") or one(
        connection, "SELECT relacl::text ~ '=r/' FROM pg_class WHERE oid = 'items_scored'::regclass"
    )
    connection.execute("SELECT extra FROM items_scored")


def test_a_renamed_column_needs_a_new_view_with_the_old_grants(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    role = one(connection, "SELECT 'Grantee \"' || current_database()")
    connection.execute(
        f"CREATE ROLE {quoted(role)}; GRANT SELECT ON items_scored TO {quoted(role)} WITH GRANT OPTION"
    )
    connection.execute("GRANT SELECT, DELETE ON items_scored TO PUBLIC")
    acl = "SELECT array(SELECT unnest(relacl)::text ORDER BY 1) FROM pg_class WHERE relname = 'items_scored'"
    before = one(connection, acl)
    connection.execute("ALTER TABLE items RENAME COLUMN note TO remark")
    (change,) = apply(database, wanted)
    assert change.statements[0].startswith("DROP VIEW")
    assert one(connection, acl) == before
    assert apply(database, wanted) == []
    connection.execute(f"DROP OWNED BY {quoted(role)} CASCADE; DROP ROLE {quoted(role)}")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_a_new_view_is_refused_where_another_stands_on_the_old(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("CREATE VIEW report AS SELECT id FROM items_scored")
    connection.execute("ALTER TABLE items RENAME COLUMN note TO remark")
    before = catalogue(connection)
    with pytest.raises(RefusedError, match="view report depends on it"):
        apply(database, wanted)
    assert catalogue(connection) == before


def test_somebody_elses_view_is_left_alone(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute("CREATE VIEW items_scored AS SELECT 1 AS one")
    with pytest.raises(RefusedError, match="is there already"):
        apply(database, resolved(database))
    apply(database, resolved(database, view="other"))
    assert one(connection, "SELECT one FROM items_scored") == 1


def test_another_name_or_none_takes_the_old_view_away(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute("CREATE SCHEMA reports")
    apply(database, resolved(database))
    apply(database, resolved(database, view="reports.items"))
    assert connection.execute(
        "SELECT viewname FROM pg_views WHERE schemaname !~ '^(pg_|inf)'"
    ).fetchall() == [("items",)]
    apply(database, resolved(database, view=False))
    assert one(connection, "SELECT count(*) FROM pg_views WHERE schemaname !~ '^(pg_|inf)'") == 0


# --- live ---------------------------------------------------------------------------------------------------


def make_function(connection: psycopg.Connection[Any], volatility: str) -> None:
    """predict(a, b) answers (p, label) and counts its calls, whatever it claims about itself."""
    connection.execute("CREATE SEQUENCE calls; CREATE TYPE answer AS (p double precision, label text)")
    connection.execute("CREATE FUNCTION noted() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('calls') $$")
    connection.execute(
        f"""CREATE FUNCTION predict(a float8, b int) RETURNS answer LANGUAGE plpgsql {volatility} AS
        $$ BEGIN PERFORM noted(); RETURN ROW(a + b, 'live')::answer; END $$"""
    )


def calls(connection: psycopg.Connection[Any]) -> int:
    count = one(connection, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM calls")
    connection.execute("ALTER SEQUENCE calls RESTART")
    return int(count)


LIVE: dict[str, Any] = {
    "model": {"sql": "predict"},
    "outputs": {"p": "double precision", "label": "varchar(4)"},
    "live": True,
    "where": "note <> 'no'",
}


@pytest.mark.parametrize("volatility", ["VOLATILE", "STABLE"])
def test_live_calls_the_function_once_for_each_waiting_row_that_is_read(
    connect: Connect, database: Database, volatility: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    make_function(connection, volatility)
    wanted = resolved(database, **LIVE)
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute(
        """INSERT INTO items (id, a, b, note, churn_state, churn_scored_at, p, label) VALUES
           (2, 2, 1, 'yes', 0, NULL, NULL, NULL), (3, 3, 1, 'yes', 0, now(), 9, 'old'),
           (4, 4, 1, 'no', 0, NULL, NULL, NULL), (5, 5, 1, NULL, 0, NULL, NULL, NULL),
           (6, 6, 1, 'yes', 1, now(), 9, 'old'), (7, 7, 1, 'yes', 2, NULL, NULL, NULL)"""
    )
    rows = connection.execute(
        "SELECT id, prediction_state, p, label FROM items_scored ORDER BY id"
    ).fetchall()
    assert rows == [
        (1, "existing", None, None), (2, "pending", 3.0, "live"), (3, "stale", 4.0, "live"),
        (4, "pending", None, None),
        (5, "pending", None, None), (6, "scored", 9.0, "old"), (7, "failed", None, None),
    ]  # fmt: skip
    assert calls(connection) == 2
    assert connection.execute("SELECT p, label FROM items_scored WHERE id = 2").fetchall() == [(3.0, "live")]
    assert calls(connection) == 1
    assert connection.execute("SELECT id FROM items_scored WHERE p > 3.5 AND id < 6").fetchall() == [(3,)]
    assert calls(connection) == 2


def test_live_reads_a_waiting_row_by_its_key(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    make_function(connection, "VOLATILE")
    apply(database, resolved(database, **LIVE))
    connection.execute(
        "INSERT INTO items (id, a, b, note) SELECT i, i, 1, 'yes' FROM generate_series(1, 5000) AS i"
    )
    connection.execute("ANALYZE items")
    plan = str(connection.execute("EXPLAIN SELECT * FROM items_scored WHERE id = 5").fetchall())
    assert "Seq Scan" not in plan
    assert re.search(r"Index Cond: \(id = 5\)", plan)


def test_the_batch_size_is_passed_on(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    connection.execute(
        """CREATE FUNCTION sized(a float8, b int, max_rows_per_batch int DEFAULT NULL) RETURNS int
           LANGUAGE sql AS $$ SELECT max_rows_per_batch $$"""
    )
    common: dict[str, Any] = {"model": {"sql": "sized"}, "live": True}
    apply(database, resolved(database, **common))
    connection.execute("INSERT INTO items (id, a, b) VALUES (1, 1, 1)")
    assert one(connection, "SELECT p FROM items_scored") is None
    apply(database, resolved(database, **common, max_rows_per_batch=7))
    assert one(connection, "SELECT p FROM items_scored") == 7
