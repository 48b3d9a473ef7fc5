"""The churn model's terms: what one is, its value in NumPy and as SQL expressions; it knows no weights.

A term is the product of its factors. A factor looks at the sum of some columns, or at one text column:

    value   (sum - limit) / scale
    excess  what the sum has above the limit, at least 0, / scale
    above   1 if the sum is above the limit, else 0
    among   1 if the text is one of the words, else 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add, mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How a database spells the kinds. MySQL's conditions are numbers; its numbers without an exponent are exact decimals,
# whose quotients are rounded to a few digits.
SPELLINGS: Mapping[str, Mapping[str, str]] = {
    "postgresql": {
        "difference": "(({total})::float8 - {limit}) / {scale}",
        "value": "({difference})",
        "excess": "(CASE WHEN {difference} < 0 THEN 0 ELSE {difference} END)",  # greatest() would make 0 of NULL
        "above": "({total} > {limit})::int::float8",
        "among": "({total} IN ({words}))::int::float8",
    },
    "mysql": {
        "difference": "({total} - {limit}e0) / {scale}e0",
        "value": "({difference})",
        "excess": "GREATEST({difference}, 0e0)",
        "above": "({total} > {limit}e0)",
        "among": "({total} IN ({words}))",
    },
}


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a term."""

    kind: str
    columns: tuple[str, ...]
    limit: float = 0.0
    scale: float = 1.0
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("value", "excess", "above", "among"):
            raise ValueError(f"a factor cannot be of the kind {self.kind!r}")

    def evaluate(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Its value for each row."""
        if self.kind == "among":
            return np.isin(columns[self.columns[0]], self.words).astype(float)
        total = reduce(add, (columns[name] for name in self.columns))
        if self.kind == "above":
            return np.asarray(total > self.limit, dtype=float)
        difference = (total - self.limit) / self.scale
        return np.asarray(np.maximum(difference, 0.0) if self.kind == "excess" else difference, dtype=float)

    def sql(self, dialect: str = "postgresql") -> str:
        """The same as an expression over the columns; NULL if a column is."""
        spelling = SPELLINGS[dialect]
        values = {"limit": f"{self.limit:g}", "scale": f"{self.scale:g}", "total": " + ".join(self.columns)}
        words = ", ".join(f"'{word}'" for word in self.words)
        difference = spelling["difference"].format(**values)
        return spelling[self.kind].format(**values, words=words, difference=difference)


@dataclass(frozen=True, slots=True)
class Term:
    """A product of factors, with a name for the reader."""

    name: str
    factors: tuple[Factor, ...]

    def evaluate(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Its value for each row."""
        return reduce(mul, (factor.evaluate(columns) for factor in self.factors))

    def sql(self, dialect: str = "postgresql") -> str:
        """The same as an expression over the columns."""
        return " * ".join(factor.sql(dialect) for factor in self.factors)

    def as_json(self) -> dict[str, Any]:
        """The term as the model file holds it, without what is default."""
        default = asdict(Factor("value", ()))
        factors = [
            {key: value for key, value in asdict(factor).items() if key == "kind" or value != default[key]}
            for factor in self.factors
        ]
        return {"name": self.name, "factors": factors}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Term:
        """The term that `as_json` wrote."""
        return cls(found["name"], tuple(_factor(factor) for factor in found["factors"]))


def _factor(found: Mapping[str, Any]) -> Factor:
    words, columns = found.get("words", ()), found["columns"]
    return Factor(
        found["kind"], tuple(columns), found.get("limit", 0.0), found.get("scale", 1.0), tuple(words)
    )


def among(column: str, *words: str) -> Factor:
    """1 where the text is one of the words."""
    return Factor("among", (column,), words=words)


def value(*columns: str, limit: float = 0.0, scale: float = 1.0) -> Factor:
    """The columns' sum, moved and scaled."""
    return Factor("value", columns, limit, scale)


def excess(*columns: str, limit: float, scale: float = 1.0) -> Factor:
    """What the columns' sum has above the limit."""
    return Factor("excess", columns, limit, scale)


def above(*columns: str, limit: float) -> Factor:
    """1 where the columns' sum is above the limit."""
    return Factor("above", columns, limit)
