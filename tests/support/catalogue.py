"""Everything in a database that `apply` may change, as data, to compare before and after."""

from __future__ import annotations

from typing import Any

from tests.support.databases import Session, is_postgresql, one, quote

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


def _postgresql(connection: Session) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {
        name: connection.execute(query).fetchall() for name, query in _CATALOGUE.items()
    }
    if one(connection, "SELECT to_regclass('rowscore.prediction') IS NOT NULL"):
        found |= {name: connection.execute(query).fetchall() for name, query in _OWN_ROWS.items()}
    return found


def _mysql(connection: Session) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    tables = connection.execute(
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
    )
    for name, kind in tables.fetchall():
        shown = f"SHOW CREATE {'VIEW' if kind == 'VIEW' else 'TABLE'} {quote(connection, name)}"
        found[name] = [line for row in connection.execute(shown) for line in str(row[1]).splitlines()]
    found["triggers"] = connection.execute(
        "SELECT trigger_name, event_object_table, action_statement, action_order FROM information_schema.triggers "
        "WHERE trigger_schema = DATABASE() ORDER BY 1"
    ).fetchall()
    found["functions"] = connection.execute(
        "SELECT routine_name, routine_definition FROM information_schema.routines WHERE routine_schema = DATABASE() "
        "ORDER BY 1"
    ).fetchall()
    if "rowscore_circuit" in found:
        own = {name: query.replace("rowscore.", "rowscore_") for name, query in _OWN_ROWS.items()}
        found |= {name: connection.execute(query).fetchall() for name, query in own.items()}
    return found


def catalogue(connection: Session) -> dict[str, list[Any]]:
    """By name and not by number, as the server itself would write it; rows of rowscore's own tables included."""
    return _postgresql(connection) if is_postgresql(connection) else _mysql(connection)


def described(connection: Session, column: str, table: str = "items") -> tuple[str, str | None]:
    """A column's type and comment."""
    query = (
        "SELECT format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attname = %s"
        if is_postgresql(connection)
        else "SELECT column_type, column_comment FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = %s AND column_name = %s"
    )
    kind, comment = connection.execute(query, [table, column]).fetchone() or ("", None)
    return kind, comment or None


def storage(connection: Session, table: str = "items") -> Any:
    """What identifies the table's rows on disk: another one after they were written anew."""
    if is_postgresql(connection):
        return one(connection, "SELECT pg_relation_filenode(%s::regclass)", [table])
    prefix = "innodb_sys" if "MariaDB" in one(connection, "SELECT VERSION()") else "innodb"
    return one(
        connection,
        f"SELECT table_id FROM information_schema.{prefix}_tables WHERE name = CONCAT(DATABASE(), '/', %s)",
        [table],
    )
