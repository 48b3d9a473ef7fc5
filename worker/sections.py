"""What the tables of rowscore.toml are made of: their base class, and the values that many of them hold."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = timedelta(days=36_500)
_WHOLE = ((86400, "d"), (3600, "h"), (60, "m"))
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(value: Any) -> timedelta:
    """`"500ms"`, `"30s"`, `"1.5h"`, `"30d"` as a timedelta; a bare number is refused because its unit is a guess."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f'expected a duration such as "500ms", "30s" or "2h", not {value!r}')
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"a duration is at most {_LONGEST.days}d, not {value!r}")
    duration = timedelta(seconds=seconds)
    if duration <= timedelta(0):
        raise ValueError("a duration must be longer than zero")
    return duration


def duration_text(duration: timedelta) -> str:
    """A duration as the file writes it: `500ms`, `30s`, `5m`, `2h`."""
    seconds, microseconds = divmod(duration // timedelta(microseconds=1), 1_000_000)
    if microseconds:
        return f"{seconds * 1000 + microseconds / 1000:.3f}".rstrip("0").rstrip(".") + "ms"
    size, unit = next(((size, unit) for size, unit in _WHOLE if seconds % size == 0), (1, "s"))
    return f"{seconds // size}{unit}"


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Section(BaseModel):
    """A table of the file: frozen, and strict about keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
