"""`rowscore pause` and `rowscore resume`: an operator's word to all workers, kept in the database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.figures import duration
from worker.cli.running import duration_option
from worker.cli.session import RUN, Json, session_of

if TYPE_CHECKING:
    from worker.engine import Engine

Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The prediction; all of the file without it.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=RUN)(pause)
    app.command(rich_help_panel=RUN)(resume)


def pause(
    context: typer.Context,
    *,
    name: Name = None,
    for_: Annotated[
        timedelta | None,
        typer.Option(
            "--for",
            metavar="TIME",
            parser=duration_option,
            help='Goes on by itself after that, such as "2h".',
        ),
    ] = None,
    because: Annotated[
        str | None, typer.Option("--because", metavar="TEXT", help="Why, for whoever looks at the status.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let all workers rest, wherever they run, until `rowscore resume`.

    They finish the batch in flight and take no other; rows wait, and the application notices nothing.
    It outlasts restarts. A second pause takes the place of the first.

    Example:
        rowscore pause churn --for 2h --because "the year's closing is running"
    """
    from worker import throttle

    session = session_of(context)
    output = session.output(as_json)
    seconds = None if for_ is None else for_.total_seconds()
    with session.engine() as engine:
        names = _names(engine, name)
        for each in names:
            throttle.pause(engine.database(engine.prediction(each)), each, seconds, because)
            until = f"for {duration(seconds)}" if seconds is not None else "until it is resumed"
            output.say(f"{each}: paused {until}.")
    output.document({"paused": names, "seconds": seconds, "because": because})


def resume(context: typer.Context, *, name: Name = None, as_json: Json = False) -> None:
    """End an operator's pause; workers go on within seconds.

    Example:
        rowscore resume churn
    """
    from worker import throttle

    session = session_of(context)
    output = session.output(as_json)
    resumed = []
    with session.engine() as engine:
        for each in _names(engine, name):
            if throttle.resume(engine.database(engine.prediction(each)), each):
                resumed.append(each)
                output.say(f"{each}: goes on.")
            else:
                output.say(f"{each}: was not paused.")
    output.document({"resumed": resumed})


def _names(engine: Engine, name: str | None) -> list[str]:
    return list(engine.configuration.predictions) if name is None else [engine.prediction(name).name]
