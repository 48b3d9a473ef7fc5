"""`rowscore init`, `doctor` and `explain`: what is there, what is wrong with it, and what will run; thin."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.session import LOOK, SET_UP, Json, Name, session_of

if TYPE_CHECKING:  # `rowscore --help` shall not load what these commands work with
    from worker.cli.output import Output
    from worker.discovery.choices import Candidate
    from worker.explain import Explanation

_VERDICTS = {"ok": "ok", "warning": "warning", "error": "failed"}
_WIDEST = 150  # characters of a plan's line; expressions over 20 columns say nothing to a reader
