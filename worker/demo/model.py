"""The shipped churn model: loads churn-model.json and computes probabilities; train.py trains it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.demo.churn import FEATURES, TEXTS, Columns
from worker.demo.terms import Term
from worker.errors import RowRejectedError

FILE = Path(__file__).with_name("churn-model.json")


class BadRowError(RowRejectedError):
    """A row has the wrong number of columns, or something other than a number where one belongs."""


class Batch(Protocol):
    """What rowscore hands to a Python model: the inputs' names and the rows, in the same order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs' names."""

    @property
    def rows(self) -> Sequence[Sequence[Any]]:
        """A value for each name, in each row."""


@dataclass(frozen=True, slots=True)
class Model:
    """A logistic regression over terms."""

    intercept: float
    terms: tuple[Term, ...]
    weights: tuple[float, ...]

    def probabilities(self, columns: Columns) -> NDArray[np.float64]:
        """The probability that each customer leaves."""
        odds = np.full(len(next(iter(columns.values()))), self.intercept)
        for term, weight in zip(self.terms, self.weights, strict=True):
            odds += weight * term.evaluate(columns)
        # the logistic function, by tanh: exp() overflows where odds are extreme, an error in PostgreSQL
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * odds), dtype=float)


@cache
def shipped() -> Model:
    """The model in the file beside this module."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    terms = tuple(Term.from_json(term) for term in found["terms"])
    return Model(found["intercept"], terms, tuple(term["weight"] for term in found["terms"]))


def predict(rows: Sequence[Sequence[Any]], names: Sequence[str] = FEATURES) -> list[float]:
    """The probability of leaving for each row of values (texts, or numbers) in the order of `names`.

    Raises BadRowError that names the first bad row, counted from 1. Other names than FEATURES are ignored.
    """
    if not rows:
        return []
    return [float(answer) for answer in shipped().probabilities(_columns(rows, names))]


def predict_batch(batch: Batch) -> list[float]:
    """The same for a batch of rowscore: `model = { python = "worker.demo.model:predict_batch" }`."""
    if missing := [name for name in FEATURES if name not in batch.names]:
        raise ValueError(f"the churn model needs the inputs {', '.join(missing)} as well")
    return predict(batch.rows, batch.names)


def _columns(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Columns:
    wanted = len(names)
    for number, row in enumerate(rows, start=1):
        if len(row) != wanted:
            raise BadRowError(f"row {number}: {len(row)} columns where {wanted} belong")
    whole = dict(zip(names, zip(*rows, strict=True), strict=True))
    return {name: _column(name, whole[name]) for name in FEATURES}


def _column(name: str, values: Sequence[Any]) -> NDArray[Any]:
    if name in TEXTS:
        return np.array(values) if set(map(type, values)) == {str} else _texts(name, values)
    try:
        numbers = np.array(values, dtype=float)
    except (ValueError, TypeError):
        numbers = np.array([_number(value) for value in values])
    finite = np.isfinite(numbers)
    if not finite.all():
        number = int(np.argmin(finite))
        raise BadRowError(f"row {number + 1}, column {name}: {values[number]!r} is not a number")
    return numbers


def _texts(name: str, values: Sequence[Any]) -> NDArray[Any]:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str):
            raise BadRowError(f"row {number}, column {name}: {value!r} is not a text")
    return np.array(values, dtype=str)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return float("nan")
