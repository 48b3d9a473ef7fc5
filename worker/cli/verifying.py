"""`rowscore verify`: finds rows whose inputs changed unseen, and puts them back into the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.figures import counted, duration
from worker.cli.output import Output
from worker.cli.progress import Course, Progress
from worker.cli.session import INTERRUPTED, RUN, Json, Name, session_of

if TYPE_CHECKING:
    from worker.verification import Verification


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=RUN)(verify)


def verify(
    context: typer.Context,
    *,
    name: Name = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, and change nothing.")] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown", help="Rows without a fingerprint to compare with, too: each is paid for again."
        ),
    ] = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Take those rows to be as they were scored instead: nobody pays, and they get one.",
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Compare all rows with the inputs that were scored, and let those be scored again that changed.

    For changes that no trigger noticed: a bulk load that went past it, or on_input_change = "fingerprint".
    It calls no model, and waits for nobody: rows that others hold are left for the next time. Old
    predictions stay readable. Ctrl-C leaves everything right.

    Example:
        rowscore verify churn --dry-run
        rowscore verify churn --accept
    """
    from worker.verification import verify as walk

    if unknown and accept:
        raise typer.BadParameter("--unknown has rows scored again, --accept does not: give one of them")
    session = session_of(context)
    output = session.output(as_json)
    with session.engine(stoppable=True) as engine:
        prediction = engine.prediction(name)
        course = Course()
        if prediction.fingerprint_column is not None:
            course.total = max(engine.materialisation(prediction).table.estimated_rows, 0) or None
        with Progress(prediction.name, course) as progress:
            found = walk(
                engine,
                prediction.name,
                dry_run=dry_run,
                unknown=unknown,
                accept=accept,
                progress=lambda found, rows: progress.batch(found.rows, 0, rows),
                waits=progress.wait,
            )
    _report(output, found, dry_run=dry_run, settled=(unknown or accept) and not dry_run)
    document = found.as_dict() | {"dry_run": dry_run, "interrupted": session.interrupted}
    output.document({key: value for key, value in document.items() if key != "retry_after"})
    return INTERRUPTED if session.interrupted else 0


def _report(output: Output, found: Verification, *, dry_run: bool, settled: bool) -> None:
    name = found.prediction
    stopped = "" if found.complete else "stopped: "
    output.say(
        f"{name}: {stopped}{counted(found.rows, 'row')} looked at in {duration(found.seconds)}: "
        f"{found.changed:,} changed since they were scored, {found.unknown:,} unknown.",
        "good" if found.complete and not found.changed else None,
    )
    if found.examples:
        more = ", ..." if found.changed > len(found.examples) else ""
        output.say(f"  changed: {', '.join(_key(key) for key in found.examples)}{more}")
    if not dry_run and (found.requeued or found.changed):
        waits = "waits" if found.requeued == 1 else "wait"
        output.say(f"  {counted(found.requeued, 'row')} {waits} to be scored again")
    if found.accepted:
        output.say(f"  {counted(found.accepted, 'row')} taken to be as they were scored")
    if found.held:
        output.say(f"  {counted(found.held, 'row')} held by others, left for the next time", "warn")
    if found.failing:
        output.say(
            f"  {counted(found.failing, 'row')} could not be compared, since an expression fails: {found.error}",
            "warn",
        )
    if found.unknown and not settled:
        output.say(
            f"  unknown: scored before fingerprints were kept, or under another definition; "
            f"`rowscore verify {name} --unknown` has them scored again, and paid for; --accept trusts them",
            "dim",
        )


def _key(key: tuple[str, ...]) -> str:
    return key[0] if len(key) == 1 else f"({', '.join(key)})"
