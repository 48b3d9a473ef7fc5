"""`rowscore failures`: rows in quarantine and why, and their way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.figures import count, counted, duration
from worker.cli.output import Output
from worker.cli.session import LOOK, Json, Name, session_of

if TYPE_CHECKING:
    from worker.engine import Engine
    from worker.standing import FailedRow

_LONGEST = 100  # characters of a message in the table; --json has all of it


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LOOK)(failures)


def failures(
    context: typer.Context,
    *,
    name: Name = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most N rows (20).")
    ] = 20,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let all of them be scored again, whatever their next try.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the rows whose scoring failed, and why; --retry puts them back into the queue.

    Rows that fail are tried again by themselves, later and later, max_attempts times; --retry is for
    when the reason is mended.

    Example:
        rowscore failures churn --limit 50
        rowscore failures churn --retry
    """
    from worker.status import read_failures

    session = session_of(context)
    output = session.output(as_json)
    with session.engine() as engine:
        prediction = engine.prediction(name)
        if retry:
            _retry(engine, prediction.name, output)
            return
        totals, rows = read_failures(engine, prediction.name, limit=limit)
    _show(output, prediction.name, totals.rows, rows)
    found = [{"key": row.row_key, **_without_key(row)} for row in rows]
    output.document({"prediction": prediction.name, **asdict(totals), "failures": found})


def _retry(engine: Engine, name: str, output: Output) -> None:
    from worker.upkeep import retry_failures

    retried = retry_failures(engine, name, everything=True)
    waits = "waits" if retried == 1 else "wait"
    output.say(
        f"{name}: {counted(retried, 'row')} {waits} to be scored again."
        if retried
        else f"{name}: no row is failed."
    )
    output.document({"prediction": name, "retried": retried})


def _show(output: Output, name: str, total: int, rows: Sequence[FailedRow]) -> None:
    if not rows:
        output.say(f"{name}: no row has failed.", "good")
        return
    output.say(f"{name}: {counted(total, 'row')} failed")
    headers = ("KEY", "TRIES", "FAILED", "NEXT TRY", "CLASS", "WHY")
    output.table(headers, [_cells(row) for row in rows], right=(1,), indent=2)
    if total > len(rows):
        output.say(f"  and {count(total - len(rows))} more: --limit {total}", "dim")


def _cells(row: FailedRow) -> tuple[str, ...]:
    message = " ".join(row.message.split())
    return (
        ", ".join(row.row_key),
        str(row.attempts),
        f"{duration((datetime.now(UTC) - row.last_failed_at).total_seconds())} ago",
        _next(row.next_retry_at),
        row.failure_class,
        message if len(message) <= _LONGEST else message[: _LONGEST - 1] + "…",
    )


def _next(when: datetime | None) -> str:
    if when is None:
        return "never"
    seconds = (when - datetime.now(UTC)).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else "now"


def _without_key(row: FailedRow) -> dict[str, Any]:
    return {field: value for field, value in asdict(row).items() if field != "row_key"}
