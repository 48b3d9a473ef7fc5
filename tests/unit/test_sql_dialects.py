"""Every database has the same statements by name, but for those that are listed here, each with its reason."""

from __future__ import annotations

from collections import Counter

import pytest

import sql

# Why a statement is there for one alone, and which they are.
ALONE: dict[str, dict[str, set[str]]] = {
    "postgresql": {
        "partitions are tables, whose indexes are attached to the one above": {"attach_pending_index"},
        "a row has a version of its own": {"changed_rows"},
        "objects have comments, which hold the mark": {"comment_function", "comment_trigger", "comment_view"},
        "rowscore's own tables are in a schema": {
            "create_own_schema", "drop_own_schema", "drop_revision_table", "grant_own_schema",
        },
        "a schema can be closed to a role": {"grant_schema"},
        "a column's comment and the privileges on it are changed by themselves, an index's name as well": {
            "find_column_grants", "find_comments", "grant_column", "rename_index", "revoke_column",
        },
        "a trigger calls a function": {
            "create_staleness_function", "drop_staleness_function", "find_staleness_function", "staleness_body",
        },
        "ANALYZE keeps the share of each value, which one statement reads": {"estimate_states"},
        "EXPLAIN answers JSON, and the text beside it": {"explain_plan", "explain_text"},
        "Aurora tells of its batches in EXPLAIN ANALYZE, in recorded plans, and in a session's own counters": {
            "count_all_functions", "explain_analyze", "find_unbatched_plans",
        },
        "functions are known by their arguments' types, and may answer a record": {
            "find_argument_types", "find_unassignable",
        },
        "Aurora's services are an extension": {"find_extension"},
        "policies choose rows": {"find_row_security"},
        "it knows its standbys, and archives what it logs": {"measure_unarchived_wal", "read_replicas"},
        "a role sees that there are sessions of others, and not what they do": {"count_hidden_sessions"},
        "types have names of the server's own": {"find_type", "name_types"},
        "dead rows are left to a vacuum, which can be turned off": {"count_vacuums", "find_unvacuumed"},
        "a view is made anew where a column changes its name, and loses its privileges": {"grant_view"},
        "the lock of `apply` is an open transaction": {"outlast_timeouts"},
        "a dependency tells what an expression reads": {"probe_expressions", "read_probe", "read_probe_whole_row"},
        "UPDATE can lock and step over rows itself": {"score_rows_in_place", "write_rows_past_locks"},
    },
    "mysql": {
        "a view's columns are another look into the catalogue": {"list_view_columns"},
        "DDL commits by itself": {
            "alone", "drop_own_tables", "find_own_parts", "keep_plans", "lock_table", "unlock_plans", "unlock_table",
        },
        "EXPLAIN estimates one value at a time, and answers a line a table": {
            "count_one_state", "estimate_state", "explain_access",
        },
        "a statement that writes does not step over rows: they are found first": {
            "drop_failures", "list_due", "lock_rows", "sample_window",
        },
        "a purge removes dead rows": {"find_history"},
        "the catalogue shows an account what it may, and nothing says what it may not": {
            "find_missing_grants", "find_noted", "grant_held", "grant_missing", "name_account", "try_column",
            "try_delete", "try_function", "try_table",
        },
        "Aurora's services are privileges of the server's": {"find_model_counters", "grant_services"},
        "the binary log asks things of statements and of triggers": {
            "find_replication", "find_trigger_obstacle", "log_rows",
        },
        "who holds a lock can only be guessed without the right to see it": {"find_suspects"},
        "a column's comment is changed with its whole definition": {"show_table"},
    },
}  # fmt: skip
OTHER = {"postgresql": "mysql", "mysql": "postgresql"}


@pytest.mark.parametrize("dialect", ALONE)
def test_each_statement_is_in_the_other_dialect_too_or_has_a_reason(dialect: str) -> None:
    listed = Counter(name for names in ALONE[dialect].values() for name in names)
    assert {name for name, times in listed.items() if times > 1} == set()
    assert set(sql.load(dialect)) - set(sql.load(OTHER[dialect])) == set(listed)


@pytest.mark.parametrize("folder", ["demo"])
def test_further_folders_have_the_same_statements_in_each_dialect(folder: str) -> None:
    assert set(sql.load("postgresql", folder)) == set(sql.load("mysql", folder))
