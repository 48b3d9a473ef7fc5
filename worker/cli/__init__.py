"""The command `rowscore`: global options, the commands, and the one place where errors become lines.

Exit status: 0 done, 1 failed, 2 bad usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from worker.cli.helptext import HelpfulCommand, HelpfulGroup
from worker.cli.session import INTERRUPTED, Session
from worker.errors import RowscoreError

_MODULES = (
    "checks",
    "applying",
    "running",
    "backfilling",
    "verifying",
    "exporting",
    "rescoring",
    "shadowing",
    "pausing",
    "tuning",
    "looking",
    "failures",
    "statements",
    "demonstration",
)
_DEBUG = "ROWSCORE_DEBUG"

app = typer.Typer(
    name="rowscore",
    cls=HelpfulGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            number = version("rowscore")
        except PackageNotFoundError:
            number = "(not installed)"
        print(f"rowscore {number}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def program(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration; else $ROWSCORE_CONFIG or rowscore.toml.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Logs on stderr, and tracebacks of unexpected errors.")
    ] = False,
    version: Annotated[  # noqa: ARG001  the callback prints it
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Keeps machine-learning predictions materialised in the rows they describe.

    Example:
        rowscore init && rowscore doctor && rowscore apply && rowscore run
    """
    context.obj = Session(config, verbose)
    if context.invoked_subcommand is None:
        print(context.get_help())


def _register() -> None:
    """Add the commands; each module is light and imports what it works with when it is called."""
    for name in _MODULES:
        import_module(f"worker.cli.{name}").register(app)
    for command in app.registered_commands:
        command.cls = HelpfulCommand


_register()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    status = run(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except (
        BrokenPipeError
    ):  # the reader has gone; say nothing, and let the interpreter's own flush say nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = status or 1
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command; whatever goes wrong becomes lines on stderr and an exit status."""
    verbose = bool(os.environ.get(_DEBUG)) or bool({"-v", "--verbose"} & set(arguments))
    try:
        status = app(_globals_first(arguments), prog_name="rowscore", standalone_mode=False)
    except RowscoreError as error:
        if verbose:
            traceback.print_exc()
        return _complain(str(error), error.exit_code)
    except typer.TyperException as error:  # bad usage
        hint = "" if getattr(error, "ctx", None) is None else f"; see `{error.ctx.command_path} --help`"  # type: ignore[attr-defined]
        return _complain(error.format_message().rstrip(".") + hint, 2)
    except (KeyboardInterrupt, typer.Abort):
        print("rowscore: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:
        if verbose:
            traceback.print_exc()
        name = type(error).__name__
        hint = "" if verbose else f" (unexpected; --verbose or {_DEBUG}=1 shows where)"
        return _complain(f"{name}: {' '.join(str(error).split())}{hint}", 1)
    return status if isinstance(status, int) else 0


def _globals_first(arguments: list[str]) -> list[str]:
    """Global options may stand after the command too; `rowscore help apply` is `rowscore apply --help`."""
    if arguments[:1] == ["help"]:
        return [*arguments[1:2], "--help"]
    moved: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*moved, *rest, word, *words]
        named = word == "-c" or (word == "--config" and rest[:1] != ["status"])  # `status --config` shows it
        if named or word in ("-v", "--verbose") or word.startswith(("--config=", "-c")):
            moved.append(word)
            moved.extend(list(islice(words, 1)) if named else [])
        else:
            rest.append(word)
    return [*moved, *rest]


def _complain(text: str, status: int) -> int:
    for line in text.splitlines():
        print(f"rowscore: error: {line}", file=sys.stderr)
    return status
