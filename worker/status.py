"""Reads how a prediction stands: backlog, freshness, speed, failures, leases; it prints and changes nothing.

What it costs does not grow with the table: waiting rows are counted by the pending index up to a limit, all
rows only where the table is small, and each look at the user's table has a time limit, after which the answer
is that nobody knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sql
from worker.config import Prediction
from worker.database import Database
from worker.engine import Engine
from worker.errors import NotAppliedError, StatementTimeoutError
from worker.materialisation import Materialisation
from worker.options import Options, options_of
from worker.standing import (
    Activity,
    BackfillStatus,
    Circuit,
    Definition,
    FailedRow,
    Failures,
    Freshness,
    Learned,
    LeaseStatus,
    Rows,
    Spread,
    Status,
    ThrottleStatus,
)
from worker.states import RowState, RunKind, RunStatus
from worker.survey import read_forgotten
from worker.table import instant, listed
from worker.throttle import read_standing

FRESH_WINDOW = 3600.0  # seconds; older arrivals say nothing about freshness now
ACTIVITY_WINDOW = 300.0  # seconds of the batch log
LOG_LINES = 10_000
_COUNTED = (
    "batches", "scored", "failed", "skipped", "lost", "busy_seconds", "idle", "asked", "sent", "remembered", "equal",
    "calls", "single_calls", "retries", "throttled", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """What a look may cost.

    Attributes:
        count_up_to: waiting rows that are counted one by one.
        small_table: bytes of a table up to which all its rows are counted; these take about 0.1 s.
        sample: newest rows that freshness is measured over.
        timeout: of each statement over the user's table, as PostgreSQL writes it.
    """

    count_up_to: int = 100_000
    small_table: int = 64 * 1024 * 1024
    sample: int = 10_000
    timeout: str = "2s"


DEFAULT_LIMITS = Limits()


def read_status(engine: Engine, name: str | None = None, *, limits: Limits = DEFAULT_LIMITS) -> Status:
    """How the prediction stands now.

    Raises:
        ConfigurationError, MissingObjectError: the file and the table do not fit.
        PrivilegeError: the role may not read rowscore's own tables.
    """
    prediction = engine.prediction(name)
    database, m = engine.database(prediction), engine.materialisation(prediction)
    known = _read_prediction(database, prediction)
    look = _Look(database, m, limits)
    if known is None:
        return Status(prediction.name, m.table.label, look.arrived_at, None)
    definition = _definition(prediction, known)
    if prediction.state_column not in m.table.columns:  # the file asks for another one than was applied
        return Status(prediction.name, m.table.label, look.arrived_at, definition)
    failures = Failures(*look.own("count_failures"))
    rows, oldest = look.rows(failures)
    return Status(
        prediction=prediction.name,
        table=m.table.label,
        arrived_at=look.arrived_at,
        definition=definition,
        rows=rows,
        oldest_waiting=oldest,
        freshness=look.freshness(definition.applied_at),
        activity=look.activity(),
        failures=failures,
        learned=Learned(known.rows_per_claim, known.rows_per_call),
        circuit=_circuit(known),
        throttle=_throttle(database, prediction.name),
        backfill=look.run(RunKind.BACKFILL),
        rescore=look.run(RunKind.RESCORE),
        leases=look.leases(),
        left=look.forgotten(),
    )


def read_circuit(engine: Engine, prediction: Prediction) -> Circuit | None:
    """The prediction's circuit alone; None where it was never applied."""
    known = _read_prediction(engine.database(prediction), prediction)
    return None if known is None else _circuit(known)


def read_failures(engine: Engine, name: str | None = None, *, limit: int) -> tuple[Failures, list[FailedRow]]:
    """How many rows have an error on record, and the latest of them.

    Raises:
        NotAppliedError: `apply` was never run.
    """
    prediction = engine.prediction(name)
    database = engine.database(prediction)
    if _read_prediction(database, prediction) is None:
        raise not_applied(prediction.name)
    statements = sql.load(database.capabilities.dialect)
    with database.transaction() as transaction:
        totals: Any = transaction.row(statements["count_failures"].render(), prediction=prediction.name)
        rows = transaction.rows(statements["list_failures"].render(), prediction=prediction.name, limit=limit)
    return Failures(*totals), [_failure(row) for row in rows]


def _failure(row: Any) -> FailedRow:
    values = dict(row._mapping)
    times = {name: instant(value) for name, value in values.items() if name.endswith("_at")}
    return FailedRow(**{**values, **times, "row_key": tuple(map(str, listed(row.row_key)))})


def not_applied(name: str) -> NotAppliedError:
    """What to tell somebody who asks for a prediction that was never applied."""
    return NotAppliedError(f"{name} is not applied to this database; run `rowscore apply {name}`")


def _read_prediction(database: Database, prediction: Prediction) -> Any:
    statements = sql.load(database.capabilities.dialect)
    with database.transaction() as transaction:
        own: Any = transaction.row(statements["find_own_schema"].render())
        if not own.registrable:
            return None
        return transaction.row(statements["read_prediction"].render(), prediction=prediction.name)


def _circuit(known: Any) -> Circuit:
    seconds = max(known.circuit_seconds, 0.0) if known.circuit_open else None
    return Circuit(bool(known.circuit_open), seconds, known.failures or 0, known.failure_class, known.reason)


def _throttle(database: Database, name: str) -> ThrottleStatus:
    found = read_standing(database, name)
    pause = found.pause
    return ThrottleStatus(
        kind=found.signal,
        reason=found.reason,
        since=found.since,
        total_seconds=found.total,
        paused=found.paused,
        pause_left=None if pause is None else pause.left,
        pause_reason=None if pause is None else pause.because,
    )


def _definition(prediction: Prediction, known: Any) -> Definition:
    drift = []
    if known.definition_hash != prediction.definition_hash:
        drift.append(
            f"the file's definition is {prediction.definition_hash}, the database's {known.definition_hash}"
        )
    if known.version != prediction.version_value:
        drift.append(
            f"the file's model version is {prediction.version_value!r}, the database's {known.version!r}"
        )
    return Definition(_known(known.applied_at), known.definition_hash, known.version, tuple(drift))


class _Look:
    """Looks at one prediction's rows and log, each in a short transaction of its own."""

    def __init__(self, database: Database, materialisation: Materialisation, limits: Limits) -> None:
        self.database = database
        self.m = materialisation
        self.limits = limits

    def own(self, statement: str, **parameters: Any) -> Any:
        """The row of a statement over rowscore's own tables."""
        with self.database.transaction() as transaction:
            return transaction.row(self.m.render(statement), prediction=self.m.name, **parameters)

    def table(
        self, statement: str, *, pinned: bool = False, one: RowState | None = None, **parameters: Any
    ) -> list[Any] | None:
        """The rows of a statement over the user's table; None where it takes too long.

        Args:
            statement: its name.
            pinned: keep the planner to indexes: it may take most rows for pending and read them all.
            one: the state that it asks for.
            parameters: the values it binds.
        """
        pins = self.database.capabilities.plan_pins if pinned else {}
        try:
            with self.database.transaction(**pins, statement_timeout=self.limits.timeout) as transaction:
                text = self.m.render(statement, arrived_at=self.arrived_at, zoned=self._zoned, one=one)
                return list(transaction.rows(text, **parameters))
        except StatementTimeoutError:
            return None

    def forgotten(self) -> str | None:
        """A shadow of it that is in the database and no longer in the file."""
        with self.database.transaction() as transaction:
            return read_forgotten(transaction, self.m.prediction)

    @property
    def _zoned(self) -> bool:
        """Whether the column of arrival times holds instants, not times of the server's own zone."""
        name = self.arrived_at
        return name is not None and self.m.table.columns[name].base_type.startswith("timestamp")

    @property
    def arrived_at(self) -> str | None:
        """The column of arrival times, where it is one of times."""
        name = self.m.prediction.arrived_at
        timed = name is not None and self.m.table.columns[name].base_type.startswith(("timestamp", "date"))
        return name if timed else None

    def rows(self, failures: Failures) -> tuple[Rows, float | None]:
        """Rows by state, and for how long the oldest one without a prediction has waited."""
        table = self.m.table
        size = self.table("measure_table", oid=table.oid, schema=table.schema, table=table.name)
        counted = self.table("count_states") if size and size[0].bytes <= self.limits.small_table else None
        if counted is not None:
            states: dict[int, int] | None = {item.state: item.rows for item in counted}
            total: int | None = sum(item.rows for item in counted)
        else:
            total = int(size[0].rows) if size and size[0].rows >= 0 else None
            states = self._estimate(total)
        limit = self.limits.count_up_to
        waiting = self.table("count_pending", pinned=True, limit=limit + 1)
        pending, stale, oldest = waiting[0] if waiting else (None, None, None)

        def of(state: RowState) -> int | None:
            return None if states is None else states.get(state, 0)

        exact = counted is not None
        more = pending is not None and pending > limit
        rows = Rows(
            total=total,
            exact=exact,
            scored=of(RowState.SCORED),
            pending=of(RowState.PENDING) if exact else limit if more else pending,
            more_pending=more and not exact,
            stale=None if more else stale,
            failed=(of(RowState.FAILED) or 0) if exact else failures.rows,
            skipped=of(RowState.SKIPPED),
            existing=of(RowState.EXISTING),
        )
        return rows, oldest

    def _estimate(self, total: int | None) -> dict[int, int] | None:
        """Rows by state from the planner's statistics, or None where there are none."""
        if total is None:
            return None
        if "estimate_state" in sql.load(self.m.dialect):
            return self._estimate_each(total)
        table = self.m.table
        shares = self.table(
            "estimate_states",
            schema=table.schema,
            table=table.name,
            state=self.m.prediction.state_column,
            partitioned=table.partitioned,
        )
        if not shares:
            return None
        return {item.state: round(item.share * total) for item in shares}

    def _estimate_each(self, total: int) -> dict[int, int]:
        """Each state by its part of the index: counted up to the limit, else estimated; the largest is what is left."""
        limit = self.limits.count_up_to
        found, large = {}, False
        for state in RowState:
            rows = self.table("count_one_state", one=state, limit=limit + 1)
            if rows and rows[0].rows <= limit:
                found[state.value] = rows[0].rows
            else:
                large = True
                estimated = self.table("estimate_state", one=state)
                found[state.value] = sum(int(row.rows or 0) for row in estimated or ())
        if large:
            largest = max(found, key=lambda state: found[state])
            rest = sum(rows for state, rows in found.items() if state != largest)
            found[largest] = max(total - rest, 0)
        return found

    def freshness(self, applied_at: datetime) -> Freshness | None:
        """None without `arrived_at`, and where no row of the last hour has been scored yet."""
        if self.arrived_at is None:
            return None
        found = self.table(
            "measure_freshness", sample=self.limits.sample, window=FRESH_WINDOW, applied_at=applied_at
        )
        return Freshness(*found[0]) if found and found[0].rows else None

    def activity(self) -> Activity:
        """What the batch log says about the last minutes."""
        row = self.own("recent_batches", lines=LOG_LINES, window=ACTIVITY_WINDOW)
        return Activity(
            **{name: getattr(row, name) for name in _COUNTED},
            rows_per_second=row.scored / row.busy_seconds if row.busy_seconds else None,
            batch_rows=_spread(row, "batch"),
            call_rows=_spread(row, "call_rows"),
            call_seconds=_spread(row, "call_seconds"),
        )

    def run(self, kind: RunKind) -> BackfillStatus | None:
        """The one of that kind that is under way."""
        running = self.own("find_run", kind=kind.value)
        if running is None:
            return None
        with self.database.transaction() as transaction:
            run: Any = transaction.row(self.m.render("read_run"), run=running.id)
        speed = self.own("run_speed", run=run.id, lines=LOG_LINES, window=ACTIVITY_WINDOW)
        return BackfillStatus(
            run=run.id,
            total=run.rows_total,
            scored=run.rows_scored,
            failed=run.rows_failed,
            skipped=run.rows_skipped,
            done=run.rows_scored + run.rows_failed + run.rows_skipped,
            started_at=_known(run.started_at),
            rows_per_second=speed.rows / speed.seconds if speed.seconds else None,
            status=run.status,
            options=str(_options(run.options)),
            reason=self._holds(run),
            workers=len(
                {lease.owner for lease in self.leases() if lease.kind == kind and lease.seconds_left > 0}
            ),
            most_workers=self.m.prediction.backfill_workers,
            most_live=self.m.prediction.workers,
        )

    def _holds(self, run: Any) -> str | None:
        """Why the run does not go on now, by its own options; other reasons are the prediction's."""
        if run.status == RunStatus.PAUSED:
            return "paused"
        options = _options(run.options)
        if options.hours is not None and not options.hours.contains(datetime.now(UTC)):
            return f"it is not between {options.between}"
        cap = options.cap
        left = (
            1
            if cap is None
            else cap.rows_left(run.spent_calls, run.spent_rows, float(run.spent_money), 0.0, 0.0)
        )
        return f"the budget of {options.budget} is spent" if left == 0 else None

    def leases(self) -> tuple[LeaseStatus, ...]:
        """The leases that are out."""
        with self.database.transaction() as transaction:
            rows = transaction.rows(self.m.render("live_leases"), prediction=self.m.name)
        return tuple(
            LeaseStatus(
                row.kind,
                row.owner,
                tuple(listed(row.lo)),
                tuple(listed(row.hi)),
                row.attempts,
                float(row.seconds_left),
            )
            for row in rows
        )


def _known(moment: datetime) -> datetime:
    """A time that is never NULL, with its zone."""
    return instant(moment) or moment


def _options(stored: Any) -> Options:
    return options_of(json.loads(stored) if isinstance(stored, str) else stored)


def _spread(row: Any, name: str) -> Spread | None:
    values = [getattr(row, f"{name}_{which}") for which in ("min", "avg", "max")]
    return None if None in values else Spread(*values)
