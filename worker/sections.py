"""What the tables of rowscore.toml are made of: their base class, and the values that many of them hold."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = timedelta(days=36_500)
_WHOLE = ((86400, "d"), (3600, "h"), (60, "m"))
_IDENTIFIER_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
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


def split_name(text: str) -> tuple[str | None, str]:
    """`schema.table`, `table` or `"My Schema"."My Table"` as (schema or None, table)."""
    parts = [(quoted or bare).replace('""', '"') for quoted, bare in _IDENTIFIER_PART.findall(text)]
    rebuilt = ".".join(match.group(0) for match in _IDENTIFIER_PART.finditer(text))
    if rebuilt != text or len(parts) not in (1, 2) or not all(part.strip() for part in parts):
        raise ValueError(f'expected table, schema.table or "Schema"."Table", not {text!r}')
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def _checked_name(text: str) -> str:
    split_name(text)
    return text


def checked_identifier(text: str) -> str:
    """A column's name that every database takes; ValueError otherwise."""
    if not text or "\x00" in text:
        raise ValueError("expected a column name")
    if len(text.encode()) > 63:
        raise ValueError(f"{text!r} is longer than the 63 bytes of an identifier")
    return text


def named_like(pattern: str, example: str) -> AfterValidator:
    """Texts that match a pattern; `example` is what the error shows."""

    def checked(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected a name such as {example!r}, not {text!r}")
        return text

    return AfterValidator(checked)


TableName = Annotated[str, AfterValidator(_checked_name)]
Identifier = Annotated[str, AfterValidator(checked_identifier)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Section(BaseModel):
    """A table of the file: frozen, and strict about keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
