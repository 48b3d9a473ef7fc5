"""The statements by which Aurora writes a training set to S3, word for word: no server here could run them.

They are in `tests/unit/export/`, each in the form that AWS's user guides show. The queries in them are run by
tests/integration/test_export.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.services import column, materialisation
from worker.config import Input
from worker.destination import S3Address
from worker.export import Plan, Wishes, aurora_statement
from worker.kinds.encoding import Encoding
from worker.kinds.python import PythonModel

GOLDEN = Path(__file__).parent / "export"
ADDRESS = S3Address("models", "churn/it's.csv")
INPUTS: list[Any] = [
    "state",
    {"column": "day_mins", "default": 0.0},
    {"name": "long", "sql": "acc_length > 100"},
]
WISHES = Wishes("", labels=("prediction",), where="id % 10 <> 0", limit=50_000)
CASES: dict[str, tuple[Encoding, bool, Wishes]] = {
    "usual": (Encoding(), False, WISHES),
    "words": (Encoding(booleans=("no", "yes"), null="N'A"), True, Wishes("", scored_only=True, force=True)),
    "whole-rows": (Encoding(refuse_null=True), False, Wishes("")),
}


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@pytest.mark.parametrize("case", CASES)
def test_the_statement_is_the_golden_one(dialect: str, case: str) -> None:
    encoding, header, wishes = CASES[case]
    path = GOLDEN / f"{dialect}-{case}.sql"
    assert statement(dialect, encoding, header=header, wishes=wishes) + "\n" == path.read_text(
        encoding="utf-8"
    )


def test_every_golden_file_is_tested() -> None:
    names = {f"{dialect}-{case}" for dialect in ("postgresql", "mysql") for case in CASES}
    assert {path.stem for path in GOLDEN.iterdir()} == names


def statement(dialect: str, encoding: Encoding, *, header: bool, wishes: Wishes) -> str:
    exact = dialect == "postgresql"
    boolean = "boolean" if exact else "tinyint(1)"
    moment = "timestamp with time zone" if exact else "timestamp"
    m = materialisation(
        dialect, column("prediction", boolean, 6), column("seen", moment, 7), where="state <> 'XX'",
        model={"sql": "predict_churn", "aurora": {"sagemaker": "churn-endpoint"}},
    )  # fmt: skip
    asked = m.prediction.model_copy(
        update={
            "inputs": tuple(Input.model_validate(item) for item in ("prediction", *INPUTS, "seen")),
            "model": PythonModel(python="tests:none", encoding=encoding),
        }
    )
    types = (boolean, "text", "double precision", boolean if exact else "bigint", moment)
    wide = replace(m, prediction=asked, input_types=types, only=wishes.where)
    return aurora_statement(Plan(wide, encoding, (True, *[False] * 4), header, wishes), ADDRESS, "eu-west-1")
