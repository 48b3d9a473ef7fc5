"""`rowscore init`: looks at a database, writes a first rowscore.toml, and says what to do next; thin."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from worker.cli.figures import count, counted
from worker.cli.output import Output, is_terminal
from worker.cli.session import Json, session_of

if TYPE_CHECKING:
    from worker.discovery.choices import Candidate
    from worker.discovery.draft import Draft
    from worker.discovery.facts import FoundTable, Surroundings

_VARIABLE = "DATABASE_URL"
_LISTED = 20

TableOption = Annotated[
    str | None, typer.Option("--table", metavar="TABLE", help="The table whose rows are to be scored.")
]
FileOption = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write; - is stdout, else rowscore.toml."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")]
UrlOption = Annotated[
    str | None, typer.Option("--database", metavar="URL", help=f"The database; else ${_VARIABLE}.")
]


def init(
    context: typer.Context,
    *,
    table: TableOption = None,
    file: FileOption = None,
    force: Force = False,
    database: UrlOption = None,
    as_json: Json = False,
) -> None:
    """Look at a database and write a first rowscore.toml.

    It finds tables with a key, functions that call a model, and triggers that call one inside every INSERT.
    It only reads the catalogue. The file holds no password: it names $DATABASE_URL.

    Exit status 2 when several tables could be meant and none was named.

    Example:
        rowscore init
        rowscore init --table orders --output -
    """
    from worker.discovery.choices import candidates, choose, propose

    session = session_of(context)
    target = _target(file, session.file, force=force)
    output = session.output(as_json or target is None)
    listed = candidates(_look(output, _url(database)))
    chosen = choose(listed, table) or _ask(listed)
    if chosen is None:
        _list(output, listed)
        if as_json:
            output.document({"candidates": [_candidate(item) for item in listed]})
        raise typer.Exit(2)
    draft = propose(chosen)
    text = _write(draft, None if as_json and file == "-" else target or sys.stdout)
    steps = _next(draft, target, known=database is None and bool(os.environ.get(_VARIABLE)))
    _describe(output, chosen, draft)
    _advise(output, target, steps)
    if as_json:
        name = None if target is None else str(target)
        output.document({"file": name, "toml": text, "next": steps, **_candidate(chosen)})


def _target(file: str | None, configured: Path | None, *, force: bool) -> Path | None:
    """The file to write, or None for stdout.

    Raises:
        ConfigurationError: it is there already.
    """
    from worker.config import find_file
    from worker.errors import ConfigurationError

    if file == "-":
        return None
    target = find_file(file or configured)
    if target.exists() and not force:
        raise ConfigurationError(f"{target} is there already; --force overwrites it, --output names another")
    return target


def _url(asked: str | None) -> str:
    """The database's URL: as given, from the environment, or asked for.

    Raises:
        ConfigurationError: there is none and nobody to ask.
    """
    from worker.errors import ConfigurationError
    from worker.secret import resolve_secret

    url = asked or os.environ.get(_VARIABLE)
    if not url and is_terminal(sys.stdin):
        url = str(typer.prompt("Database URL (postgresql://user@host:5432/name or mysql://...)", err=True))
    if not url:
        raise ConfigurationError(
            f"which database? Set ${_VARIABLE}, or give --database postgresql://user@host:5432/name or mysql://..."
        )
    return resolve_secret(url, "--database")


def _look(output: Output, url: str) -> Surroundings:
    from worker.database import Database
    from worker.discovery.facts import read_surroundings

    database = Database(url, pool_size=1)
    try:
        with database.transaction(statement_timeout="60s") as transaction:
            found = read_surroundings(transaction)
    finally:
        database.dispose()
    tables, functions = counted(len(found.tables), "table"), counted(len(found.functions), "function")
    output.note(f"{database.label}: {tables}, {functions}")
    return found


def _ask(listed: list[Candidate]) -> Candidate | None:
    """Let a person choose; None where none is there."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return None
    for place, candidate in enumerate(listed[:_LISTED], 1):
        print(f"{place:>3}  {_line(candidate)}", file=sys.stderr)
    most = min(len(listed), _LISTED)
    place = 0
    while not 1 <= place <= most:
        place = int(typer.prompt(f"Which table (1 to {most})", type=int, err=True))
    return listed[place - 1]


def _list(output: Output, listed: list[Candidate]) -> None:
    output.say("several tables could be scored; name one with --table:")
    for candidate in listed[:_LISTED]:
        output.say(f"  {_line(candidate)}")
    if len(listed) > _LISTED:
        output.say(f"  and {len(listed) - _LISTED} more")


def _line(candidate: Candidate) -> str:
    why = f": {'; '.join(candidate.reasons)}" if candidate.reasons else ""
    return f"{candidate.table.label} ({_rows(candidate.table)}){why}"


def _rows(table: FoundTable) -> str:
    known = table.estimated_rows >= 0
    return f"about {counted(table.estimated_rows, 'row')}" if known else f"{count(None)} number of rows"


def _write(draft: Draft, target: Path | TextIO | None) -> str:
    """The file's text, written once it has been read back as the configuration that it is meant to be."""
    import tomllib

    from worker.config import parse_configuration
    from worker.discovery.draft import to_toml

    text = to_toml(draft)
    parse_configuration(tomllib.loads(text))
    if isinstance(target, Path):
        target.write_text(text, encoding="utf-8")
    elif target is not None:
        target.write(text)
    return text


def _describe(output: Output, chosen: Candidate, draft: Draft) -> None:
    existing = {True: "there already", False: "new"}
    facts = [
        ("table", f"{chosen.table.label}, {_rows(chosen.table)}, key {', '.join(chosen.table.key or ())}"),
        *(("why", reason) for reason in chosen.reasons),
        ("inputs", ", ".join(draft.inputs)),
        *(("output", f"{column.name} {column.type} ({existing[column.exists]})") for column in draft.outputs),
        (
            "model",
            f"{draft.function}(), a function of this database" if draft.function else "to be filled in",
        ),
        (
            "freshness",
            f"from {draft.arrived_at}" if draft.arrived_at else "unknown: no column says when a row arrived",
        ),
    ]
    output.facts(facts, indent=0)
    for fit in chosen.fits[1:]:
        output.say(f"{fit.function.label}() would fit as well", "dim")
    for trigger in chosen.triggers:
        output.say()
        output.verdict(
            "warning",
            f"trigger {trigger.name} calls a model inside every INSERT, which waits for it and fails with it",
            f"once rowscore scores the rows: {trigger.removal}",
        )


def _next(draft: Draft, target: Path | None, *, known: bool) -> list[str]:
    steps = [] if known else [f"export {_VARIABLE}=...  # the URL that you gave"]
    if draft.function is None:
        steps.append(f"edit {target or 'the file'}: say where the model answers")
    return [*steps, "rowscore doctor", "rowscore apply --dry-run", "rowscore apply"]


def _advise(output: Output, target: Path | None, steps: list[str]) -> None:
    output.say()
    if target is not None:
        output.say(f"wrote {target}", "good")
    for place, step in enumerate(steps):
        output.say(f"{'next:' if place == 0 else '     '} {step}")


def _candidate(candidate: Candidate) -> dict[str, Any]:
    table = candidate.table
    return {
        "table": table.label,
        "key": table.key,
        "estimated_rows": table.estimated_rows if table.estimated_rows >= 0 else None,
        "reasons": candidate.reasons,
        "functions": [fit.function.label for fit in candidate.fits],
        "triggers": [trigger.name for trigger in candidate.triggers],
    }
