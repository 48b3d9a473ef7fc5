"""`rowscore status`: how the predictions stand, for people, for machines, and once more every two seconds."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.output import Output
from worker.cli.session import LOOK, Json, Name, session_of

if TYPE_CHECKING:
    from worker.config import Configuration
    from worker.engine import Engine
    from worker.standing import Status

_EVERY = 2.0  # seconds


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LOOK)(status)


def status(
    context: typer.Context,
    *,
    name: Name = None,
    config: Annotated[
        bool, typer.Option("--config", help="Show the whole configuration with its defaults; no secrets.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every two seconds, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show backlog, freshness, rows a second, batches, failures, leases and backfill.

    Cheap on tables of any size: what would need a scan is an estimate, marked with ~.

    Example:
        rowscore status
        rowscore status churn --json | jq '.predictions[0].rows.pending'
        rowscore status --config
    """
    session = session_of(context)
    output = session.output(as_json)
    if config:
        return _show_configuration(session.configuration(), name, output)
    if watch and as_json:
        raise typer.BadParameter("--json prints one document, so it cannot --watch")
    with session.engine() as engine:
        if watch:
            with suppress(KeyboardInterrupt):  # how it is meant to end
                _watch(engine, name, output)
            return 0
        found, failed = _read(engine, name, output)
        _refuse_unapplied(name, found)
        _show(output, found)
    output.document({"predictions": [asdict(item) for item in found]})
    return failed


def _show_configuration(configuration: Configuration, name: str | None, output: Output) -> int:
    from worker.cli.settings import as_toml, effective

    if not output.as_json:
        output.say(as_toml(configuration, name))
    output.document(effective(configuration, name))
    return 0


def _read(engine: Engine, name: str | None, output: Output) -> tuple[list[Status], int]:
    """The status of the named prediction or of all; one that cannot be read does not hide the others."""
    from worker.errors import RowscoreError
    from worker.status import read_status

    names = list(engine.configuration.predictions) if name is None else [engine.prediction(name).name]
    found, failed = [], 0
    for each in names:
        try:
            found.append(read_status(engine, each))
        except RowscoreError as error:
            if len(names) == 1:
                raise
            output.note(f"rowscore: error: {each}: {error}", "bad")
            failed = max(failed, error.exit_code)
    return found, failed


def _refuse_unapplied(name: str | None, found: list[Status]) -> None:
    """Who asks for one prediction gets an error, as from every other command; among others it is a line."""
    from worker.status import not_applied

    if name is not None and found[0].definition is None:
        raise not_applied(found[0].prediction)


def _show(output: Output, found: list[Status]) -> None:
    from worker.cli.statustext import describe

    for place, item in enumerate(found):
        if place:
            output.say()
        for line in describe(item):
            output.say(line.text, line.style)


def _watch(engine: Engine, name: str | None, output: Output) -> None:
    """The same block again and again: in place on a terminal, one below the other elsewhere."""
    while not engine.stop.is_set():
        found, _ = _read(engine, name, output)
        if output.terminal:
            output.clear()
        output.say(time.strftime("%H:%M:%S") + "  every 2 s, Ctrl-C ends", "dim")
        _show(output, found)
        output.say()
        engine.stop.wait(_EVERY)
