"""What a backfill or a rescore was begun with: which rows, how fast and when; pure, and kept with the run as JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from typing import Any

from worker.errors import ConfigurationError
from worker.sections import parse_duration
from worker.window import Window, parse_window

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BUDGET = re.compile(r"(\d[\d_,]*(?:\.\d+)?)(?:\s*(calls|rows))?")
_RATE = re.compile(r"(\d[\d_,]*)\s*/\s*(s|m|h|d)")
_UNTYPED = ("scheduled", "before")  # what nobody types


@dataclass(frozen=True, slots=True)
class Rate:
    """Rows in so many seconds."""

    rows: int
    seconds: float

    @property
    def window(self) -> int:
        """Rows of one window, at most: a second's worth, so that the rate is even, and one row where that is less."""
        return max(1, int(self.rows / self.seconds))

    def worth(self, rows: int) -> float:
        """The seconds that rows are worth: the next window is handed out so much later."""
        return rows * self.seconds / self.rows


def parse_rate(text: str) -> Rate:
    """`"5000/s"`, `"300/m"`, `"100000/h"`.

    Raises:
        ConfigurationError: it is none.
    """
    match = _RATE.fullmatch(text.strip())
    rows = int(re.sub("[_,]", "", match[1])) if match else 0
    if match is None or rows < 1:
        raise ConfigurationError(
            f'--rate: expected rows a second, minute, hour or day, such as "5000/s", not {text!r}'
        )
    return Rate(rows, _UNITS[match[2]])


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap that nothing goes beyond: so many calls, rows or money.

    Attributes:
        unit: `calls`, `rows`, or `money` in the currency of the model's prices.
        text: as it was typed.
    """

    amount: float
    unit: str
    text: str

    def rows_left(self, calls: int, rows: int, money: float, each: float, row: float) -> int | None:
        """Rows that a call more may have; 0 where there is to be none, None where it may have any.

        Args:
            calls: spent so far, as are `rows` and `money`.
            each: what a call costs.
            row: what a row costs.
        """
        if self.unit == "rows":
            return max(int(self.amount) - rows, 0)
        if self.unit == "calls":
            return None if calls < self.amount else 0
        left = self.amount - money - each
        if left < 0:
            return 0
        return int(left / row * (1 + 1e-12)) if row else None


def parse_budget(text: str) -> Budget:
    """`"1000 calls"`, `"50000 rows"`, or `"20.00"` in the currency of the model's prices.

    Raises:
        ValueError: what was expected.
    """
    match = _BUDGET.fullmatch(text.strip())
    amount = float(re.sub("[_,]", "", match[1])) if match else 0.0
    if match is None or not amount or (match[2] and not amount.is_integer()):
        raise ValueError(f'expected "1000 calls", "50000 rows" or money such as "20.00", not {text!r}')
    return Budget(amount, match[2] or "money", text.strip())


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is about and how fast it may be; a later call without any goes on with them.

    Attributes:
        from_key: the first key, as it was typed.
        to_key: the last key, as it was typed.
        where: an SQL condition; rows for which it does not hold are left as they are.
        only_missing: rows that hold an answer already are left as they are.
        max_rows: rows that are dealt with, at most.
        rate: rows in a time, such as `5000/s`, all workers together.
        between: hours of the day, such as `22:00-06:00 Europe/Berlin`; in UTC without a zone.
        celery: Celery's workers do the work.
        budget: calls, rows or money that it may spend: `1000 calls`, `50000 rows`, `20.00`.
        older_than: a rescore of rows that were scored longer ago, such as `30d`, by whichever model version.
        scheduled: `max_age` began it: it spends `daily_budget`, as rows that come do.
        before: rows that were scored since then are not outdated: decided by the database's clock when a rescore
            begins, so that it ends; ISO 8601 in UTC.

    Raises:
        ConfigurationError: one of them cannot be read.
    """

    from_key: str | None = None
    to_key: str | None = None
    where: str | None = None
    only_missing: bool = False
    max_rows: int | None = None
    rate: str | None = None
    between: str | None = None
    celery: bool = False
    budget: str | None = None
    older_than: str | None = None
    scheduled: bool = False
    before: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ConfigurationError(f"--max-rows: expected a number of rows, not {self.max_rows}")
        if self.where is not None and not self.where.strip():
            raise ConfigurationError("--where: expected an SQL condition")
        assert self.pace is not None or self.rate is None  # noqa: S101 - both are read here, to be refused here
        assert self.hours is not None or self.between is None  # noqa: S101
        assert self.cap is not None or self.budget is None  # noqa: S101
        assert self.age is not None or self.older_than is None  # noqa: S101

    @property
    def pace(self) -> Rate | None:
        """The rate, read."""
        return None if self.rate is None else parse_rate(self.rate)

    @property
    def hours(self) -> Window | None:
        """The hours, read."""
        try:
            return None if self.between is None else parse_window(self.between)
        except ValueError as error:
            raise ConfigurationError(f"--between: {error}") from error

    @property
    def cap(self) -> Budget | None:
        """The budget, read."""
        try:
            return None if self.budget is None else parse_budget(self.budget)
        except ValueError as error:
            raise ConfigurationError(f"--budget: {error}") from error

    @property
    def age(self) -> timedelta | None:
        """The age, read."""
        try:
            return None if self.older_than is None else parse_duration(self.older_than)
        except ValueError as error:
            raise ConfigurationError(f"--older-than: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """What is not as it is without options, for JSON."""
        default = Options()
        return {name: value for name, value in asdict(self).items() if value != getattr(default, name)}

    def __bool__(self) -> bool:
        """Whether anything was asked for; `before` nobody asks for."""
        return self != Options()

    def __str__(self) -> str:
        """As they are typed: `--where "amount > 10" --max-rows 500`."""
        words = []
        for name, value in self.as_dict().items():
            if name in _UNTYPED:
                continue
            option = "--" + name.replace("_", "-")
            shown = str(value)
            words.append(option if value is True else f"{option} {_quoted(shown)}")
        return " ".join(words)


def options_of(document: Any) -> Options:
    """The options that a run was stored with; those that this version does not know are an error.

    Raises:
        ConfigurationError: a newer rowscore began it.
    """
    known = {item.name for item in fields(Options)}
    if unknown := sorted(set(document or {}) - known):
        raise ConfigurationError(
            f"it was begun by another rowscore, with {', '.join(unknown)}; use that one, or --cancel it"
        )
    return Options(**(document or {}))


def read_key(text: str, columns: int) -> tuple[str, ...]:
    """A key that was typed, as a text for each of its columns: `17`, or with several `eu,17`.

    Raises:
        ValueError: it has more or fewer parts than the key has columns.
    """
    parts = (text,) if columns == 1 else tuple(part.strip() for part in text.split(","))
    if len(parts) != columns or not all(parts):
        raise ValueError(
            f"the key has {columns} columns; expected as many values with commas between, not {text!r}"
        )
    return parts


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w./:,-]+", text) else '"' + text.replace('"', '\\"') + '"'
