"""The command line in a process that has imported it already."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import worker.apply
import worker.backfill
import worker.comparison
import worker.doctor
import worker.engine
import worker.explain
import worker.export
import worker.status
import worker.tune
import worker.verification  # noqa: F401  imported so that the commands find them
from tests.support.children import children
from worker.cli import main


def run(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    streams: tuple[Path, Path],
    seconds: float,
) -> int:
    """The exit status of `rowscore` with these words.

    Args:
        streams: the files that its stdout and stderr go to.
        seconds: after which it is killed.
    """
    process = children.Process(target=_become, args=(words, folder, dict(environment), streams))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"rowscore {' '.join(words)} did not end within {seconds:g} s")
    return process.exitcode


def _become(
    words: Sequence[str], folder: Path, environment: dict[str, str], streams: tuple[Path, Path]
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[:] = ["rowscore", *words]
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, streams[0], os.O_WRONLY),
        (2, streams[1], os.O_WRONLY),
    ):
        os.dup2(os.open(path, flags | os.O_CREAT), number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    main(list(words))
