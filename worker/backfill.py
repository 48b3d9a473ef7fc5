"""A backfill or a rescore: scores old rows once, over the whole key space, resumable anywhere.

A backfill is about the rows that were there before `apply`, a rescore about those that another model version scored, or
that were scored too long ago. One run of either kind is live for a prediction, running or paused. It keeps the options
that it was begun with; who works on it reads them there, and looks at its status with each window.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError

from worker.capabilities import Capabilities
from worker.database import Transaction, one_line
from worker.drain import COUNTED, HELD, Drain, Progress, Summary
from worker.engine import Engine
from worker.errors import ConfigurationError, RefusedError, RowscoreError
from worker.leases import Key, bind_key, share_prediction
from worker.materialisation import Materialisation, check_condition, restricted
from worker.options import Options, options_of, read_key
from worker.states import RUN_TRANSITIONS, RunKind, RunStatus
from worker.table import instant, listed

COUNT_UP_TO = 5_000_000  # estimated rows up to which the exact number is counted for the progress bar
FRUITLESS_PASSES = 3


@dataclass(frozen=True, slots=True)
class BackfillRun:
    """A backfill or rescore as the database knows it.

    Attributes:
        total: rows to score when it began (an estimate on very large tables), or None where nobody knows.
        seconds: since it began.
        resumed: it had begun before.
        calls: reserved from its budget, as are `paid_rows` and `money`; 0 where it has none.
        at: its cursor: the first key of the lowest window that is not finished, since they finish out of order; where
            none is out, the last key that was handed out.
    """

    id: int
    total: int | None
    scored: int
    failed: int
    skipped: int
    seconds: float
    resumed: bool
    status: RunStatus = RunStatus.RUNNING
    options: Options = field(default_factory=Options)
    calls: int = 0
    paid_rows: int = 0
    money: float = 0.0
    at: Key | None = None
    kind: RunKind = RunKind.BACKFILL

    @property
    def spent(self) -> bool:
        """Whether the budget allows no further call of one row, at prices of zero."""
        cap = self.options.cap
        return cap is not None and cap.rows_left(self.calls, self.paid_rows, self.money, 0.0, 0.0) == 0

    @property
    def done(self) -> int:
        """Rows that are dealt with."""
        return self.scored + self.failed + self.skipped


def begin(
    engine: Engine,
    name: str | None = None,
    options: Options | None = None,
    kind: RunKind = RunKind.BACKFILL,
) -> BackfillRun:
    """Start a run over the keys that are there now, or pick up the live one with the options that it has.

    Raises:
        NotAppliedError, StaleDefinitionError: `apply` has to be run first.
        ConfigurationError: the database does not take one of the options, or nothing tells which rows are outdated.
        RefusedError: the live one has other options, or is of the other kind.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    asked = options or Options()
    if asked.cap is not None and asked.cap.unit == "money" and not prediction.model.priced:
        raise ConfigurationError(
            f"--budget {asked.budget} is money, and the model of {m.name} has neither cost_per_call nor cost_per_row"
        )
    with engine.database(prediction).transaction() as transaction:
        share_prediction(transaction, m)
        _refuse_other(transaction, m, kind)
        live = _live(transaction, m, kind)
        if live is None:
            _start(transaction, m, kind, asked)
        run = _read(transaction, m, live or _live(transaction, m, kind), resumed=live is not None)
        if live is not None and _raises_budget(asked, run.options):
            options_now = replace(run.options, budget=asked.budget)
            stored = json.dumps(options_now.as_dict())
            transaction.execute(m.render("keep_options"), run=run.id, options=stored)
            run = replace(run, options=options_now)
            asked = Options()
    if run.options.scheduled and not asked.scheduled:
        raise RefusedError(
            f"a rescore of {m.name} by max_age is under way, and Celery's workers do it; "
            f"`rowscore rescore {m.name} --cancel` ends it"
        )
    if asked and asked != run.options:
        raise RefusedError(
            f"a {kind.value} of {m.name} is under way {f'with {run.options}' if run.options else 'without options'}; "
            f"call it without any to go on with it, or end it with --cancel"
        )
    return run


def _raises_budget(asked: Options, known: Options) -> bool:
    """Whether all that is asked for is another budget in place of the one there is."""
    return None not in (asked.budget, known.budget) and asked == Options(budget=asked.budget)


def _refuse_other(transaction: Transaction, m: Materialisation, kind: RunKind) -> None:
    """One run at a time: rows of the one could not be told from those of the other in what is left to do."""
    for other in (RunKind.BACKFILL, RunKind.RESCORE):
        if other is not kind and _live(transaction, m, other) is not None:
            command = f"`rowscore {other.value} {m.name}`"
            raise RefusedError(
                f"a {other.value} of {m.name} is under way, and there is one run at a time: {command} goes on with "
                f"it, and with --cancel ends it"
            )


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run with some options would be about.

    Attributes:
        m: the prediction with the condition that its rows have to meet.
        lower: its first key; None: from the beginning.
        upper: its last key, which is there now; None where the table is empty.
        total: rows that it would deal with; None where nobody knows.
        options: with what the database's clock decides.
    """

    m: Materialisation
    lower: Key | None
    upper: Key | None
    total: int | None
    kind: RunKind
    options: Options

    @property
    def bounds(self) -> dict[str, str]:
        """The keys as parameters."""
        lower = bind_key("lower", self.lower) if self.lower is not None else {}
        return lower | (bind_key("upper", self.upper) if self.upper is not None else {})


def scope(transaction: Transaction, m: Materialisation, kind: RunKind, options: Options) -> Scope:
    """Look at the keys and count the rows.

    Raises:
        ConfigurationError: the database does not take one of the options, or nothing tells which rows are outdated.
    """
    if kind is RunKind.RESCORE:
        options = _dated(transaction, m, options)
    if options.where is not None:
        check_condition(transaction, m, options.where, "--where")
    lower = _typed_key(transaction, m, options.from_key, "--from-key")
    to = _typed_key(transaction, m, options.to_key, "--to-key")
    bounds = bind_key("upper", to) if to is not None else {}
    last = transaction.value(m.render("last_key", upper=to is not None), **bounds)
    # Of a table that is empty up to there nothing is walked: without a bound new rows would be.
    upper = to if last is None else tuple(listed(last))
    own = Scope(restricted(m, kind, options), lower, upper, None, kind, options)
    return replace(own, total=_total(transaction, own))


def _dated(transaction: Transaction, m: Materialisation, options: Options) -> Options:
    """The options with the moment from which on rows are not outdated, by the database's clock."""
    if options.age is None and m.prediction.version is None:
        where = f"predictions.{m.name}"
        raise ConfigurationError(
            f'{where} has no version, so nothing tells which model scored a row; add version = {{ column = "'
            f'{m.name}_version", value = "1" }} and run `rowscore apply {m.name}`, or say --older-than 30d'
        )
    clock: Any = transaction.row(m.render("tell_time"))
    moment = (instant(clock.clock) or clock.clock) - (options.age or timedelta())
    before = moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return replace(options, before=before)


def _start(transaction: Transaction, m: Materialisation, kind: RunKind, options: Options) -> None:
    """A new run; one that somebody else starts meanwhile is left alone."""
    about = scope(transaction, m, kind, options)
    # Who begins a run of the other kind at the same moment waits for this row, and then sees this one.
    transaction.row(m.render("lock_run"), prediction=m.name, kind=RunKind.DRAIN.value)
    _refuse_other(transaction, m, kind)
    transaction.execute(
        m.render("start_run"),
        prediction=m.name,
        kind=kind.value,
        lower=None if about.lower is None else json.dumps(about.lower),
        upper=None if about.upper is None else json.dumps(about.upper),
        total=about.total,
        options=json.dumps(about.options.as_dict()),
    )


def live(engine: Engine, name: str | None = None) -> BackfillRun | None:
    """The backfill or rescore that is running or paused, if one is.

    Raises:
        NotAppliedError, StaleDefinitionError: this process may not score the prediction.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction() as transaction:
        share_prediction(transaction, m)
        found = [_live(transaction, m, kind) for kind in RunKind if kind.once]
        run = next((run for run in found if run is not None), None)
        return None if run is None else _read(transaction, m, run, resumed=True)


def change(
    engine: Engine, name: str | None, after: RunStatus, kind: RunKind = RunKind.BACKFILL
) -> BackfillRun:
    """Pause, resume or cancel the live run of that kind; who works on it notices with the next window.

    Raises:
        RefusedError: none is live.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction(lock_timeout="5s") as transaction:
        share_prediction(transaction, m)
        run: Any = transaction.row(m.render("lock_run"), prediction=m.name, kind=kind.value)
        if run is None:
            raise RefusedError(f"no {kind.value} of {m.name} is under way")
        _change(transaction, m, run.id, RunStatus(run.status), after)
        if after is RunStatus.CANCELLED:
            transaction.execute(m.render("void_leases"), run=run.id)
        return _read(transaction, m, run.id, resumed=True)


def _change(
    transaction: Transaction, m: Materialisation, run: int, before: RunStatus, after: RunStatus
) -> None:
    if (before, after) in RUN_TRANSITIONS:
        over = after in (RunStatus.FINISHED, RunStatus.CANCELLED)
        transaction.execute(
            m.render("change_run"), run=run, before=before.value, after=after.value, over=over
        )


def work(
    engine: Engine,
    name: str | None,
    run: BackfillRun,
    progress: Progress,
    waits: Callable[[str], None],
    *,
    seconds: float = math.inf,
) -> Summary:
    """Score windows until the run is finished, the process is told to stop, or a person has to act.

    Args:
        progress: told after each batch.
        waits: told why, whenever it has to wait.
        seconds: its time, looked at after each batch.

    Raises:
        RowscoreError: the model refuses in a way that no waiting mends.
    """
    total = Summary(engine.prediction(name).name)
    held = 0
    until = time.monotonic() + seconds
    while not engine.stop.is_set() and (left := until - time.monotonic()) > 0:
        drain = drain_of(engine, name, run, seconds=left, progress=progress)
        summary = drain.run()
        merge(total, summary)
        held = held + 1 if summary.ended == HELD else 0
        if summary.empty:
            finish(engine, name, run)
            break
        if summary.spent:
            break
        if summary.permanent:
            raise RowscoreError(f"the model cannot be used as it is configured: {summary.fault}")
        if held >= FRUITLESS_PASSES:
            total.ended = "other sessions hold the rows that are left; run it again later"
            break
        if summary.retry_after is not None:
            if summary.retry_after > until - time.monotonic():
                total.retry_after = summary.retry_after
                break
            waits(summary.fault or summary.ended)
            engine.stop.wait(summary.retry_after)
    return total


def drain_of(
    engine: Engine, name: str | None, run: BackfillRun, *, seconds: float, progress: Progress | None = None
) -> Drain:
    """The loop over this run's windows."""
    return Drain(
        engine,
        name,
        kind=run.kind,
        seconds=seconds,
        progress=progress,
        run=run.id,
        options=run.options,
    )


def finish(engine: Engine, name: str | None, run: BackfillRun) -> None:
    """The last look found no row left; a run that was cancelled or paused meanwhile stays so.

    The run is locked as for a lease: by its number first, two that finish at once would deadlock on MariaDB over the
    index that has its status.
    """
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction(lock_timeout="5s") as transaction:
        transaction.row(m.render("lock_run"), prediction=m.name, kind=run.kind.value)
        _change(transaction, m, run.id, RunStatus.RUNNING, RunStatus.FINISHED)


def read(engine: Engine, name: str | None, run: BackfillRun) -> BackfillRun:
    """The run's progress now, all workers counted."""
    prediction = engine.prediction(name)
    m = engine.materialisation(prediction)
    with engine.database(prediction).transaction() as transaction:
        return _read(transaction, m, run.id, resumed=run.resumed)


def _live(transaction: Transaction, m: Materialisation, kind: RunKind) -> Any:
    return transaction.value(m.render("find_run"), prediction=m.name, kind=kind.value)


def _typed_key(transaction: Transaction, m: Materialisation, text: str | None, option: str) -> Key | None:
    """A key that a person typed, as the database writes it."""
    if text is None:
        return None
    try:
        parts = read_key(text, len(m.key))
        for column, part in zip(m.key, parts, strict=True):
            if column.native:
                int(part)
        with transaction.connection.begin_nested():
            found = listed(transaction.value(m.render("check_key"), **bind_key("key", parts)))
    except ValueError as error:
        named = ", ".join(column.name for column in m.key)
        raise ConfigurationError(
            f"{option}: {text!r} is no key of {m.table.label} ({named}): {error}"
        ) from error
    except (DBAPIError, transaction.capabilities.driver_error) as error:
        raise _not_a_key(transaction.capabilities, m, option, text, error) from error
    if None in found:
        raise ConfigurationError(f"{option}: {text!r} is no key of {m.table.label}")
    return tuple(map(str, found))


def _not_a_key(
    capabilities: Capabilities, m: Materialisation, option: str, text: str, error: Exception
) -> RowscoreError:
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    reason = one_line(capabilities.message(origin))
    return ConfigurationError(f"{option}: {text!r} is no key of {m.table.label}: {reason}")


def _total(transaction: Transaction, about: Scope) -> int | None:
    """Rows that it will deal with; of a very large table an estimate, and of a part of one nobody knows."""
    total: int | None
    options = about.options
    if about.m.table.estimated_rows > COUNT_UP_TO:
        part = (
            options.where or options.only_missing or options.from_key or options.to_key or options.older_than
        )
        total = None if part else about.m.table.estimated_rows
    else:
        lower, upper = about.lower is not None, about.upper is not None
        statement = about.m.render("count_state", claims=about.kind.claims, lower=lower, upper=upper)
        total = int(transaction.value(statement, **about.bounds))
    most = options.max_rows
    return total if most is None else most if total is None else min(total, most)


def _read(transaction: Transaction, m: Materialisation, run: int, *, resumed: bool) -> BackfillRun:
    row = transaction.row(m.render("read_run"), run=run)
    if row is None:
        raise RowscoreError(f"run {run} of {m.name} is gone; was the prediction removed?")
    lowest: Any = transaction.row(m.render("next_lease", start=None), run=run)
    at = lowest.lo if lowest is not None else row.pos
    options = json.loads(row.options) if isinstance(row.options, str) else row.options
    return BackfillRun(
        id=row.id,
        total=row.rows_total,
        scored=row.rows_scored,
        failed=row.rows_failed,
        skipped=row.rows_skipped,
        seconds=float(row.seconds),
        resumed=resumed,
        status=RunStatus(row.status),
        options=options_of(options),
        calls=row.spent_calls,
        paid_rows=row.spent_rows,
        money=float(row.spent_money),
        at=None if at is None else tuple(map(str, listed(at))),
        kind=RunKind(row.kind),
    )


def merge(total: Summary, part: Summary) -> None:
    """Count what another drain did, of which the last one says why it ended."""
    for name in COUNTED:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.seconds += part.seconds
    total.ended, total.fault, total.empty = part.ended, part.fault, part.empty
    total.throttled = part.throttled
    total.spent = part.spent
    total.throttled, total.retry_after = part.throttled, part.retry_after
    total.rows_per_claim, total.rows_per_call = part.rows_per_claim, part.rows_per_call
