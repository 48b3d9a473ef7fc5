"""The guarded write of one batch's outcomes: past held locks, around rows that the database rejects, never twice.

A plain UPDATE waits for the application's locks and makes it the deadlock victim; SKIP LOCKED is slower. So the fast
form runs under a lock_timeout of 50 ms, and when that strikes the same answers are written with SKIP LOCKED, kept in
memory and tried again for the rows that were held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenacity import retry_if_exception_type, stop_after_attempt, wait_random_exponential

from worker import errors, rows
from worker.bisection import isolate
from worker.database import Database, Transaction
from worker.leases import Lease, Leases, share_prediction
from worker.materialisation import Materialisation
from worker.models.protocol import Answer, RowFailure
from worker.patience import Repeating
from worker.rows import Taken

Outcome = Answer | RowFailure | None
LOCK_PATIENCE = "50ms"
PAUSES = (
    0.05,
    0.2,
    0.8,
)  # seconds before the answers of held rows are tried again; then they wait for another pass


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows were scored, failed and lost by a write, and the seconds that it kept the database busy."""

    scored: int = 0
    failed: int = 0
    lost: int = 0
    seconds: float = 0.0


Record = Callable[[Transaction, Any, Written], None]


class Writeback:
    """Writes outcomes for one prediction in one worker."""

    def __init__(
        self, database: Database, materialisation: Materialisation, leases: Leases, stop: threading.Event
    ) -> None:
        self.database = database
        self.m = materialisation
        self.leases = leases
        self.stop = stop

    def write(
        self,
        lease: Lease,
        taken: Taken,
        outcomes: Sequence[Outcome],
        *,
        finish: bool,
        record: Record,
        sent: bool = False,
    ) -> Written:
        """Write answers and failures, and in the same transaction end the lease and call `record`.

        Args:
            finish: end the lease; an unfinished window keeps it.
            record: what else belongs into the last transaction, told the prediction's row and what was written.
            sent: the answers came from the database and are in the form that is sent already.

        Raises:
            GenerationChangedError: the answers are void.
        """
        work = _Work(lease, taken, *_sorted(outcomes), finish=finish, record=record, sent=sent)
        for mend in (self._isolate, self._mark):
            try:
                return self._tried(work)
            except errors.DataError:
                mend(work)
        return self._tried(work)

    def _mark(self, work: _Work) -> None:
        """Some row refuses even to be marked as failed."""
        failed, refused = mark_failed(self.database, self.m, work.lease, work.taken_failures, work.failures)
        work.marked(failed, refused)

    def _tried(self, work: _Work) -> Written:
        """The whole write in one transaction; with SKIP LOCKED and in several where somebody holds rows."""
        try:
            return self._once(work, past_locks=False, last=True)
        except errors.LockTimeoutError:
            pass
        for pause in PAUSES:
            written = self._once(work, past_locks=True, last=False)
            if not written.lost or not self._still_waiting(work):
                break
            self.stop.wait(pause)
        return self._once(work, past_locks=True, last=True)

    def _once(self, work: _Work, *, past_locks: bool, last: bool) -> Written:
        return _conflicts()(self._transaction, work, past_locks=past_locks, last=last)

    def _transaction(self, work: _Work, *, past_locks: bool, last: bool) -> Written:
        claims = work.lease.kind.claims
        started = time.perf_counter()
        with self._open() as transaction:
            share = share_prediction(transaction, self.m, work.lease.generation)
            if last and work.finish:
                self.leases.finish(transaction, work.lease)
            new = rows.write(
                transaction,
                self.m,
                claims,
                work.taken_answers,
                work.answers,
                past_locks=past_locks,
                sent=work.sent,
            )
            failed = rows.fail(transaction, self.m, claims, work.taken_failures, work.failures) if last else 0
            scored = work.scored + new
            lost = len(work.answers) + work.isolated + work.refused - scored
            written = Written(scored, work.failed + failed, lost)
            if last:
                work.record(transaction, share, written)
        work.scored = scored
        return Written(written.scored, written.failed, written.lost, time.perf_counter() - started)

    def _still_waiting(self, work: _Work) -> int:
        with self._open() as transaction:
            return rows.count_waiting(transaction, self.m, work.lease.kind.claims, work.taken_answers)

    def _isolate(self, work: _Work) -> None:
        """The database rejects some answer (out of range, a constraint, a trigger): find the rows, keep the rest.

        The answers are in memory, so this costs transactions and no model call.
        """
        poison: dict[int, RowFailure] = {}

        def attempt(start: int, stop: int) -> None:
            part = work.taken_answers.pick(range(start, stop))
            try:
                with self._open() as transaction:
                    share_prediction(transaction, self.m, work.lease.generation)
                    count = rows.write(
                        transaction, self.m, work.lease.kind.claims, part, work.answers[start:stop],
                        past_locks=True, sent=work.sent,
                    )  # fmt: skip
            except errors.DataError as error:
                raise errors.RowRejectedError(f"the database rejects the answer: {error}") from error
            work.scored += count

        def convict(place: int, error: errors.RowFaultError) -> None:
            poison[place] = RowFailure(error.failure, str(error))

        isolate(len(work.answers), attempt, convict, proven=True)
        work.quarantine(poison)

    def _open(self) -> Any:
        return _open(self.database)


def mark_failed(
    database: Database, m: Materialisation, lease: Lease, taken: Taken, failures: Sequence[RowFailure]
) -> tuple[int, int]:
    """Quarantine rows around those that refuse every UPDATE (a trigger that closes a row for good).

    Such a row goes on waiting, for nothing can be written to it; its error is on record, where people look for it.

    Returns:
        How many rows were marked, and how many refused.
    """
    failed = 0
    refused: dict[int, RowFailure] = {}

    def attempt(start: int, stop: int) -> None:
        nonlocal failed
        part = taken.pick(range(start, stop))
        try:
            with _open(database) as transaction:
                share_prediction(transaction, m, lease.generation)
                count = rows.fail(transaction, m, lease.kind.claims, part, failures[start:stop])
        except errors.DataError as error:
            raise errors.RowRejectedError(f"the row refuses every UPDATE: {error}") from error
        failed += count

    def convict(place: int, error: errors.RowFaultError) -> None:
        refused[place] = RowFailure(error.failure, str(error))

    isolate(len(taken), attempt, convict, proven=True)
    if refused:
        with _open(database) as transaction:
            share_prediction(transaction, m, lease.generation)
            pairs = [(taken.key(place), failure) for place, failure in refused.items()]
            rows.record_failures(transaction, m, pairs)
    return failed, len(refused)


def _open(database: Database) -> Any:
    return database.transaction(**database.capabilities.plan_pins, lock_timeout=LOCK_PATIENCE)


class _Work:
    """One batch's outcomes on their way into the table."""

    def __init__(
        self,
        lease: Lease,
        taken: Taken,
        answered: list[int],
        failed: list[int],
        outcomes: Sequence[Outcome],
        *,
        finish: bool,
        record: Record,
        sent: bool,
    ) -> None:
        self.sent = sent
        self.lease = lease
        self.finish = finish
        self.record = record
        self.scored = 0
        self.isolated = 0
        self.failed = 0
        self.refused = 0
        whole = len(answered) == len(taken)
        self.taken_answers = taken if whole else taken.pick(answered)
        self.answers: list[Any] = list(outcomes) if whole else [outcomes[place] for place in answered]
        self.taken_failures = taken.pick(failed)
        self.failures: list[Any] = [outcomes[place] for place in failed]

    def marked(self, failed: int, refused: int) -> None:
        """The failures have been dealt with already; some rows refused."""
        self.failed += failed
        self.refused += refused
        self.taken_failures, self.failures = self.taken_failures.pick([]), []

    def quarantine(self, poison: dict[int, RowFailure]) -> None:
        """Turn answers that the database rejects into failures; the others have been written."""
        places = sorted(poison)
        rejected = self.taken_answers.pick(places)
        self.isolated = len(self.answers) - len(places)
        self.taken_failures = rows.merged([self.taken_failures, rejected])
        self.failures += [poison[place] for place in places]
        self.taken_answers, self.answers = self.taken_answers.pick([]), []


def _sorted(outcomes: Sequence[Outcome]) -> tuple[list[int], list[int], Sequence[Outcome]]:
    """The places of answers and of failures, and the outcomes."""
    if set(map(type, outcomes)) == {tuple}:
        return list(range(len(outcomes))), [], outcomes
    answered = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, tuple)]
    failed = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, RowFailure)]
    return answered, failed, outcomes


def _conflicts() -> Repeating:
    """A deadlock or serialisation failure is nobody's fault: again, up to five times."""
    return Repeating(
        retry=retry_if_exception_type(errors.ConflictError),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.02, max=0.5),
        reraise=True,
    )
