"""What a database can do and how its driver speaks, as the rest of rowscore asks for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import URL, Connection

from worker import errors
from worker.answers import OutputType
from worker.capabilities.alteration import Alteration
from worker.capabilities.calling import Calling
from worker.capabilities.counsel import Counsel
from worker.capabilities.packing import Packing
from worker.columns import Listed


@dataclass(frozen=True, slots=True)
class FoundType:
    """A type as the server calls it: in full, without length or precision, its category, an array's element, number."""

    type: str
    cast_type: str
    category: str
    element: str | None
    oid: int = 0


class Capabilities(Protocol):
    """The differences between databases that are not SQL text."""

    dialect: str
    driver_error: type[Exception]
    plan_pins: Mapping[str, str | int]
    own_schema: str | None  # where rowscore's own tables are; None: in the connection's database, by a prefix
    row_version: tuple[str, str] | None  # of a row `c` of a `versioned` table, and its type
    locks_first: bool  # a statement that writes cannot lock and step over rows itself
    json_as_text: bool  # the driver answers JSON as its text
    booleans_as_numbers: bool  # and booleans as 0 and 1
    reads_forgive: bool  # a SELECT answers NULL, with a warning, where an expression fails an UPDATE
    steps_over: bool  # SKIP LOCKED waits for nobody, not even for a moment
    alteration: Alteration
    counsel: Counsel
    calling: Calling

    def connect_arguments(self, application_name: str, url: URL) -> dict[str, Any]:
        """Arguments for the driver's connect, over those that SQLAlchemy takes from the URL.

        Raises:
            ConfigurationError: an option of the URL does not do.
        """

    def connect(self, arguments: Mapping[str, Any]) -> Any | None:
        """A connection of the driver's; None where its own `connect` makes it."""

    def local_settings(self, settings: Mapping[str, str | int]) -> str:
        """One script that makes settings for the current transaction only."""

    def interruption(self, connection: Connection) -> str | None:
        """What another session runs to end this one's statement; None where `statement_timeout` ends any."""

    def at_once(self, sql: str) -> str:
        """The statement in a form that gives up at once where it would wait for a row, where `steps_over` is false."""

    def binary_cursor(self, connection: Connection) -> Any:
        """A context manager over a driver cursor that fetches and sends binary values."""

    def is_native_key(self, sql_type: str) -> bool:
        """Whether a key of this type travels in the driver's own form instead of as text."""

    def is_unfit_key(self, base_type: str) -> bool:
        """Whether a value of this type may not be found again by itself."""

    def is_exact(self, base_type: str, *, deterministic: bool) -> bool:
        """Whether the type's equality tells apart what its text tells apart, and never fails."""

    def fingerprint(
        self, expressions: Sequence[str], types: Sequence[str], *, deterministic: bool
    ) -> tuple[str, str]:
        """An expression that changes when any of the expressions does, and its SQL type.

        Args:
            types: the expressions' SQL types.
            deterministic: whether the columns among them have collations whose equality is that of the bytes.
        """

    def lasting_fingerprint(
        self, expressions: Sequence[str], types: Sequence[str], *, deterministic: bool
    ) -> tuple[str, str]:
        """The same for one that is kept with the row: it must not change with the server or the session."""

    def folded(self, fingerprint: str, sql_type: str) -> str:
        """A fingerprint of that type as a whole number below 2**40; NULL of NULL."""

    def constant(self, value: float | int | str | bool, sql_type: str, cast_type: str) -> str:
        """A value that the configuration gives for NULL, as SQL of a column's type.

        Args:
            sql_type: the column's.
            cast_type: what CAST takes for it; see `Column`.
        """

    def read_expression(self, expression: str, sql_type: str) -> str:
        """The expression in a form that the driver loads."""

    def packing(self, sql_type: str) -> Packing | None:
        """How a column of this type is sent as one value; None where it has to be sent row by row."""

    def expression_types(self, transaction: Any, statement: str) -> tuple[str, ...]:
        """The SQL type of each column that the statement answers with.

        Args:
            transaction: a `worker.database.Transaction`.
        """

    def find_type(self, transaction: Any, asked: str) -> FoundType | None:
        """The type that a user wrote as the server calls it; None where it has none of that name."""

    def ends_walks(self, connection: Connection) -> bool:
        """Whether `(a, b) <= (x, y)` ends a walk over an index of (a, b) where a is equal all along."""

    def sqlstate(self, error: BaseException) -> str | None:
        """The five characters of the SQL standard, where the driver gives them."""

    def message(self, error: BaseException) -> str:
        """What a driver's error says, without what only the driver's author wants to know."""

    def classify(self, error: BaseException) -> type[errors.DatabaseError]:
        """Which of our errors a driver's error means."""

    def sent_type(self, kind: OutputType) -> str:
        """The SQL type that answers of this kind travel in."""

    def sent_values(self, values: Sequence[Any], kind: OutputType) -> Listed:
        """A column of checked answers as the driver sends them in `sent_type`, or of what was answered in that type."""

    def bind_columns(self, columns: Mapping[str, tuple[Listed, str]]) -> dict[str, Any]:
        """The parameters that carry columns of equal length, each with the SQL type that it travels in."""

    def output_type(self, sql_type: str, category: str, element: str | None, oid: int = 0) -> OutputType:
        """How answers for a column of this type are checked and sent."""

    def file_type(self, sql_type: str) -> str:
        """The type of a column of this type in a file of typed columns, as Arrow names it; what it lacks is a string.

        Its decimals have a precision and a scale, and need not hold every value of a type without them.
        """

    def argument_type(self, sql_type: str, column_type: str | None) -> str:
        """The type of an argument of a function that calls a service.

        Args:
            sql_type: the input's, as the server parses it.
            column_type: with length and precision where the input is a column, else None.
        """

    def answer_type(self, name: str, cast_type: str, *, document: bool) -> str | None:
        """What a function that calls a service returns for an output of this type; None where Aurora forbids it.

        Args:
            name: the output's type as the server calls it.
            cast_type: the same without length or precision.
            document: whether it takes the answer out of a document instead of returning what the service gave.
        """


def decimal_type(sql_type: str) -> str:
    """`numeric(10,2)` as Arrow has it; without a precision 20 digits before the point and 18 after it."""
    found = re.search(r"\((\d+)(?:,\s*(\d+))?\)", sql_type)
    precision, scale = (int(found[1]), int(found[2] or 0)) if found else (38, 18)
    if not 0 < precision <= 76 or scale > precision:
        precision, scale = 38, 18
    return f"decimal{128 if precision <= 38 else 256}({precision}, {scale})"


def bare_type(sql_type: str) -> str:
    """`numeric(10,2)` as `numeric`, `timestamp(3) with time zone` as `timestamp with time zone`."""
    before, _, rest = sql_type.partition("(")
    return (before + rest.partition(")")[2]).strip()


def seconds(setting: str | int) -> float:
    """`50ms`, `2s` or a plain number of milliseconds, in seconds."""
    text = str(setting)
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    return float(text[:-1]) if text.endswith("s") else float(text) / 1000
