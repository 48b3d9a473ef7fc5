"""How a shadow's predictions differ from the live ones, over the rows that both have scored; it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.conversion import OutputKind
from worker.database import Transaction
from worker.engine import Engine
from worker.errors import ConfigurationError, NotAppliedError, RefusedError
from worker.materialisation import Materialisation, Output
from worker.table import listed

TOLERANCE = 1e-6  # of the larger of two numbers; they count as equal up to it
EXAMPLES = 10
CLASSES = 20  # old and new values that are shown, the commonest
_NUMBERS = (OutputKind.FLOAT, OutputKind.INTEGER, OutputKind.NUMERIC)
_PLACES = ("min", "p5", "p25", "p50", "p75", "p95", "max", "mean")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of `count` finite numbers the least, five percentiles, the largest and the mean; None where there is no number.

    A percentile is the least of the numbers that so many per cent of them do not exceed.
    """

    count: int
    min: float | None
    p5: float | None
    p25: float | None
    p50: float | None
    p75: float | None
    p95: float | None
    max: float | None
    mean: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """A row with its two values; None is NULL."""

    key: tuple[str, ...]
    old: float | str | None
    new: float | str | None


@dataclass(frozen=True, slots=True)
class ClassChange:
    """How many rows have the one value of the live model's and the other of the shadow's; None is NULL."""

    old: str | None
    new: str | None
    rows: int


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of both.

    Attributes:
        output: the live column; `shadow` the other one.
        changed: rows whose value is another one: numbers beyond the tolerance, NULL against a value as well.
        old, new, change: for numbers; `change` is new minus old.
        classes: for all other types, the commonest first.
        examples: rows with another value: the largest moves, or the first by their key.
    """

    output: str
    shadow: str
    compared: int
    changed: int
    old_nulls: int | None = None
    new_nulls: int | None = None
    old: Distribution | None = None
    new: Distribution | None = None
    change: Distribution | None = None
    classes: tuple[ClassChange, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """The comparison of a live prediction with its shadow.

    Attributes:
        rows: that were looked at; of the whole table, or of the sample.
        sample: the share of the table that was looked at; None for all of it.
        compared: rows that both have scored; `only_live` and `only_shadow` those that one has.
    """

    live: str
    shadow: str
    rows: int
    sample: float | None
    compared: int
    only_live: int
    only_shadow: int
    outputs: tuple[OutputDifference, ...]


def compare(
    engine: Engine,
    name: str | None = None,
    *,
    tolerance: float = TOLERANCE,
    examples: int = EXAMPLES,
    sample: int | None = None,
) -> Difference:
    """Compare the two over the table, or over about so many of its rows.

    Args:
        engine: what to look with.
        name: the prediction.
        tolerance: of numbers, relative to the larger of two.
        examples: rows to show for each output.
        sample: rows to look at, about; blocks of them where the database can read single blocks.

    Raises:
        ConfigurationError: there is no shadow, or the sample is none.
        NotAppliedError: one of the two was never applied.
        RefusedError: an output's columns are of types that cannot be compared.
    """
    if sample is not None and sample < 1:
        raise ConfigurationError(f"--sample: expected a number of rows, not {sample}")
    live, shadow = engine.configuration.pair(name)
    m, other = engine.materialisation(live), engine.materialisation(shadow)
    for each in (m, other):
        if each.prediction.state_column not in each.table.columns:
            raise NotAppliedError(
                f"{each.name} is not applied to this database; run `rowscore apply {live.name}`"
            )
    with engine.database(live).transaction() as transaction:
        look = _Look(transaction, m, other, tolerance, examples, _share(transaction, m, sample))
        counted: Any = transaction.row(look.sql("count_compared"))
        outputs = tuple(look.at(*pair) for pair in zip(m.outputs, other.outputs, strict=True))
    return Difference(
        live.name,
        shadow.name,
        counted.rows,
        look.share,
        counted.compared,
        counted.only_live,
        counted.only_shadow,
        outputs,
    )


def _share(transaction: Transaction, m: Materialisation, sample: int | None) -> float | None:
    """The share of the table that so many rows are; None where that is all of it."""
    if sample is None:
        return None
    rows = m.table.estimated_rows
    rows = rows if rows > 0 else int(transaction.value(m.render("count_rows")))
    return None if sample >= rows else sample / rows


@dataclass(frozen=True)
class _Look:
    """The statements of one comparison."""

    transaction: Transaction
    m: Materialisation
    shadow: Materialisation
    tolerance: float
    examples: int
    share: float | None

    def sql(self, statement: str, **more: Any) -> str:
        """A statement over both sets of columns."""
        return self.m.render(statement, other=self.shadow.prediction.state_column, portion=self.share, **more)

    def at(self, old: Output, new: Output) -> OutputDifference:
        """One output."""
        numbers = [output.kind.kind in _NUMBERS for output in (old, new)]
        if numbers[0] != numbers[1]:
            raise RefusedError(
                f"columns {old.name} ({old.type}) and {new.name} ({new.type}) cannot be compared"
            )
        columns = {"old": old.name, "new": new.name}
        return self._numbers(columns) if numbers[0] else self._classes(columns, old)

    def _numbers(self, columns: Mapping[str, str]) -> OutputDifference:
        found: Any = self.transaction.row(self.sql("compare_numbers", **columns), tolerance=self.tolerance)
        return OutputDifference(
            columns["old"],
            columns["new"],
            found.compared,
            found.changed,
            old_nulls=found.old_nulls,
            new_nulls=found.new_nulls,
            old=_distribution(found, "old"),
            new=_distribution(found, "new"),
            change=_distribution(found, "change"),
            examples=self._examples("largest_moves", columns, tolerance=self.tolerance),
        )

    def _classes(self, columns: Mapping[str, str], output: Output) -> OutputDifference:
        kind = "json" if output.kind.kind is OutputKind.JSON else "bytes" if output.sent == "HEX" else "text"
        asked = {**columns, "kind": kind}
        rows = self.transaction.rows(self.sql("compare_classes", **asked), limit=CLASSES)
        return OutputDifference(
            columns["old"],
            columns["new"],
            int(rows[0].compared) if rows else 0,
            int(rows[0].changed) if rows else 0,
            classes=tuple(ClassChange(_text(row.old), _text(row.new), row.rows) for row in rows),
            examples=self._examples("first_changes", asked),
        )

    def _examples(self, statement: str, columns: Mapping[str, str], **more: float) -> tuple[Example, ...]:
        if not self.examples:
            return ()
        rows = self.transaction.rows(self.sql(statement, **columns), limit=self.examples, **more)
        return tuple(
            Example(tuple(map(str, listed(row.key))), _value(row.old), _value(row.new)) for row in rows
        )


def _distribution(row: Any, name: str) -> Distribution:
    numbers = [getattr(row, f"{name}_{place}") for place in _PLACES]
    return Distribution(
        getattr(row, f"{name}_count"), *(None if number is None else float(number) for number in numbers)
    )


def _value(value: Any) -> float | str | None:
    return float(value) if isinstance(value, (int, float)) else _text(value)


def _text(value: Any) -> str | None:
    """A text; bytes are one that was compared as such."""
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, (bytes, bytearray)) else str(value)
