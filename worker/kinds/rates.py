"""Rates of calling: so many requests, rows or tokens in a second, minute, hour or day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_RATE = re.compile(r"(\d[\d_,]*)\s*(requests|rows|tokens)\s*/\s*(s|m|h|d)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many of a unit in so many seconds; `text` is what was written."""

    amount: int
    unit: str
    seconds: float
    text: str

    def __str__(self) -> str:
        return self.text


def parse_rates(value: Any) -> tuple[Rate, ...]:
    """`"50 requests/s"`, or a list of such: all of them hold.

    Raises:
        ValueError: one is none.
    """
    items = [value] if isinstance(value, str) else value
    if isinstance(items, (list, tuple)):
        return tuple(item if isinstance(item, Rate) else _parsed(item) for item in items)
    raise _unexpected(value)


def _parsed(value: Any) -> Rate:
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    amount = int(re.sub("[_,]", "", match[1])) if match else 0
    if match is None or amount < 1:
        raise _unexpected(value)
    return Rate(amount, match[2], _SECONDS[match[3]], value.strip())


def _unexpected(value: Any) -> ValueError:
    return ValueError(
        f'expected requests, rows or tokens in a time, such as "50 requests/s" or "1000000 tokens/m", not {value!r}'
    )
