"""Columns of values as arrays of the element type that a model declares, exactly or not at all; it knows no model.

A value that does not fit is one row's fault: it is named by its input, and the other rows go on. NULL is NaN among
floats. Whole numbers and booleans are never rounded, cut or wrapped around to make them fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from worker.columns import Column, Numbers
from worker.kinds.encoding import Encoding
from worker.models.csvformat import plain_text

Array = NDArray[Any]
Type = np.dtype[Any]
Faults = dict[int, str]
"""What is wrong with rows, by their places."""

_NUMBER_TYPES = {float, int, bool, Decimal, type(None)}
_LONGEST = 40  # characters of a value that people are shown


class _MisfitError(ValueError):
    """A value does not fit; the message says why."""


@dataclass(frozen=True, slots=True)
class Typed:
    """One input's values as an array with a row for each; rows with a fault hold anything.

    Attributes:
        values: of shape [n], or [n, k] where each value is a list of k.
    """

    values: Array
    faults: Faults


def column(name: str, data: Column, dtype: Type, encoding: Encoding, width: int | None = None) -> Typed:
    """The values of one input in that element type; texts are objects.

    Args:
        width: how many a value that is a list has to have; None: as many as the longest has.
    """
    if isinstance(data, Numbers) and (made := _numbers(data, dtype, encoding)) is not None:
        return Typed(made, {})
    values = data.tolist()
    kinds = set(map(type, values))
    if list in kinds or tuple in kinds:
        return _lists(name, values, dtype, encoding, width)
    found = _at_once(values, kinds, dtype, encoding)
    return Typed(found, {}) if found is not None else _one_by_one(name, values, dtype, encoding)


def _numbers(data: Numbers, dtype: Type, encoding: Encoding) -> Array | None:
    """The same for numbers that came as an array."""
    kind = data.values.dtype.kind
    worded = kind == "b" and encoding.booleans is not None
    if worded or (data.nulls is not None and (dtype.kind != "f" or encoding.null is not None)):
        return None
    if dtype.kind == "f":
        return _finite(data.numbers(np.float64), dtype)
    return _in_range(data.values, dtype) if dtype.kind in "iu" and kind in "iub" else None


def _at_once(values: Sequence[Any], kinds: set[type], dtype: Type, encoding: Encoding) -> Array | None:
    """The usual columns; None where they are of other types or a value does not fit, so that each has to be looked at.

    5,000 floats take 0.1 ms, one by one 9 ms.
    """
    if (bool in kinds and encoding.booleans is not None) or (
        type(None) in kinds and encoding.null is not None
    ):
        return None
    try:
        if dtype.kind == "O" and kinds == {str}:
            "".join(values).encode()
            return _objects(values)
        if dtype.kind in "iu" and kinds <= {int, bool}:
            return _in_range(np.array(values, np.int64), dtype)
        if dtype.kind == "f" and kinds <= _NUMBER_TYPES:
            return _finite(np.array(values, np.float64), dtype)
    except (OverflowError, TypeError, ValueError):
        return None
    return None


def _objects(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), np.object_)
    found[:] = values
    return found


def _in_range(wide: Array, dtype: Type) -> Array | None:
    limits = np.iinfo(dtype)
    fits = not len(wide) or (limits.min <= int(wide.min()) and int(wide.max()) <= limits.max)
    return wide.astype(dtype) if fits else None


def _finite(wide: Array, dtype: Type) -> Array | None:
    with np.errstate(over="ignore"):
        found = wide.astype(dtype)
    return None if np.isinf(found).any() else found


def _one_by_one(name: str, values: Sequence[Any], dtype: Type, encoding: Encoding) -> Typed:
    read = _reader(dtype, encoding)
    array, faults = np.full(len(values), _nothing(dtype), dtype), {}
    for place, value in enumerate(values):
        try:
            array[place] = read(value)
        except _MisfitError as error:
            faults[place] = f"input {name}: {error}"
    return Typed(array, faults)


def _lists(name: str, values: Sequence[Any], dtype: Type, encoding: Encoding, width: int | None) -> Typed:
    """Values that are lists themselves, as an embedding is."""
    read = _reader(dtype, encoding)
    asked = width or max(len(value) for value in values if isinstance(value, (list, tuple)))
    array, faults = np.full((len(values), asked), _nothing(dtype), dtype), {}
    for place, value in enumerate(values):
        try:
            for number, item in enumerate(_items(value, asked)):
                array[place, number] = read(item)
        except _MisfitError as error:
            faults[place] = f"input {name}: {error}"
    return Typed(array, faults)


def _items(value: Any, asked: int) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise _MisfitError(f"{_shown(value)} where a list of {asked} belongs")
    if len(value) != asked:
        raise _MisfitError(f"a list of {len(value)} where one of {asked} belongs")
    return value


def _nothing(dtype: Type) -> Any:
    return "" if dtype.kind == "O" else 0


def _reader(dtype: Type, encoding: Encoding) -> Callable[[Any], Any]:
    """What reads one value for that element type."""
    if dtype.kind == "O":
        false, true = encoding.booleans or (0, 1)
        words = str(false), str(true)
        return lambda value: _text(value, words, encoding.null)
    number: Callable[[Any, Type], Any] = {"f": _float, "b": _boolean}.get(dtype.kind, _whole)

    def read(value: Any) -> Any:
        if value is None:
            value = encoding.null if encoding.null is not None else _null(dtype)
        if isinstance(value, bool) and dtype.kind != "b" and encoding.booleans is not None:
            value = encoding.booleans[value]
        return number(value, dtype)

    return read


def _null(dtype: Type) -> float:
    if dtype.kind == "f":
        return float("nan")
    raise _MisfitError(f"it is NULL, which {dtype.name} cannot be; give it a `default`")


def _float(value: Any, dtype: Type) -> Any:
    if not isinstance(value, (int, float, Decimal)):
        raise _MisfitError(f"{_shown(value)} is no number, and the model takes {dtype.name}")
    try:
        wide = float(value)
    except OverflowError:  # of a whole number
        wide = float("inf")
    with np.errstate(over="ignore"):
        found = dtype.type(wide)
    if np.isinf(found) and value not in (float("inf"), float("-inf")):
        raise _MisfitError(f"{_shown(value)} is out of the range of {dtype.name}")
    return found


def _whole(value: Any, dtype: Type) -> int:
    found = None
    if isinstance(value, (int, float, Decimal)):
        try:
            found = int(value)
        except (OverflowError, ValueError):  # infinities and NaN
            found = None
    if found is None or found != value:
        raise _MisfitError(f"{_shown(value)} is no whole number, and the model takes {dtype.name}")
    limits = np.iinfo(dtype)
    if not limits.min <= found <= limits.max:
        raise _MisfitError(f"{_shown(value)} is out of the range of {dtype.name}")
    return found


def _boolean(value: Any, dtype: Type) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise _MisfitError(f"{_shown(value)} is no boolean, and the model takes {dtype.name}")


def _text(value: Any, words: tuple[str, str], null: str | float | None) -> str:
    if value is None:
        if null is None:
            raise _MisfitError("it is NULL, which a text cannot be; give it a `default`")
        return str(null)
    if isinstance(value, bool):
        return words[value]
    text = value if isinstance(value, str) else plain_text(value)
    if text is None:
        raise _MisfitError(f"a value of type {type(value).__name__}, and the model takes texts")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _MisfitError("a text that is not valid Unicode") from None
    return text


def _shown(value: Any) -> str:
    """The beginning of a value, for people."""
    text = str(value) if isinstance(value, (date, time, timedelta, UUID, Decimal)) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
