"""Leases on windows of keys: who may score which rows until when; it reads and writes no prediction.

Live leases of a run are disjoint, so workers never step over each other's rows. A lease is an arrangement to save
money, not a lock: rows are protected by the guarded write, so a late owner does no harm.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from worker.database import Database, Transaction
from worker.errors import (
    GenerationChangedError,
    LeaseLostError,
    MissingObjectError,
    NotAppliedError,
    StaleDefinitionError,
)
from worker.materialisation import Materialisation
from worker.moving import check_moving
from worker.options import Options
from worker.purse import spent
from worker.states import RunKind, RunStatus
from worker.switches import against
from worker.table import instant, listed

Key = tuple[str, ...]

# The walk back to the beginning passes the dead index entries of all rows scored since the oldest snapshot (290 ms
# over a million of them): resting for twenty times its cost keeps it to 5 % of the time.
WRAP_REST = 20.0

# A window that is not full ends the pass, whatever comes after: rows keep coming, and one that committed late
# behind the cursor would wait for a moment of silence.
LOOK_BACK_REST = 0.5  # seconds between two passes where the first is ended for this reason alone

# A window that was taken over so often may be what kills its workers: halve it until the row stands alone.
SPLIT_AFTER = 2
LOOK_AGAIN = 60.0  # seconds at most between two looks at a run that may not go on now
_PAUSED_REST = 1.0  # seconds between two looks at a run that is paused


@dataclass(frozen=True, slots=True)
class Window:
    """Keys from `lo` to `hi`, both inclusive, as the texts that the database casts back."""

    lo: Key
    hi: Key


@dataclass(frozen=True, slots=True)
class Lease:
    """A window that this worker may score until the lease expires by the database's clock.

    Attributes:
        rows: how many rows the probe saw in it, which bounds what may be read; inserts can enlarge the window.
        attempts: 1, or more when earlier owners died over it.
    """

    run: int
    kind: RunKind
    token: int
    window: Window
    rows: int
    attempts: int
    generation: int

    @property
    def deadly(self) -> bool:
        """Whether its only row has outlived several workers: it is quarantined without being tried again."""
        return self.rows == 1 and self.attempts > SPLIT_AFTER


@dataclass(frozen=True, slots=True)
class Idle:
    """There is no window to take, and why.

    Attributes:
        retry_after: seconds after which it is worth asking again; None: at the next tick.
        empty: nothing at all is left to claim, and nobody else is at work on the run.
        spent: the budget allows no further call.
        resting: only the ration of walks from the beginning stands against looking again.
    """

    reason: str
    retry_after: float | None = None
    empty: bool = False
    resting: bool = False
    spent: bool = False


def bind_key(name: str, key: Key) -> dict[str, str]:
    """A key's values as the parameters name_1, name_2, ... that the macro `bound` asks for."""
    return {f"{name}_{place}": value for place, value in enumerate(key, 1)}


def may_wrap(since_last: float | None, cost: float) -> bool:
    """Whether the walk back to the beginning is affordable again; both in seconds."""
    return since_last is None or since_last >= WRAP_REST * cost


def may_look_back(since_last: float | None, cost: float) -> bool:
    """Whether a pass may end though rows lie ahead, so that those behind the cursor wait no longer; both in seconds."""
    return may_wrap(since_last, cost) and (since_last is None or since_last >= LOOK_BACK_REST)


class Leases:
    """Acquires, renews and returns leases for one prediction in one worker.

    Args:
        run: the one run whose windows it takes; None: whichever is running.
        options: that run's.
    """

    def __init__(
        self,
        database: Database,
        materialisation: Materialisation,
        owner: str,
        *,
        run: int | None = None,
        options: Options | None = None,
    ) -> None:
        self.database = database
        self.materialisation = materialisation
        self.owner = owner
        self.ttl = materialisation.prediction.lease_time.total_seconds()
        self.run = run
        self.options = options or Options()
        prediction = materialisation.prediction
        self.daily = run is None or self.options.scheduled
        self.budget = prediction.daily_cap if self.daily else self.options.cap
        self.walks = 0  # from the beginning that found something to claim

    def acquire(self, kind: RunKind, rows: int) -> Lease | Idle:
        """A lease on the next window of about `rows` rows, or why there is none.

        Raises:
            NotAppliedError, StaleDefinitionError: `apply` has to be run first, or this process is out of date.
        """
        found = self._attempt(kind, rows, first=None)
        if not isinstance(found, _EndOfPass):
            return found
        if kind.once and found.leases_out:
            # Its walk from the beginning may read the whole table: only when nobody else can leave rows behind.
            return Idle("the rest is leased to other workers", 1.0)
        if not may_wrap(found.since_wrap, found.wrap_seconds):
            rest = WRAP_REST * found.wrap_seconds - (found.since_wrap or 0.0)
            return Idle(
                "nothing after the cursor; resting before the next walk from the beginning",
                rest,
                resting=True,
            )
        first = self._find_first(kind, found)
        if first is None:
            return Idle("no rows are waiting", empty=not found.leases_out)
        self.walks += 1
        found = self._attempt(kind, rows, first=first)
        if isinstance(found, _EndOfPass):
            return Idle("the rest is leased to other workers", 1.0)
        return found

    def _settings(self) -> dict[str, str | int]:
        return {**self.database.capabilities.plan_pins, "lock_timeout": "5s"}

    def _attempt(self, kind: RunKind, rows: int, first: Key | None) -> Lease | Idle | _EndOfPass:
        with self.database.transaction(**self._settings()) as transaction:
            generation = share_prediction(transaction, self.materialisation).generation
            run: Any = transaction.row(
                self._sql("lock_run"), prediction=self.materialisation.name, kind=kind.value
            )
            if (kept := self._kept(kind, run)) is not None:
                return kept
            pace = self.options.pace
            rows = rows if pace is None else min(rows, pace.window)
            out, lease = self._take_expired(transaction, kind, run, rows, generation)
            if lease is not None:
                return lease
            room = self._room(transaction, kind, run, out, rows)
            if isinstance(room, Idle):
                return room if first is not None else self._spent(transaction, kind, run, out, room)
            rows = room
            found = self._next_window(transaction, kind, run, rows, first, crowded=bool(out.out))
            if found is None:
                return _end_of_pass(run, out)
            window, count, last = found
            ends = last and not kind.once and first is None
            if ends and may_look_back(run.since_wrap, run.wrap_seconds):
                return _end_of_pass(run, out)
            token = run.token + 1
            transaction.execute(
                self._sql("hand_out_lease"),
                run=run.id, token=token, lo=json.dumps(window.lo), hi=json.dumps(window.hi), size=count,
                owner=self.owner, ttl=self.ttl,
            )  # fmt: skip
            lease = Lease(run.id, kind, token, window, count, 1, generation)
            self._pace(transaction, lease)
            return lease

    def _spent(
        self, transaction: Transaction, kind: RunKind, run: Any, out: Any, room: Idle
    ) -> Idle | _EndOfPass:
        """Why no window is to be had; where the last row took the budget's last call, that it is the end."""
        if room.spent and kind.once and not self._next_window(transaction, kind, run, 1, None, crowded=False):
            return _end_of_pass(run, out)
        return room

    def _kept(self, kind: RunKind, run: Any) -> Idle | None:
        """Why the run may not go on now, if it may not."""
        if run is None or self.run not in (None, run.id):
            return Idle(f"no {kind.value} is running", empty=True)
        if run.status == RunStatus.PAUSED:
            return Idle("it is paused", _PAUSED_REST)
        hours = self.options.hours
        closed = 0.0 if hours is None else hours.opens_in(instant(run.clock) or run.clock)
        if closed:
            return Idle(f"it is not between {self.options.between}", min(closed, LOOK_AGAIN))
        if self.options.pace is not None and (run.rest or 0.0) > 0:
            rest = min(float(run.rest), LOOK_AGAIN)
            return Idle(f"it keeps to --rate {self.options.rate}", rest, resting=True)
        return None

    def _take_expired(
        self, transaction: Transaction, kind: RunKind, run: Any, rows: int, generation: int
    ) -> tuple[Any, Lease | None]:
        """How many leases are out, and one that has expired and is taken over, where there is room and one is found."""
        while True:
            out = transaction.execute(self._sql("count_leases"), run=run.id, owner=self.owner).one()
            if not out.expired or out.live_others >= self.materialisation.prediction.most_workers(kind):
                return out, None
            expired = transaction.row(self._sql("take_expired_lease"), run=run.id)
            if expired is None:
                return out, None
            lease = self._take_over(transaction, kind, run, expired, rows, generation)
            if lease is not None:
                self._pace(transaction, lease)
                return out, lease

    def _room(self, transaction: Transaction, kind: RunKind, run: Any, out: Any, rows: int) -> int | Idle:
        """Rows that the next window may have, or why there is none.

        What is leased counts as done until it is known how much of it was.
        """
        if out.others >= self.materialisation.prediction.most_workers(kind):
            return Idle(f"{out.others} other workers hold leases, which is all that may", 1.0)
        affordable = self._affordable(transaction, run)
        if affordable is not None:
            rows = min(rows, affordable - out.rows_out)
        if self.options.max_rows is not None:
            rows = min(rows, int(self.options.max_rows - run.done - out.rows_out))
        if rows > 0:
            return rows
        if out.out:
            return Idle("the rest is leased to other workers", 1.0)
        if self.budget is not None and affordable == 0:
            return Idle(spent(self.budget, daily=self.daily), spent=True)
        return Idle(f"{run.done:,} rows are done, which is all that --max-rows allows", empty=True)

    def _affordable(self, transaction: Transaction, run: Any) -> int | None:
        """Rows that the budget allows, if it bounds them; who calls the model draws from it once more."""
        if self.budget is None:
            return None
        if self.options.scheduled:
            run = transaction.row(self._sql("daily_account"), prediction=self.materialisation.name)
        spent_rows, spent_calls, money = run.spent_rows, run.spent_calls, float(run.spent_money)
        if self.daily and not run.spent_today:
            spent_rows, spent_calls, money = 0, 0, 0.0
        model = self.materialisation.prediction.model
        each, row = model.cost_per_call or 0.0, model.cost_per_row or 0.0
        return self.budget.rows_left(spent_calls, spent_rows, money, each, row)

    def _pace(self, transaction: Transaction, lease: Lease) -> None:
        """The next window waits for as long as this one's rows are worth, whoever asks (the cell rate algorithm)."""
        if self.options.pace is not None:
            seconds = self.options.pace.worth(lease.rows)
            transaction.execute(self._sql("pace_run"), run=lease.run, seconds=seconds)

    def _next_window(
        self,
        transaction: Transaction,
        kind: RunKind,
        run: Any,
        rows: int,
        first: Key | None,
        *,
        crowded: bool,
    ) -> tuple[Window, int, bool] | None:
        """The next rows that no live lease covers, how many, and whether the walk ended with them.

        Leases end without the run's lock, so each step looks anew.
        """
        start, position = ("at", first) if first is not None else ("after", _key(run.pos))
        if position is None:
            start, position = "at", _key(run.lower)
        while True:
            bounds = bind_key("start", position) if position is not None else {}
            look = self._sql("next_lease", start=start if position is not None else None)
            ahead = transaction.row(look, run=run.id, **bounds) if crowded else None
            if ahead is not None and ahead.covers:
                start, position = "after", _key(ahead.hi)
                continue
            cap = _key(ahead.lo) if ahead is not None else None
            found = self._probe(transaction, kind, rows, (start, position), ("before", cap), _key(run.upper))
            if found is not None:
                return *found, ahead is None and found[1] < rows
            if ahead is None:
                return None
            start, position = "after", _key(ahead.hi)

    def _probe(
        self,
        transaction: Transaction,
        kind: RunKind,
        rows: int,
        lower: tuple[str, Key | None],
        cap: tuple[str, Key | None],
        upper: Key | None = None,
    ) -> tuple[Window, int] | None:
        bounds: dict[str, str] = {}
        for name, key in (("start", lower[1]), ("cap", cap[1]), ("upper", upper)):
            bounds |= bind_key(name, key) if key is not None else {}
        statement = self._sql(
            "probe_window",
            claims=kind.claims,
            start=lower[0] if lower[1] is not None else None,
            cap=cap[0] if cap[1] is not None else None,
            upper=upper is not None,
        )
        found = transaction.row(statement, limit=rows, **bounds)
        if found is None or not found.rows:
            return None
        return Window(tuple(listed(found.lo)), tuple(listed(found.hi))), int(found.rows)

    def _take_over(
        self, transaction: Transaction, kind: RunKind, run: Any, expired: Any, rows: int, generation: int
    ) -> Lease | None:
        """Take an expired window over; one that keeps coming back is halved until its poison row stands alone.

        One that holds more rows than are asked for is cut: it may have been too much for one statement. One that holds
        none any more is ended.
        """
        window = Window(tuple(listed(expired.lo)), tuple(listed(expired.hi)))
        token, attempts = run.token + 1, expired.attempts + 1
        limit = max(rows, 2)
        seen = self._probe(transaction, kind, limit + 1, ("at", window.lo), ("until", window.hi))
        if seen is None:
            transaction.execute(self._sql("finish_lease"), run=run.id, token=expired.token)
            return None
        count = seen[1]
        if attempts > SPLIT_AFTER and count > 1:
            window, count = self._split(transaction, kind, run, window, (count + 1) // 2, SPLIT_AFTER)
            attempts = 1 if count == 1 else attempts
        elif count > limit:
            window, count = self._split(transaction, kind, run, window, limit, expired.attempts)
        transaction.execute(
            self._sql("take_over_lease"),
            run=run.id, token=token, hi=json.dumps(window.hi), size=count, owner=self.owner, ttl=self.ttl,
            attempts=attempts, old_token=expired.token,
        )  # fmt: skip
        transaction.execute(self._sql("use_tokens"), run=run.id, token=token + 1)
        return Lease(run.id, kind, token, window, count, attempts, generation)

    def _split(
        self, transaction: Transaction, kind: RunKind, run: Any, window: Window, count: int, attempts: int
    ) -> tuple[Window, int]:
        """The window's first `count` rows; the rest becomes a lease of its own, with `attempts`, free to be taken.

        A row that stands alone for the first time starts counting anew: its window died, not it.
        """
        head = self._probe(transaction, kind, count, ("at", window.lo), ("until", window.hi))
        if head is None:
            return window, count
        tail = self._probe(transaction, kind, 2, ("after", head[0].hi), ("until", window.hi))
        if tail is not None:
            rest = Window(tail[0].lo, window.hi)
            fresh = 0 if tail[1] == 1 else attempts
            size = max(tail[1], self._size(transaction, kind, rest))
            self._insert(transaction, run.id, run.token + 2, rest, size, attempts=fresh, ttl=0.0)
        return Window(window.lo, head[0].hi), head[1]

    def _size(self, transaction: Transaction, kind: RunKind, window: Window) -> int:
        """Rows in a window that is cut off, where they are limited; elsewhere nobody asks."""
        if self.options.max_rows is None:
            return 0
        found = self._probe(transaction, kind, self.options.max_rows, ("at", window.lo), ("until", window.hi))
        return found[1] if found else 0

    def _insert(
        self,
        transaction: Transaction,
        run: int,
        token: int,
        window: Window,
        size: int,
        *,
        attempts: int,
        ttl: float,
    ) -> None:
        transaction.execute(
            self._sql("insert_lease"),
            run=run, token=token, lo=json.dumps(window.lo), hi=json.dumps(window.hi), size=size,
            owner=self.owner, attempts=attempts, ttl=ttl,
        )  # fmt: skip

    def _find_first(self, kind: RunKind, end: _EndOfPass) -> Key | None:
        """The first claimable key of all, looked up outside the run's lock, with the cost noted."""
        pins = {} if kind.once else self.database.capabilities.plan_pins
        with self.database.transaction(**pins) as transaction:
            lower, upper = end.lower, end.upper
            bounds = bind_key("upper", upper) if upper is not None else {}
            bounds |= bind_key("lower", lower) if lower is not None else {}
            started = time.monotonic()
            statement = self._sql(
                "first_claimable", claims=kind.claims, lower=lower is not None, upper=upper is not None
            )
            first = transaction.value(statement, **bounds)
            seconds = time.monotonic() - started
        with self.database.transaction() as transaction:
            transaction.execute(self._sql("note_wrap"), run=end.run, seconds=seconds)
        return _key(first)

    def renew(self, lease: Lease) -> None:
        """Ask for more time for a batch in flight.

        Raises:
            LeaseLostError: another worker has taken the window over.
        """
        with self.database.transaction(lock_timeout="5s") as transaction:
            renewed = transaction.execute(
                self._sql("renew_lease"), run=lease.run, token=lease.token, ttl=self.ttl
            )
            if not renewed.rowcount:
                raise LeaseLostError

    def finish(self, transaction: Transaction, lease: Lease) -> bool:
        """End the lease in the transaction that writes its rows, first of all: from here on it cannot be taken over.

        Returns whether the lease was still ours; if not, the guarded write alone decides, as it always does.
        """
        return bool(transaction.execute(self._sql("finish_lease"), run=lease.run, token=lease.token).rowcount)

    def abandon(self, lease: Lease) -> None:
        """Hand the window back at once, without counting the attempt."""
        with self.database.transaction(lock_timeout="5s") as transaction:
            transaction.execute(self._sql("abandon_lease"), run=lease.run, token=lease.token)

    def _sql(self, statement: str, **extra: Any) -> str:
        return self.materialisation.render(statement, **extra)


@dataclass(frozen=True, slots=True)
class _EndOfPass:
    """Nothing lies after the cursor; what the decision to wrap needs."""

    run: int
    lower: Key | None
    upper: Key | None
    since_wrap: float | None
    wrap_seconds: float
    leases_out: int


def _end_of_pass(run: Any, out: Any) -> _EndOfPass:
    return _EndOfPass(run.id, _key(run.lower), _key(run.upper), run.since_wrap, run.wrap_seconds, out.out)


def share_prediction(
    transaction: Transaction, materialisation: Materialisation, generation: int | None = None
) -> Any:
    """The prediction's row, held still against a rescore until the transaction ends.

    It costs one statement, but where the table is not as `apply` noted; see `worker.moving.check_moving`.

    Args:
        generation: what the answers were leased under; another one now makes them void.

    Raises:
        NotAppliedError: `apply` was never run, or `remove` was.
        StaleDefinitionError: the database holds another definition or model version than this process.
        GenerationChangedError: answers of `generation` may not be written any more.
        PrivilegeError: this account cannot hold a column still that moves by itself.
    """
    name, prediction = materialisation.name, materialisation.prediction
    try:
        row = transaction.row(materialisation.render("share_prediction"), prediction=name)
    except DBAPIError as error:
        if error.orig is None or transaction.capabilities.classify(error.orig) is not MissingObjectError:
            raise
        row = None  # not even rowscore's own tables are there
    if row is None:
        raise NotAppliedError(f"{name} is not applied to this database; run `rowscore apply {name}`")
    if generation is not None and row.generation != generation:
        raise GenerationChangedError
    if (row.definition_hash, row.version) != (materialisation.definition_hash, prediction.version_value):
        _refuse_switched(transaction, materialisation)
    if row.definition_hash != materialisation.definition_hash:
        raise StaleDefinitionError(
            f"{name}: this process has definition {prediction.definition_hash} and the database {row.definition_hash}; "
            f"run `rowscore apply {name}` if the file is the newer one, else update this process's file"
        )
    if row.version != prediction.version_value:
        raise StaleDefinitionError(
            f"{name}: this process has model version {prediction.version_value!r} and the database {row.version!r}; "
            f"run `rowscore apply {name}` if the file is the newer one, else update this process's file"
        )
    if row.held is not None:
        check_moving(transaction, materialisation, listed(row.held))
    return row


def _refuse_switched(transaction: Transaction, m: Materialisation) -> None:
    """Say so where it was a switch with the shadow that made this process's definition the old one."""
    stored = transaction.value(m.render("read_definition"), prediction=m.name)
    definition = json.loads(stored) if isinstance(stored, str) else stored
    prediction = m.prediction
    found = against(definition, prediction.definition_hash, prediction.version_value)
    if found is not None:
        raise StaleDefinitionError(found.explain(m.name))


def _key(value: Any) -> Key | None:
    return None if value is None else tuple(listed(value))
