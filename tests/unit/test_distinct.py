"""Equal rows: alike to the last bit and type, or else not equal."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.distinct import distinct


def kept(*values: Any) -> int:
    """How many distinct rows these values make, each in a row with something that is there twice."""
    rows, positions = distinct([(value, "x") for value in values])
    assert positions is None or len(positions) == len(values)
    return len(rows)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((1, 1, 1), 1),
        ((1, True, 1.0, Decimal(1)), 4),
        ((0, False, 0.0, -0.0, Decimal(0)), 5),
        ((0.0, -0.0, 0.0), 2),
        ((Decimal("1.0"), 1, Decimal("1.0")), 2),
        ((date(2026, 1, 1), date(2026, 1, 1)), 1),
        ((date(2026, 1, 1), -0.0, 0.0, date(2026, 1, 1)), 3),
        (("a", "".join(["a", ""]), "b"), 2),
        (([1, 2], [1, 2], [1, 2.0]), 2),
        (({"a": 1}, {"a": 1}, {"a": 2}), 2),
        (([Decimal(1)], [Decimal(1)], [Decimal(2)]), 2),
        ((None, None), 1),
    ],
)
def test_what_counts_as_equal(values: tuple[Any, ...], count: int) -> None:
    assert kept(*values) == count


def test_arrays_and_things_that_cannot_be_compared_are_safe() -> None:
    assert kept(np.arange(2000.0), np.arange(2000.0) * (np.arange(2000) != 1000)) == 2
    rows, positions = distinct([(np.array([1.0]), Decimal(1)), (np.array([2.0]), Decimal(1))])
    assert (len(rows), positions) == (2, None)
    assert kept(iter(()), iter(()), 1, 1) == 3


_values = st.one_of(
    st.integers(-1, 1), st.sampled_from([0.0, -0.0, 1.0, True, False, None, "a", Decimal(1), Decimal(0)])
)


@given(st.lists(st.tuples(_values, _values), max_size=30))
def test_every_row_finds_its_like(rows: list[tuple[Any, ...]]) -> None:
    unique, positions = distinct(rows)
    found = rows if positions is None else [unique[position] for position in positions]
    assert list(map(repr, found)) == list(map(repr, rows))
    assert len(unique) == len({(repr(row)) for row in rows})
