"""JSON: what is written reads back the same, digit by digit, and what is read is checked."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import RowFaultError, RowRejectedError
from worker.kinds.encoding import Encoding
from worker.models.jsonformat import columns, encoded, parse
from worker.models.protocol import Batch


def written(value: Any, **encoding: Any) -> str:
    ((text,),) = columns(Batch(("a",), [(value,)]), Encoding(**encoding))
    mixed = columns(Batch(("a",), [(value,), (None,), (1,), ("x",)]), Encoding(**encoding))
    assert mixed[0][0] == text, "the same in a column of mixed types, which takes the slow path"
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (42, "42"),
        (2**70, "1180591620717411303424"),
        (0.1, "0.1"),
        (1e16, "1e+16"),
        (-0.0, "-0.0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.1000000000000000055511151231257827"), "0.1000000000000000055511151231257827"),
        (date(2026, 11, 1), '"2026-11-01"'),
        (datetime(2026, 11, 1, 12, 30, tzinfo=UTC), '"2026-11-01T12:30:00+00:00"'),
        (time(12, 30), '"12:30:00"'),
        (timedelta(minutes=1, milliseconds=500), "60.5"),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (np.float64(0.5), "0.5"),
        (np.array([1, 2]), "[1,2]"),
        ('say "hi"\n\x01', '"say \\"hi\\"\\n\\u0001"'),
        ("naïve \u2028", '"naïve \u2028"'),
        ([1, Decimal("1.50"), None, "x"], '[1,1.50,null,"x"]'),
        ({"a": [True, {"b": date(2026, 1, 2)}]}, '{"a":[true,{"b":"2026-01-02"}]}'),
    ],
)
def test_how_a_value_is_written(value: Any, text: str) -> None:
    assert written(value) == text
    json.loads(text)


def test_the_encoding_says_otherwise() -> None:
    assert written(False, booleans=["no", "yes"]) == '"no"'
    assert written(True, booleans=[0, 1]) == "1"
    assert written(None, null=-1) == "-1"
    assert written(None, null="n/a") == '"n/a"'
    assert written(Decimal("1.50"), decimals="text") == '"1.50"'
    assert written([Decimal("1.50"), True], decimals="text", booleans=["f", "t"]) == '["1.50","t"]'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "nan is no number of JSON"),
        (math.inf, "inf is no number"),
        (Decimal("NaN"), "NaN is no number"),
        ([0.5, -math.inf], "-inf is no number"),
        (b"bytes", "type bytes cannot be sent"),
        (object(), "type object cannot be sent"),
    ],
)
def test_what_has_no_place_in_json_is_refused_by_name(value: Any, words: str) -> None:
    with pytest.raises(RowRejectedError, match=f"input photo: .*{words}") as refusal:
        columns(Batch(("id", "photo"), [(1, value)]))
    assert not refusal.value.sent


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(RowRejectedError, match="not valid Unicode"):
        encoded('"\ud800"')


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def exactly(value: Any) -> Any:
    """As a reader that loses no digit has it."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list):
        return list(map(exactly, value))
    return {key: exactly(item) for key, item in value.items()} if isinstance(value, dict) else value


@given(st.lists(st.tuples(_values, _values), min_size=1, max_size=5))
def test_what_is_written_reads_back(rows: list[tuple[Any, ...]]) -> None:
    for name, texts in zip((0, 1), columns(Batch(("a", "b"), rows)), strict=True):
        read = [parse(encoded(text), exact=True) for text in texts]
        assert read == [exactly(row[name]) for row in rows]


def test_numbers_are_floats_or_exact() -> None:
    text = b'{"a": 0.1000000000000000055511151231257827, "b": [1e3, 7]}'
    assert parse(text) == {"a": 0.1, "b": [1000.0, 7]}
    found = parse(text, "UTF-8", exact=True)
    assert found == {"a": Decimal("0.1000000000000000055511151231257827"), "b": [Decimal("1E+3"), 7]}
    assert math.isnan(parse(b"[NaN]")[0])


@pytest.mark.parametrize(
    ("content", "charset", "words"),
    [
        (b"", None, "not JSON"),
        (b"[1", None, "not JSON"),
        (b"[1] [2]", None, "not JSON"),
        (b"{'a': 1}", None, "not JSON"),
        (b"[01]", None, "not JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', None, "the name 'c' is there twice"),
        (b"[" * 100_000, None, "nested too deep"),
        (b"9" * 5000, None, "not JSON"),
        (b'["\xe9"]', None, r"not UTF-8 \(byte 2 of 5\)"),
        (b"[]", "iso-8859-1", "charset iso-8859-1"),
        (b'[["\\ud83d"]]', None, "half of a surrogate pair"),
    ],
)
def test_what_is_no_answer_is_refused(content: bytes, charset: str | None, words: str) -> None:
    with pytest.raises(RowFaultError, match=words):
        parse(content, charset)


def test_whole_surrogate_pairs_are_letters() -> None:
    assert parse(b'\xef\xbb\xbf["\\ud83d\\ude00"]') == ["\U0001f600"]
