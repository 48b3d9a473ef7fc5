"""The batch controller: how many rows the next claim takes, from how long the last ones kept the database busy.

Pure arithmetic over plain numbers. Time spent waiting for a model or for locks is never passed in: a controller that
counts it shrinks to its floor (9.5 hours became 60 to 110 in one project).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FLOOR = 50
START = 1000
GROWTH = 1.5
LEAP, FAR = 4.0, 0.1
"""Growth where the next claim is foreseen within a tenth of the target."""

BRAKE = 5.0
MEMORY = 10  # batches
PERCENTILE = 0.9


CALL_GROWTH = 1.05


def rows_per_call(limit: int, asked: int, found: int) -> int:
    """The rows of the next model call: what the service was found to take, and slowly back up to the limit.

    Args:
        limit: the configured `max_rows_per_batch`, or the default.
        asked: the rows a call of the last batch.
        found: what the service took of it: less after a 413 or a timeout.
    """
    if found < asked:
        return max(1, min(found, limit))
    return min(limit, max(asked + 1, int(asked * CALL_GROWTH)))


def whole_rounds(rows: int, a_round: int) -> int:
    """The rows of a claim that keeps all places of a service busy to its end, at most `rows`.

    10,000 rows are five calls of 2,048, so of four places three stand idle in the second round; 8,192 are one round.
    Where that would cost the claim a third of its rows (which the controller would not take for a full one) they stay.

    Args:
        rows: that may be claimed.
        a_round: rows of as many calls as are made at once.
    """
    whole = rows // a_round * a_round
    return whole if whole * GROWTH > rows else rows


@dataclass(frozen=True, slots=True)
class Controller:
    """The size of the next claim and what steers it.

    Attributes:
        rows: rows of the next claim, between `FLOOR` (or `ceiling`, if that is less) and `ceiling`.
        ceiling: the configured `max_rows_per_claim`; 10,000 rows are locked for 50 ms and cost 8 % less than 5,000 do.
        target: seconds of database time a claim may take (`max_lock_time`).
        recent: rows and seconds of the last full batches since it last shrank, `MEMORY` of them at most.
    """

    rows: int
    ceiling: int
    target: float
    recent: tuple[tuple[int, float], ...] = ()

    @classmethod
    def start(
        cls, ceiling: int, target: float, learned: int | None = None, *, a_call: int = START
    ) -> Controller:
        """A controller at its learned size, or at a modest one that fills a model call of `a_call` rows."""
        return cls(START, ceiling, target)._sized(learned or max(START, a_call))

    def after_batch(self, rows: int, seconds: float) -> Controller:
        """The controller after a batch of `rows` rows that kept the database busy for `seconds`.

        Only a batch that was about full says anything about a full one, and only batches of about this size about the
        next. Growth is at most x1.5, or x4 far below the target; shrinking is unbounded. The 90th percentile of several
        batches decides, so one that met a checkpoint changes nothing; one at five times the target is not waited for
        again.
        """
        if rows * GROWTH <= self.rows or seconds <= 0:
            return self
        size = self.target / seconds * rows
        if seconds >= BRAKE * self.target:
            return self._sized(int(size))
        recent = (*self.recent, (rows, seconds))[-MEMORY:]
        steady = replace(self, recent=recent)
        rates = sorted((taken / spent for taken, spent in recent if taken * GROWTH > self.rows), reverse=True)
        # By its lower rank: of up to ten batches the slowest one never decides.
        size = self.target * rates[int(PERCENTILE * (len(rates) - 1))]
        if size >= self.rows:
            most = max(self.rows * GROWTH, min(self.rows * LEAP, size * FAR))
            return replace(self._sized(int(min(most, size))), recent=recent)
        return self._sized(int(size)) if len(rates) > 1 else steady

    def after_abort(self) -> Controller:
        """The controller after a timeout, a deadlock or a serialisation failure: half of it."""
        return self._sized(self.rows // 2)

    def _sized(self, rows: int) -> Controller:
        """That size within its bounds, with no memory of others."""
        return replace(self, rows=max(min(FLOOR, self.ceiling), min(rows, self.ceiling)), recent=())
