"""Values as JSON, and JSON read strictly (RFC 8259, UTF-8); it knows no protocols, and converts no answers.

How values are written: NULL as null; booleans as true and false; floats so that they read back as the same double;
decimals digit by digit, with no float in between; dates and times in ISO 8601; intervals in seconds; arrays and objects
as they are. The section `encoding` may say otherwise of NULL, booleans and decimals. NaN and Infinity are no JSON.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np

from worker.errors import RowFaultError, RowRejectedError
from worker.kinds.encoding import Encoding
from worker.models.protocol import Batch

CONTENT_TYPE = "application/json"
USUAL = Encoding()
_CHARSETS = {None, "utf-8", "utf8", "us-ascii", "ascii"}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_text = json.encoder.encode_basestring  # in C, quotes included, and letters beyond ASCII as they are


class _UnfitError(ValueError):
    """A value has no place in JSON; the message is for people and names no input."""


def columns(batch: Batch, encoding: Encoding = USUAL) -> list[list[str]]:
    """The batch turned on its side: for each input the JSON text of each row's value.

    It takes as long as the same rows in CSV; only columns whose values are of several types are looked at one by one.

    Raises:
        RowRejectedError: a value has no place in JSON (NaN, Infinity, bytes); it names the input.
    """
    if not batch.rows:
        return [[] for _ in batch.names]
    style = _style(encoding)
    turned = zip(*batch.rows, strict=True)
    return [_column(name, values, style) for name, values in zip(batch.names, turned, strict=True)]


def named_columns(batch: Batch, names: Container[str], encoding: Encoding = USUAL) -> dict[str, list[str]]:
    """`columns` of the inputs of these names alone, by their names: the others need not fit into JSON."""
    places = [place for place, name in enumerate(batch.names) if name in names]
    own = tuple(batch.names[place] for place in places)
    named = Batch(own, [tuple(row[place] for place in places) for row in batch.rows])
    return dict(zip(own, columns(named, encoding), strict=True))


def encoded(text: str) -> bytes:
    """JSON text in UTF-8.

    Raises:
        RowRejectedError: it holds half of a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise RowRejectedError(f"a text is not valid Unicode: {error.reason}", sent=False) from None


def parse(content: bytes, charset: str | None = None, *, exact: bool = False) -> Any:
    """The value of a JSON document.

    Args:
        content: the document.
        charset: what the answer declares; only UTF-8 and its subset ASCII are taken.
        exact: numbers with a point or an exponent become Decimals, for columns that hold all digits; otherwise floats.

    Raises:
        RowFaultError: the charset is another one, or it is not JSON: not UTF-8, cut short, nested too deep, with a name
            twice in one object, or with half of a surrogate pair. NaN and Infinity, which MLflow and Triton answer, are
            read, so that their rows alone fail.
    """
    if (charset.lower() if charset else None) not in _CHARSETS:
        raise RowFaultError(f"the model answered in the charset {charset}; UTF-8 is expected")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"byte {error.start} of {len(content)}"
        raise RowFaultError(f"the model's answer is not UTF-8 ({place})") from None
    return parse_text(text, exact=exact)


def parse_text(text: str, *, exact: bool = False) -> Any:
    """`parse` for what is text already."""
    try:
        value = _read_exactly(text) if exact else _read(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise RowFaultError("the model's answer has half of a surrogate pair in a text") from None
    except RecursionError:
        raise RowFaultError("the model's answer is nested too deep") from None
    except ValueError as error:
        raise RowFaultError(f"the model's answer is not JSON: {error}") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:60]!r} is there twice in one object")
    return found


_read = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=float).decode
_read_exactly = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=float, parse_float=Decimal).decode


@dataclass(frozen=True, slots=True)
class _Style:
    """How the values of one encoding are written."""

    null: str
    by_type: Mapping[type, Callable[[Any], str]]


@cache
def _style(encoding: Encoding) -> _Style:
    by_type = dict(_PLAIN)
    if encoding.booleans is not None:
        false, true = map(json.dumps, encoding.booleans)
        by_type[bool] = {False: false, True: true}.__getitem__
    if encoding.decimals == "text":
        by_type[Decimal] = lambda value: f'"{_decimal(value)}"'
    null = "null" if encoding.null is None else json.dumps(encoding.null, ensure_ascii=False)
    return _Style(null, by_type)


def _column(name: str, values: Sequence[Any], style: _Style) -> list[str]:
    """The texts of one column; the usual columns, of one plain type and NULL, in a single pass."""
    kinds = set(map(type, values)) - {type(None)}
    write = style.by_type.get(next(iter(kinds))) if len(kinds) == 1 else None
    try:
        if write is None:
            return [_value(value, style) for value in values]
        if kinds == {float} and None not in values and math.isfinite(sum(values)):  # so each of them is, too
            return list(map(float.__repr__, values))
        if None in values:
            return [style.null if value is None else write(value) for value in values]
        return list(map(write, values))
    except _UnfitError as error:
        raise RowRejectedError(
            f"input {name}: {error}; leave the input out, or turn it into something else with "
            f'{{ name = "{name}", sql = "..." }}',
            sent=False,
        ) from None


def _value(value: Any, style: _Style) -> str:
    """One value, whatever its type; subclasses count as what they extend."""
    if value is None:
        return style.null
    if isinstance(value, (np.generic, np.ndarray)):
        return _value(value.tolist(), style)
    for kind, write in style.by_type.items():
        if isinstance(value, kind):
            return write(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_value(item, style) for item in value)}]"
    if isinstance(value, dict):
        pairs = (f"{_text(str(key))}:{_value(item, style)}" for key, item in value.items())
        return f"{{{','.join(pairs)}}}"
    raise _UnfitError(f"a value of type {type(value).__name__} cannot be sent as JSON")


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise _UnfitError(f"{value!r} is no number of JSON")
    return float.__repr__(value)


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _UnfitError(f"{value} is no number of JSON")
    return format(value, "f")


def _quoted(text: str) -> str:
    return f'"{text}"'


_PLAIN: dict[type, Callable[[Any], str]] = {  # bool before int and datetime before date: they extend them
    str: _text,
    bool: {True: "true", False: "false"}.__getitem__,
    int: int.__repr__,
    float: _float,
    Decimal: _decimal,
    datetime: lambda value: _quoted(value.isoformat()),
    date: lambda value: _quoted(value.isoformat()),
    time: lambda value: _quoted(value.isoformat()),
    timedelta: lambda value: repr(value.total_seconds()),
    UUID: lambda value: _quoted(str(value)),
}
