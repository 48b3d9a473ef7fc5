"""`rowscore rescore`: scores again what another model version scored, or what was scored too long ago."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from worker.cli import shadowing, walking
from worker.cli.session import RUN, Json, Name, session_of
from worker.states import RunKind


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=RUN)(rescore)


def rescore(
    context: typer.Context,
    *,
    name: Name = None,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='Rows scored longer ago than that, by any version: "30d".'),
    ] = None,
    from_key: walking.FromKey = None,
    to_key: walking.ToKey = None,
    where: walking.Where = None,
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
    shadow: shadowing.Shadow = False,
    promote: shadowing.Promote = False,
    rollback: shadowing.Rollback = False,
    allow_missing: shadowing.AllowMissing = False,
    allow_copy: shadowing.AllowCopy = False,
    as_json: Json = False,
) -> int:
    """Score again the rows that another model version scored.

    For after a change of `version.value` and `rowscore apply`. Each row keeps its old prediction, and
    stays scored, until the new one replaces it; its version column says which one it has. A row that the
    new version fails on becomes failed, with its error and its old prediction. Rows that wait, failed or
    were skipped, or were there before `apply`, are left to their own ways. As for a backfill, it may be
    stopped at any time; the next call goes on where it stopped, and no row is paid for twice.

    With --shadow all rows are scored by the shadow's model, into its own columns: a backfill of that
    prediction. --promote lets the two change places at once for all readers, and --rollback back; both
    print what to change in the file.

    Example:
        rowscore rescore churn
        rowscore rescore churn --rate 500/s --between 22:00-06:00
        rowscore rescore churn --older-than 30d --dry-run
        rowscore rescore churn --pause
        rowscore rescore churn --shadow --workers 2
        rowscore rescore churn --promote --dry-run
    """
    from worker.options import Options

    session = session_of(context)
    options = Options(
        from_key=from_key,
        to_key=to_key,
        where=where,
        max_rows=max_rows,
        rate=rate,
        between=between,
        celery=celery,
        budget=budget,
        older_than=older_than,
    )
    words = walking.words_of(pause=pause, resume=resume, cancel=cancel)
    asked = walking.Asked(RunKind.RESCORE, options, workers, dry_run, sample, words)
    allowed = shadowing.Allowed(missing=allow_missing, copy=allow_copy)
    output = session.output(as_json)
    if promote or rollback:
        alone = not (options or workers is not None or sample is not None or words or shadow)
        way = shadowing.way_of(promote=promote, rollback=rollback, alone=alone)
        return shadowing.change_places(session, output, name, way, allowed, dry_run=dry_run)
    if allowed.missing or allowed.copy:
        raise typer.BadParameter("--allow-missing and --allow-copy are for --promote and --rollback")
    if shadow:
        name = shadowing.shadow_name(session, name, older_than)
        asked = replace(asked, kind=RunKind.BACKFILL)
    return walking.carry_out(session, output, name, asked)
