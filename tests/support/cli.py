"""The command line as a user runs it: a process of its own in a folder with a rowscore.toml."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support import prefork
from tests.support.accounts import SECRET
from tests.support.deadlines import eventually
from worker.cli import run
from worker.demo.servers import python_path

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document that stdout has to be."""
        return json.loads(self.out)


class Cli:
    """`rowscore` in one folder.

    Args:
        folder: its working directory, with the file.
        url: the database, given as $DATABASE_URL.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "ROWSCORE"))}
        self.environment = {**ours, **python_path(), "DATABASE_URL": url, "NO_COLOR": "1", "COLUMNS": "100"}
        self.configure()

    def configure(self, **options: Any) -> None:
        """Write the file: the prediction churn on the table items, with these options over the usual ones."""
        usual = {"table": "items", "inputs": ["a", "b"], "outputs": {"p": "double precision"}}
        self.write(**{"model": {"sql": "predict"}, **usual, **options})

    def write(self, **section: Any) -> None:
        """Write the file with exactly these options."""
        lines = ['database = "$DATABASE_URL"', "[predictions.churn]"]
        (self.folder / "rowscore.toml").write_text("\n".join([*lines, *(_line(section))]))

    def run(self, *words: str, status: int = 0, **environment: str) -> Result:
        """Run a command to its end; the test fails unless it ends so, and wherever it shows the secret."""
        with TemporaryDirectory() as name:
            streams = Path(name, "out"), Path(name, "err")
            ended = prefork.run(words, self.folder, {**self.environment, **environment}, streams, _SECONDS)
            result = Result(ended, *(path.read_text() for path in streams))
        assert SECRET not in result.out + result.err, result
        assert "Traceback" not in result.err, result.err
        assert result.status == status, result
        return result

    def call(self, *words: str, status: int = 0) -> Result:
        """The same in this process, which takes no time to start."""
        out, err = StringIO(), StringIO()
        before = dict(os.environ)
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            os.environ.update(self.environment)
            try:
                ended = run(list(words))
            finally:
                os.environ.clear()
                os.environ.update(before)
        result = Result(ended, out.getvalue(), err.getvalue())
        assert SECRET not in result.out + result.err, result
        assert ended == status, result
        return result

    def error(self, *words: str, status: int, **environment: str) -> str:
        """The one line that a command which fails says."""
        result = self.run(*words, status=status, **environment)
        assert result.out == "", result.out
        lines = result.err.splitlines()
        assert len(lines) == 1, result.err
        assert lines[0].startswith("rowscore: error: "), lines[0]
        return lines[0].removeprefix("rowscore: error: ")

    @contextmanager
    def started(self, *words: str) -> Iterator[Running]:
        """A command that runs while the block does, and is killed at its end."""
        running = Running(self, words)
        try:
            yield running
        finally:
            running.process.kill()
            running.process.wait()


class Running:
    """A command that runs; what it says goes to files that may be read meanwhile."""

    def __init__(self, cli: Cli, words: tuple[str, ...]) -> None:
        self._out, self._err = cli.folder / "stdout.txt", cli.folder / "stderr.txt"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.cli", *words],
                cwd=cli.folder,
                env=cli.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def says(self, text: str) -> None:
        """Wait until it has said so on stderr."""
        eventually(lambda: text in self._err.read_text(), f"{text!r} on stderr: {self._err.read_text()!r}")

    def end(self) -> Result:
        """How it ended."""
        status = self.process.wait(_SECONDS)
        return Result(status, self._out.read_text(), self._err.read_text())


def _line(section: dict[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        yield f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)
