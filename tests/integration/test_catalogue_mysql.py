"""What statements open of the catalogue: one table, or one database's; not each table of a server that has 10,000."""

from __future__ import annotations

import re
from typing import Any

import pytest

import sql
from tests.conftest import Connect
from tests.support.databases import INNODB, one, schema_of
from tests.support.predictions import applied, configuration, make_items, opened
from worker.database import Transaction

CONFORMANCE = INNODB
ELSEWHERE = {
    "find_blockers",  # metadata locks, for which MariaDB has no table unless a plugin is installed
    "find_function", "list_functions", "locate_functions",  # routines: nothing is opened for them
    "read_aurora_replicas",  # a table of Aurora's alone
}  # fmt: skip
READERS = sorted(
    name
    for name, item in sql.load("mysql").items()
    if "information_schema." in item.text and name not in ELSEWHERE
)
# Views of others upon a table of ours may be in any database; `apply`, `remove` and `doctor` ask for them, no worker.
WHOLE_SERVER = {"find_column_dependents": {"v"}, "find_views": {"v", "d"}}
WHOLE_DATABASE = {
    "find_bound", "find_callers", "find_marked_columns", "find_own_indexes", "find_own_parts", "find_own_schema",
    "find_own_triggers", "find_views", "list_tables",
}  # fmt: skip
# MySQL's own tables of tables, columns, indexes and partitions.
DICTIONARY = {"tbl", "col", "idx", "icu", "part", "sub_part"}
CONTEXT: dict[str, Any] = {"trigger": True, "view": True, "function": True, "parts": (0, 1), "of_table": True}


def explained(transaction: Transaction, text: str, schema: str) -> list[dict[str, Any]]:
    """EXPLAIN's lines for the statement, about the table items of the schema."""
    values = {
        "schema": schema, "name": "items", "table": "items", "oid": f"{schema}.items", "prefix": "maintained",
        "names": ["i"], "key": ["id"], "state": "churn_state", "trigger": "t", "index": "i", "columns": ["p"],
        "view_mark": "m", "view_schema": schema, "function_schema": schema, "table_schema": None,
        "table_name": "items", "relations": [f"{schema}.items"], "older_than": 1, "schema_1": "another",
        "name_1": "items", "indexes": ["i"], "call": "predict", "label": "f", "own": "rowscore",
    }  # fmt: skip
    asked = {name: values[name] for name in re.findall(r"%\((\w+)\)s", text)}
    return [dict(row._mapping) for row in transaction.rows(f"EXPLAIN FORMAT=TRADITIONAL {text}", **asked)]


@pytest.mark.parametrize("name", READERS)
def test_a_statement_opens_its_table_or_its_database_and_not_the_server(
    database_url: str, connect: Connect, name: str
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        m = engine.materialisation(engine.prediction())
        with engine.database(engine.prediction()).transaction() as transaction:
            lines = explained(transaction, m.render(name, **CONTEXT), schema_of(application))
    assert lines
    if "MariaDB" not in one(
        application, "SELECT VERSION()"
    ):  # whose catalogue is tables of its own, with indexes
        walked = {str(line["table"]) for line in lines if line["type"] in ("ALL", "index")}
        assert not walked & DICTIONARY or name in WHOLE_DATABASE, walked
        by_kind = {line["table"] for line in lines if line["key"] == "type"}
        assert not by_kind or name in WHOLE_SERVER or name in WHOLE_DATABASE
        return
    for line in lines:
        extra = line["Extra"] or ""
        if "Scanned all databases" in extra:
            assert line["table"] in WHOLE_SERVER.get(name, ()), line
            assert "Open_full_table" not in extra, "definitions of views alone"
        assert "Scanned 1 database" not in extra or name in WHOLE_DATABASE, line
