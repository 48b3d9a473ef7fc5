"""`rowscore apply` and `rowscore remove`: print each change as it is made, or its SQL for the DBA."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.figures import counted, duration
from worker.cli.output import Output, is_terminal
from worker.cli.session import SET_UP, Json, Name, session_of

if TYPE_CHECKING:
    from worker.changes import Change
    from worker.config import Prediction
    from worker.database import Database
    from worker.materialisation import Materialisation

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the SQL for psql or mysql, and change nothing.")
]
AllowCopy = Annotated[
    bool,
    typer.Option("--allow-copy", help="MySQL, MariaDB: copy the table where no column can be added else."),
]

Grants = Annotated[
    str | None,
    typer.Option(
        "--grants",
        metavar="ROLE",
        help="Print the SQL that lets ROLE score and do nothing else, and change nothing.",
        show_default=False,
    ),
]

Iam = Annotated[
    bool,
    typer.Option(
        "--iam", help="Print the AWS commands that let the cluster call the model's service, and run none."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=SET_UP)(apply)
    app.command(rich_help_panel=SET_UP)(remove)


def apply(
    context: typer.Context,
    *,
    name: Name = None,
    dry_run: DryRun = False,
    allow_copy: AllowCopy = False,
    grants: Grants = None,
    iam: Iam = False,
    as_json: Json = False,
) -> None:
    """Make what a prediction needs: columns, index, view, trigger.

    A second time it does nothing, and after a crash it goes on. Rows that are there already wait for
    `rowscore backfill`: nothing is scored, and nobody pays, by `apply` itself.

    Example:
        rowscore apply churn
        rowscore apply churn --dry-run > for-the-dba.sql
        rowscore apply churn --grants scorer
        rowscore apply churn --iam
    """
    from worker.apply import apply as make

    session = session_of(context)
    output = session.output(as_json)
    with session.engine() as engine:
        prediction = engine.prediction(name)
        database = engine.database(prediction)
        if iam:
            _print_access(output, prediction, database)
            return
        materialisation = engine.materialisation(prediction)
        if grants is not None:
            _print_grants(output, prediction.name, grants, database, materialisation)
            return
        if dry_run:
            changes = make(database, materialisation, allow_copy=allow_copy, dry_run=True)
            _print_sql(output, f"rowscore apply {prediction.name}", changes, database)
        else:
            started = time.monotonic()
            changes = make(
                database,
                materialisation,
                allow_copy=allow_copy,
                on_change=_teller(output),
                on_wait=output.waiting,
            )
            _summarise(
                output, changes, started, f"{prediction.name} is applied to {materialisation.table.label}"
            )
            if changes:
                output.say(f"Rows that come from now on: rowscore run {prediction.name}, or Celery.")
                output.say(f"Rows that were there before: rowscore backfill {prediction.name}")
    output.document(_document(prediction.name, dry_run, changes))


def remove(
    context: typer.Context,
    *,
    name: Name = None,
    drop_outputs: Annotated[
        bool,
        typer.Option(
            "--drop-outputs", help="Drop the predictions too: the output columns that `apply` made."
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> int:
    """Undo `apply`; the predictions stay unless --drop-outputs is given.

    Columns that were there before `apply` always stay. Something of yours that depends on what would
    be dropped is named, and then nothing happens.

    Example:
        rowscore remove churn
        rowscore remove churn --drop-outputs --yes
    """
    from worker.apply import remove as undo

    session = session_of(context)
    output = session.output(as_json)
    with session.engine() as engine:
        prediction = engine.prediction(name)
        database = engine.database(prediction)
        make = partial(undo, database, prediction, drop_outputs=drop_outputs)
        changes = make(dry_run=True)
        if dry_run:
            _print_sql(output, f"rowscore remove {prediction.name}", changes, database)
        else:
            if changes and not yes and not _confirmed(output, prediction.name, changes):
                output.note("nothing was changed")
                return 1
            started = time.monotonic()
            changes = make(on_change=_teller(output), on_wait=output.waiting)
            _summarise(output, changes, started, f"{prediction.name} is removed")
    output.document(_document(prediction.name, dry_run, changes))
    return 0


def _print_grants(
    output: Output, name: str, role: str, database: Database, materialisation: Materialisation
) -> None:
    from worker.doctor.grants import worker_grants

    with database.transaction(statement_timeout="30s") as transaction:
        statements = worker_grants(transaction, materialisation, role)
    if not output.as_json:
        output.say(
            f"-- rowscore apply {name} --grants {role}: what a worker needs, to be run by whoever may grant it"
        )
        for statement in statements:
            output.say(statement)
    output.document({"prediction": name, "role": role, "statements": statements})


def _print_access(output: Output, prediction: Prediction, database: Database) -> None:
    from worker.iam import cluster_access

    access = cluster_access(prediction, by_parameter=database.capabilities.calling.role_by_parameter)
    if not output.as_json:
        names = ["REGION", "ACCOUNT", "CLUSTER"] + (["PARAMETERS"] if access.parameter else [])
        output.say(f"# rowscore apply {prediction.name} --iam: lets the cluster call {access.service}")
        output.say(": " + " ".join(f'"${{{name}:?}}"' for name in names))
        for command in access.commands:
            output.say(command)
    output.document({"prediction": prediction.name, **asdict(access), "commands": access.commands})


def _teller(output: Output) -> Callable[[Change], None]:
    return lambda change: output.say(f"  {change.title}")


def _summarise(output: Output, changes: Sequence[Change], started: float, done: str) -> None:
    if not changes:
        output.say(f"{done}: nothing to do.")
    else:
        output.say(
            f"{done}: {counted(len(changes), 'change')} in {duration(time.monotonic() - started)}.", "good"
        )


def _print_sql(output: Output, command: str, changes: Sequence[Change], database: Database) -> None:
    """SQL that the database's own client executes; all words are comments.

    Only the document goes out where JSON was asked for.
    """
    if output.as_json:
        return
    if not changes:
        output.say(f"-- {command}: nothing to do")
        return
    output.say(f"-- {command}: {counted(len(changes), 'change')}, to be run in this order by")
    client, *advice = database.capabilities.alteration.client
    output.say(f"--   {client}")
    for line in advice:
        output.say(f"-- {line}")
    for number, change in enumerate(changes, 1):
        output.say(f"\n-- {number}. {change.title}")
        if change.lock:
            output.say(f"-- lock: {change.lock}")
        output.say(change.script)


def _confirmed(output: Output, name: str, changes: Sequence[Change]) -> bool:
    from worker.errors import ConfigurationError

    if not is_terminal(sys.stdin):
        raise ConfigurationError(
            f"remove {name}: nobody is there to be asked; say --yes, or --dry-run to look first"
        )
    for change in changes:
        output.note(f"  {change.title}", "warn" if change.destructive else None)
    return typer.confirm(f"Remove {name}?", err=True)


def _document(name: str, dry_run: bool, changes: Sequence[Change]) -> dict[str, object]:
    return {"prediction": name, "dry_run": dry_run, "changes": [asdict(change) for change in changes]}
