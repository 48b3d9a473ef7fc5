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
        (RowState.SCORED, RowState.SCORED),  # rescore's guarded write: the old prediction stays until then
        (RowState.SCORED, RowState.FAILED),  # the new version fails on the row; the old prediction stays
        (RowState.SCORED, RowState.SKIPPED),  # `where` no longer holds
        (RowState.SCORED, RowState.PENDING),  # the staleness trigger, or `verify` found that an input changed
        (RowState.FAILED, RowState.PENDING),  # a retry is due, or an input changed
        (RowState.SKIPPED, RowState.PENDING),  # an input changed
        (RowState.EXISTING, RowState.PENDING),  # an input changed
    }
)


class RunKind(StrEnum):
    """What a run walks: the pending index for ever, or the whole key space once."""

    DRAIN = "drain"
    BACKFILL = "backfill"
    RESCORE = "rescore"

    @property
    def claims(self) -> RowState:
        """The state whose rows the run scores; a rescore those that are outdated."""
        return _CLAIMS[self]

    @property
    def once(self) -> bool:
        """Whether it walks the key space once, and its rows are counted; one such run a prediction is live."""
        return self is not RunKind.DRAIN


_CLAIMS = {
    RunKind.DRAIN: RowState.PENDING,
    RunKind.BACKFILL: RowState.EXISTING,
    RunKind.RESCORE: RowState.SCORED,
}


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
