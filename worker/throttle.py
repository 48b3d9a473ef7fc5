"""Reads what holds a prediction's work up, once a second, and records it; what follows from it is `limits`' to say."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from statistics import fmean
from typing import Any

import sql
from worker import errors
from worker.database import Database
from worker.limits import (
    LOOK_AGAIN,
    OTHERS_FOR,
    Pause,
    Reading,
    Replica,
    Signal,
    Throttle,
    Unreadable,
    Verdict,
    furthest,
    judge,
    objection,
    pause_reason,
    yielded,
)
from worker.log import logger
from worker.materialisation import Materialisation
from worker.states import RunKind

_log = logger(__name__)
UNNAMED = "the server does not know its replicas; name them in `replicas` under `throttle`"
PATIENCE = "1s"  # for each reading
HOPELESS = 30.0  # seconds until a signal that this role may not read is asked for again: servers log refusals
_BEHIND = ("Seconds_Behind_Source", "Seconds_Behind_Master", "seconds")  # MySQL, MariaDB, PostgreSQL
_STATEMENTS = {
    Signal.BLOCKED_SESSIONS: "count_blocked_sessions",
    Signal.ACTIVE_SESSIONS: "count_active_sessions",
    Signal.VACUUM: "count_vacuums",
    Signal.UNARCHIVED_WAL: "measure_unarchived_wal",
    Signal.HISTORY_LIST: "find_history",
}


def exists(signal: Signal, dialect: str) -> bool:
    """Whether such a database has that signal; what it has not holds nothing up."""
    return signal not in _STATEMENTS or _STATEMENTS[signal] in sql.load(dialect)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the record says of a prediction; times are seconds.

    Attributes:
        signal: what holds the work up; `reason` in words, `since` for how long; None: nothing does.
        looked: since a drain last ended for it.
        total: for which the work has been held up, all in all.
        pause: an operator's, if it is in force, and `paused` for how long.
    """

    signal: str | None = None
    reason: str | None = None
    since: float | None = None
    looked: float | None = None
    total: float = 0.0
    pause: Pause | None = None
    paused: float | None = None

    @property
    def held_by(self) -> str | None:
        """What holds the work up, in words; the pause before what is on record, which may be older."""
        return self.reason if self.pause is None else pause_reason(self.pause)


def read_standing(database: Database, name: str) -> Standing:
    """What the record says of a prediction.

    Raises:
        NotAppliedError: rowscore's own tables are older than this rowscore, or not there.
    """
    try:
        with database.transaction() as transaction:
            statement = sql.load(transaction.capabilities.dialect)["read_throttle"].render()
            row = transaction.row(statement, prediction=name)
    except errors.MissingObjectError as error:
        raise _outdated(name) from error
    if row is None:
        return Standing()
    left = None if row.pause_left is None else float(row.pause_left)
    paused = row.paused is not None and (left is None or left > 0)
    return Standing(
        row.kind,
        row.reason,
        _seconds(row.since),
        _seconds(row.looked),
        float(row.total),
        Pause(row.pause_reason, left) if paused else None,
        _seconds(row.paused) if paused else None,
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else max(float(value), 0.0)


def _outdated(name: str) -> errors.NotAppliedError:
    return errors.NotAppliedError(
        f"rowscore's own tables are older than this rowscore, or not there; run `rowscore apply {name}`"
    )


def pause(database: Database, name: str, seconds: float | None, because: str | None) -> None:
    """Pause a prediction's work, for so long or until it is resumed; another pause before is over.

    Raises:
        NotAppliedError: there is no such prediction in the database.
    """
    values = {"seconds": seconds, "because": because}
    if not _change(database, "pause_prediction", name, **values):
        raise errors.NotAppliedError(f"{name} is not applied to this database; run `rowscore apply {name}`")


def resume(database: Database, name: str) -> bool:
    """End a prediction's pause; whether there was one.

    Raises:
        NotAppliedError: rowscore's own tables are older than this rowscore, or not there.
    """
    return bool(_change(database, "resume_prediction", name))


def _change(database: Database, statement: str, name: str, **values: Any) -> int:
    try:
        with database.transaction(lock_timeout="5s") as transaction:
            text = sql.load(transaction.capabilities.dialect)[statement].render()
            return int(transaction.execute(text, prediction=name, **values).rowcount)
    except errors.MissingObjectError as error:
        raise _outdated(name) from error


class Signals:
    """Reads the configured signals, each in a short transaction of its own: one that fails spoils nothing.

    Args:
        replicas: URLs of the replicas whose lag is asked of themselves.
    """

    def __init__(self, database: Database, limits: Throttle, replicas: Iterable[str] = ()) -> None:
        self.database = database
        self.limits = limits
        self._replicas = [Database(url, pool_size=1) for url in replicas]
        self._hopeless: dict[Signal, tuple[float, Unreadable]] = {}
        self._alone_until = 0.0

    def dispose(self) -> None:
        """Close the connections to the replicas."""
        for replica in self._replicas:
            replica.dispose()

    def read(self, m: Materialisation) -> dict[Signal, Reading]:
        """What each of the signals says now.

        Raises:
            ConnectionFailedError: the prediction's own database is gone.
        """
        dialect = self.database.capabilities.dialect
        return {signal: self._read(signal, m) for signal in self.limits.signals if exists(signal, dialect)}

    def others(self) -> float | None:
        """How many sessions of others are at work now; None where this role cannot learn it.

        Raises:
            ConnectionFailedError: the prediction's own database is gone.
        """
        if time.monotonic() < self._alone_until:
            return None
        try:
            with self._transaction() as transaction:
                return float(transaction.value(self._sql("count_other_sessions")))
        except errors.ConnectionFailedError:
            raise
        except errors.DatabaseError:
            self._alone_until = time.monotonic() + HOPELESS
            return None

    def _read(self, signal: Signal, m: Materialisation) -> Reading:
        until, unreadable = self._hopeless.get(signal, (0.0, Unreadable("")))
        if time.monotonic() < until:
            return unreadable
        try:
            return self._ask(signal, m)
        except errors.ConnectionFailedError:
            raise
        except errors.DatabaseError as error:
            unreadable = Unreadable(str(error))
            if isinstance(error, (errors.PrivilegeError, errors.MissingObjectError)):
                self._hopeless[signal] = (time.monotonic() + HOPELESS, unreadable)
            return unreadable

    def _ask(self, signal: Signal, m: Materialisation) -> Reading:
        if signal is Signal.REPLICA_LAG:
            return self._lag()
        if signal is Signal.QUERY:
            with self._transaction() as transaction:
                return objection(transaction.value((self.limits.query or "").replace("%", "%%")))
        with self._transaction() as transaction:
            row = transaction.row(self._sql(_STATEMENTS[signal]), oid=m.table.oid)
        value = None if row is None else row[-1]  # SHOW STATUS answers a name before it
        return Unreadable("the server hides it from this role") if value is None else float(value)

    def _lag(self) -> Reading:
        """Of the replicas that the file names, else of those that the server itself knows."""
        if self._replicas:
            return furthest(self._own_lag(replica) for replica in self._replicas)
        with self._transaction() as transaction:
            aurora = transaction.value(self._sql("has_aurora_replicas"))
        name = "read_aurora_replicas" if aurora else "read_replicas"
        if name not in self._statements:
            return Unreadable(UNNAMED)
        with self._transaction() as transaction:
            rows = transaction.rows(self._sql(name))
        return furthest(Replica(row.name, _seconds(row.seconds), _whole(row.behind)) for row in rows)

    def _own_lag(self, replica: Database) -> Replica:
        """A replica's own word; one that does not answer has a lag that nobody knows."""
        name = f"{replica.url.host}:{replica.url.port}" if replica.url.port else str(replica.url.host)
        try:
            with replica.transaction(statement_timeout=PATIENCE, lock_timeout=PATIENCE) as transaction:
                statement = sql.load(transaction.capabilities.dialect)["read_own_lag"].render()
                found = transaction.execute(statement).mappings().all()
        except errors.DatabaseError as error:
            raise errors.DatabaseError(f"replica {name}: {error}") from error
        lags = [_seconds(next((row[key] for key in _BEHIND if key in row), None)) for row in found]
        known = [lag for lag in lags if lag is not None]
        return Replica(name, max(known) if known and len(known) == len(lags) else None)

    @cached_property
    def _statements(self) -> dict[str, Any]:
        return sql.load(self.database.capabilities.dialect)

    def _sql(self, name: str) -> str:
        return str(self._statements[name].render())

    def _transaction(self) -> Any:
        return self.database.transaction(statement_timeout=PATIENCE, lock_timeout=PATIENCE)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


class Watch:
    """One process's look at what holds a prediction's work up, shared by its threads.

    Args:
        clock: the time now, with its zone, for the hours of work.
    """

    def __init__(
        self, database: Database, signals: Signals, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.database = database
        self.signals = signals
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._verdict = Verdict()
        self._warned: set[Signal] = set()
        self._others: deque[float] = deque(maxlen=OTHERS_FOR)
        self._yields = False

    def check(self, m: Materialisation, kind: RunKind = RunKind.DRAIN) -> Verdict:
        """Whether the prediction's work may go on, as of a second ago at most; what changes is recorded.

        Only for a run that rests for other sessions (see `rest`) are these asked for.

        Raises:
            NotAppliedError: rowscore's own tables are older than this rowscore.
            DatabaseError: the record cannot be read or written.
        """
        with self._lock:
            now = time.monotonic()
            if self._looked is None or now - self._looked >= LOOK_AGAIN:
                self._verdict = self._look(m, kind)
                self._looked = time.monotonic()
            return self._verdict

    def rest(self, kind: RunKind) -> float:
        """How long to rest after a batch, as a share of its database time: fixed by the file, or for other sessions.

        By default only runs over rows that were there before rest for others; fresh rows are what these wait for.
        """
        nice = self.signals.limits.nice
        if nice != "auto":
            return nice
        return yielded(self._others) if kind.once else 0.0

    def note_end(self, name: str) -> None:
        """A drain ends for what holds the work up; another one will look again."""
        _change(self.database, "note_look", name)

    def _look(self, m: Materialisation, kind: RunKind) -> Verdict:
        standing = read_standing(self.database, m.name)
        readings: dict[Signal, Reading] = {}
        verdict = judge(self.signals.limits, readings, self._clock(), standing.pause)
        if verdict.signal is None:  # else nobody asks the servers anything, all night long
            readings = self.signals.read(m)
            verdict = judge(self.signals.limits, readings, self._clock())
            if kind.once and self.signals.limits.nice == "auto":
                self._look_around(m.name)
        self._warn(m.name, verdict, readings)
        if not verdict.repeats(standing.signal, standing.reason):
            self._record(m.name, verdict)
        elif (
            verdict.signal is not None
        ):  # in the words of the record, whose figures are those of its beginning
            return replace(verdict, reason=standing.reason)
        return verdict

    def _look_around(self, name: str) -> None:
        """How busy others are, who are given way to; said once, when it begins."""
        others = self.signals.others()
        if others is not None:
            self._others.append(others)
        yields = yielded(self._others) > 0
        if yields and not self._yields:
            _log.info("gives way to other sessions", prediction=name, others=round(fmean(self._others), 1))
        self._yields = yields

    def _record(self, name: str, verdict: Verdict) -> None:
        if verdict.signal is None:
            _change(self.database, "note_unthrottled", name)
            _log.info("goes on", prediction=name)
            return
        _change(self.database, "note_throttled", name, kind=verdict.signal.value, reason=verdict.reason)
        _log.info("throttled", prediction=name, reason=verdict.reason)

    def _warn(self, name: str, verdict: Verdict, readings: Mapping[Signal, Reading]) -> None:
        """Once for each signal that the file sets a limit for, and that limits nothing."""
        limits = self.signals.limits
        idle = list(verdict.warnings)
        if Signal.REPLICA_LAG in readings and readings[Signal.REPLICA_LAG] is None:
            idle.append((Signal.REPLICA_LAG, "no replica is connected"))
        for signal, why in idle:
            if signal not in self._warned and limits.asked_for(signal):
                self._warned.add(signal)
                _log.warning("a throttle limits nothing", prediction=name, key=signal.value, reason=why)
