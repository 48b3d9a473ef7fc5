"""What rowscore calls the objects that `apply` makes, and the comments that mark them as its own; no I/O.

The comments are rowscore's memory of what it made: they are written in the transaction that makes the object,
follow it through renames and dumps, and go with it. A column without one was there before and is never
dropped.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

LONGEST = 63  # bytes of a PostgreSQL identifier; longer ones are cut without a word
_MARK = re.compile(r"maintained by rowscore: prediction ([a-z][a-z0-9_]*), (\w+)(?: ([0-9a-f]{12}))?")


class Role(StrEnum):
    """What an object of rowscore's is for."""

    STATE = "state"
    OUTPUT = "output"
    SCORED_AT = "scored_at"
    VERSION = "version"
    FINGERPRINT = "fingerprint"
    VIEW = "view"
    TRIGGER = "trigger"
    FUNCTION = "function"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose an object is and what for; the digest tells which SQL made it, where that may change."""

    prediction: str
    role: Role
    digest: str | None = None

    def __str__(self) -> str:
        return f"maintained by rowscore: prediction {self.prediction}, {self.role}" + (
            f" {self.digest}" if self.digest else ""
        )


def read_mark(comment: str | None) -> Mark | None:
    """The mark that a comment is, or None for comments of the user's."""
    match = _MARK.fullmatch(comment or "")
    if match is None or match[2] not in [*Role]:
        return None
    return Mark(match[1], Role(match[2]), match[3])


def digest(*texts: str) -> str:
    """Twelve hexadecimal digits of SHA-256 that change when any of the texts does."""
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:12]


def fitted(name: str, limit: int = LONGEST) -> str:
    """The name itself where it fits, else its beginning and a hash of it; no character is cut in two."""
    if len(name.encode()) <= limit:
        return name
    suffix = "_" + digest(name)[:8]
    return name.encode()[: limit - len(suffix)].decode(errors="ignore") + suffix


def index_name(prediction: str, partition: str | None = None) -> str:
    """The pending index's name, after the prediction alone, so that it survives a renamed table.

    Args:
        prediction: its name, unique in the database.
        partition: the qualified name of the partition, where the index is one of many.
    """
    whole = f"rowscore_{prediction}_pending"
    if partition is None:
        return whole
    return f"{fitted(whole, LONGEST - 9)}_{digest(partition)[:8]}"


def trigger_name(prediction: str) -> str:
    """Triggers fire in the order of their names: this one after the application's, which change inputs."""
    return f"zzz_rowscore_{prediction}"


def function_name(prediction: str) -> str:
    """The trigger's function in the schema rowscore."""
    return f"{prediction}_stale"


def literal(text: str, dialect: str = "postgresql") -> str:
    """A string literal for DDL, which takes no bound values; it reads the same at any setting of the server's."""
    if "\x00" in text:
        raise ValueError("a string cannot hold a NUL character")
    body = text.replace("'", "''")
    if "\\" not in body:
        return f"'{body}'"
    escape = "E" if dialect == "postgresql" else ""
    return f"{escape}'{body.replace(chr(92), chr(92) * 2)}'"
