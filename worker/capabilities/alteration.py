"""How a database takes DDL: what it rolls back, what it locks and for how long, what its own columns are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Lock(StrEnum):
    """What a change does to the table while others use it."""

    ALTER = "alter"  # columns come, go, or change their default
    COPY = "copy"  # the same where every row is written anew
    BUILD = "build"  # an index is built
    DROP_INDEX = "drop index"
    FRAME = "frame"  # the index of a partitioned table, which holds nothing itself
    DROP_FRAME = "drop frame"
    ATTACH = "attach"
    ADD_TRIGGER = "add trigger"
    CHANGE_TRIGGER = "change trigger"


@dataclass(frozen=True, slots=True)
class Alteration:
    """What `plan` must know of a database besides the text of its statements.

    Attributes:
        transactional: whether DDL can be rolled back; where not, each statement commits by itself.
        copies: whether adding a column may mean to copy the table, which is refused unless somebody asks for it.
        replaces_views: whether CREATE OR REPLACE VIEW takes any columns, and privileges on the view survive it.
        state_type, time_type, version_type, fingerprint_type: the columns that rowscore adds beside the outputs.
        time_types: what a column for the time of scoring may be, without precision.
        pending_defaults: how the catalogue writes the state column's default.
        locks: the words for each lock.
        client: how a file of SQL is run by hand, a line each.
    """

    transactional: bool
    copies: bool
    replaces_views: bool
    state_type: str
    time_type: str
    version_type: str
    fingerprint_type: str
    time_types: frozenset[str]
    pending_defaults: frozenset[str]
    locks: Mapping[Lock, str]
    client: tuple[str, ...]
