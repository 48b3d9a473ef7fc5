"""Rows kept as columns: the same rows as tuples are, whatever is asked of them."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.columns import Column, Columns, Numbers, Values
from worker.distinct import distinct, exact
from worker.models.csvformat import encode
from worker.models.protocol import Batch

HELD = -77  # stands for NULL in the columns of these tests


def numbers(values: list[Any], dtype: Any) -> Numbers:
    """The column as a database's answer becomes one."""
    held = [HELD if value is None else value for value in values]
    nulls = np.array([value is None for value in values], bool)
    return Numbers(np.array(held, dtype), nulls if nulls.any() else None)


_floats = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.0, float("inf")]), st.floats(allow_nan=False))
_rows = st.lists(
    st.tuples(
        st.one_of(
            st.none(), st.integers(-1, 1), st.integers(-(2**63), 2**63 - 1).filter(lambda n: n != HELD)
        ),
        _floats.filter(lambda number: number != HELD),
        st.booleans(),
        st.one_of(st.none(), st.sampled_from(["", "a", "é"])),
    ),
    max_size=40,
)
NAMES = ("n", "x", "flag", "text")


def turned(rows: list[tuple[Any, ...]]) -> Columns:
    """The rows as columns."""
    n, x, flag, text = ([row[place] for row in rows] for place in range(4))
    return Columns([numbers(n, np.int64), numbers(x, np.float64), numbers(flag, bool), Values(text)])


def alike(one: Any, other: Any) -> bool:
    """Whether rows are the same to the last bit and type."""
    return list(map(exact, one)) == list(map(exact, other))


@given(_rows, st.data())
def test_rows_are_the_tuples_that_they_were(rows: list[tuple[Any, ...]], data: st.DataObject) -> None:
    columns = turned(rows)
    assert len(columns) == len(rows)
    assert alike(columns, rows)
    assert alike([columns[place] for place in range(len(rows))], rows)
    start, stop = data.draw(st.integers(-3, 45)), data.draw(st.integers(-3, 45))
    step = data.draw(st.sampled_from([None, 1, 2, -1]))
    assert alike(columns[start:stop:step], rows[start:stop:step])
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    assert alike(columns.pick(places), [rows[place] for place in places])
    assert alike(pickle.loads(pickle.dumps(columns)), rows)


def test_there_is_no_row_beyond_the_last() -> None:
    columns = turned([(1, 0.5, True, "a")])
    assert columns[-1] == (1, 0.5, True, "a")
    for place in (1, -2):
        with pytest.raises(IndexError):
            columns[place]


@given(_rows)
def test_a_batch_of_columns_is_the_batch_of_their_rows(rows: list[tuple[Any, ...]]) -> None:
    batch, plain = Batch(NAMES, turned(rows)), Batch(NAMES, rows)
    assert type(batch.rows) is list, "users hand them to libraries that take nothing else"
    assert alike(batch.rows, rows)
    assert batch.records() == plain.records()
    assert batch.columns() == plain.columns()
    assert list(plain.columns()) == list(NAMES)
    assert encode(batch) == encode(plain)
    half = len(rows) // 2
    assert alike(batch.part(half, len(rows)).rows, rows[half:])
    for chosen in (["n", "x", "flag"], ["x"]):
        for dtype in (np.float64, np.float32):
            with np.errstate(over="ignore"):
                one, other = batch.matrix(chosen, dtype), plain.matrix(chosen, dtype)
            assert one.dtype == other.dtype == dtype
            assert one.shape == (len(rows), len(chosen))
            assert one.tobytes() == other.tobytes()


@given(_rows)
def test_equal_rows_are_found_as_among_tuples(rows: list[tuple[Any, ...]]) -> None:
    unique, positions = distinct(turned(rows))
    expected, _ = distinct(rows)
    assert alike(unique, expected)
    found = unique if positions is None else [unique[position] for position in positions]
    assert alike(found, rows)


def test_numbers_alone_tell_rows_apart_to_the_last_bit() -> None:
    def differ(*columns: Column) -> bool:
        return Columns(columns).differ()

    assert differ(numbers([0.0, -0.0], np.float64))
    assert not differ(numbers([1.5, 1.5], np.float64), Values(["a", "b"]))
    assert differ(numbers([0, 0, 1, 1], np.int16), numbers([False, True, False, True], bool))
    assert not differ(numbers([None, None], np.float32))
    assert differ(numbers([None, 0], np.int32))
    assert not differ(Values(["a", "b"]))
    assert differ(Values(["a"]))
    every = np.arange(200_000)
    assert differ(Numbers(every % 500), Numbers((every // 500).astype(np.float64)))
    assert not differ(Numbers(np.append(every, 7) % 500), Numbers(np.append(every, 7) // 500))


def test_a_matrix_takes_numbers_of_every_kind_and_null() -> None:
    rows = [(1, True, Decimal("0.5"), None), (2**60, False, Decimal("NaN"), 2.0)]
    made = Batch(NAMES, rows).matrix()
    assert made[0, :3].tolist() == [1.0, 1.0, 0.5]
    assert np.isnan(made[:, 3]).tolist() == [True, False]
    assert np.isnan(made[1, 2])
    assert Batch(NAMES, []).matrix().shape == (0, 4)
    assert Batch(NAMES, rows).matrix([]).shape == (2, 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["5", 6], "the input b cannot be part of a matrix: it has values of type str"),
        ([b"5", 6], "the input b cannot be part of a matrix: it has values of type bytes"),
        ([[1.0], [2.0]], "the input b cannot be part of a matrix: it has values of type list"),
        ([[1.0], [2.0, 3.0]], "the input b cannot be part of a matrix: "),
        ([{}, 1], "the input b cannot be part of a matrix: .*not 'dict'"),
    ],
)
def test_what_is_no_number_has_no_place_in_a_matrix(values: list[Any], said: str) -> None:
    batch = Batch(("a", "b"), [(1, value) for value in values])
    assert batch.matrix(["a"]).tolist() == [[1.0], [1.0]]
    with pytest.raises(ValueError, match=said):
        batch.matrix()


def test_a_matrix_of_inputs_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"there is no input c, d; there are a, b"):
        Batch(("a", "b"), [(1, 2)]).matrix(["d", "a", "c"])
