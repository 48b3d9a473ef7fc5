"""Secrets by reference: `$NAME` from the environment, `file:/path` from a file; it keeps and prints none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from worker.errors import ConfigurationError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def resolve_secret(text: str, where: str, environ: Mapping[str, str] | None = None) -> str:
    """The value behind `$NAME` (an environment variable) or `file:/path`; other text stands for itself."""
    values = os.environ if environ is None else environ
    if text.startswith("file:"):
        try:
            return Path(text.removeprefix("file:")).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{where}: cannot read {text}: {error.strerror}") from error

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in values:
            raise ConfigurationError(f"{where}: the environment variable {name} is not set")
        return values[name]

    return _VARIABLE.sub(value, text) if text.startswith("$") or " $" in text else text
