"""CSV: what is written reads back the same, is quoted only where it must be, and what is read is checked."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import RowFaultError, RowRejectedError
from worker.models.csvformat import decode, encode
from worker.models.protocol import Batch


def written(*row: Any) -> str:
    return encode(Batch(tuple(f"c{n}" for n in range(len(row))), [row])).decode()


@given(st.lists(st.one_of(st.floats(), st.floats(1e-5, 1e17), st.just(-0.0)), min_size=1, max_size=20))
def test_floats_are_written_as_python_writes_them_whatever_else_is_in_the_column(
    numbers: list[float],
) -> None:
    together = encode(Batch(("a", "b"), [(number, 1) for number in numbers])).decode()
    assert together == "".join(f"{number!r},1\n" for number in numbers)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, ""),
        (True, "1"),
        (False, "0"),
        (42, "42"),
        (0.1, "0.1"),
        (1e16, "1e+16"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0E-10"), "0.0000000000"),
        (Decimal("0.1000000000000000055511151231257827"), "0.1000000000000000055511151231257827"),
        (date(2026, 11, 1), "2026-11-01"),
        (datetime(2026, 11, 1, 12, 30, tzinfo=UTC), "2026-11-01T12:30:00+00:00"),
        (datetime(2026, 11, 1), "2026-11-01T00:00:00"),
        (time(12, 30), "12:30:00"),
        (timedelta(minutes=1, milliseconds=500), "60.5"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.float64(0.5), "0.5"),
        (np.int64(3), "3"),
        ("CA", "CA"),
        ("a,b", '"a,b"'),
        ('say "hi"', '"say ""hi"""'),
        ("two\nlines", '"two\nlines"'),
        ("a\rb", '"a\rb"'),
        (" spaced ", " spaced "),
        ("naïve", "naïve"),
    ],
)
def test_how_a_value_is_written(value: Any, field: str) -> None:
    assert written(value, "end") == f"{field},end\n"
    # The same in a column of mixed types, which takes the slow path.
    assert (
        encode(Batch(("a", "b"), [(value, 1), (None, 2), (1, 3), ("x", 4)]))
        .decode()
        .startswith(f"{field},1\n,2\n")
    )


@pytest.mark.parametrize("value", [b"bytes", bytearray(b"x"), [1, 2], {"a": 1}, object(), 1j])
def test_what_has_no_place_in_a_field_is_refused_by_name(value: Any) -> None:
    with pytest.raises(RowRejectedError, match=f"input photo: a value of type {type(value).__name__}"):
        encode(Batch(("id", "photo"), [(1, value)]))


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(RowRejectedError, match="not valid Unicode"):
        written("\ud800", 1)


def test_a_null_alone_in_its_row_is_not_an_empty_line() -> None:
    assert encode(Batch(("a",), [(None,), ("x",), ("",)])) == b'""\nx\n""\n'
    assert encode(Batch(("a",), [])) == b""


_scalars = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8"), max_size=12), st.floats(), st.integers()
)


@given(
    st.integers(1, 4).flatmap(lambda width: st.lists(st.tuples(*[_scalars] * width), min_size=1, max_size=8))
)
def test_what_is_written_reads_back(rows: list[tuple[Any, ...]]) -> None:
    content = encode(Batch(tuple(map(str, range(len(rows[0])))), rows)).decode()
    read = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    assert read == [["" if value is None else str(value) for value in row] for row in rows]


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), max_size=12), st.floats()), min_size=1, max_size=8
    )
)
def test_our_own_reader_agrees(rows: list[tuple[Any, ...]]) -> None:
    assert decode(encode(Batch(("a", "b"), rows)), len(rows)) == [tuple(map(str, row)) for row in rows]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"0.1\n0.2\n", [("0.1",), ("0.2",)]),
        (b"0.1\r\n0.2", [("0.1",), ("0.2",)]),
        (b"\xef\xbb\xbf0.1\n0.2\n", [("0.1",), ("0.2",)]),
        (b"0.1\n\n", [("0.1",), ("",)]),
        (b"0.1\n0.2\n\n\n", [("0.1",), ("0.2",)]),
        (b'"0.1"\n"0.2"\n', [("0.1",), ("0.2",)]),
        (b'""\n""\n', [("",), ("",)]),
        (b"0.1,POSITIVE\n0.2,NEGATIVE\n", [("0.1", "POSITIVE"), ("0.2", "NEGATIVE")]),
        (b'"a ""b"", c\nd",1\n"x",2', [('a "b", c\nd', "1"), ("x", "2")]),
        ("über,1\né,2\n".encode(), [("über", "1"), ("é", "2")]),
        (b"a\x0bb,1\n\xe2\x80\xa8,2\n", [("a\x0bb", "1"), ("\u2028", "2")]),
    ],
)
def test_how_an_answer_is_read(content: bytes, rows: list[tuple[str, ...]]) -> None:
    assert decode(content, 2, "UTF-8") == rows


@pytest.mark.parametrize(
    ("content", "charset", "message"),
    [
        (b"0.1\n", None, "answered 1 lines where 2 rows were sent"),
        (b"1\n2\n3\n", None, "answered 3 lines"),
        (b"", None, "answered 0 lines"),
        ("é\né\n".encode("latin-1"), None, "not UTF-8"),
        (b"1\n2\n", "iso-8859-1", "charset iso-8859-1"),
        (b'"open\n2\n', None, "not CSV"),
        (b'"a"b\n2\n', None, "not CSV"),
    ],
)
def test_what_is_no_answer_is_refused(content: bytes, charset: str | None, message: str) -> None:
    with pytest.raises(RowFaultError, match=message):
        decode(content, 2, charset)
