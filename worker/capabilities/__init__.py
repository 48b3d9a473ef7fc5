"""What tells databases apart outside of `sql/`: a module for each, behind one protocol."""

from __future__ import annotations

from functools import cache

from worker.capabilities.alteration import Alteration, Lock
from worker.capabilities.calling import Calling
from worker.capabilities.mentions import mentioned
from worker.capabilities.mysql import MariaDB, MySQL
from worker.capabilities.packing import Packing, unpack
from worker.capabilities.postgresql import PostgreSQL
from worker.capabilities.protocol import Capabilities, bare_type, seconds

__all__ = [
    "Alteration",
    "Calling",
    "Capabilities",
    "Lock",
    "Packing",
    "bare_type",
    "capabilities_of",
    "mentioned",
    "seconds",
    "unpack",
]


@cache
def capabilities_of(dialect: str) -> Capabilities:
    """The capabilities of a dialect, `postgresql`, `mysql` or `mariadb`."""
    known: dict[str, type[Capabilities]] = {
        "postgresql": PostgreSQL,
        "mysql": MySQL,
        "mariadb": MariaDB,
    }
    return known[dialect]()
