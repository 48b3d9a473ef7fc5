"""Python models: every shape of result, every way of failing, and what the registry opens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.errors import ConfigurationError, FailureClass, RowFaultError, ThrottledError
from worker.kinds.http import HttpModel
from worker.kinds.python import PythonModel
from worker.kinds.sql import SqlModel
from worker.models.http import HttpEndpoint
from worker.models.protocol import Batch, RowFailure
from worker.models.python import PythonFunction
from worker.models.registry import open_model

HERE = __name__
BATCH = Batch(("x", "y"), [(1, 2), (3, 4)])
FAILURE = RowFailure(FailureClass.ROW_PERMANENT, "too long")
not_callable = 3


class Results:
    """One callable for each name that a test asks for."""

    floats = staticmethod(lambda batch: [row[0] / 2 for row in batch.rows])
    columns = staticmethod(lambda batch: np.array(batch.columns()["x"]) * 0.5)
    one_column = staticmethod(lambda _batch: np.array([[0.5], [1.5]]))
    matrix = staticmethod(lambda _batch: np.array([[0.5, 1.0], [1.5, 2.0]]))
    tuples = staticmethod(lambda _batch: [(0.5, "a"), (1.5, "b")])
    lists = staticmethod(lambda _batch: ([0.5, "a"], np.array([1.5, 2.0])))
    records = staticmethod(lambda batch: [{"b": r["y"], "a": r["x"], "c": 0} for r in batch.records()])
    partial = staticmethod(lambda _batch: [{"a": 1}, {"a": 2}])
    objects = staticmethod(lambda _batch: [{"label": 1}, {"p": 2}])
    failures = staticmethod(lambda _batch: [FAILURE, 0.5])
    short = staticmethod(lambda _batch: [0.5])
    scalar = staticmethod(lambda _batch: 0.5)
    text = staticmethod(lambda _batch: "ab")
    mapping = staticmethod(lambda _batch: {"a": [1, 2]})

    @staticmethod
    def broken(batch: Batch) -> Any:
        raise ValueError(f"bad row among {len(batch)}")

    @staticmethod
    def throttled(_batch: Batch) -> Any:
        raise ThrottledError("slow down")

    @staticmethod
    def exhausted(_batch: Batch) -> Any:
        raise MemoryError

    @staticmethod
    def interrupted(_batch: Batch) -> Any:
        raise KeyboardInterrupt


def model(name: str, *outputs: str) -> PythonFunction:
    return PythonFunction(PythonModel(python=f"{HERE}:Results.{name}"), outputs or ("p",))


@pytest.mark.parametrize(
    ("name", "outputs", "answers"),
    [
        ("floats", "p", [(0.5,), (1.5,)]),
        ("columns", "p", [(0.5,), (1.5,)]),
        ("one_column", "p", [(0.5,), (1.5,)]),
        ("matrix", "ab", [(0.5, 1.0), (1.5, 2.0)]),
        ("matrix", "v", [([0.5, 1.0],), ([1.5, 2.0],)]),
        ("tuples", "ab", [(0.5, "a"), (1.5, "b")]),
        ("lists", "ab", [(0.5, "a"), (1.5, 2.0)]),
        ("records", "ab", [(1, 2), (3, 4)]),
        ("objects", "p", [({"label": 1},), (2,)]),
        ("failures", "p", [FAILURE, (0.5,)]),
    ],
)
def test_what_a_function_may_return(name: str, outputs: str, answers: list[Any]) -> None:
    assert model(name, *outputs).call(BATCH) == answers


@pytest.mark.parametrize(
    ("name", "outputs", "message"),
    [
        ("broken", "p", "raised ValueError: bad row among 2"),
        ("short", "p", "returned 1 answers for 2 rows"),
        ("scalar", "p", "returned float where an answer for each row belongs"),
        ("text", "p", "returned str where"),
        ("mapping", "p", "returned dict where"),
        ("partial", "ab", "without 'b'"),
    ],
)
def test_what_may_be_a_rows_fault(name: str, outputs: str, message: str) -> None:
    with pytest.raises(RowFaultError, match=message):
        model(name, *outputs).call(BATCH)


@pytest.mark.parametrize(
    ("name", "error"),
    [("throttled", ThrottledError), ("exhausted", MemoryError), ("interrupted", KeyboardInterrupt)],
)
def test_what_is_nobodys_fault_leaves_as_it_is(name: str, error: type[BaseException]) -> None:
    with pytest.raises(error):
        model(name).call(BATCH)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module_here:f", "model.python: cannot import no_such_module_here.*PYTHONPATH"),
        (f"{HERE}:missing", "model.python: .*missing"),
        (f"{HERE}:not_callable", "is not callable"),
    ],
)
def test_what_cannot_be_loaded_is_a_mistake_in_the_configuration(path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PythonFunction(PythonModel(python=path), ("p",))


def test_the_registry_opens_each_kind_that_the_worker_calls() -> None:
    opened = open_model(PythonModel(python=f"{HERE}:Results.floats"), {"p": "float8"}, 1)
    assert isinstance(opened, PythonFunction)
    assert opened.check() == f"{HERE}:Results.floats is loaded"
    opened.close()
    endpoint = open_model(HttpModel(http="http://127.0.0.1:9/invocations"), {"p": "float8"}, 4)
    assert isinstance(endpoint, HttpEndpoint)
    endpoint.close()
    with pytest.raises(ConfigurationError, match="called by the database"):
        open_model(SqlModel(sql="predict_churn"), {"p": "float8"}, 1)
