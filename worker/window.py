"""The hours in which work may be done, such as `22:00-06:00 Europe/Berlin`; pure, the clock is handed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

_WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})(?:\s+(\S+))?")
_DAYS = 3  # looked ahead; a window opens every day


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to `end` by the clocks of a zone, the latter left out; past midnight where it is the earlier one."""

    start: time
    end: time
    zone: tzinfo

    def contains(self, moment: datetime) -> bool:
        """Whether work may be done at that moment, which has a zone of its own."""
        clock = moment.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= clock < self.end
        return clock >= self.start or clock < self.end

    def opens_in(self, moment: datetime) -> float:
        """Seconds until it opens, 0 while it is open; clocks that go back or forward are counted as they will."""
        if self.contains(moment):
            return 0.0
        today = moment.astimezone(self.zone).date()
        days = (today + timedelta(days=ahead) for ahead in range(_DAYS))
        openings = (
            datetime.combine(day, self.start, self.zone).replace(fold=fold).astimezone(UTC)
            for day in days
            for fold in (0, 1)
        )
        return min((opening - moment).total_seconds() for opening in openings if opening > moment)


def parse_window(text: str) -> Window:
    """The window that the text says; in UTC where it names no zone.

    Raises:
        ValueError: what was expected.
    """
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'expected hours such as "22:00-06:00" or "22:00-06:00 Europe/Berlin", not {text!r}')
    start, end = _clock(match[1], match[2]), _clock(match[3], match[4])
    if start == end:
        raise ValueError(f"{text!r} begins where it ends; leave it out for all day")
    return Window(start, end, UTC if match[5] is None else _zone(match[5]))


def _clock(hours: str, minutes: str) -> time:
    if (hours, minutes) == ("24", "00"):
        return time(0)
    try:
        return time(int(hours), int(minutes))
    except ValueError as error:
        raise ValueError(f"{hours}:{minutes} is no time of day") from error


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise ValueError(f"there is no time zone {name!r}, such as Europe/Berlin") from error
