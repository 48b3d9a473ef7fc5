"""Small model files, made by the onnx package's own helpers when a test asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, save

FLOAT, DOUBLE, INT64, INT8 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT8
UINT64, BOOL, STRING, FLOAT16 = TensorProto.UINT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.FLOAT16
Tensor = tuple[str, int, list[Any]]
_OPSET, _FORMAT = 21, 10


def write(
    path: Path, inputs: Sequence[Tensor], outputs: Sequence[Any], nodes: Sequence[Any], opset: int = _OPSET
) -> Path:
    """A model file; inputs are (name, element type, shape), and so are outputs, unless they are made already."""
    made = [_value(*item) if isinstance(item, tuple) else item for item in outputs]
    graph = helper.make_graph(list(nodes), "model", [_value(*item) for item in inputs], made)
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    save(helper.make_model(graph, opset_imports=versions, ir_version=_FORMAT), path)
    return path


def _value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def same(path: Path, kind: int, width: int | None = 1, rows: int | None = None) -> Path:
    """A model of one tensor x that answers it as it came, as y."""
    shape = [rows] if width is None else [rows, width]
    return write(
        path, [("x", kind, shape)], [("y", kind, shape)], [helper.make_node("Identity", ["x"], ["y"])]
    )


def linear(path: Path, weights: Sequence[float], intercept: float, name: str = "X") -> Path:
    """A linear regression over one matrix, as skl2onnx writes it: `variable` [n, 1]."""
    node = helper.make_node(
        "LinearRegressor", [name], ["variable"], domain="ai.onnx.ml", coefficients=list(weights),
        intercepts=[intercept], targets=1,
    )  # fmt: skip
    return write(path, [(name, FLOAT, [None, len(weights)])], [("variable", FLOAT, [None, 1])], [node])


def classifier(
    path: Path, weights: Sequence[float], labels: Sequence[str] | None = None, *, zipmap: bool
) -> Path:
    """A logistic regression of two classes, as skl2onnx writes it: `label` [n], and `probabilities`."""
    named: dict[str, Any] = (
        {"classlabels_ints": [0, 1]} if labels is None else {"classlabels_strings": list(labels)}
    )
    raw = "raw" if zipmap else "probabilities"
    nodes = [
        helper.make_node(
            "LinearClassifier", ["X"], ["label", raw], domain="ai.onnx.ml", post_transform="LOGISTIC",
            coefficients=[*(-weight for weight in weights), *weights], intercepts=[0.0, 0.0], multi_class=0, **named,
        )
    ]  # fmt: skip
    label = ("label", INT64 if labels is None else STRING, [None])
    probabilities: Any = ("probabilities", FLOAT, [None, 2])
    if zipmap:
        keys = {"classlabels_int64s": [0, 1]} if labels is None else {"classlabels_strings": list(labels)}
        nodes.append(helper.make_node("ZipMap", [raw], ["probabilities"], domain="ai.onnx.ml", **keys))
        value = helper.make_tensor_type_proto(FLOAT, [])
        kind = helper.make_map_type_proto(INT64 if labels is None else STRING, value)
        probabilities = helper.make_value_info("probabilities", helper.make_sequence_type_proto(kind))
    return write(path, [("X", FLOAT, [None, len(weights)])], [label, probabilities], nodes)


def by_name(path: Path) -> Path:
    """The price, amount + 100 * items, and 1000 more unless country is DE, and its double: tensors [n, 1] by name."""
    constant = {
        name: helper.make_tensor(name, kind, [1], values)
        for name, kind, values in (
            ("hundred", FLOAT, [100.0]), ("thousand", FLOAT, [1000.0]), ("two", FLOAT, [2.0]),
        )
    }  # fmt: skip
    make = helper.make_node
    nodes = [
        *(make("Constant", [], [name], value=value) for name, value in constant.items()),
        make("Cast", ["items"], ["count"], to=FLOAT),
        make("Mul", ["count", "hundred"], ["goods"]),
        make(
            "LabelEncoder", ["country"], ["abroad"], domain="ai.onnx.ml", keys_strings=["DE"], values_floats=[0.0],
            default_float=1.0,
        ),
        make("Mul", ["abroad", "thousand"], ["far"]),
        make("Add", ["amount", "goods"], ["some"]),
        make("Add", ["some", "far"], ["price"]),
        make("Mul", ["price", "two"], ["twice"]),
    ]  # fmt: skip
    inputs = [("amount", FLOAT, [None, 1]), ("country", STRING, [None, 1]), ("items", INT64, [None, 1])]
    return write(path, inputs, [("price", FLOAT, [None, 1]), ("twice", FLOAT, [None, 1])], nodes)


def probability(weights: Sequence[float], row: Sequence[float]) -> float:
    """What `classifier` says of its second class."""
    return float(1 / (1 + np.exp(-np.dot(weights, row))))
