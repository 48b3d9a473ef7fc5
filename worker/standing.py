"""How a prediction stands: what `status` reads, in frozen values; no I/O. Times are seconds, counts are rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Circuit:
    """The model's faults in a row; while `open`, nobody calls it for `seconds` more."""

    open: bool
    seconds: float | None
    failures: int
    failure_class: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows by state; None where nobody knows.

    Attributes:
        exact: counted, not estimated from the planner's statistics (`pending` and `failed` always are counted).
        pending: waiting rows; at least so many where `more_pending`.
        stale: of those, the ones that have an old prediction meanwhile.
    """

    total: int | None
    exact: bool
    scored: int | None
    pending: int | None
    more_pending: bool
    stale: int | None
    failed: int
    skipped: int | None
    existing: int | None


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from arrival to prediction: median and 99th percentile over `rows` rows that arrived in the last hour."""

    rows: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Activity:
    """The batches of the last five minutes. Sizes count rows and times are seconds; triples are least, mean, most.

    Attributes:
        seconds: from the beginning of the first batch to the end of the last.
        idle: since the last batch of all; None where there was none.
        error: the last one that was logged.
    """

    batches: int
    scored: int
    failed: int
    skipped: int
    lost: int
    seconds: float | None
    idle: float | None
    batch_rows: tuple[int, float, int] | None
    calls: int
    call_rows: tuple[int, float, int] | None
    call_seconds: tuple[float, float, float] | None
    retries: int
    throttled: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Failures:
    """Rows with an error on record: all, those to be retried now, those that are not retried by themselves."""

    rows: int
    due: int
    final: int


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """A window that a worker holds; it may be taken over when `seconds_left` is not above zero."""

    kind: str
    owner: str
    lo: tuple[str, ...]
    hi: tuple[str, ...]
    attempts: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """The backfill that is under way; rates are over the last five minutes."""

    run: int
    total: int | None
    scored: int
    failed: int
    skipped: int
    started_at: datetime
    rows_per_second: float | None

    @property
    def done(self) -> int:
        """Rows that are dealt with."""
        return self.scored + self.failed + self.skipped


@dataclass(frozen=True, slots=True)
class Learned:
    """The sizes that the last batches taught: rows a claim, and rows a model call where that is known."""

    rows_per_claim: int | None
    rows_per_call: int | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What the file asks for and what the database holds; `drift` says in words how they differ."""

    applied_at: datetime
    hash: str
    version: str
    drift: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A prediction's status; everything from `rows` on is None or empty where it was never applied."""

    prediction: str
    table: str
    definition: Definition | None
    rows: Rows | None = None
    oldest_waiting: float | None = None
    freshness: Freshness | None = None
    activity: Activity | None = None
    failures: Failures | None = None
    learned: Learned | None = None
    circuit: Circuit | None = None
    backfill: BackfillStatus | None = None
    leases: tuple[LeaseStatus, ...] = ()
