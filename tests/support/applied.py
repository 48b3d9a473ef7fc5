"""Tables to apply predictions to, and the whole catalogue as data, to compare before and after."""

from __future__ import annotations

from typing import Any

import psycopg

from worker.apply import LockPatience
from worker.config import Prediction, parse_configuration
from worker.database import Database
from worker.materialisation import Materialisation, resolve

HURRIED = LockPatience(lock_timeout="50ms", attempts=3, first_pause=0.001, longest_pause=0.002)
STEADY = LockPatience(lock_timeout="100ms", attempts=1000, first_pause=0.001, longest_pause=0.01)


def prediction(name: str = "churn", **overrides: Any) -> Prediction:
    """A prediction on the table items: inputs a and b, output p."""
    section: dict[str, Any] = {
        "table": "items",
        "inputs": ["a", "b"],
        "outputs": {"p": "double precision"},
        "model": {"python": "tests:never_called"},
    }
    section.update(overrides)
    content = {"database": "postgresql://nowhere", "predictions": {name: section}}
    return parse_configuration(content).predictions[name]


def resolved(database: Database, name: str = "churn", **overrides: Any) -> Materialisation:
    """That prediction looked up in the database."""
    with database.transaction() as transaction:
        return resolve(transaction, prediction(name, **overrides))


def make_items(connection: psycopg.Connection[Any], rows: int = 0) -> None:
    """The table items with so many rows."""
    connection.execute("CREATE TABLE items (id bigint PRIMARY KEY, a double precision, b integer, note text)")
    connection.execute("INSERT INTO items SELECT i, i, 10, 'x' FROM generate_series(1, %s) AS i", [rows])


def partition_items(connection: psycopg.Connection[Any]) -> None:
    """The table items in partitions of two levels: items_1, and items_2 with items_2a and items_2b below."""
    connection.execute(
        """
        CREATE TABLE items (id bigint, a double precision, b integer, note text, PRIMARY KEY (id, b))
          PARTITION BY RANGE (id);
        CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (100);
        CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (100) TO (200) PARTITION BY LIST (b);
        CREATE TABLE items_2a PARTITION OF items_2 FOR VALUES IN (1, 2);
        CREATE TABLE "items 2b" PARTITION OF items_2 DEFAULT;
        INSERT INTO items SELECT i, i, i % 4, 'x' FROM generate_series(50, 149) AS i;
        """
    )


_CATALOGUE = {
    "columns": """
        SELECT c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.atthasmissing, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), a.attnum
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1, a.attnum""",
    "relations": """
        SELECT c.oid::regclass::text, c.relkind, c.reloptions::text, c.relacl::text,
               obj_description(c.oid, 'pg_class')
        FROM pg_class c WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1""",
    "indexes": """
        SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid,
               h.inhparent::regclass::text
        FROM pg_index i LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
        JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relnamespace::regnamespace::text !~ '^pg_' ORDER BY 1""",
    "triggers": """
        SELECT pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger')
        FROM pg_trigger t WHERE NOT t.tgisinternal ORDER BY 1""",
    "functions": """
        SELECT p.oid::regprocedure::text, p.prosrc, p.proconfig::text, obj_description(p.oid, 'pg_proc')
        FROM pg_proc p WHERE p.pronamespace::regnamespace::text !~ '^(pg_|information_schema)' ORDER BY 1""",
    "views": """
        SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_class c
        WHERE c.relkind = 'v' AND c.relnamespace::regnamespace::text !~ '^(pg_|inform)' ORDER BY 1""",
}
_OWN_ROWS = {
    "prediction": "SELECT name, generation, definition_hash, definition, version FROM rowscore.prediction",
    "run": "SELECT prediction, kind, status, pos FROM rowscore.run ORDER BY 1, 2, 3",
    "circuit": "SELECT prediction, failures FROM rowscore.circuit ORDER BY 1",
    "learned": "SELECT prediction, rows_per_claim FROM rowscore.learned ORDER BY 1",
}


def catalogue(connection: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Everything that `apply` may change, by name and not by oid; rows of rowscore's own tables included."""
    found: dict[str, list[Any]] = {
        name: connection.execute(query).fetchall() for name, query in _CATALOGUE.items()
    }
    if one(connection, "SELECT to_regclass('rowscore.prediction') IS NOT NULL"):
        found |= {name: connection.execute(query).fetchall() for name, query in _OWN_ROWS.items()}
    return found


def one(connection: psycopg.Connection[Any], query: str, parameters: Any = None) -> Any:
    """The first column of the first row."""
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]
