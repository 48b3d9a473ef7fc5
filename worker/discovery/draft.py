"""A first rowscore.toml as text: small, commented, and read back the same by `worker.config`; no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

DATABASE = "$DATABASE_URL"
PLACEHOLDER = "http://127.0.0.1:8080/invocations"
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^\W\d]\w*", re.ASCII)
_WIDTH = 100
_HEAD = """\
# Written by `rowscore init`. Every other key has a default: `rowscore status --config` shows them all.

database = "$DATABASE_URL"  # an environment variable: the password stays out of this file

[predictions.{name}]
"""


@dataclass(frozen=True, slots=True)
class DraftColumn:
    """An output column; `exists` where the table has it already."""

    name: str
    type: str
    exists: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What `init` proposes.

    Attributes:
        name: the prediction's name.
        table: as the configuration writes it; see `qualified_text`.
        function: the SQL function as the configuration writes it; None: an endpoint that has to be filled in.
        left_out: columns that could have been inputs, for the comment.
    """

    name: str
    table: str
    inputs: tuple[str, ...]
    outputs: tuple[DraftColumn, ...]
    function: str | None = None
    arrived_at: str | None = None
    left_out: tuple[str, ...] = ()


def qualified_text(schema: str | None, name: str) -> str:
    """A table's or function's name as the configuration writes it: quoted only where it has to be."""
    parts = [part for part in (schema, name) if part is not None]
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts)


def to_toml(draft: Draft) -> str:
    """The file's text."""
    outputs = ", ".join(f"{_key(column.name)} = {_string(column.type)}" for column in draft.outputs)
    existing = [column.name for column in draft.outputs if column.exists]
    lines = [
        f"table = {_string(draft.table)}",
        *_inputs(draft.inputs),
        *([f"# not sent: {_names(draft.left_out)}"] if draft.left_out else []),
        *([f"# there already, and written by rowscore from now on: {_names(existing)}"] if existing else []),
        f"outputs = {{ {outputs} }}",
        *_model(draft),
    ]
    if draft.arrived_at is not None:
        lines.append(f"arrived_at = {_string(draft.arrived_at)}  # freshness is measured from here")
    return _HEAD.format(name=draft.name) + "\n".join(lines) + "\n"


def _model(draft: Draft) -> list[str]:
    if draft.function is not None:
        return [f"model = {{ sql = {_string(draft.function)} }}"]
    return [
        "# Fill in where your model answers (text/csv, one row a line); or name a function of the database:",
        '# model = { sql = "schema.function" }',
        f"model = {{ http = {_string(PLACEHOLDER)} }}",
    ]


def _inputs(names: Sequence[str]) -> list[str]:
    """On one line where they fit, else as many on each as fit."""
    texts = [_string(name) for name in names]
    whole = f"inputs = [{', '.join(texts)}]"
    if len(whole) <= _WIDTH:
        return [whole]
    lines, line = ["inputs = ["], "   "
    for text in texts:
        if len(line) + len(text) + 2 > _WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += f" {text},"
    return [*lines, line, "]"]


def _key(text: str) -> str:
    return text if _BARE_KEY.fullmatch(text) else _string(text)


def _names(names: Sequence[str]) -> str:
    """For a comment: a line break in a name must not end it."""
    return ", ".join(name if _PLAIN.fullmatch(name) else _string(name) for name in names)


def _string(text: str) -> str:
    """A TOML basic string: backslash, quote and control characters escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'
