"""Typed columns: whatever the values, each is in the array exactly, or told to have no place there."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.columns import Numbers, Values
from worker.kinds.encoding import Encoding
from worker.models.typed import column

USUAL = Encoding()
_numbers = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**65), 2**65), st.floats(),
    st.decimals(allow_nan=False, places=2, min_value=-(10**40), max_value=10**40),
)  # fmt: skip
_anything = st.one_of(_numbers, st.text(max_size=5), st.binary(max_size=3), st.dates())
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("name", WHOLE)
@given(values=st.lists(_anything, min_size=1, max_size=6))
def test_whole_numbers_are_exact_or_faults(name: str, values: list[Any]) -> None:
    found = column("x", Values(values), np.dtype(name), USUAL)
    limits = np.iinfo(name)
    for place, value in enumerate(values):
        whole = isinstance(value, (int, float, Decimal)) and math.isfinite(value) and value == int(value)
        fits = whole and limits.min <= int(value) <= limits.max
        assert (place not in found.faults) == fits
        assert not fits or int(found.values[place]) == value
        assert fits or found.faults[place].startswith("input x: ")


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
@given(values=st.lists(_anything, min_size=1, max_size=6))
def test_floats_are_the_nearest_or_faults(name: str, values: list[Any]) -> None:
    found = column("x", Values(values), np.dtype(name), USUAL)
    for place, value in enumerate(values):
        if value is None:
            assert np.isnan(found.values[place])
        elif not isinstance(value, (int, float, Decimal)):
            assert "is no number" in found.faults[place]
        elif place in found.faults:
            assert "out of the range" in found.faults[place]
            assert math.isfinite(value)
            assert abs(value) >= float(np.finfo(name).max)
        else:
            with np.errstate(over="ignore"):
                nearest = np.dtype(name).type(float(value))
            np.testing.assert_array_equal(found.values[place], nearest)
            assert np.isinf(nearest) == (isinstance(value, float) and math.isinf(value))


@given(values=st.lists(_anything, min_size=1, max_size=6))
def test_texts_are_themselves_or_faults(values: list[Any]) -> None:
    found = column("x", Values(values), np.dtype(np.object_), USUAL)
    for place, value in enumerate(values):
        if isinstance(value, str):
            fits = not any("\ud800" <= letter <= "\udfff" for letter in value)
            assert (place not in found.faults) == fits
            assert not fits or found.values[place] == value
        else:
            assert (place in found.faults) == (value is None or isinstance(value, bytes))
            assert isinstance(found.values[place], str)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint64", "bool", "object"])
@pytest.mark.parametrize("encoding", [USUAL, Encoding(null=-1, booleans=(1, 2))], ids=["usual", "words"])
@pytest.mark.parametrize("nulls", [None, [False, True, False]], ids=["whole", "nulls"])
@pytest.mark.parametrize(
    "values",
    [
        np.array([0.5, 1e300, -2.0]), np.array([1, 2, 70_000]), np.array([1, -2, 3], np.int16),
        np.array([True, False, True]), np.array([1.0, 2.0, np.inf]),
    ],
    ids=["floats", "whole", "small", "booleans", "infinite"],
)  # fmt: skip
def test_an_array_becomes_what_its_values_one_by_one_do(
    values: Any, nulls: list[bool] | None, encoding: Encoding, dtype: str
) -> None:
    packed = Numbers(values, None if nulls is None else np.array(nulls))
    found = column("x", packed, np.dtype(dtype), encoding)
    expected = column("x", Values(packed.tolist()), np.dtype(dtype), encoding)
    assert found.faults == expected.faults
    fit = [place for place in range(3) if place not in found.faults]
    np.testing.assert_array_equal(found.values[fit], expected.values[fit])
    assert found.values.dtype == expected.values.dtype
