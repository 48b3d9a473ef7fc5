"""The section `encoding`: what stands for booleans and NULL in CSV, header lines, and rows that are kept back."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from worker.columns import Columns, Numbers, Values
from worker.errors import FailureClass
from worker.kinds.encoding import Encoding
from worker.kinds.python import PythonModel
from worker.models.csvformat import encode, header
from worker.models.protocol import Batch, RowFailure, Weight
from worker.models.python import PythonFunction
from worker.models.registry import open_model
from worker.models.screening import Screened

BATCH = Batch(("plan", "note"), [(True, "a"), (False, None), (None, "NA, or so")])
SEEN: list[Sequence[Any]] = []


def answer(batch: Batch) -> list[float]:
    """A model in Python that notes its rows."""
    SEEN.append(batch.rows)
    return [float(row[0]) for row in batch.rows if row[0] != -1]


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        (Encoding(), '1,a\n0,\n,"NA, or so"\n'),
        (Encoding(booleans=("no", "yes")), 'yes,a\nno,\n,"NA, or so"\n'),
        (Encoding(booleans=(-1, 1)), '1,a\n-1,\n,"NA, or so"\n'),
        (Encoding(booleans=(False, True)), 'true,a\nfalse,\n,"NA, or so"\n'),
        (Encoding(booleans=("n,o", "yes")), 'yes,a\n"n,o",\n,"NA, or so"\n'),
        (Encoding(null="NA"), '1,a\n0,NA\nNA,"NA, or so"\n'),
        (Encoding(null=-1), '1,a\n0,-1\n-1,"NA, or so"\n'),
        (Encoding(null='a "null"'), '1,a\n0,"a ""null"""\n"a ""null""","NA, or so"\n'),
        (Encoding(header=True), 'plan,note\n1,a\n0,\n,"NA, or so"\n'),
    ],
)
def test_values_are_written_as_the_model_was_trained(encoding: Encoding, content: str) -> None:
    assert encode(BATCH, encoding).decode() == content


def test_columns_of_mixed_types_are_written_the_same_way() -> None:
    mixed = Batch(("a", "b"), [(True, 1), (None, 2), (Decimal("1.50"), 3), ("yes, so", 4), (0, 5)])
    content = encode(mixed, Encoding(booleans=("no", "yes"), null="NA")).decode()
    assert content == 'yes,1\nNA,2\n1.50,3\n"yes, so",4\n0,5\n'


def test_a_null_that_has_a_text_leaves_no_empty_line() -> None:
    assert encode(Batch(("a",), [(None,), ("x",)]), Encoding(null="NA")) == b"NA\nx\n"


def test_a_header_is_csv_and_no_rows_have_none() -> None:
    names = ("plain", "with, comma", 'with "quotes"')
    assert next(csv.reader(io.StringIO(header(names).decode()))) == list(names)
    assert encode(Batch(names, []), Encoding(header=True)) == b""


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"booleans": ("yes", "yes")},
            r"for false, then for true, such as \[\"no\", \"yes\"\], not 'yes' for both",
        ),
        ({"null": "NA", "refuse_null": True}, "refuse_null sends no NULL"),
        ({"null": float("nan")}, "finite number"),
    ],
)
def test_what_contradicts_itself_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Encoding(**section)


# --- refuse_null -------------------------------------------------------------------------------------------


def opened(**encoding: Any) -> Any:
    settings = PythonModel(python=f"{__name__}:answer", encoding=Encoding(**encoding))
    SEEN.clear()
    return open_model(settings, {"p": "double precision"}, 1)


def test_rows_with_null_fail_by_the_inputs_name_and_the_others_are_answered() -> None:
    model = opened(refuse_null=True)
    batch = Batch(("a", "b"), [(1, 2), (3, None), (None, None), (4, 5)])
    first, second, third, fourth = model.call(batch)
    assert (first, fourth) == ((1.0,), (4.0,))
    for name, failure in (("b", second), ("a", third)):
        assert isinstance(failure, RowFailure)
        assert failure.failure is FailureClass.ROW_PERMANENT
        assert re.match(f"input {name} is NULL", failure.message)
    assert SEEN == [[(1, 2), (4, 5)]]
    assert model.weigh(batch) == Weight(1, 2)


def test_columns_of_numbers_are_screened_as_rows_are() -> None:
    model = opened(refuse_null=True)
    numbers = Numbers(np.array([1.0, 0.0, 3.0]), np.array([False, True, False]))
    batch = Batch(("a", "b"), Columns([numbers, Values(["x", "y", None])]))
    first, second, third = model.call(batch)
    assert first == (1.0,)
    assert second.message.startswith("input a is NULL")
    assert third.message.startswith("input b is NULL")
    assert SEEN == [[(1.0, "x")]]


def test_a_batch_of_nulls_alone_calls_nobody() -> None:
    model = opened(refuse_null=True)
    batch = Batch(("a",), [(None,), (None,)])
    assert [type(outcome) for outcome in model.call(batch)] == [RowFailure, RowFailure]
    assert model.weigh(batch) == Weight(0, 0)
    assert SEEN == []


def test_answers_that_are_too_few_stay_too_few() -> None:
    class Short(PythonFunction):
        def call(self, batch: Batch) -> list[Any]:
            return super().call(batch)[:-1]

    model = Screened(Short(PythonModel(python=f"{__name__}:answer"), ["p"]))
    assert len(model.call(Batch(("a",), [(1,), (2,), (None,)]))) == 2


def test_null_is_sent_where_nothing_is_said() -> None:
    assert isinstance(opened(), PythonFunction)
