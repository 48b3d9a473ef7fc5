"""Carries plans out: `apply` and `remove` on a live database, with short waits for locks; decides no DDL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.exc import DBAPIError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

import sql
from worker.changes import Change
from worker.config import Prediction
from worker.database import Database, Transaction
from worker.errors import (
    ConfigurationError,
    ConflictError,
    CopyNeededError,
    DatabaseError,
    LockTimeoutError,
    PrivilegeError,
    RefusedError,
)
from worker.materialisation import Materialisation, resolve
from worker.plan import plan_changes
from worker.promotion import Course as Switched
from worker.promotion import plan_switch
from worker.removal import plan_removal, read_remains
from worker.state import one_at_a_time
from worker.survey import read_facts, read_marked
from worker.switches import Direction

_DEPENDENT_OBJECTS = "2BP01"
_NOT_TOLD = ("42000", "42S02")  # MySQL, MariaDB: not without PROCESS, or a plugin that is not installed


@dataclass(frozen=True, slots=True)
class LockPatience:
    """How long DDL queues for a lock, behind which everybody else would queue, and how often it tries again.

    Attributes:
        lock_timeout: of each try, as PostgreSQL writes it.
        attempts: tries without progress before it gives up.
        first_pause: seconds at most before the second try; doubled for each further one.
        longest_pause: seconds at most between two tries.
    """

    lock_timeout: str = "2s"
    attempts: int = 10
    first_pause: float = 0.5
    longest_pause: float = 15.0


DEFAULT_PATIENCE = LockPatience()


def _ignore(_: object) -> None:
    """For callers who want to hear nothing."""


def apply(
    database: Database,
    materialisation: Materialisation,
    *,
    allow_copy: bool = False,
    dry_run: bool = False,
    on_change: Callable[[Change], object] = _ignore,
    on_wait: Callable[[str], object] = _ignore,
    patience: LockPatience = DEFAULT_PATIENCE,
) -> list[Change]:
    """Bring the table and rowscore's own tables to what is wanted; returns the changes made, or to be made.

    A second time does nothing; after a crash it goes on where it stopped.

    Args:
        database: where.
        materialisation: what; the table is read again.
        allow_copy: copy the table where the server cannot add a column otherwise; only MySQL and MariaDB may have to.
        dry_run: only plan. Each change's `script` is what a DBA may run by hand to the same end.
        on_change: told of each change before it is made.
        on_wait: told in words when a lock or an older transaction is waited for, and who holds it.
        patience: for tests and impatient operators.

    Raises:
        ConfigurationError: `allow_copy` for a database that never copies.
        RefusedError: a change would hurt the table or somebody else's objects; nothing was changed.
        PrivilegeError: the role may not.
        LockTimeoutError: somebody held a lock for all attempts; the message names the session.
    """
    if allow_copy and not database.capabilities.alteration.copies:
        raise ConfigurationError("--allow-copy: this database adds columns without copying the table")

    def plan(transaction: Transaction) -> list[Change]:
        return plan_changes(read_facts(transaction, materialisation), allow_copy=allow_copy)

    relations: list[Any] = [materialisation.table.oid]
    return _Course(
        database=database,
        plan=plan,
        relations=lambda _: relations,
        patience=patience,
        on_change=on_change,
        on_wait=on_wait,
    ).run(dry_run=dry_run)


def remove(
    database: Database,
    what: Materialisation | Prediction,
    *,
    drop_outputs: bool = False,
    dry_run: bool = False,
    on_change: Callable[[Change], object] = _ignore,
    on_wait: Callable[[str], object] = _ignore,
    patience: LockPatience = DEFAULT_PATIENCE,
) -> list[Change]:
    """Undo `apply`; columns that were there before it stay in any case, and output columns unless asked
    otherwise.

    Works when half of it is missing, and when the table has been dropped. Arguments and errors as for
    `apply`.

    With `drop_outputs` the output columns that rowscore made go too, with the predictions in them.
    """
    prediction = what if isinstance(what, Prediction) else what.prediction

    def plan(transaction: Transaction) -> list[Change]:
        return plan_removal(read_remains(transaction, prediction, drop_outputs=drop_outputs))

    def relations(transaction: Transaction) -> list[Any]:
        marked = read_marked(transaction, prediction)
        return [item.oid for item in marked if item.mark.prediction == prediction.name]

    return _Course(
        database=database,
        plan=plan,
        relations=relations,
        patience=patience,
        on_change=on_change,
        on_wait=on_wait,
    ).run(dry_run=dry_run)


def switch(
    database: Database,
    pair: tuple[Prediction, Prediction],
    direction: Direction,
    *,
    allow_missing: bool = False,
    allow_copy: bool = False,
    dry_run: bool = False,
    on_change: Callable[[Change], object] = _ignore,
    on_wait: Callable[[str], object] = _ignore,
    patience: LockPatience = DEFAULT_PATIENCE,
) -> Switched:
    """Let a live prediction and its shadow change places; a second time goes on where the first one stopped.

    Args:
        database: where.
        pair: both, as the file has them.
        direction: promote, or back.
        allow_missing: though rows would lose their prediction.
        allow_copy, dry_run, on_change, on_wait, patience: as for `apply`.

    Raises:
        RefusedError: why it is not done; nothing was changed.
        ConfigurationError, PrivilegeError, LockTimeoutError: as for `apply`.
    """
    if allow_copy and not database.capabilities.alteration.copies:
        raise ConfigurationError("--allow-copy: this database renames columns without copying the table")

    def plan(transaction: Transaction) -> Switched:
        return plan_switch(transaction, pair, direction, allow_missing=allow_missing, allow_copy=allow_copy)

    with database.transaction(lock_timeout=patience.lock_timeout) as transaction:
        found = plan(transaction)
        relations: list[Any] = [resolve(transaction, pair[0]).table.oid]
    if dry_run or not found.changes:
        return found
    done = _Course(
        database=database,
        plan=lambda transaction: plan(transaction).changes,
        relations=lambda _: relations,
        patience=patience,
        on_change=on_change,
        on_wait=on_wait,
    ).run(dry_run=False)
    return replace(found, changes=done)


def drift(transaction: Transaction, materialisation: Materialisation) -> list[str]:
    """What `apply` would change or why it would refuse, in words; empty where all is as wanted."""
    try:
        changes = plan_changes(read_facts(transaction, materialisation))
    except (RefusedError, PrivilegeError) as error:
        return str(error).splitlines()
    return [change.title for change in changes]


@dataclass
class _Course:
    """One run of a plan: made, carried out, and made again from the facts after each lock not granted.

    A plan that begins from the facts needs no memory of what was done: an INVALID index that a timeout left
    is in the next plan as one to drop.
    """

    database: Database
    plan: Callable[[Transaction], list[Change]]
    relations: Callable[[Transaction], list[Any]]
    patience: LockPatience
    on_change: Callable[[Change], object]
    on_wait: Callable[[str], object]
    done: list[Change] = field(default_factory=list)
    failures: int = 0

    def run(self, *, dry_run: bool) -> list[Change]:
        if dry_run:
            return self._planned()
        patience = self.patience
        Retrying(
            retry=retry_if_exception_type((LockTimeoutError, ConflictError)),
            wait=wait_random_exponential(patience.first_pause, patience.longest_pause),
            stop=self._is_over,
            before_sleep=self._tell,
            reraise=True,
        )(self._round)
        return self.done

    def _round(self) -> None:
        try:
            with one_at_a_time(self.database, lock_timeout=self.patience.lock_timeout):
                for change in self._planned():
                    self.on_change(change)
                    self._make(change)
                    self.done.append(change)
                    self.failures = 0
        except LockTimeoutError as error:
            raise LockTimeoutError(self._explained(error), sqlstate=error.sqlstate) from error
        except CopyNeededError as error:
            raise RefusedError(
                f"{error}; --allow-copy copies the table, and those who write to it wait meanwhile"
            ) from error
        except DatabaseError as error:
            if error.sqlstate == _DEPENDENT_OBJECTS:
                raise RefusedError(f"{error}; drop what depends on it first") from error
            raise

    def _planned(self) -> list[Change]:
        with self.database.transaction(lock_timeout=self.patience.lock_timeout) as transaction:
            return self.plan(transaction)

    def _make(self, change: Change) -> None:
        if change.transactional or not self.database.capabilities.alteration.transactional:
            self._make_quickly(change)
            return
        # No lock_timeout here: it could be set for the session only, and nobody queues behind this lock.
        with self.database.autocommit() as transaction:
            self._tell_older(transaction, change)
            transaction.script(change.sql)

    def _make_quickly(self, change: Change) -> None:
        """With a short wait for locks: everybody else queues behind it."""
        settings: dict[str, str | int] = {
            "lock_timeout": self.patience.lock_timeout,
            "statement_timeout": 0,
        }
        with self.database.transaction(**settings) as transaction:
            self._tell_older(transaction, change)
            try:
                transaction.script(change.sql)
            except Exception:
                if not change.transactional:  # no rollback gives back what LOCK TABLES holds
                    transaction.connection.invalidate()
                raise

    def _tell_older(self, transaction: Transaction, change: Change) -> None:
        if change.waits and (older := self._sessions(transaction, "find_older_transactions")):
            self.on_wait(f"{change.title}: waits for transactions that began before it: {'; '.join(older)}")

    def _explained(self, error: LockTimeoutError) -> str:
        """The error with the sessions that hold locks now: what timed out no longer waits for them."""
        with self.database.transaction() as transaction:
            relations = self.relations(transaction) or [None]
            holders = self._sessions(transaction, "find_blockers", relations=relations)
            who = f"; locks are held by {'; '.join(holders)}" if holders else ""
            if not holders and (suspects := self._sessions(transaction, "find_suspects")):
                who = f"; locks may be held by {'; '.join(suspects)}"
        return f"a lock was not granted within {self.patience.lock_timeout} ({error}){who}"

    def _sessions(self, transaction: Transaction, statement: str, **parameters: Any) -> list[str]:
        """Other sessions in words; none where the database has no such statement, or lets this role not ask."""
        statements = sql.load(transaction.capabilities.dialect)
        if statement not in statements:
            return []
        try:
            rows: Sequence[Any] = transaction.rows(statements[statement].render(), **parameters)
        except DBAPIError as error:
            if self.database.translate(error).sqlstate in _NOT_TOLD:
                return []
            raise
        return [
            f"session {row.pid} ({row.role}, {row.state}, {row.seconds} s in its transaction): {row.query}"
            for row in rows
        ]

    def _tell(self, state: RetryCallState) -> None:
        self.on_wait(str(state.outcome.exception()) if state.outcome else "")

    def _is_over(self, _: RetryCallState) -> bool:
        self.failures += 1
        return self.failures >= self.patience.attempts
