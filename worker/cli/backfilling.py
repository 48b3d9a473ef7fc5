"""`rowscore backfill`: scores the rows that were there before `apply`."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import walking
from worker.cli.session import RUN, Json, Name, session_of
from worker.states import RunKind


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=RUN)(backfill)


def backfill(
    context: typer.Context,
    *,
    name: Name = None,
    from_key: walking.FromKey = None,
    to_key: walking.ToKey = None,
    where: walking.Where = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Leave rows alone that hold an answer already.")
    ] = False,
    max_rows: walking.MaxRows = None,
    rate: walking.Rate = None,
    between: walking.Between = None,
    budget: walking.Budget = None,
    workers: walking.Workers = None,
    celery: walking.Celery = False,
    dry_run: walking.DryRun = False,
    sample: walking.Sample = None,
    pause: walking.Pause = False,
    resume: walking.Resume = False,
    cancel: walking.Cancel = False,
    as_json: Json = False,
) -> int:
    """Score the rows that were there before `apply`, once.

    May be stopped at any time, by Ctrl-C or worse: the next call, without options, goes on where it
    stopped and as it was begun, and no row is paid for twice. --pause, --resume and --cancel are for
    another terminal; whoever works on it notices with the next batch. Exit status 130 when it was stopped.

    Example:
        rowscore backfill churn
        rowscore backfill churn --where "created_at >= '2026-01-01'" --rate 5000/s --workers 2
        rowscore backfill churn --dry-run --sample 500
        rowscore backfill churn --pause
    """
    from worker.options import Options

    session = session_of(context)
    options = Options(from_key, to_key, where, only_missing, max_rows, rate, between, celery, budget)
    words = walking.words_of(pause=pause, resume=resume, cancel=cancel)
    asked = walking.Asked(RunKind.BACKFILL, options, workers, dry_run, sample, words)
    return walking.carry_out(session, session.output(as_json), name, asked)
