"""What tells databases apart outside of `sql/`: a module for each, behind one protocol."""

from __future__ import annotations

from functools import cache

from worker.capabilities.postgresql import PostgreSQL
from worker.capabilities.protocol import Capabilities, bare_type

__all__ = ["Capabilities", "bare_type", "capabilities_of"]


@cache
def capabilities_of(dialect: str) -> Capabilities:
    """The capabilities of a dialect, by SQLAlchemy's name for it."""
    known: dict[str, type[Capabilities]] = {"postgresql": PostgreSQL}
    return known[dialect]()
