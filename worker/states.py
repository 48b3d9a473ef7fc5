"""The states of a row, a run and a failure, and which transitions are allowed; plain data, no I/O."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class RowState(IntEnum):
    """What the state column holds. Never derived from the prediction: a model may answer NULL."""

    PENDING = 0  # waits to be scored; with a scored_at it is stale: its old prediction stays readable
    SCORED = 1
    FAILED = 2  # quarantined, its error in rowscore.failure
    SKIPPED = 3  # the configured `where` does not hold
    EXISTING = 4  # was there before `apply`; waits for an explicit backfill


ROW_TRANSITIONS: frozenset[tuple[RowState, RowState]] = frozenset(
    {
        (RowState.PENDING, RowState.SCORED),  # the guarded write
        (RowState.PENDING, RowState.FAILED),  # bisection found the row
        (RowState.PENDING, RowState.SKIPPED),  # `where` does not hold
        (RowState.EXISTING, RowState.SCORED),  # backfill's guarded write
        (RowState.EXISTING, RowState.FAILED),
        (RowState.EXISTING, RowState.SKIPPED),
        (RowState.SCORED, RowState.PENDING),  # the staleness trigger
        (RowState.FAILED, RowState.PENDING),  # a retry is due, or an input changed
        (RowState.SKIPPED, RowState.PENDING),  # an input changed
        (RowState.EXISTING, RowState.PENDING),  # an input changed
    }
)


class RunKind(StrEnum):
    """What a run walks: the pending index for ever, or the whole key space once."""

    DRAIN = "drain"
    BACKFILL = "backfill"

    @property
    def claims(self) -> RowState:
        """The state whose rows the run scores."""
        return RowState.PENDING if self is RunKind.DRAIN else RowState.EXISTING


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


RUN_TRANSITIONS: frozenset[tuple[RunStatus, RunStatus]] = frozenset(
    {
        (RunStatus.RUNNING, RunStatus.FINISHED),  # the last check found no row left
        (RunStatus.RUNNING, RunStatus.PAUSED),  # an operator's word
        (RunStatus.PAUSED, RunStatus.RUNNING),  # an operator's word
        (RunStatus.RUNNING, RunStatus.CANCELLED),  # an operator's word, or another definition
        (RunStatus.PAUSED, RunStatus.CANCELLED),  # the same
    }
)
