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
    from worker.engine import Engine
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
        "--iam",
        help="Print the AWS commands that let the cluster, or workers, call the model's service; run none.",
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
    `rowscore backfill`: nothing is scored, and nobody pays, by `apply` itself. With a shadow in the
    file both are applied.

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
        if grants is not None:
            _print_grants(output, prediction.name, grants, database, engine.materialisation(prediction))
            return
        documents = []
        for each in _with_shadow(engine, prediction):
            materialisation = engine.materialisation(each)
            if dry_run:
                changes = make(database, materialisation, allow_copy=allow_copy, dry_run=True)
                print_sql(output, f"rowscore apply {each.name}", changes, database)
            else:
                started = time.monotonic()
                changes = make(
                    database,
                    materialisation,
                    allow_copy=allow_copy,
                    on_change=teller(output),
                    on_wait=output.waiting,
                )
                label = materialisation.table.label
                _summarise(output, changes, started, f"{each.name} is applied to {label}")
                if changes:
                    output.say(f"Rows that come from now on: rowscore run {each.name}, or Celery.")
                    output.say(f"Rows that were there before: rowscore backfill {each.name}")
            documents.append(_document(each.name, dry_run, changes))
    output.document(_together(documents))


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
    be dropped is named, and then nothing happens. A shadow goes with its prediction, and alone by its
    own name.

    Example:
        rowscore remove churn
        rowscore remove churn --drop-outputs --yes
    """
    from worker.apply import remove as undo

    session = session_of(context)
    output = session.output(as_json)
    with session.engine() as engine:
        listed = _removed(engine, name)
        database = engine.database(listed[-1])
        steps = [(each.name, partial(undo, database, each, drop_outputs=drop_outputs)) for each in listed]
        planned = [(each, make, make(dry_run=True)) for each, make in steps]
        planned = [step for step in planned if step[2] or step[0] == listed[-1].name]
        documents = []
        if dry_run:
            for each, _, changes in planned:
                print_sql(output, f"rowscore remove {each}", changes, database)
                documents.append(_document(each, dry_run, changes))
        else:
            foreseen = [change for _, _, changes in planned for change in changes]
            if foreseen and not yes and not _confirmed(output, listed[-1].name, foreseen):
                output.note("nothing was changed")
                return 1
            for each, make, _ in planned:
                started = time.monotonic()
                changes = make(on_change=teller(output), on_wait=output.waiting)
                _summarise(output, changes, started, f"{each} is removed")
                documents.append(_document(each, dry_run, changes))
    output.document(_together(documents[::-1]))
    return 0


def _with_shadow(engine: Engine, prediction: Prediction) -> list[Prediction]:
    """The prediction, and after it its shadow where it has one."""
    others = engine.configuration.predictions.values()
    return [prediction, *(each for each in others if each.shadow_of == prediction.name)]


def _removed(engine: Engine, name: str | None) -> list[Prediction]:
    """What goes with the prediction of that name, that itself last: a shadow, even one that left the file."""
    from worker.config import SHADOW_SUFFIX, forgotten_shadow

    configuration = engine.configuration
    for live in configuration.predictions.values():
        if name is not None and name not in configuration.predictions and name == live.name + SHADOW_SUFFIX:
            return [forgotten_shadow(live)]
    prediction = engine.prediction(name)
    if prediction.shadow_of is not None:
        return [prediction]
    shadow = configuration.predictions.get(prediction.name + SHADOW_SUFFIX) or forgotten_shadow(prediction)
    ours = shadow.shadow_of == prediction.name
    return [shadow, prediction] if ours else [prediction]


def _together(documents: list[dict[str, object]]) -> dict[str, object]:
    """The first one's document, with the shadow's in it where there are two."""
    first, *others = documents
    return {**first, **({"shadow": others[0]} if others else {})}


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
    from worker.iam import cluster_access, worker_access

    own = worker_access(prediction)
    by_parameter = database.capabilities.calling.role_by_parameter
    access = own or cluster_access(prediction, by_parameter=by_parameter)
    if not output.as_json:
        who = "workers" if own is not None else "the cluster"
        output.say(f"# rowscore apply {prediction.name} --iam: lets {who} call {access.service}")
        output.say(": " + " ".join(f'"${{{name}:?}}"' for name in access.variables))
        for command in access.commands:
            output.say(command)
    output.document({"prediction": prediction.name, **asdict(access), "commands": access.commands})


def teller(output: Output) -> Callable[[Change], None]:
    """Says each change before it is made."""
    return lambda change: output.say(f"  {change.title}")


def _summarise(output: Output, changes: Sequence[Change], started: float, done: str) -> None:
    if not changes:
        output.say(f"{done}: nothing to do.")
    else:
        output.say(
            f"{done}: {counted(len(changes), 'change')} in {duration(time.monotonic() - started)}.", "good"
        )


def print_sql(output: Output, command: str, changes: Sequence[Change], database: Database) -> None:
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
