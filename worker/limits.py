"""What holds the work up: the section `throttle`, and whether what was read of a server exceeds it; it reads nothing.

After gh-ost (`throttle-query`, `max-load`, `nice-ratio`), GitLab's batched background migrations (vacuum on the table,
WAL that waits for its archive) and pt-online-schema-change (a lag that nobody knows is too long).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from worker.sections import Count, Duration, Section
from worker.window import parse_window

LOOK_AGAIN = 1.0  # seconds; signals are read no more often
LONGEST_REST = 30.0  # seconds until somebody looks again, however long the pause or the night still is
OTHERS_FOR = 10  # readings of the other sessions that count: a single one misses short statements
NICEST = 100  # times a batch's database time
LEAST_YIELD, LONGEST_YIELD = 1.0, 2.0  # of a batch's database time: half or a third of the pace is left
CAUGHT_UP = 1_000_000  # bytes; a standby as near as that, and idle, has no lag to report
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)", re.IGNORECASE)
_BYTES = {"b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}  # as PostgreSQL counts
_FIGURES = re.compile(r"\d[\d.,]*")
_LONGEST = 300  # characters of a reason of the user's


class Signal(StrEnum):
    """What may hold the work up, by the key of the section that sets its limit; and an operator."""

    PAUSE = "pause"
    BETWEEN = "between"
    REPLICA_LAG = "max_replica_lag"
    BLOCKED_SESSIONS = "max_blocked_sessions"
    ACTIVE_SESSIONS = "max_active_sessions"
    VACUUM = "avoid_vacuum"
    UNARCHIVED_WAL = "max_unarchived_wal"
    HISTORY_LIST = "max_history_list"
    QUERY = "query"


READ = tuple(signal for signal in Signal if signal not in (Signal.PAUSE, Signal.BETWEEN))  # from a server


def parse_size(value: Any) -> int:
    """`"512MB"` or `"1GB"` in bytes, units of 1024 as PostgreSQL's; a whole number is bytes already."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'expected a size such as "512MB" or "1GB", not {value!r}')
    return int(float(match[1]) * _BYTES[match[2].lower()])


def parse_nice(value: Any) -> Any:
    """A share of a batch's database time, or `"auto"`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value == "auto" or (is_number and 0 <= value <= NICEST):
        return value
    raise ValueError(f'expected "auto" or a number from 0 to {NICEST}, not {value!r}')


_off = BeforeValidator(lambda value: None if value is False else value)


def _is_off(limit: Any) -> bool:
    return limit is None or limit is False  # and not 0, which is a limit


class Throttle(Section):
    """The limits; `false` is none, where `[throttle]` or a default sets one."""

    max_replica_lag: Annotated[Duration | None, _off] = None
    replicas: tuple[str, ...] = ()
    max_blocked_sessions: Annotated[Annotated[int, Field(ge=0, strict=True)] | None, _off] = 10
    max_active_sessions: Annotated[Count | None, _off] = None
    avoid_vacuum: bool = False
    max_unarchived_wal: Annotated[Annotated[int, Field(gt=0), BeforeValidator(parse_size)] | None, _off] = (
        None
    )
    max_history_list: Annotated[Count | None, _off] = None
    query: Annotated[str | None, _off] = None
    between: Annotated[str | None, _off] = None
    nice: Annotated[float | Literal["auto"], BeforeValidator(parse_nice)] = "auto"

    @field_validator("between")
    @classmethod
    def _is_window(cls, value: str | None) -> str | None:
        if value is not None:
            parse_window(value)
        return value

    @field_validator("query")
    @classmethod
    def _is_statement(cls, value: str | None) -> str | None:
        if value is not None and not value.strip().rstrip(";").strip():
            raise ValueError('expected SQL, such as "SELECT count(*) > 100 FROM jobs"')
        return None if value is None else value.strip().rstrip(";").strip()

    def over(self, general: Throttle) -> Throttle:
        """These limits, and the general ones where these say nothing."""
        return general.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})

    @property
    def signals(self) -> tuple[Signal, ...]:
        """What has to be read of a server."""
        return tuple(signal for signal in READ if not _is_off(getattr(self, signal.value)))

    def asked_for(self, signal: Signal) -> bool:
        """Whether the file sets this limit, rather than a default."""
        return signal.value in self.model_fields_set


def yielded(others: Sequence[float]) -> float:
    """The rest after each batch of a run that is in no hurry, as a share of the batch's database time.

    A batch's length while anybody is seen at work, longer the more there are. Four clients of pgbench that kept half of
    two processors busy were at work in 4 of 10 looks; they kept 0.59 of their transactions beside two workers that
    never rested, 0.78 with a rest of 1, 0.83 with 2.

    Args:
        others: how many sessions of others worked, at each of the last looks.
    """
    return min(max(LEAST_YIELD, fmean(others)), LONGEST_YIELD) if any(others) else 0.0


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A signal that nobody could read, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the replica that is furthest behind is, in seconds."""

    seconds: float
    replica: str


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as a server describes it.

    Attributes:
        seconds: its lag; None where the server does not say.
        behind: bytes that it has not replayed; None where the server does not say.
    """

    name: str
    seconds: float | None
    behind: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """An operator's pause, in force now: why, and for how many seconds more; None: until it is taken back."""

    because: str | None
    left: float | None


Reading = float | Lag | Unreadable | str | bool | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether work may go on.

    Attributes:
        signal: what stands against it; None where nothing does.
        reason: the same in words, with the figures.
        retry_after: seconds after which it is worth looking again.
        warnings: signals that could not be read and so hold nothing up, each with the reason.
    """

    signal: Signal | None = None
    reason: str | None = None
    retry_after: float = LOOK_AGAIN
    warnings: tuple[tuple[Signal, str], ...] = ()

    def repeats(self, signal: str | None, reason: str | None) -> bool:
        """Whether it says what is on record already, but for the figures: these change every second."""
        return signal == self.signal and _FIGURES.sub("", reason or "") == _FIGURES.sub("", self.reason or "")


def judge(
    limits: Throttle, readings: Mapping[Signal, Reading], now: datetime, pause: Pause | None = None
) -> Verdict:
    """Whether the work has to wait: the first reason there is, people's before machines'.

    A lag that nobody could read holds it up; any other unreadable signal is a warning.

    Args:
        limits: the section.
        readings: what was read of each of its `signals`.
        now: with its zone, for the hours of work.
        pause: the operator's, if one is in force.
    """
    warnings = tuple(
        (signal, reading.why)
        for signal, reading in readings.items()
        if isinstance(reading, Unreadable) and signal is not Signal.REPLICA_LAG
    )
    if pause is not None:
        rest = LONGEST_REST if pause.left is None else pause.left
        return Verdict(Signal.PAUSE, pause_reason(pause), _rest(rest, 2 * LOOK_AGAIN), warnings)
    if limits.between is not None and not (window := parse_window(limits.between)).contains(now):
        reason = f"it is not between {limits.between}"
        return Verdict(Signal.BETWEEN, reason, _rest(window.opens_in(now), LONGEST_REST), warnings)
    for signal in limits.signals:
        reason_found = _exceeded(signal, getattr(limits, signal.value), readings.get(signal))
        if reason_found is not None:
            return Verdict(signal, reason_found, LOOK_AGAIN, warnings)
    return Verdict(warnings=warnings)


def _rest(seconds: float, longest: float) -> float:
    return min(max(seconds, 0.1), longest)


def pause_reason(pause: Pause) -> str:
    """An operator's pause in words."""
    return f"paused by an operator: {pause.because}" if pause.because else "paused by an operator"


def _exceeded(signal: Signal, limit: Any, reading: Reading) -> str | None:
    """Why the reading holds the work up; None where it does not, or could not be read."""
    if isinstance(reading, Unreadable):
        return f"the replicas' lag is unknown: {reading.why}" if signal is Signal.REPLICA_LAG else None
    if reading is None or isinstance(reading, str):
        return reading
    if isinstance(reading, Lag):
        return _too_far(reading, limit)
    if signal is Signal.VACUUM:
        return "the table is being vacuumed" if reading else None
    return None if reading <= limit else _MORE[signal].format(reading=reading, limit=limit)


def _too_far(lag: Lag, limit: timedelta) -> str | None:
    longest = limit.total_seconds()
    if lag.seconds <= longest:
        return None
    return f"replica {lag.replica} is {lag.seconds:,.1f} s behind, more than {longest:g} s"


_MORE = {
    Signal.BLOCKED_SESSIONS: "sessions that wait for locks of rowscore's: {reading:,.0f}, more than {limit:,}",
    Signal.ACTIVE_SESSIONS: "active sessions: {reading:,.0f}, more than {limit:,}",
    Signal.UNARCHIVED_WAL: "bytes of WAL that wait for their archive: {reading:,.0f}, more than {limit:,}",
    Signal.HISTORY_LIST: "transactions whose old row versions wait for purge: {reading:,.0f}, more than {limit:,}",
}


def furthest(replicas: Iterable[Replica]) -> Lag | Unreadable | None:
    """The longest lag; None where there is no replica. One whose lag nobody knows makes all of it unknown.

    A standby that has replayed everything and is idle reports no lag, which is none; one that reports none while it
    is megabytes behind, or that the server hides, is unreadable.
    """
    worst: Lag | None = None
    for replica in replicas:
        seconds = replica.seconds
        if seconds is None and (replica.behind is None or replica.behind > CAUGHT_UP):
            how = "" if replica.behind is None else f" and is {replica.behind:,} bytes behind"
            return Unreadable(f"replica {replica.name} reports none{how}")
        if worst is None or (seconds or 0.0) > worst.seconds:
            worst = Lag(seconds or 0.0, replica.name)
    return worst


def objection(value: Any) -> str | None:
    """What a user's query has against the work, by the first column of its first row: true, a number but 0, a text."""
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value).decode(errors="replace")
    if isinstance(value, str):
        text = " ".join(value.split())
        return f"throttle.query: {text[:_LONGEST]}" if text else None
    if isinstance(value, (bool, int, float, Decimal)) and value:
        return "throttle.query holds" if value is True else f"throttle.query answered {value}"
    return None
