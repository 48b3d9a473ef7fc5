"""Numbers as people read them: thousands separated, durations and rates in the unit that fits; no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "unknown"
_STEPS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def count(number: float | None) -> str:
    """`1234567` as `1,234,567`; fractions are rounded away."""
    return UNKNOWN if number is None else f"{round(number):,}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `2 rows`, `1,200 batches`."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float | None) -> str:
    """In the unit that fits: `65 ms`, `1.3 s`, `12 s`, `4 min 5 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None or math.isnan(seconds) or math.isinf(seconds):
        return UNKNOWN
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 0.0095:
        return f"{sign}{seconds * 1000:.1f} ms" if seconds else "0 s"
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{sign}{seconds:.1f} s"
    if seconds < 59.5:
        return f"{sign}{seconds:.0f} s"
    return sign + _long(round(seconds))


def _long(seconds: int) -> str:
    """A minute and more, in the two largest units."""
    units = [(int(size), name) for size, name in _STEPS] + [(1, "s")]
    place = next(index for index, (size, _) in enumerate(units) if seconds >= size)
    (size, name), (next_size, next_name) = units[place : place + 2]
    whole, rest = divmod(seconds, size)
    return f"{whole} {name}" + (f" {rest // next_size} {next_name}" if rest >= next_size else "")


def rate(rows: float, seconds: float | None, unit: str = "rows") -> str:
    """`12,300 rows/s`, `4.2 rows/s`, with three digits that say something; unknown over no time at all."""
    if not seconds or seconds <= 0:
        return UNKNOWN
    each = rows / seconds
    if 0 < each < 9.95:
        return f"{each:.1f} {unit}/s"
    return f"{count(float(f'{each:.3g}'))} {unit}/s"


def percent(part: float, whole: float | None) -> str:
    """`45 %`, never 100 before the whole is there."""
    if not whole:
        return UNKNOWN
    share = 100 * part / whole
    return f"{min(share, 99.9):.1f} %" if part < whole and share > 99 else f"{share:.0f} %"


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """The rows as lines with two spaces between columns; those numbered in `right` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
