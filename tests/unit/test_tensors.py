"""Tensors of the Open Inference Protocol: datatypes by the values or as configured, and what they cannot hold."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import httpx
import pytest

from worker.errors import ModelError, RowFaultError, RowRejectedError
from worker.kinds.http import HttpModel
from worker.models.client import Reply
from worker.models.protocol import Batch
from worker.models.shapes import Outputs
from worker.models.tensors import Tensors


def tensors(outputs: dict[str, str] | None = None, **settings: Any) -> Tensors:
    return Tensors(HttpModel(http="http://h", protocol="v2", **settings), Outputs(outputs or {"p": "float8"}))


def sent(*values: Any, **settings: Any) -> tuple[str, list[int], str]:
    """The datatype, shape and data (as text) of one input's tensor."""
    body, _ = tensors(**settings).ask(Batch(("a",), [(value,) for value in values]))
    (tensor,) = json.loads(body, parse_float=Decimal, parse_constant=str)["inputs"]
    data = body.decode().rpartition('"data":')[2].removesuffix("}]}")
    return tensor["datatype"], tensor["shape"], data


@pytest.mark.parametrize(
    ("values", "settings", "datatype", "data"),
    [
        ([True, False], {}, "BOOL", "[true,false]"),
        ([1, 2], {}, "INT64", "[1,2]"),
        ([0.1, None], {}, "FP64", "[0.1,null]"),
        ([0.1, None], {"encoding": {"null": "NaN"}}, "FP64", "[0.1,NaN]"),
        ([Decimal("0.1000000000000000055"), 1], {}, "FP64", "[0.1000000000000000055,1]"),
        (["x", 'say "hi"'], {}, "BYTES", '["x","say \\"hi\\""]'),
        ([date(2026, 1, 2), None], {"encoding": {"null": ""}}, "BYTES", '["2026-01-02",""]'),
        ([1, None], {"encoding": {"null": -1}}, "INT64", "[1,-1]"),
        ([True, False], {"encoding": {"booleans": [0, 1]}}, "INT64", "[1,0]"),
        ([True, False], {"encoding": {"booleans": ["no", "yes"]}}, "BYTES", '["yes","no"]'),
        ([1, None], {"datatypes": {"a": "FP32"}}, "FP32", "[1,null]"),
        ([0, 1], {"datatypes": {"a": "BOOL"}}, "BOOL", "[false,true]"),
        ([Decimal("7.00")], {"datatypes": {"a": "INT16"}}, "INT16", "[7]"),
        ([7, 1.5], {"datatypes": {"a": "BYTES"}}, "BYTES", '["7","1.5"]'),
        ([None], {"datatypes": {"a": "FP64"}}, "FP64", "[null]"),
    ],
)
def test_how_a_column_is_written(values: list[Any], settings: Any, datatype: str, data: str) -> None:
    assert sent(*values, **settings) == (datatype, [len(values), 1], data)


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        ([1, None], {}, "NULL has no place in a tensor of INT64; give the input a `default`"),
        (["x", None], {}, "NULL has no place in a tensor of BYTES"),
        ([2**63], {}, "does not fit INT64"),
        ([float("inf")], {}, "inf is no number"),
        (["x"], {"datatypes": {"a": "FP64"}}, "type str has no place in a tensor of floats"),
        ([1.5], {"datatypes": {"a": "INT8"}}, "a tensor of INT8 holds no float such as 1.5"),
        ([200], {"datatypes": {"a": "INT8"}}, "200 does not fit INT8"),
        ([Decimal("9" * 40)], {"datatypes": {"a": "INT64"}}, "9 does not fit INT64"),
        ([Decimal("NaN")], {"datatypes": {"a": "INT64"}}, "holds no Decimal such as NaN"),
        ([float("inf")], {"datatypes": {"a": "INT64"}}, "holds no float such as inf"),
        ([2], {"datatypes": {"a": "BOOL"}}, "a tensor of BOOL holds no int such as 2"),
        ([b"x"], {}, "type bytes cannot be sent"),
    ],
)
def test_what_a_tensor_cannot_hold_is_refused_by_name(values: list[Any], settings: Any, words: str) -> None:
    with pytest.raises(RowRejectedError, match=f"input a: .*{words}") as refusal:
        sent(*values, **settings)
    assert not refusal.value.sent


def test_what_one_batch_shows_holds_for_those_without_any_value() -> None:
    wire = tensors()
    with pytest.raises(
        RowFaultError, match=r'no value has shown yet .* datatypes = { a = "FP64" }'
    ) as refusal:
        wire.ask(Batch(("a",), [(None,)]))
    assert not isinstance(refusal.value, RowRejectedError), "a later batch may show it"
    wire.ask(Batch(("a",), [(None,), (0.5,)]))
    body, _ = wire.ask(Batch(("a",), [(None,)]))
    assert json.loads(body)["inputs"] == [{"name": "a", "shape": [1, 1], "datatype": "FP64", "data": [None]}]


def test_one_matrix_holds_all_inputs() -> None:
    rows = [(1, 0.5, True), (2, None, False)]
    body, _ = tensors(tensor="input-0", datatypes={"input-0": "FP32"}).ask(Batch(("a", "b", "c"), rows))
    (tensor,) = json.loads(body)["inputs"]
    assert tensor == {"name": "input-0", "shape": [2, 3], "datatype": "FP32", "data": [1, 0.5, 1, 2, None, 0]}
    with pytest.raises(RowRejectedError, match="input b: a value of type str has no place"):
        tensors(tensor="input-0").ask(Batch(("a", "b"), [(1, "x")]))


def read(outputs: list[dict[str, Any]], types: dict[str, str], rows: int = 2, **settings: Any) -> Any:
    _, reader = tensors(types, **settings).ask(Batch(("a",), [(number,) for number in range(rows)]))
    content = json.dumps({"outputs": outputs}).encode()
    return reader(Reply(200, httpx.Headers(), content, "application/json", None))


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def test_outputs_by_name_by_another_name_and_the_only_one() -> None:
    score, label = tensor("score", "FP32", [2], [0.5, None]), tensor("label", "BYTES", [2, 1], [["x"], ["y"]])
    types = {"label": "text", "score": "float8"}
    assert read([score, label], types) == [("x", 0.5), ("y", None)]
    other = {"score": "score", "p": "label"}
    assert read([score, label], {"p": "text", "score": "float8"}, answer=other) == [("x", 0.5), ("y", None)]
    assert read([score], {"p": "float8"}) == [(0.5,), (None,)]
    assert read([score, label], {"p": "text"}, answer="label") == [("x",), ("y",)]


def test_a_matrix_is_a_list_each_or_an_output_a_column() -> None:
    matrix = tensor("probabilities", "FP64", [2, 2], [0.1, 0.9, 0.2, 0.8])
    assert read([matrix], {"p": "float8[]"}) == [([0.1, 0.9],), ([0.2, 0.8],)]
    assert read([matrix], {"p": "float8", "q": "float8"}) == [(0.1, 0.9), (0.2, 0.8)]
    cube = tensor("c", "INT8", [2, 2, 2], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    assert read([cube], {"p": "integer[]"}) == [([[1, 2], [3, 4]],), ([[5, 6], [7, 8]],)]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([], "no output p: it has none"),
        ([tensor("p", "FP64", [3], [1, 2, 3])], "has 3 rows where 2 rows were sent"),
        ([tensor("p", "FP64", [2, 2], [1, 2])], "of shape .2, 2. has 2 answers where 4"),
        ([tensor("p", "UINT8", [2], [1, 256])], "of UINT8 holds 256"),
        ([tensor("p", "BOOL", [2], [True, "no"])], "of BOOL holds 'no'"),
        ([tensor("p", "BYTES", [2], ["x", None])], "of BYTES holds None"),
        ([tensor("p", "FP64", [2], [True, 1.0])], "of FP64 holds True"),
        ([tensor("p", "FP64", [2, -1], [1, 2])], "has no shape"),
    ],
)
def test_what_a_tensor_says_of_itself_is_checked(outputs: list[Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as refusal:
        read(outputs, {"p": "float8"})
    assert type(refusal.value) is RowFaultError
