"""Finds each row's answer in a parsed reply, whatever shape models give it; it reads no bytes and converts nothing.

An answer is a value (one output), an object by the outputs' names, or a list in their order. Values that do not fit
stay as they are: `worker.answers` says for each row what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from worker.errors import RowFaultError
from worker.models.protocol import Answer

_EXACT = re.compile(r"(numeric|decimal|dec|fixed)\b", re.IGNORECASE)
_WHOLE = re.compile(r"jsonb?\b", re.IGNORECASE)
_LISTS = re.compile(r"(jsonb?|vector|halfvec|sparsevec)\b|.*\[\d*\]$", re.IGNORECASE)


class Outputs:
    """The outputs that answers are for.

    Args:
        types: the outputs' SQL types by name, in order.

    Attributes:
        exact: whether an output holds all digits of a number, which a float does not.
    """

    def __init__(self, types: Mapping[str, str]) -> None:
        self.names = tuple(types)
        self.exact = any(map(is_exact, types.values()))
        self._types = tuple(types.values())
        self._single = self.names[0] if len(types) == 1 else None
        self._whole = self._single is not None and bool(_WHOLE.match(self._types[0]))

    def of_rows(self, items: Any, expected: int, what: str) -> list[Answer]:
        """The answers in a list with one item a row, or in an object with such a list for each output.

        Args:
            items: what was read.
            expected: how many rows were sent.
            what: where it was found, for messages.

        Raises:
            RowFaultError: it is neither, or not as long as the rows.
        """
        if isinstance(items, dict) and all(isinstance(items.get(name), list) for name in self.names):
            lists = [counted(items[name], expected, f"{what}.{name}") for name in self.names]
            return [self.of_values(values) for values in zip(*lists, strict=True)]
        return [self.of_item(item) for item in counted(items, expected, what)]

    def of_item(self, item: Any) -> Answer:
        """One row's answer."""
        if self._single is None:
            if isinstance(item, dict):
                return (
                    self.of_values([item[name] for name in self.names])
                    if all(name in item for name in self.names)
                    else (item,)
                )
            return self.of_values(item) if isinstance(item, list) else (item,)
        if isinstance(item, dict) and self._single in item and not (self._whole and len(item) > 1):
            item = item[self._single]
        return self.of_values([item])

    def of_values(self, values: Sequence[Any]) -> Answer:
        """A value for each output: lists of one for what is no list, and floats for what does not hold all digits."""
        if len(values) != len(self._types):
            return tuple(values)
        return tuple(_fitted(value, type_) for value, type_ in zip(values, self._types, strict=True))


def is_exact(sql_type: str) -> bool:
    """Whether a type of that name holds all digits of a number."""
    return bool(_EXACT.match(sql_type))


def is_list(sql_type: str) -> bool:
    """Whether a value of that type may be a list."""
    return bool(_LISTS.match(sql_type))


def is_whole(sql_type: str) -> bool:
    """Whether a value of that type may be an object: json, jsonb."""
    return bool(_WHOLE.match(sql_type))


def counted(items: Any, expected: int, what: str) -> list[Any]:
    """A list that is as long as the rows.

    Raises:
        RowFaultError: it is not.
    """
    if not isinstance(items, list):
        raise RowFaultError(f"{what} has no list with an answer for each row")
    if len(items) != expected:
        raise RowFaultError(f"{what} has {len(items)} answers where {expected} rows were sent")
    return items


def _fitted(value: Any, sql_type: str) -> Any:
    kind = type(value)
    if kind is float or kind is str:
        return value
    if kind is list and len(value) == 1 and not is_list(sql_type):  # [[0.1], [0.2]]: one column of a matrix
        value = value[0]
    return value if is_exact(sql_type) else _with_floats(value)


def _with_floats(value: Any) -> Any:
    """Decimals, which are there where another output is exact, as floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_with_floats(item) for item in value] if not _plain(value) else value
    if isinstance(value, dict):
        return {name: _with_floats(item) for name, item in value.items()}
    return value


def _plain(values: list[Any]) -> bool:
    return set(map(type, values)) <= {float, int, str, bool, type(None)}
