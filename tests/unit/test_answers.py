"""Answers: what fits each kind of output, what is refused in which words, and who is blamed."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.answers import MISCONFIGURED_FROM, AnswerError, OutputKind, OutputType, check_answers, convert
from worker.errors import FailureClass, ServiceRefusedError
from worker.models.protocol import RowFailure

FLOAT = OutputType(OutputKind.FLOAT, name="double precision")
INTEGER = OutputType(OutputKind.INTEGER, name="bigint")
BOOLEAN = OutputType(OutputKind.BOOLEAN)
TEXT = OutputType(OutputKind.TEXT)
NUMERIC = OutputType(OutputKind.NUMERIC)
JSON = OutputType(OutputKind.JSON)
OTHER = OutputType(OutputKind.OTHER, name="date")
VECTOR = OutputType(OutputKind.VECTOR, OutputKind.FLOAT, "vector(3)")
INTEGERS = OutputType(OutputKind.ARRAY, OutputKind.INTEGER, "integer[]")
FLOATS = OutputType(OutputKind.ARRAY, OutputKind.FLOAT, "double precision[]")
DOCUMENTS = OutputType(OutputKind.ARRAY, OutputKind.JSON, "jsonb[]")
BYTES = OutputType(OutputKind.OTHER, name="bytea")
MANY_BYTES = OutputType(OutputKind.ARRAY, OutputKind.OTHER, "bytea[]")
CHURN = {"churn_probability": FLOAT}


@pytest.mark.parametrize(
    ("raw", "output", "value"),
    [
        ("0.25", FLOAT, 0.25),
        (" 1e-3 ", FLOAT, 0.001),
        (7, FLOAT, 7.0),
        (Decimal("0.5"), FLOAT, 0.5),
        (np.float32(0.5), FLOAT, 0.5),
        ("42", INTEGER, 42),
        ("+42", INTEGER, 42),
        ("42.0", INTEGER, 42),
        ("-9223372036854775808", INTEGER, -(2**63)),
        (3.0, INTEGER, 3),
        (np.int64(3), INTEGER, 3),
        ("Yes", BOOLEAN, True),
        ("f", BOOLEAN, False),
        (1, BOOLEAN, True),
        (np.bool_(False), BOOLEAN, False),
        ("", TEXT, ""),
        (" POSITIVE", TEXT, " POSITIVE"),
        ("0.1000000000000000055511151231257827", NUMERIC, Decimal("0.1000000000000000055511151231257827")),
        (0.1, NUMERIC, Decimal("0.1")),
        (10**30, NUMERIC, Decimal(10**30)),
        ('{"a": [1, null]}', JSON, {"a": [1, None]}),
        ({"a": (1, np.float64(2.5), np.array([1, 2]))}, JSON, {"a": [1, 2.5, [1, 2]]}),
        ("[1, 2.5, 3]", VECTOR, [1.0, 2.5, 3.0]),
        (np.array([1, 2, 3], dtype="float32"), VECTOR, [1.0, 2.0, 3.0]),
        ((1, None, "3"), INTEGERS, [1, None, 3]),
        ("2026-11-01", OTHER, "2026-11-01"),
        ([[1, None], (3, "4")], INTEGERS, [[1, None], [3, 4]]),
        ("[[1, 2], [3, 4]]", INTEGERS, [[1, 2], [3, 4]]),
        (np.arange(8.0).reshape(2, 2, 2), FLOATS, [[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]]),
        ([np.array([0.5, 1.5]), np.array([2.5, 3.5])], FLOATS, [[0.5, 1.5], [2.5, 3.5]]),
        ([[], []], INTEGERS, []),
        ([[1, 2], {"a": 1}], DOCUMENTS, [[1, 2], {"a": 1}]),
        (b"\x00\xff\\", BYTES, "\\x00ff5c"),
        (b"", BYTES, "\\x"),
        (bytearray(b"a"), BYTES, "\\x61"),
        (memoryview(b"a"), BYTES, "\\x61"),
        (np.bytes_(b"a"), BYTES, "\\x61"),
        ("\\x61", BYTES, "\\x61"),
        ([b"a", None, b""], MANY_BYTES, ["\\x61", None, "\\x"]),
    ],
)
def test_an_answer_that_fits_becomes_the_outputs_type(raw: Any, output: OutputType, value: Any) -> None:
    converted = convert(raw, output)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize("output", [FLOAT, INTEGER, BOOLEAN, NUMERIC, JSON, OTHER, VECTOR, INTEGERS])
@pytest.mark.parametrize("raw", [None, "", "  "])
def test_nothing_is_null_for_every_kind_but_text(raw: str | None, output: OutputType) -> None:
    assert convert(raw, output) is None


@pytest.mark.parametrize(
    ("raw", "output", "message"),
    [
        ("n/a", FLOAT, "expected a number, the model answered 'n/a'"),
        ("NaN", FLOAT, "the model answered 'NaN', which is not a finite number"),
        (math.inf, FLOAT, "which is not a finite number"),
        ("1e999", FLOAT, "which is not a finite number"),
        (10**400, FLOAT, "expected a number that fits a double"),
        pytest.param(
            10**5000,
            FLOAT,
            "expected a number that fits a double, the model answered a value of type int",
            id="10**5000",
        ),
        (True, FLOAT, "expected a number, the model answered True"),
        ("1_000", FLOAT, "expected a number"),
        ("٣", FLOAT, "expected a number"),
        ([0.5], FLOAT, "expected a number"),
        (1.5, INTEGER, "expected an integer, the model answered 1.5"),
        ("1.5", INTEGER, "expected an integer"),
        (True, INTEGER, "expected an integer"),
        (math.nan, INTEGER, "not a finite number"),
        ("1e999999999", INTEGER, "expected an integer"),
        (2**63, INTEGER, "expected an integer from -9223372036854775808 to 9223372036854775807"),
        (40_000, OutputType(OutputKind.INTEGER, name="smallint"), "from -32768 to 32767"),
        (-1, OutputType(OutputKind.INTEGER, name="int(10) unsigned"), "from 0 to 4294967295"),
        (1.0, BOOLEAN, "expected true or false"),
        (2, BOOLEAN, "expected true or false"),
        ("maybe", BOOLEAN, "expected true or false, the model answered 'maybe'"),
        (0.5, TEXT, "expected text, the model answered 0.5"),
        (b"x", TEXT, "expected text"),
        pytest.param("\ud800", TEXT, "not valid Unicode", id="surrogate"),
        ("sNaN", NUMERIC, "not a finite number"),
        ("1e200000", NUMERIC, "fits a numeric column"),
        (True, NUMERIC, "expected a number"),
        ("{'a': 1}", JSON, "expected JSON"),
        ('{"a": NaN}', JSON, "expected JSON"),
        ({"a": math.nan}, JSON, "expected JSON"),
        ({"a": object()}, JSON, "expected JSON"),
        pytest.param("[" * 100_000, JSON, "expected JSON", id="deep"),
        ("[1, 2]", VECTOR, "expected 3 numbers, the model answered 2"),
        ([1, None, 3], VECTOR, "element 2 is NULL"),
        ([1, math.nan, 3.0], VECTOR, "element 2: the model answered nan"),
        ("{1,2,3}", VECTOR, "expected a list of numbers"),
        (3, INTEGERS, "expected a list"),
        ([1, "x"], INTEGERS, "element 2: expected an integer, the model answered 'x'"),
        ([2**31], INTEGERS, "element 1: expected an integer from -2147483648 to 2147483647"),
        ([], OTHER, "expected text"),
        (b"2026", OTHER, "expected text"),
        ([[1, 2], [3]], INTEGERS, "element 2 has other lengths than element 1: [1], [2]"),
        ([[[1]], [[2, 3]]], INTEGERS, "element 2 has other lengths than element 1: [1, 2], [1, 1]"),
        ([[1], []], INTEGERS, "element 2 has other lengths than element 1"),
        ([[1], [[2]]], INTEGERS, "element 2 has other lengths than element 1"),
        ([[1], 2], INTEGERS, "element 2: it is no list, where others are"),
        ([[1], None], INTEGERS, "element 2: it is no list, where others are"),
        ([[1, 2], [3, "x"]], INTEGERS, "element 2: element 2: expected an integer, the model answered 'x'"),
        ([[[[[[[1]]]]]]], INTEGERS, "expected at most 6 dimensions"),
        ([[1, 2, 3]], VECTOR, "element 1: expected a number"),
        (b"[1]", INTEGERS, "expected a list"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_in_words(raw: Any, output: OutputType, message: str) -> None:
    with pytest.raises(AnswerError) as refusal:
        convert(raw, output)
    assert message in str(refusal.value)
    assert len(str(refusal.value)) < 200


def test_the_row_that_does_not_fit_fails_alone_and_names_the_output() -> None:
    checked = check_answers([("0.5",), ("n/a",), ("",)], CHURN)
    message = "churn_probability: expected a number, the model answered 'n/a'"
    assert checked == [(0.5,), RowFailure(FailureClass.ROW_PERMANENT, message), (None,)]


def test_a_wrong_number_of_values_fails_the_row() -> None:
    checked = check_answers([("0.5", "0.6"), (), ("0.7",)], CHURN)
    assert [isinstance(row, RowFailure) for row in checked] == [True, True, False]
    assert isinstance(checked[0], RowFailure)
    assert "expected 1 values (churn_probability), the model answered 2" in checked[0].message


def test_the_models_own_failures_stay_and_are_not_held_against_it() -> None:
    failure = RowFailure(FailureClass.ROW_TEMPORARY, "too long")
    assert check_answers([failure] * 20, CHURN) == [failure] * 20
    assert check_answers([failure, (0.5,)], CHURN) == [failure, (0.5,)]


def test_a_model_that_answers_nothing_usable_is_refused_and_no_row_blamed() -> None:
    with pytest.raises(ServiceRefusedError, match=r"none of the model's 10 answers .* answered 'oops'"):
        check_answers([("oops",)] * MISCONFIGURED_FROM, CHURN)
    assert all(
        isinstance(row, RowFailure) for row in check_answers([("oops",)] * (MISCONFIGURED_FROM - 1), CHURN)
    )
    one_good = [("oops",)] * 100 + [("1",)]
    assert check_answers(one_good, CHURN)[-1] == (1.0,)


def test_arrays_are_answers() -> None:
    assert check_answers(np.array([0.5, 0.25]), CHURN) == [(0.5,), (0.25,)]
    assert check_answers(np.array([1, 2]), CHURN) == [(1.0,), (2.0,)]
    both = {"a": FLOAT, "b": FLOAT}
    assert check_answers(np.array([[0.5, 1.5]]), both) == [(0.5, 1.5)]
    assert isinstance(check_answers(np.array([0.5, math.nan]), CHURN)[1], RowFailure)


_values = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.text(max_size=8),
    st.booleans(),
    st.sampled_from(["1_0", "nan", "0.5", ""]),
)


@given(st.lists(_values, max_size=9), st.sampled_from([FLOAT, TEXT, INTEGER]))
def test_the_fast_path_answers_as_the_slow_one(values: list[Any], output: OutputType) -> None:
    def alone(value: Any) -> Any:
        try:
            return (convert(value, output),)
        except AnswerError:
            return RowFailure

    together = check_answers([(value,) for value in values], {"output": output})
    assert [RowFailure if isinstance(row, RowFailure) else row for row in together] == list(
        map(alone, values)
    )
    uniform = [value for value in values if isinstance(value, str)]
    together = check_answers([(value,) for value in uniform], {"output": output})
    assert [RowFailure if isinstance(row, RowFailure) else row for row in together] == list(
        map(alone, uniform)
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_its_text(value: float) -> None:
    assert check_answers([(repr(value),)], CHURN) == [(value,)]
    assert convert(repr(value), NUMERIC) == Decimal(repr(value))
