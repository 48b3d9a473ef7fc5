"""Columns that an expression mentions: every one is found however it is written, and strings and comments are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sql
from worker.capabilities import mentioned

COLUMNS = ["a", "Note", "odd `x`", "größe", "order", "c", "2nd", "a$b", "length"]


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("a + 1", {"a"}),
        ("CONCAT(c.NOTE, 'a')", {"c", "Note"}),
        ("`odd ``x```", {"odd `x`"}),
        ('"a" + `order`', {"order"}),
        (r"'it\'s a' + größe", {"größe"}),
        ("'it''s a' + größe", {"größe"}),
        (r"'\\' + a", {"a"}),
        ("1 /* a */ + `2nd` -- a\n + a$b # a", {"2nd", "a$b"}),
        ("1--a", {"a"}),
        ("/*! a */ 1", {"a"}),
        ("LENGTH(note) > 3", {"Note"}),
        ("length (note) > length", {"Note", "length"}),
        ("a->'$.note'", {"a"}),
        ("alpha + ab", set()),
    ],
)
def test_names_in_any_form_and_none_in_strings(expression: str, found: set[str]) -> None:
    assert mentioned([expression], COLUMNS) == found


@given(st.text(alphabet=st.characters(exclude_characters="\x00"), min_size=1), st.text(max_size=20))
def test_a_quoted_name_is_found_beside_any_string(name: str, text: str) -> None:
    string = "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    expression = f"CONCAT({string}, c.{sql.quote(name, 'mysql')}, {string})"
    assert name in mentioned([expression], [name, "other"])
    assert mentioned([string], [name]) == set()
