"""ONNX models: every shape of input and output, values that fit or do not, and every way of not being loaded."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from pydantic import ValidationError

from tests.support import onnxmodels as files
from worker.columns import Columns, Numbers
from worker.demo.servers import python_path
from worker.errors import ConfigurationError, FailureClass, RowFaultError, ServiceRefusedError
from worker.kinds.onnx import OnnxModel
from worker.models.onnx import OnnxFile
from worker.models.protocol import Batch, RowFailure
from worker.models.registry import open_model

WEIGHTS = [0.5, -1.0]
ROWS = [(1.0, 2), (4.0, 1), (Decimal("-2.5"), True)]


def opened(
    path: Path, inputs: Sequence[str] = ("x",), outputs: Sequence[str] = ("p",), **settings: Any
) -> OnnxFile:
    return OnnxFile(OnnxModel(onnx=path.name, **settings), inputs, outputs, folder=path.parent)


def answers(model: OnnxFile, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [
        outcome.message if isinstance(outcome, RowFailure) else outcome
        for outcome in model.call(Batch(tuple(names), rows))
    ]


def test_the_runtime_tells_nobody_about_the_machine_or_the_model(tmp_path: Path) -> None:
    """It keeps a number of the machine in its user's folder as soon as it is imported, unless it is told not to."""
    path = files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0)
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import pathlib, sys; from worker.kinds.onnx import OnnxModel; from worker.models.onnx import OnnxFile; "
        "path = pathlib.Path(sys.argv[1]); "
        "print(OnnxFile(OnnxModel(onnx=path.name), ['a', 'b'], ['p'], folder=path.parent).check())"
    )
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], **python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code, path], env=environment, capture_output=True, text=True, check=True
    )
    assert "m.onnx" in done.stdout
    assert list(home.iterdir()) == []


# --- inputs ------------------------------------------------------------------------------------------------


def test_one_matrix_takes_the_inputs_in_order(tmp_path: Path) -> None:
    model = opened(files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0), ["a", "b"])
    assert answers(model, ["a", "b"], ROWS) == [(8.5,), (11.0,), (7.75,)]


def test_columns_of_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    model = opened(files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0), ["a", "b"])
    numbers = Numbers(np.array([1.0, 4.0, 1e39]))
    whole = Numbers(np.array([2, 1, 0]), np.array([False, True, False]))
    first, second, third = model.call(Batch(("a", "b"), Columns([numbers, whole])))
    assert first == (8.5,)
    assert np.isnan(second[0])
    assert third.message == "input a: 1e+39 is out of the range of float32"


def test_tensors_take_the_inputs_of_their_names_in_whatever_order(tmp_path: Path) -> None:
    names = ["country", "items", "amount"]
    model = opened(files.by_name(tmp_path / "m.onnx"), names, ["price", "twice"])
    rows = [("DE", 2, 5.5), ("FR", 0, Decimal("1.25")), ("", 1, 3)]
    assert answers(model, names, rows) == [(205.5, 411.0), (1001.25, 2002.5), (1103.0, 2206.0)]


def test_outputs_of_the_models_names_are_found_in_the_predictions_order(tmp_path: Path) -> None:
    names = ["amount", "country", "items"]
    model = opened(files.by_name(tmp_path / "m.onnx"), names, ["twice", "price"])
    assert answers(model, names, [(1, "DE", 1)]) == [(202.0, 101.0)]


def test_tensor_names_the_matrix_beside_tensors_of_their_own(tmp_path: Path) -> None:
    shape = [None, 2]
    inputs = [("x", files.FLOAT, shape), ("scale", files.FLOAT, [None, 1])]
    node = helper.make_node("Mul", ["x", "scale"], ["y"])
    path = files.write(tmp_path / "m.onnx", inputs, [("y", files.FLOAT, shape)], [node])
    model = opened(path, ["a", "scale", "b"], ["y"], tensor="x")
    assert answers(model, ["a", "scale", "b"], [(1, 10, 2), (3, 2, 4)]) == [([10.0, 20.0],), ([6.0, 8.0],)]
    with pytest.raises(
        ConfigurationError, match=r"asks for x, and the prediction's inputs are a, scale, b.*`tensor`"
    ):
        opened(path, ["a", "scale", "b"], ["y"])


def test_a_list_is_a_row_of_the_matrix(tmp_path: Path) -> None:
    model = opened(files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0), ["vector"])
    rows = [([1.0, 2],), ([1.0],), (3.0,), (None,), ([Decimal(4), 1],)]
    assert answers(model, ["vector"], rows) == [
        (8.5,),
        "input vector: a list of 1 where one of 2 belongs",
        "input vector: 3.0 where a list of 2 belongs",
        "input vector: None where a list of 2 belongs",
        (11.0,),
    ]


def test_a_list_among_other_inputs_is_refused(tmp_path: Path) -> None:
    model = opened(files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0), ["a", "b"])
    with pytest.raises(ServiceRefusedError, match="an input that is a list has no place in X"):
        answers(model, ["a", "b"], [([1.0], 2)])


@pytest.mark.parametrize("width", [1, None], ids=["matrix", "vector"])
@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (files.FLOAT, [1, 0.5, Decimal("0.25"), True], [1.0, 0.5, 0.25, 1.0]),
        (files.DOUBLE, [0.1, 2**60], [0.1, float(2**60)]),
        (files.FLOAT, [float("inf"), -1.0], [float("inf"), -1.0]),
        (files.FLOAT16, [0.5, 2], [0.5, 2.0]),
        (files.FLOAT, [3.4e38, 1e39, -(10**400), Decimal("1e400"), "1.5", date(2026, 1, 2)],
         [float(np.float32(3.4e38)), "1e+39 is out of the range of float32",
          "-100000000000000000000000000000000000... is out of the range of float32",
          "1E+400 is out of the range of float32", "'1.5' is no number, and the model takes float32",
          "2026-01-02 is no number, and the model takes float32"]),
        (files.INT64, [1, -(2**63), 2**63 - 1], [1, -(2**63), 2**63 - 1]),
        (files.INT64, [1, 2**63, Decimal("3.0"), 4.0, 4.5, float("nan"), float("inf"), None, "5"],
         [1, "9223372036854775808 is out of the range of int64", 3, 4,
          "4.5 is no whole number, and the model takes int64", "nan is no whole number, and the model takes int64",
          "inf is no whole number, and the model takes int64",
          "it is NULL, which int64 cannot be; give it a `default`",
          "'5' is no whole number, and the model takes int64"]),
        (files.INT8, [127, 128, -128, True], [127, "128 is out of the range of int8", -128, 1]),
        (files.UINT64, [2**64 - 1, 0, -1], [2**64 - 1, 0, "-1 is out of the range of uint64"]),
        (files.BOOL, [True, 0, 1, 2, None],
         [True, False, True, "2 is no boolean, and the model takes bool",
          "it is NULL, which bool cannot be; give it a `default`"]),
        (files.STRING, ["a", "é", "", "x\ny"], ["a", "é", "", "x\ny"]),
        (files.STRING, ["a", 408, 0.5, Decimal("1E+2"), date(2026, 1, 2), True, None, "\ud800", b"x"],
         ["a", "408", "0.5", "100", "2026-01-02", "1", "it is NULL, which a text cannot be; give it a `default`",
          "a text that is not valid Unicode", "a value of type bytes, and the model takes texts"]),
    ],
)  # fmt: skip
def test_values_become_the_declared_element_type_exactly_or_fail_alone(
    tmp_path: Path, kind: int, width: int | None, values: list[Any], expected: list[Any]
) -> None:
    model = opened(files.same(tmp_path / "m.onnx", kind, width))
    outcomes = model.call(Batch(("x",), [(value,) for value in values]))
    found = [item.message if isinstance(item, RowFailure) else item[0] for item in outcomes]
    named = [f"input x: {item}" if isinstance(item, str) and item not in values and " " in item else item
             for item in expected]  # fmt: skip
    assert found == named
    assert [type(item) for item in found] == [type(item) for item in named]
    assert {item.failure for item in outcomes if isinstance(item, RowFailure)} <= {FailureClass.ROW_PERMANENT}


def test_null_is_nan_among_floats(tmp_path: Path) -> None:
    model = opened(files.same(tmp_path / "m.onnx", files.FLOAT))
    ((first,), (second,)) = answers(model, ["x"], [(None,), (2,)])
    assert np.isnan(first)
    assert second == 2.0


@pytest.mark.parametrize(
    ("kind", "encoding", "expected"),
    [
        (files.FLOAT, {"null": -1, "booleans": [-1, 1]}, [-1.0, 1.0, -1.0, 7.0]),
        (files.INT64, {"null": -1, "booleans": [1, 2]}, [-1, 2, 1, 7]),
        (files.STRING, {"null": "NA", "booleans": ["no", "yes"]}, ["NA", "yes", "no", "7"]),
    ],
)
def test_the_encoding_has_words_for_null_and_booleans(
    tmp_path: Path, kind: int, encoding: dict[str, Any], expected: list[Any]
) -> None:
    model = opened(files.same(tmp_path / "m.onnx", kind), encoding=encoding)
    assert answers(model, ["x"], [(None,), (True,), (False,), (7,)]) == [(value,) for value in expected]


def test_the_first_thing_that_is_wrong_with_a_row_is_told_and_the_others_are_answered(tmp_path: Path) -> None:
    model = opened(files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0), ["a", "b"])
    assert answers(model, ["a", "b"], [("x", "y"), (1, 2), (1, "y")]) == [
        "input a: 'x' is no number, and the model takes float32",
        (8.5,),
        "input b: 'y' is no number, and the model takes float32",
    ]
    assert answers(model, ["a", "b"], [("x", 1)]) == [
        "input a: 'x' is no number, and the model takes float32"
    ]


# --- outputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipmap", [False, True], ids=["matrix", "zipmap"])
@pytest.mark.parametrize("labels", [None, ["stays", "leaves"]], ids=["numbers", "texts"])
def test_a_classifiers_label_and_the_probability_of_a_class(
    tmp_path: Path, zipmap: bool, labels: list[str] | None
) -> None:
    path = files.classifier(tmp_path / "m.onnx", WEIGHTS, labels, zipmap=zipmap)
    part = "probabilities.leaves" if zipmap and labels else "probabilities.1"
    model = opened(path, ["a", "b"], ["p", "verdict"], output=[part, "label"])
    expected = [files.probability(WEIGHTS, [float(value) for value in row]) for row in ROWS]
    found = answers(model, ["a", "b"], ROWS)
    assert [row[0] for row in found] == pytest.approx(expected)
    names: list[Any] = labels or [0, 1]
    assert [row[1] for row in found] == [names[p > 0.5] for p in expected]
    usual = answers(opened(path, ["a", "b"], ["verdict", "all"]), ["a", "b"], ROWS[:1])
    both = [pytest.approx(1 - expected[0]), pytest.approx(expected[0])]
    assert usual == [(names[expected[0] > 0.5], dict(zip(names, both, strict=True)) if zipmap else both)]


def test_a_class_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = files.classifier(tmp_path / "m.onnx", WEIGHTS, ["stays", "leaves"], zipmap=True)
    model = opened(path, ["a", "b"], output="probabilities.goes")
    with pytest.raises(RowFaultError, match=r"no class for 'probabilities\.goes'; it has 'leaves', 'stays'"):
        answers(model, ["a", "b"], ROWS)


def test_the_columns_of_the_only_matrix_are_the_outputs(tmp_path: Path) -> None:
    path = files.same(tmp_path / "m.onnx", files.FLOAT, width=2)
    assert answers(opened(path, ["a", "b"], ["p", "q"]), ["a", "b"], [(1, 2), (3, 4)]) == [
        (1.0, 2.0),
        (3.0, 4.0),
    ]
    assert answers(opened(path, ["a", "b"], ["p"]), ["a", "b"], [(1, 2)]) == [([1.0, 2.0],)]
    assert answers(opened(path, ["a", "b"], ["p"], output="y.1"), ["a", "b"], [(1, 2)]) == [(2.0,)]


def test_names_with_dots_are_names_first(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("out.1", "out")]
    shape = [None, 2]
    outputs = [("out.1", files.FLOAT, shape), ("out", files.FLOAT, shape)]
    path = files.write(tmp_path / "m.onnx", [("x", files.FLOAT, shape)], outputs, nodes)
    model = opened(path, ["a", "b"], ["p", "q", "r"], output=["out.1", "out.1.0", "out.0"])
    assert answers(model, ["a", "b"], [(1, 2)]) == [([1.0, 2.0], 1.0, 1.0)]


def test_answers_of_another_number_of_rows_are_no_answers(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    path = files.write(tmp_path / "m.onnx", [("x", files.FLOAT, [None, 1])], [("y", files.FLOAT, [])], [node])
    with pytest.raises(RowFaultError, match=r"its output y has 0 rows where 2 were given"):
        answers(opened(path), ["x"], [(1,), (2,)])


def test_a_fixed_number_of_rows_bounds_a_call_and_is_filled_up(tmp_path: Path) -> None:
    model = opened(files.same(tmp_path / "m.onnx", files.FLOAT, rows=3))
    assert model.most_rows == 3
    assert answers(model, ["x"], [(1,), ("no",), (2,)]) == [
        (1.0,), "input x: 'no' is no number, and the model takes float32", (2.0,),
    ]  # fmt: skip
    assert answers(model, ["x"], [(5,)]) == [(5.0,)]
    assert opened(files.same(tmp_path / "free.onnx", files.FLOAT)).most_rows is None


def test_what_the_runtime_refuses_may_be_a_rows_fault(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    table = helper.make_node(
        "Constant", [], ["table"], value=helper.make_tensor("t", files.FLOAT, [2], [10.0, 20.0])
    )
    path = files.write(
        tmp_path / "m.onnx", [("x", files.INT64, [None])], [("y", files.FLOAT, [None])], [table, node]
    )
    model = opened(path)
    assert answers(model, ["x"], [(0,), (1,)]) == [(10.0,), (20.0,)]
    with pytest.raises(RowFaultError, match=r"^m\.onnx: .*out of data bounds"):
        answers(model, ["x"], [(0,), (9,)])


def test_threads_call_it_at_once(tmp_path: Path) -> None:
    model = opened(files.linear(tmp_path / "m.onnx", WEIGHTS, 10.0), ["a", "b"], threads=2)
    together = threading.Barrier(4)

    def call(first: int) -> list[Any]:
        together.wait(30)
        return answers(model, ["a", "b"], [(first + n, 0) for n in range(500)])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, range(0, 4000, 1000)))
    assert found == [[((first + n) / 2 + 10,) for n in range(500)] for first in range(0, 4000, 1000)]


# --- files and settings ------------------------------------------------------------------------------------


def test_check_tells_file_signature_and_digest(tmp_path: Path) -> None:
    path = files.by_name(tmp_path / "m.onnx")
    told = opened(path, ["amount", "country", "items"], ["price", "twice"]).check()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert told == (
        f"{path} is loaded: amount (float)[?, 1], country (string)[?, 1], items (int64)[?, 1] -> "
        f"price (float)[?, 1], twice (float)[?, 1]; SHA-256 {digest}"
    )


def test_the_registry_opens_it_where_the_file_begins(tmp_path: Path) -> None:
    files.same(tmp_path / "m.onnx", files.FLOAT)
    model = open_model(OnnxModel(onnx="m.onnx"), {"p": "real"}, 2, inputs=["x"], folder=tmp_path)
    assert isinstance(model, OnnxFile)


def test_the_path_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.same(tmp_path / "m.onnx", files.FLOAT)
    monkeypatch.setenv("CHURN_MODEL", str(path))
    model = OnnxFile(OnnxModel(onnx="$CHURN_MODEL"), ["x"], ["p"])
    assert answers(model, ["x"], [(1,)]) == [(1.0,)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"model\.onnx: cannot read .*gone\.onnx: No such file or directory; a relative path begins at",
        ),
        (b"not a model", r"gone\.onnx cannot be loaded as a model: Protobuf parsing failed"),
    ],
)
def test_a_file_that_is_no_model_is_told_in_a_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "gone.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_an_opset_of_the_future_is_told(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    path = files.write(
        tmp_path / "m.onnx",
        [("x", files.FLOAT, [None, 1])],
        [("y", files.FLOAT, [None, 1])],
        [node],
        opset=99,
    )
    with pytest.raises(
        ConfigurationError, match=r"loaded as a model: ONNX Runtime only .* Opset 99 is under development"
    ):
        opened(path)


@pytest.mark.parametrize(
    ("inputs", "outputs", "settings", "message"),
    [
        (
            ["amount", "country"],
            ["price"],
            {},
            "asks for items, and the prediction's inputs are amount, country",
        ),
        (
            ["amount", "country", "items", "age"],
            ["price"],
            {},
            r"has no input age; it takes amount \(float\)\[\?, 1\], ",
        ),
        (["amount", "country", "items"], ["p"], {}, "the prediction has 1 output: say which is meant"),
        (
            ["amount", "country", "items"],
            ["p"],
            {"output": "cost"},
            "has no output 'cost'; it has price, twice",
        ),
        (
            ["amount", "country", "items"],
            ["p"],
            {"output": "price.1"},
            "has no column '1'; columns count from 0",
        ),
        (["amount", "country", "items"], ["p"], {"output": "price.x"}, "has no column 'x'"),
        (
            ["amount", "country", "items"],
            ["p"],
            {"tensor": "X"},
            r"model\.tensor: the model has no input 'X'",
        ),
    ],
)
def test_what_does_not_go_with_the_model_is_told_when_it_is_opened(
    tmp_path: Path, inputs: list[str], outputs: list[str], settings: dict[str, Any], message: str
) -> None:
    path = files.by_name(tmp_path / "m.onnx")
    with pytest.raises(ConfigurationError, match=message):
        opened(path, inputs, outputs, **settings)


@pytest.mark.parametrize("inputs", [["a", "b", "c"], ["a", "b", "c", "d"]])
def test_a_matrix_of_another_width_is_told(tmp_path: Path, inputs: list[str]) -> None:
    path = files.linear(tmp_path / "m.onnx", WEIGHTS, 0.0)
    with pytest.raises(
        ConfigurationError, match=f"takes 2 inputs, and {len(inputs)} are configured: a, b, c"
    ):
        opened(path, inputs)


def test_a_runtime_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.same(tmp_path / "m.onnx", files.FLOAT)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ConfigurationError, match=r"^model\.onnx: onnxruntime is not installed: pip install 'rowscore"
    ):
        opened(path)


def test_tensors_of_three_dimensions_are_refused(tmp_path: Path) -> None:
    shape = [None, 3, 3]
    node = helper.make_node("Identity", ["x"], ["y"])
    path = files.write(tmp_path / "m.onnx", [("x", files.FLOAT, shape)], [("y", files.FLOAT, shape)], [node])
    with pytest.raises(ConfigurationError, match="neither a vector nor a matrix"):
        opened(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"onnx": " "}, 'expected a file, such as "models/churn.onnx"'),
        ({"onnx": "m.onnx", "threads": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OnnxModel(**settings)


def test_output_needs_one_for_each_of_the_predictions() -> None:
    settings = OnnxModel(onnx="m.onnx", output="label")
    settings.check(["a"], {"p": "int"})
    with pytest.raises(ValueError, match=r"model\.output: expected one for each of p, q, such as"):
        settings.check(["a"], {"p": "int", "q": "real"})


def test_threads_are_no_part_of_the_definition_and_the_output_is() -> None:
    plain = OnnxModel(onnx="m.onnx").definition
    assert OnnxModel(onnx="m.onnx", threads=4).definition == plain
    assert OnnxModel(onnx="m.onnx", output="y").definition != plain
