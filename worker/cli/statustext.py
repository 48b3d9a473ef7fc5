"""A prediction's status as lines for people; pure, so that each line is tested without a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.cli.figures import UNKNOWN, count, counted, duration, percent, rate
from worker.standing import (
    Activity,
    BackfillStatus,
    Circuit,
    Definition,
    Rows,
    Spread,
    Status,
    ThrottleStatus,
)

_LABEL = 11  # characters of the longest label
_MOST_LEASES = 8  # lines; a prediction has at most 64
_LONGEST = 300  # characters of a reason


@dataclass(frozen=True, slots=True)
class Line:
    """A line and how it is meant (a style of `output`)."""

    text: str
    style: str | None = None


def describe(status: Status) -> list[Line]:
    """The status, most important first."""
    lines = [Line(f"{status.prediction}  {status.table}", "strong")]
    if status.definition is None:
        return [*lines, _fact("definition", f"not applied yet: rowscore apply {status.prediction}", "warn")]
    lines += _definition(status.prediction, status.definition)
    if status.rows is not None:
        lines.append(_fact("rows", _rows(status.rows)))
        lines.append(_fact("waiting", _waiting(status.rows, status.oldest_waiting)))
    lines.append(_fact("freshness", _freshness(status)))
    if status.activity is not None:
        lines += _activity(status.activity)
    if status.learned is not None and status.learned.rows_per_claim is not None:
        calls = status.learned.rows_per_call
        text = f"{count(status.learned.rows_per_claim)} rows a claim"
        lines.append(_fact("learned", text + (f", {count(calls)} a model call" if calls else "")))
    lines += _failures(status)
    if status.circuit is not None:
        lines += _circuit(status.circuit)
    if status.throttle is not None:
        lines += _throttle(status.prediction, status.throttle)
    runs = {"backfill": status.backfill, "rescore": status.rescore}
    lines += [_fact(kind, _backfill(run)) for kind, run in runs.items() if run is not None]
    lines += _leases(status)
    if status.left is not None:
        text = f"{status.left} left the file and is still in the database: rowscore remove {status.left}"
        lines.append(_fact("shadow", text, "warn"))
    return lines


def _fact(label: str, text: str, style: str | None = None) -> Line:
    return Line(f"  {label.ljust(_LABEL)}  {text}", style)


def _definition(name: str, definition: Definition) -> Iterator[Line]:
    version = f", model version {definition.version}" if definition.version else ""
    yield _fact(
        "definition", f"{definition.hash}{version}, applied {definition.applied_at:%Y-%m-%d %H:%M %Z}"
    )
    for difference in definition.drift:
        yield _fact("", f"{difference}: rowscore apply {name}, or update this file", "bad")


def _rows(rows: Rows) -> str:
    about = "" if rows.exact else "~"

    def shown(number: int | None, word: str) -> str:
        return f"{word} {UNKNOWN}" if number is None else f"{about if number else ''}{count(number)} {word}"

    total = UNKNOWN if rows.total is None else about + count(rows.total)
    parts = [shown(rows.scored, "scored"), shown(rows.existing, "existing"), shown(rows.skipped, "skipped")]
    return f"{total}: {', '.join([*parts, f'{count(rows.failed)} failed'])}"


def _waiting(rows: Rows, oldest: float | None) -> str:
    if rows.pending is None:
        return UNKNOWN
    if rows.pending == 0:
        return "0"
    stale = f", {count(rows.stale)} of them with an old prediction" if rows.stale else ""
    since = f", the oldest for {duration(oldest)}" if oldest is not None else ""
    return f"{count(rows.pending)}{'+' if rows.more_pending else ''}{stale}{since}"


def _freshness(status: Status) -> str:
    fresh = status.freshness
    if fresh is not None:
        over = counted(fresh.rows, "arrival")
        return f"p50 {duration(fresh.p50)}, p99 {duration(fresh.p99)} over the last {over}"
    if status.arrived_at is None:
        return f"{UNKNOWN}: arrived_at in the file would name the column of arrival times"
    return f"{UNKNOWN}: of the newest rows none arrived within the hour and is scored"


def _activity(activity: Activity) -> Iterator[Line]:
    last = f"last batch {duration(activity.idle)} ago" if activity.idle is not None else "no batch yet"
    if not activity.batches:
        yield _fact("speed", f"nothing in the last 5 min; {last}")
        return
    speed = rate(activity.scored, activity.busy_seconds)
    busy = f"busy for {duration(activity.busy_seconds)} of the last 5 min"
    yield _fact("speed", f"{speed} ({counted(activity.scored, 'row')}; {busy}); {last}")
    lost = f"; {count(activity.lost)} lost to changes" if activity.lost else ""
    sizes = "" if activity.batch_rows is None else f"; {_spread(activity.batch_rows)} rows"
    yield _fact("batches", f"{count(activity.batches)}{sizes}{lost}")
    if activity.calls and activity.call_rows is not None and activity.call_seconds is not None:
        yield _fact("model calls", _calls(activity, activity.call_rows, activity.call_seconds))
    if activity.remembered or activity.equal:
        yield _fact("not sent", _not_sent(activity))
    if activity.error:
        yield _fact("last error", _shortened(activity.error), "warn")


def _calls(activity: Activity, rows: Spread, seconds: Spread) -> str:
    times = f"{duration(seconds.min)} / {duration(seconds.avg)} / {duration(seconds.max)}"
    others = {
        "of a single row": activity.single_calls,
        "repeated": activity.retries,
        "throttled": activity.throttled,
    }
    more = "".join(f"; {count(number)} {word}" for word, number in others.items() if number)
    return f"{count(activity.calls)}; {_spread(rows)} rows; {times}{more}"


def _not_sent(activity: Activity) -> str:
    """`99,000 of 100,000 rows: 98,000 remembered, 1,000 equal to others`."""
    kinds = {"remembered": activity.remembered, "equal to others": activity.equal}
    parts = ", ".join(f"{count(rows)} {word}" for word, rows in kinds.items() if rows)
    return f"{count(sum(kinds.values()))} of {counted(activity.asked, 'row')}: {parts}"


def _spread(spread: Spread) -> str:
    """Least, mean, most: `500 / 4,800 / 5,000`."""
    return f"{count(spread.min)} / {count(spread.avg)} / {count(spread.max)}"


def _failures(status: Status) -> Iterator[Line]:
    failures = status.failures
    if failures is None or not failures.rows:
        return
    due = f", {count(failures.due)} due for another try" if failures.due else ""
    final = f", {count(failures.final)} not tried again by themselves" if failures.final else ""
    text = f"{counted(failures.rows, 'row')}{due}{final}; why: rowscore failures {status.prediction}"
    yield _fact("failures", text, "warn")


def _circuit(circuit: Circuit) -> Iterator[Line]:
    if not circuit.failures and not circuit.open:
        return
    when = f"open for {duration(circuit.seconds)} more" if circuit.open else "closed, on trial"
    times = f", {count(circuit.failures)} in a row" if circuit.failures else ""
    text = f"{when}: {_shortened(circuit.reason or '')} ({circuit.failure_class}{times})"
    yield _fact("circuit", text, "bad" if circuit.open else "warn")


def _throttle(name: str, throttle: ThrottleStatus) -> Iterator[Line]:
    if throttle.paused is not None:
        left = "" if throttle.pause_left is None else f", {duration(throttle.pause_left)} left"
        because = f": {_shortened(throttle.pause_reason)}" if throttle.pause_reason else ""
        text = f"for {duration(throttle.paused)}{left}{because}; goes on with: rowscore resume {name}"
        yield _fact("paused", text, "warn")
    elif throttle.kind is not None:
        text = f"for {duration(throttle.since)}: {_shortened(throttle.reason or '')} ({throttle.kind})"
        yield _fact("throttled", text, "warn")


def _backfill(backfill: BackfillStatus) -> str:
    whole = ""
    if backfill.total:  # never all of it: the last look, which finds nothing left, is still to come
        done = min(backfill.done, backfill.total - 1)
        whole = f" of {count(backfill.total)} ({percent(done, backfill.total)})"
    text = f"{count(backfill.done)}{whole}"
    if backfill.rows_per_second:
        text += f", {rate(backfill.rows_per_second, 1.0)}"
        if backfill.total:
            text += f", {duration(max(backfill.total - backfill.done, 0) / backfill.rows_per_second)} left"
    elif backfill.reason is None:
        text += ", nobody works on it now"
    text += f", {count(backfill.failed)} failed" if backfill.failed else ""
    text += f", waiting: {backfill.reason}" if backfill.reason else ""
    if backfill.most_workers:
        most = counted(backfill.most_workers, "worker")
        text += f"; {backfill.workers} of {most}, beside {backfill.most_live} for new rows"
    return text + (f"; {backfill.options}" if backfill.options else "")


def _leases(status: Status) -> Iterator[Line]:
    for place, lease in enumerate(status.leases[:_MOST_LEASES]):
        left = (
            f"{duration(lease.seconds_left)} left"
            if lease.seconds_left > 0
            else "expired, free to be taken over"
        )
        tries = f", attempt {lease.attempts}" if lease.attempts > 1 else ""
        keys = f"{', '.join(lease.lo)} … {', '.join(lease.hi)}"
        yield _fact(
            "leases" if not place else "", f"{lease.kind} by {lease.owner}, {left}{tries}, keys {keys}"
        )
    if len(status.leases) > _MOST_LEASES:
        yield _fact("", f"and {count(len(status.leases) - _MOST_LEASES)} more")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
