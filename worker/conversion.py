"""Converts one raw answer to its output's type, or says for people why it cannot; it knows no rows."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from itertools import chain
from typing import Any
from uuid import UUID

import numpy as np

_TRUTHS = dict.fromkeys(("true", "t", "yes", "1"), True) | dict.fromkeys(("false", "f", "no", "0"), False)
_INTEGER_BITS = {
    "tinyint": 8,
    "smallint": 16,
    "int2": 16,
    "mediumint": 24,
    "integer": 32,
    "int": 32,
    "int4": 32,
}
_LONGEST_NUMERIC = 131_072  # digits before the point in PostgreSQL's numeric; MySQL's decimal has 65
_MOST_DIMENSIONS = 6  # of PostgreSQL's arrays
_LONGEST_VECTOR = 16_000  # numbers in pgvector's types
_BINARY = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")  # MySQL's types of bytes
_LISTS = {list, tuple, np.ndarray}


class OutputKind(StrEnum):
    """What an answer must be, whatever the database calls the type."""

    FLOAT = "float"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"
    NUMERIC = "numeric"
    JSON = "json"
    ARRAY = "array"
    VECTOR = "vector"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class OutputType:
    """The type of an output column.

    Attributes:
        kind: what an answer must be.
        element: what an array's elements must be; None for every other kind.
        name: the SQL type's name (`smallint`, `vector(384)`), which decides ranges and dimensions.
        oid: its number in the server's catalogue, where answers travel in the type's own binary form.
    """

    kind: OutputKind
    element: OutputKind | None = None
    name: str = ""
    oid: int = 0


class AnswerError(ValueError):
    """An answer is not what its output's type asks for; the message is for people and names no column."""


def convert(raw: Any, output: OutputType) -> Any:
    """One raw answer (a CSV field, a Python or numpy value) as the value to write; None is NULL.

    An empty field is NULL, except for text, where it is the empty text. JSON comes back as the parsed object,
    arrays and vectors as lists (of lists of equal lengths, where an array has more dimensions), numeric as
    Decimal; a type of kind other is passed to the database as text, bytes for a bytea as their digits.

    Raises:
        AnswerError: the answer does not fit the type.
    """
    if isinstance(raw, np.generic):
        raw = raw.item()
    if raw is None:
        return None
    if isinstance(raw, str) and output.kind is not OutputKind.TEXT:
        raw = raw.strip()
        if not raw:
            return None
    return _CONVERTERS[output.kind](raw, output)


def shown(raw: Any) -> str:
    """The answer for a message: never longer than a line."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    try:
        return short.repr(raw)
    except ValueError:  # an integer of more digits than Python prints
        return f"a value of type {type(raw).__name__}"


def _unexpected(expected: str, raw: Any) -> AnswerError:
    return AnswerError(f"expected {expected}, the model answered {shown(raw)}")


def _decimal(raw: Any, expected: str) -> Decimal:
    """The exact number the answer stands for: text is never read as a float, a float counts as it prints."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, Decimal, str)):
        raise _unexpected(expected, raw)
    if isinstance(raw, str) and ("_" in raw or not raw.isascii()):  # Python would read 1_0 as 10
        raise _unexpected(expected, raw)
    try:
        number = Decimal(repr(raw) if isinstance(raw, float) else raw)
    except InvalidOperation:
        raise _unexpected(expected, raw) from None
    if not number.is_finite():
        raise AnswerError(f"the model answered {shown(raw)}, which is not a finite number")
    return number


def _float(raw: Any, _output: OutputType) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, Decimal, str)):
        raise _unexpected("a number", raw)
    if isinstance(raw, str) and ("_" in raw or not raw.isascii()):
        raise _unexpected("a number", raw)
    try:
        number = float(raw)
    except OverflowError:
        raise _unexpected("a number that fits a double", raw) from None
    except ValueError:
        raise _unexpected("a number", raw) from None
    if not math.isfinite(number):
        raise AnswerError(f"the model answered {shown(raw)}, which is not a finite number")
    return number


def _integer(raw: Any, output: OutputType) -> int:
    lowest, highest = _integer_range(output.name)
    plain = _plain_integer(raw)
    value = _whole(_decimal(raw, "an integer"), raw) if plain is None else plain
    if not lowest <= value <= highest:
        raise _unexpected(f"an integer from {lowest} to {highest}", raw)
    return value


def _plain_integer(raw: Any) -> int | None:
    """The fast path: an int, or digits."""
    if type(raw) is int:
        return raw
    if isinstance(raw, str) and len(raw) < 20 and raw.isascii() and raw.isdigit():
        return int(raw)
    return None


def _whole(number: Decimal, raw: Any) -> int:
    # The exponent is looked at before the value is expanded: 1e999999999 would fill the memory.
    value = int(number) if number.adjusted() <= 20 else None
    if value is None or value != number:
        raise _unexpected("an integer", raw)
    return value


@lru_cache
def _integer_range(name: str) -> tuple[int, int]:
    words = re.split(r"[\s(\[]+", name.lower())
    bits = _INTEGER_BITS.get(words[0], 64)
    return (0, (1 << bits) - 1) if "unsigned" in words else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _boolean(raw: Any, _output: OutputType) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int) and raw in (0, 1):
        return raw == 1
    if isinstance(raw, str) and raw.lower() in _TRUTHS:
        return _TRUTHS[raw.lower()]
    # A float is refused even when it is 1.0: it is a probability that happens to be certain.
    raise _unexpected("true or false", raw)


def _text(raw: Any, _output: OutputType) -> str:
    if not isinstance(raw, str):
        raise _unexpected("text", raw)
    return _encodable(raw)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise AnswerError(f"the model answered {shown(text)}, which is not valid Unicode") from None
    return text


def _numeric(raw: Any, _output: OutputType) -> Decimal:
    number = _decimal(raw, "a number")
    if abs(number.adjusted()) > _LONGEST_NUMERIC:
        raise _unexpected("a number that fits a numeric column", raw)
    return number


def _json(raw: Any, _output: OutputType) -> Any:
    """Text is parsed; an object goes through text once, so that tuples and numpy values become plain JSON."""
    if isinstance(raw, str):
        return _parsed(raw, "JSON")
    try:
        return json.loads(json.dumps(raw, allow_nan=False, default=_plain))
    except (TypeError, ValueError, RecursionError):
        raise _unexpected("JSON", raw) from None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError


def _parsed(text: str, expected: str) -> Any:
    def refused(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(text, parse_constant=refused)  # NaN and Infinity are not JSON
    except (ValueError, RecursionError):
        raise _unexpected(expected, text) from None


def _array(raw: Any, output: OutputType) -> list[Any]:
    element = OutputType(output.element or OutputKind.OTHER, name=output.name)
    values = _list(raw, "a list")
    if element.kind in (OutputKind.JSON, OutputKind.VECTOR):  # whose own values are lists
        return _elements(values, element)
    return _dimension(values, element, 1)


def _dimension(values: Sequence[Any], element: OutputType, number: int) -> list[Any]:
    """Elements, or lists of one shape: the databases know no others."""
    if _LISTS.isdisjoint(map(type, values)):
        return _elements(values, element)
    if number == _MOST_DIMENSIONS:
        raise AnswerError(f"expected at most {_MOST_DIMENSIONS} dimensions")
    lists = _each(values, lambda value: _dimension(_inner(value), element, number + 1))
    shape = _shape(lists[0])
    for position, each in enumerate(lists, 1):
        if _shape(each) != shape:
            raise AnswerError(f"element {position} has other lengths than element 1: {_shape(each)}, {shape}")
    return lists if lists[0] else []  # an array without elements has no dimensions


def _inner(value: Any) -> Sequence[Any]:
    if type(value) not in _LISTS:
        raise AnswerError("it is no list, where others are")
    return _list(value, "a list")


def _shape(values: list[Any]) -> list[int]:
    """The lengths of lists that have one shape each."""
    return [len(values), *(_shape(values[0]) if values and isinstance(values[0], list) else [])]


def _vector(raw: Any, output: OutputType) -> list[float]:
    values = _elements(_list(raw, "a list of numbers"), OutputType(OutputKind.FLOAT))
    if None in values:
        raise AnswerError(f"element {values.index(None) + 1} is NULL, which a vector cannot hold")
    size = _vector_size(output.name)
    if size and len(values) != size:
        raise AnswerError(f"expected {size} numbers, the model answered {len(values)}")
    if not 0 < len(values) <= _LONGEST_VECTOR:
        raise AnswerError(f"expected 1 to {_LONGEST_VECTOR} numbers, the model answered {len(values)}")
    return values


@lru_cache
def _vector_size(name: str) -> int | None:
    size = re.search(r"\((\d+)\)", name)
    return int(size[1]) if size else None


def are_vectors(values: Sequence[Any], output: OutputType) -> bool:
    """Whether all are lists of as many finite floats as belong there, which need no conversion: 3 µs for 64 numbers."""
    if set(map(type, values)) != {list} or len(sizes := set(map(len, values))) != 1:
        return False
    (size,) = sizes
    wanted = _vector_size(output.name)
    if not 0 < size <= _LONGEST_VECTOR or (wanted and size != wanted):
        return False
    return set(map(type, chain.from_iterable(values))) == {float} and bool(
        np.isfinite(np.array(values)).all()
    )


def _list(raw: Any, expected: str) -> Sequence[Any]:
    values = _parsed(raw, expected) if isinstance(raw, str) else raw
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(values, (list, tuple)):
        raise _unexpected(expected, raw)
    return values


def _elements(values: Sequence[Any], element: OutputType) -> list[Any]:
    floats = element.kind is OutputKind.FLOAT and set(map(type, values)) == {float}
    if floats and all(map(math.isfinite, values)):
        return list(values)  # an embedding of 384 numbers takes 23 microseconds
    return _each(values, lambda value: convert(value, element))


def _each(values: Sequence[Any], change: Callable[[Any], Any]) -> list[Any]:
    """All values changed; an error says which one it was."""
    changed = []
    for position, value in enumerate(values, 1):
        try:
            changed.append(change(value))
        except AnswerError as error:
            raise AnswerError(f"element {position}: {error}") from None
    return changed


def clock(span: timedelta) -> str:
    """Hours, which may be many or fewer than none, as MySQL's type time has them."""
    microseconds = abs(span) // timedelta(microseconds=1)
    seconds, rest = divmod(microseconds, 1_000_000)
    sign = "-" if span < timedelta() else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:06}"


def _other(raw: Any, output: OutputType) -> Any:
    if isinstance(raw, (bytes, bytearray, memoryview)):
        if output.name.startswith("bytea"):
            return "\\x" + raw.hex()
        if output.name.startswith(_BINARY):
            return bytes(raw)
    if isinstance(raw, timedelta) and re.fullmatch(r"time(\(\d\))?", output.name):
        return clock(raw)
    if not isinstance(raw, (str, int, float, Decimal, date, time, timedelta, UUID)):
        raise _unexpected("text", raw)
    return _encodable(raw) if isinstance(raw, str) else str(raw)


_CONVERTERS: dict[OutputKind, Callable[[Any, OutputType], Any]] = {
    OutputKind.FLOAT: _float,
    OutputKind.INTEGER: _integer,
    OutputKind.BOOLEAN: _boolean,
    OutputKind.TEXT: _text,
    OutputKind.NUMERIC: _numeric,
    OutputKind.JSON: _json,
    OutputKind.ARRAY: _array,
    OutputKind.VECTOR: _vector,
    OutputKind.OTHER: _other,
}
