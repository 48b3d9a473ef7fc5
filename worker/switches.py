"""What the last switch of a prediction and its shadow left in the registration of each; plain data, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

UNDER_WAY = "switching"  # in the place of a definition's hash, so that no worker's is the same
_KEY = "switch"  # in the stored definition, beside what its hash is of


class Direction(StrEnum):
    """Which way the models change places."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Registered:
    """What a prediction's registration says: the definition, its hash, the model's version."""

    definition: Mapping[str, Any]
    definition_hash: str
    version: str


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch that was made, or begun where DDL commits by itself.

    Attributes:
        token: tells it from others.
        direction: promote or rollback.
        live: the name of the live prediction; `shadow` the other's.
        old_hash: of the definition that this prediction had before; `old_version` likewise.
        target: what is to be registered when a switch ends that was begun; None for one that was made.
    """

    token: str
    direction: Direction
    live: str
    shadow: str
    old_hash: str
    old_version: str
    target: Registered | None = None

    def stored_with(self, definition: Mapping[str, Any]) -> dict[str, Any]:
        """The definition as it is stored with this beside it."""
        return {**definition, _KEY: asdict(self)}

    @property
    def command(self) -> str:
        """What makes it, or ends it."""
        return f"rowscore rescore {self.live} --{self.direction}"

    def explain(self, name: str) -> str:
        """What it means for a process that has the definition of before, on one line."""
        if self.target is not None:
            return (
                f"{name}: a switch of {self.live} and {self.shadow} was interrupted; `{self.command}` ends it, "
                f"and nobody scores until then"
            )
        done = "promoted" if self.direction is Direction.PROMOTE else "rolled back"
        return (
            f"{name}: {self.live} was {done}: the models of {self.live} and {self.shadow} have changed places in the "
            f"database, and this process's file has them the other way round; `{self.command}` says what to change"
        )


def read_switch(definition: Mapping[str, Any]) -> Switch | None:
    """The switch that a stored definition tells of, or None."""
    stored = definition.get(_KEY)
    if stored is None:
        return None
    target = stored["target"]
    kind = Direction(stored["direction"])
    return Switch(**{**stored, "direction": kind, "target": None if target is None else Registered(**target)})


def against(stored: Mapping[str, Any], definition_hash: str, version: str) -> Switch | None:
    """The switch that made a file with this definition the old one, or that has to be ended first."""
    found = read_switch(stored)
    if found is None:
        return None
    old = (found.old_hash, found.old_version) == (definition_hash, version)
    return found if old or found.target is not None else None


def without_switch(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The definition as it was stored before the switch."""
    return {key: value for key, value in definition.items() if key != _KEY}
