"""The named statements: each says what it is for, renders, binds all its values, and leaves a user's text alone."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

import sql
from tests.support.statements import sample
from worker.states import RowState

ODD = "note LIKE '%:x' AND a::text <> ':y!b' AND b % 2 = 0 AND note <> '{{ c }} {% d %} %(e)s %s \x02'"


DIALECTS = ("postgresql", "mysql", "mariadb")
STATEMENTS = sql.load("postgresql")
CONTEXT = sample().context
NAMES = [(dialect, name) for dialect in DIALECTS for name in sorted(sql.load(dialect))]
# What a statement needs over and above the prediction's own context.
EXTRA: dict[str, Any] = {
    "claims": RowState.PENDING, "guarded": True, "everything": False, "unheld": False, "fits": True,
    "shared": False, "daily": True, "unit": "rows",
    "start": "after", "cap": "before", "upper": True, "expressions": ["a", "b"], "arrived_at": "a",
    "existing": 4, "columns": [],
    "trigger": "t", "index": "i", "schema": "public", "view": "v", "comment": "'c'", "column": "a", "live": False,
    "anchor": False, "one": RowState.EXISTING, "zoned": False, "relation": "r", "wanted": "w",
    "other": "churn_shadow_state", "portion": 0.1, "old": "p", "new": "p_shadow", "kind": "text",
    "parts": (0, 1), "of_table": True, "value": "'2'", "scored": True, "moment": "'2026-11-21 08:00:00'",
}  # fmt: skip
# Rendered by `apply` and `explain` for each object, with words of their own; their own tests run them.
DDL = {
    "add_columns", "attach_pending_index", "cast_answer", "columns_changed_image", "comment_function",
    "create_pending_index", "create_staleness_function", "create_staleness_trigger", "create_view",
    "drop_columns", "drop_pending_index",
    "drop_staleness_function", "explain_plan", "explain_text", "grant_view", "in_transaction",
    "set_pending_default", "staleness_body", "grant_column", "revoke_column", "switch_columns",
    "allow_writes", "end_prepared", "end_session", "explain_access", "grant_function", "grant_missing", "grant_monitor",
    "grant_own_schema", "grant_own_tables", "grant_read", "grant_read_all", "grant_sessions", "grant_write",
    "mend_view", "alone", "allow_null", "comment_column", "account", "create_role", "grant_schema", "grant_services",
    "grant_held", "explain_analyze", "find_unbatched_plans", "export_query", "export_to_s3",
}  # fmt: skip
_DRIVER_PLACEHOLDER = re.compile(r"(?<!%)%\((\w+)\)([sb])")


@pytest.mark.parametrize(("dialect", "name"), NAMES)
def test_each_says_what_it_is_for_in_one_line(dialect: str, name: str) -> None:
    statement = sql.load(dialect)[name]
    assert statement.name == name
    assert 10 < len(statement.purpose) <= 120
    assert statement.purpose[0].isupper()
    assert statement.purpose.rstrip().endswith(".")
    assert statement.text.strip()
    assert not statement.text.rstrip().endswith(";") or name in ("alone", "in_transaction"), (
        "the driver ends it"
    )


@pytest.mark.parametrize("folder", ["postgresql", "mysql"])
def test_no_statement_is_hidden_by_a_head_that_is_not_one(folder: str) -> None:
    """A head that lacks its purpose would make its statement the tail of the one before."""
    for entry in resources.files("sql").joinpath(folder).iterdir():
        if entry.name.endswith(".sql"):
            text = entry.read_text(encoding="utf-8")
            heads = re.findall(r"^--\s*name\b.*", text, re.MULTILINE)
            assert len(heads) == sum(f"-- name: {name}\n" in text for name in sql.load(folder))


@pytest.mark.parametrize(("dialect", "name"), [item for item in NAMES if item[1] not in DDL])
def test_each_renders_and_binds_every_value(dialect: str, name: str) -> None:
    statement = sql.load(dialect)[name]
    text = statement.render(**{**sample(dialect, fingerprint="churn_inputs").context, **EXTRA})
    named = set(re.findall(r"(?<![:\w]):([a-z]\w*)", statement.text))
    bound = {match[1] for match in _DRIVER_PLACEHOLDER.finditer(text)}
    assert named <= bound
    left = _DRIVER_PLACEHOLDER.sub("", text).replace("%%", "")
    assert "%" not in left
    assert "\x01" not in text
    assert not re.search(r"(?<![:\w\"']):[a-z]\w*", re.sub(r"'[^']*'", "''", left)), "an unbound name is left"
    assert "{{" not in text
    assert "{%" not in text


# That write a row's state together with the fingerprint of its inputs.
KEEPING = (
    "skip_rows", "write_rows", "write_rows_past_locks", "score_rows", "score_rows_in_place", "mark_failed",
)  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("options", [{}, {"version": None}])
def test_a_fingerprint_is_kept_by_all_that_settle_a_row_and_costs_those_without_one_nothing(
    dialect: str, options: dict[str, Any]
) -> None:
    plain = sample(dialect, **options)
    keeping = sample(dialect, fingerprint="churn_inputs", **options)
    folder = "postgresql" if dialect == "postgresql" else "mysql"
    rows = resources.files("sql").joinpath(folder, "rows.sql").read_text(encoding="utf-8")
    for name in re.findall(r"^-- name: (\w+)", rows, re.MULTILINE):
        texts = [sql.load(dialect)[name].render(**{**m.context, **EXTRA}) for m in (plain, keeping)]
        assert "churn_inputs" not in texts[0]
        assert "None" not in texts[0]
        assert (texts[0] != texts[1]) == (name in KEEPING), name
        assert texts[1].count("churn_inputs") == (name in KEEPING), name


WITH_USERS_TEXT = [
    "skip_rows",
    "read_rows",
    "write_rows",
    "score_rows",
    "score_rows_in_place",
    "answer_rows",
    "list_rows",
]


@pytest.mark.parametrize("name", WITH_USERS_TEXT)
def test_a_users_text_with_percent_signs_colons_and_braces_survives(name: str) -> None:
    m = sample(inputs=["a", {"name": "odd", "sql": ODD}], where=ODD)
    text = m.render(name, **({"unheld": False} if name == "list_rows" else {}), claims=RowState.PENDING)
    assert ODD.replace("%", "%%") in text
    as_the_driver_sends_it = text.replace("%%", "\x00")
    assert {match[1] for match in _DRIVER_PLACEHOLDER.finditer(as_the_driver_sends_it)}.isdisjoint(
        {"e", "x", "y"}
    )
    shown = m.show(name, **({"unheld": False} if name == "list_rows" else {}), claims=RowState.PENDING)
    assert ODD in shown


@given(st.text(alphabet=st.characters(exclude_characters="\x00\x01"), max_size=40))
def test_any_text_in_an_expression_comes_out_as_it_went_in(text: str) -> None:
    statement = STATEMENTS["describe_expressions"]
    context = {**CONTEXT, "expressions": [f"[{text}]"]}
    assert f"[{text}] AS " in statement.show(**context)
    assert f"[{text.replace('%', '%%')}] AS " in statement.render(**context)


@given(st.text(alphabet=st.characters(exclude_characters="\x00"), min_size=1))
def test_a_quoted_identifier_is_one_identifier(name: str) -> None:
    quoted = sql.quote(name, "postgresql")
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', "") == name.replace('"', "")
    assert quoted[1:-1].replace('""', '"') == name


def test_an_identifier_cannot_hold_a_nul() -> None:
    with pytest.raises(ValueError, match="NUL"):
        sql.quote("a\x00b", "postgresql")


def test_a_variable_that_the_context_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        STATEMENTS["write_rows"].render(table="t")


def test_rendered_once_for_each_choice() -> None:
    m = sample()
    first = m.render("write_rows", claims=RowState.PENDING)
    assert m.render("write_rows", claims=RowState.PENDING) is first
    assert m.render("write_rows", claims=RowState.EXISTING) != first
    assert replace(m).render("write_rows", claims=RowState.PENDING) == first


def test_two_statements_of_one_name_are_refused() -> None:
    from jinja2 import Environment  # noqa: PLC0415

    twice = "-- name: a\n-- Does this.\nSELECT 1\n" * 2
    with pytest.raises(ValueError, match="'a' is defined twice"):
        sql.parse(twice, Environment())
