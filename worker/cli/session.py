"""What the commands share: global options, configuration, the engine and its signals, common arguments."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.output import Output

if (
    TYPE_CHECKING
):  # a command imports what it needs: `rowscore --help` shall not load numpy, SQLAlchemy or Celery
    from worker.config import Configuration
    from worker.engine import Engine

INTERRUPTED = 130  # exit status: 128 + SIGINT, as shells count
PANELS = SET_UP, RUN, LOOK, OTHER = ("Set up", "Run", "Look", "Other")  # of `rowscore --help`, in its order

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="The prediction; may be left out when the file has one.", show_default=False
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout, everything else to stderr.")
]

_STOPPING = b"\nrowscore: stopping: the batch in flight is finished or handed back (again: stop at once)\n"


@dataclass(slots=True)
class Session:
    """One call of `rowscore`.

    Attributes:
        file: the configuration file that was named, or None for the usual places.
        verbose: logs on stderr, tracebacks of unexpected errors.
        interrupted: a signal asked the command to end.
    """

    file: Path | None = None
    verbose: bool = False
    interrupted: bool = False

    def output(self, as_json: bool = False) -> Output:
        """The command's output."""
        return Output(as_json=as_json)

    def configuration(self) -> Configuration:
        """The configuration file, read and checked.

        Raises:
            ConfigurationError: one line for each mistake.
        """
        from worker.config import read_configuration

        return read_configuration(self.file)

    @contextmanager
    def engine(self, *, stoppable: bool = False) -> Iterator[Engine]:
        """The engine over the configuration, closed at the end.

        Args:
            stoppable: SIGINT or SIGTERM sets `engine.stop` and `interrupted`; a second one ends the process.
        """
        from worker.engine import Engine
        from worker.log import configure_log

        configure_log("INFO" if self.verbose else "ERROR")
        engine = Engine(self.configuration())
        handlers = self._catch(engine.stop) if stoppable else {}
        try:
            yield engine
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            engine.dispose()

    def _catch(self, stop: threading.Event) -> dict[signal.Signals, Any]:
        def caught(_number: int, _frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            os.write(2, _STOPPING)  # a print here may meet one that is half done
            _thread.start_new_thread(stop.set, ())  # the main thread may hold the lock that `set` takes

        return {number: signal.signal(number, caught) for number in (signal.SIGINT, signal.SIGTERM)}


def session_of(context: typer.Context) -> Session:
    """The call's session, which `rowscore`'s own options made."""
    session: Session = context.find_root().obj
    return session
