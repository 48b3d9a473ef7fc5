"""How a prediction stands: what `status` reads, as frozen values. Times are seconds, counts are rows."""

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
        exact: counted; else estimated by the planner's statistics, but for `pending` and `failed`.
        pending: waiting rows; at least so many where `more_pending`.
        stale: of those, the ones that have an old prediction meanwhile; None where not all were counted.
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
    """Seconds from arrival to prediction, p50 and p99, over `rows` arrivals of the last hour."""

    rows: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, mean and most of some sizes or times."""

    min: float
    avg: float
    max: float


@dataclass(frozen=True, slots=True)
class Activity:
    """The batches of the last five minutes.

    Attributes:
        busy_seconds: time in which at least one worker was at a batch.
        rows_per_second: scored rows over that time.
        batch_rows: rows read for one batch; `call_rows` and `call_seconds` are of model calls.
        asked: rows that an answer was wanted for; `sent` in calls, those that were sent again counted again.
        remembered: rows whose answers were remembered; `equal` had an equal row in their batch.
        single_calls: of a single row, where the batch had more to send.
        idle: since the last batch of all; None where there was none.
        error: the last one that was logged.
    """

    batches: int
    scored: int
    failed: int
    skipped: int
    lost: int
    busy_seconds: float
    rows_per_second: float | None
    idle: float | None
    batch_rows: Spread | None
    calls: int
    call_rows: Spread | None
    call_seconds: Spread | None
    retries: int
    throttled: int
    error: str | None
    asked: int = 0
    sent: int = 0
    remembered: int = 0
    equal: int = 0
    single_calls: int = 0


@dataclass(frozen=True, slots=True)
class Failures:
    """Rows with an error on record: all, those due now, those that are not tried again by themselves."""

    rows: int
    due: int
    final: int


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row with an error on record; without a `next_retry_at` it is not tried again by itself."""

    row_key: tuple[str, ...]
    failure_class: str
    message: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    next_retry_at: datetime | None


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
    """A backfill or rescore that is under way; rates are over the last five minutes, in which it may have waited.

    Attributes:
        status: running or paused.
        options: what it was begun with, as it is typed.
        reason: why it waits, where that is known.
        workers: that hold a window of it now.
        most_workers: that may, which is `backfill_workers`.
        most_live: that may score new rows beside them, which is `workers`.
    """

    run: int
    total: int | None
    scored: int
    failed: int
    skipped: int
    done: int
    started_at: datetime
    rows_per_second: float | None
    status: str = "running"
    options: str = ""
    reason: str | None = None
    workers: int = 0
    most_workers: int = 0
    most_live: int = 0


@dataclass(frozen=True, slots=True)
class Learned:
    """The sizes that the last batches taught: rows a claim, and rows a model call where that is known."""

    rows_per_claim: int | None
    rows_per_call: int | None


@dataclass(frozen=True, slots=True)
class ThrottleStatus:
    """What holds the work up by the record, and an operator's pause.

    Attributes:
        kind: the key that sets the limit, or `pause`; None: nothing holds it up.
        since: for how long that has been so.
        total_seconds: for which it has been held up, all in all.
        paused: for how long an operator's pause has been in force; None: there is none.
        pause_left: until it ends by itself; None: never.
    """

    kind: str | None
    reason: str | None
    since: float | None
    total_seconds: float
    paused: float | None
    pause_left: float | None
    pause_reason: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What the file asks for and what the database holds; `drift` says in words how they differ."""

    applied_at: datetime
    hash: str
    version: str
    drift: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """A prediction's status; everything from `rows` on is None or empty where it was never applied.

    Attributes:
        arrived_at: the column of arrival times; without one nobody knows the freshness.
        left: the name of a shadow that left the file and is still in the database.
    """

    prediction: str
    table: str
    arrived_at: str | None
    definition: Definition | None
    rows: Rows | None = None
    oldest_waiting: float | None = None
    freshness: Freshness | None = None
    activity: Activity | None = None
    failures: Failures | None = None
    learned: Learned | None = None
    circuit: Circuit | None = None
    throttle: ThrottleStatus | None = None
    backfill: BackfillStatus | None = None
    rescore: BackfillStatus | None = None
    leases: tuple[LeaseStatus, ...] = ()
    left: str | None = None
