"""The user's rows: read a window, write answers back under the guard, mark failures; it decides nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from sqlalchemy.exc import DBAPIError

from worker.capabilities import Packing, unpack
from worker.columns import Columns, Listed, Row
from worker.database import Transaction
from worker.distinct import exact
from worker.errors import DataError, LockTimeoutError
from worker.leases import Key, Lease, Window, bind_key, share_prediction
from worker.materialisation import Materialisation
from worker.models.protocol import Answer, RowFailure
from worker.states import RowState
from worker.table import listed


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows of a window as they were read.

    Attributes:
        keys: the values of each key column.
        fingerprints: what the guarded write compares.
        values: for each row its inputs, or its answers where the database itself answered.
    """

    keys: tuple[Listed, ...]
    fingerprints: Listed
    values: Sequence[Row]

    def __len__(self) -> int:
        return len(self.fingerprints)

    def key(self, place: int) -> Key:
        """The key of one row as texts."""
        return tuple(str(column[place]) for column in self.keys)

    def window(self, start: int, stop: int) -> Window:
        """The window from one row up to, not including, another."""
        return Window(self.key(start), self.key(stop - 1))

    def pick(self, places: Sequence[int]) -> Taken:
        """Some of the rows."""
        values = self.values
        return Taken(
            tuple(_picked(column, places) for column in self.keys),
            _picked(self.fingerprints, places),
            values.pick(places) if isinstance(values, Columns) else [values[place] for place in places],
        )


def _picked(column: Listed, places: Sequence[int]) -> list[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else column
    return [values[place] for place in places]


NOTHING = Taken((), [], [])
Result = TypeVar("Result")
Run = Callable[[Transaction, str, Mapping[str, Any]], Result]
_LOOKS = 3  # at rows that changed between the read and the write, and again between that look and its write


def merged(parts: Sequence[Taken]) -> Taken:
    """Several parts as one, in the order given."""
    width = len(parts[0].keys)
    return Taken(
        tuple([value for part in parts for value in part.keys[place]] for place in range(width)),
        [value for part in parts for value in part.fingerprints],
        [value for part in parts for value in part.values],
    )


def read(
    transaction: Transaction,
    m: Materialisation,
    lease: Lease,
    window: Window,
    limit: int,
    *,
    packed: bool = False,
) -> Taken:
    """The window's rows that wait, with fingerprints and inputs; rows that another session holds are left out.

    Args:
        packed: column by column, where the database can: for less processor time, and more of the server's memory.
    """
    if packed and (packings := m.packings) is not None:
        run = _unpacked(m, packings)
        unpacked = _unheld(transaction, m, "read_rows", lease, window, limit, run=run, packed=True)
        if unpacked is not None:
            return unpacked
    taken = _unheld(transaction, m, "read_rows", lease, window, limit, run=_fetched(m), shared=True)
    return replace(taken, values=loaded(m, taken.values))


def loaded(m: Materialisation, values: Sequence[Row]) -> Sequence[Row]:
    """The inputs as models get them: JSON as the values that it stands for, booleans as such where that matters."""
    loads = dict.fromkeys(m.parsed_inputs, _parsed) | dict.fromkeys(m.boolean_inputs, _boolean)
    if not loads:
        return values
    return [
        tuple(loads[place](value) if place in loads else value for place, value in enumerate(row))
        for row in values
    ]


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _boolean(value: Any) -> Any:
    return bool(value) if value in (0, 1) else value  # tinyint(1) holds others as well


def look(transaction: Transaction, m: Materialisation, limit: int) -> tuple[RowState, Taken]:
    """The inputs of the first rows that wait, or where those are fewer of the table's first in their commonest state.

    The state comes first. Nothing is locked, and there are no fingerprints: nothing will be written.
    """
    taken = _looked(transaction, m, RowState.PENDING, limit)
    if len(taken) < limit and (found := transaction.row(m.render("look_states"), limit=limit)) is not None:
        # No more than were found in it, so that the look ends where that one did.
        others = _looked(transaction, m, RowState(found.state), int(found.rows))
        if len(others) > len(taken):
            return RowState(found.state), others
    return RowState.PENDING, taken


def _looked(transaction: Transaction, m: Materialisation, state: RowState, limit: int) -> Taken:
    taken = _fetched(m)(transaction, m.render("look_rows", claims=state), {"limit": limit})
    return replace(taken, values=loaded(m, taken.values))


def rehearse(
    transaction: Transaction, m: Materialisation, state: RowState, window: Window, limit: int
) -> int:
    """Let the SQL function answer for rows in that state as `answer` does, in one call where it is told how many.

    Returns how many rows it answered for; the answers are gone.
    """
    asked = {"max_rows_per_batch": limit} if m.function is not None and m.function.takes_batch_size else {}
    sql = m.render("answer_rows", claims=state, **asked)
    return len(_fetched(m)(transaction, sql, {**_bounds(window), "limit": limit}))


def answer(transaction: Transaction, m: Materialisation, lease: Lease, window: Window, limit: int) -> Taken:
    """The window's rows with the SQL function's answers for values; nothing is locked."""
    return _taken(transaction, m, "answer_rows", lease, window, limit)


def identify(
    transaction: Transaction,
    m: Materialisation,
    lease: Lease,
    window: Window,
    limit: int,
    *,
    unheld: bool = False,
) -> Taken:
    """Keys and fingerprints of the window's rows; with `unheld` of those only that no other session holds."""
    if unheld:
        return _unheld(transaction, m, "list_rows", lease, window, limit, run=_fetched(m), unheld=True)
    return _taken(transaction, m, "list_rows", lease, window, limit, unheld=False)


def _taken(
    transaction: Transaction,
    m: Materialisation,
    statement: str,
    lease: Lease,
    window: Window,
    limit: int,
    **extra: bool | None,
) -> Taken:
    sql = m.render(statement, claims=lease.kind.claims, **extra)
    return _fetched(m)(transaction, sql, {**_bounds(window), "limit": limit})


def _fetched(m: Materialisation) -> Run[Taken]:
    """Fetches keys, a fingerprint, and the rest."""

    def fetch(transaction: Transaction, sql: str, parameters: Mapping[str, Any]) -> Taken:
        rows = transaction.fetch_binary(sql, parameters)
        width = len(m.key)
        columns = [[row[place] for row in rows] for place in range(width + 1)]
        return Taken(tuple(columns[:width]), columns[width], [row[width + 1 :] for row in rows])

    return fetch


def _unpacked(m: Materialisation, packings: Sequence[Packing]) -> Run[Taken | None]:
    """Fetches the same column by column; None where one of them is ambiguous."""

    def fetch(transaction: Transaction, sql: str, parameters: Mapping[str, Any]) -> Taken | None:
        (answer,) = transaction.fetch_binary(sql, parameters)
        found = unpack(packings, len(m.key) + 1, answer)
        if found is None:
            return None
        *keys, fingerprints = (column.values for column in found[0])
        return Taken(tuple(keys), fingerprints, Columns(found[1]))

    return fetch


def _counted(transaction: Transaction, sql: str, parameters: Mapping[str, Any]) -> int:
    return int(transaction.execute(sql, **parameters).rowcount)


def _unheld(
    transaction: Transaction,
    m: Materialisation,
    statement: str,
    lease: Lease,
    window: Window,
    limit: int,
    *,
    run: Run[Result],
    fits: bool = True,
    shared: bool = False,
    **extra: bool,
) -> Result:
    """Run a statement that locks the window's rows and steps over those that other sessions hold.

    Where the database cannot step over them it waits for nobody at all; and if somebody does hold a row, the others are
    locked in a statement of their own, and it is told which they are.

    Args:
        run: runs it with its parameters.
        fits: it is about rows for which `where` holds; or about the others.
        shared: it only reads.
    """
    capabilities, claims = transaction.capabilities, lease.kind.claims
    sql = m.render(statement, claims=claims, **extra)
    try:
        return run(transaction, capabilities.at_once(sql), {**_bounds(window), "limit": limit, **_version(m)})
    except (DBAPIError, capabilities.driver_error) as error:
        if not (_is_forgiven(transaction, error) and not fits) and (
            capabilities.steps_over or not _is_held(transaction, error)
        ):
            raise
    # Again: with innodb_rollback_on_timeout = ON it was undone.
    share_prediction(transaction, m, lease.generation)
    asked = list_keys(transaction, m, lease, window, limit, fits=fits)
    found = asked.pick(_lock(transaction, m, claims, asked, guarded=False, fits=fits, shared=shared))
    named = m.render(statement, claims=claims, locked=True, **extra)
    return run(transaction, named, {**_bound(transaction, _identity(m, found)), **_version(m)})


def _is_held(transaction: Transaction, error: Exception) -> bool:
    """Whether a statement failed because another session holds a row."""
    return _kind(transaction, error) is LockTimeoutError


def _is_forgiven(transaction: Transaction, error: Exception) -> bool:
    """Whether an expression failed that is NULL in a SELECT, by which the rows are then found that `where` excludes."""
    return transaction.capabilities.reads_forgive and _kind(transaction, error) is DataError


def _kind(transaction: Transaction, error: Exception) -> type[Exception]:
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return transaction.capabilities.classify(origin)


def _lock(
    transaction: Transaction,
    m: Materialisation,
    claims: RowState,
    taken: Taken,
    *,
    guarded: bool,
    fits: bool | None = None,
    shared: bool = False,
    **extra: str,
) -> list[int]:
    """Lock those of the rows that are still as they were and that no other session holds; returns their places.

    Args:
        guarded: their inputs must be the same, too.
        fits: `where` must hold, or must not; None: whichever.
        extra: `verified`: instead of all that, they must be found so when their inputs are compared.
    """
    sql = m.render("lock_rows", claims=claims, guarded=guarded, fits=fits, shared=shared, **extra)
    ((places,),) = transaction.fetch_binary(sql, _bound(transaction, _identity(m, taken)))
    return sorted(place - 1 for place in json.loads(places))


def list_keys(
    transaction: Transaction,
    m: Materialisation,
    lease: Lease,
    window: Window,
    limit: int,
    *,
    fits: bool | None = None,
) -> Taken:
    """Keys alone of the window's rows, evaluating nothing that the user wrote: some row makes it fail.

    Args:
        fits: only of rows for which `where` holds, or does not.
    """
    taken = _taken(transaction, m, "list_keys", lease, window, limit, fits=fits)
    return Taken(taken.keys, [None] * len(taken.keys[0]), taken.values)


def skip(transaction: Transaction, m: Materialisation, lease: Lease) -> int:
    """Mark the window's rows for which `where` does not hold as skipped; returns how many."""
    if not m.prediction.where:
        return 0
    return _unheld(transaction, m, "skip_rows", lease, lease.window, lease.rows, run=_counted, fits=False)


def score(transaction: Transaction, m: Materialisation, lease: Lease, window: Window, limit: int) -> int:
    """Claim, call the SQL function and write, in one statement; returns the rows written."""
    return _unheld(transaction, m, "score_rows", lease, window, limit, run=_counted)


def claim(transaction: Transaction, m: Materialisation, lease: Lease) -> bool:
    """Lock the window's rows; returns whether they are all ours, so that a plain UPDATE waits for nobody."""
    sql = transaction.capabilities.at_once(m.render("claim_rows", claims=lease.kind.claims))
    try:
        return bool(transaction.value(sql, **_bounds(lease.window), limit=lease.rows))
    except DBAPIError as error:
        if transaction.capabilities.steps_over or not _is_held(transaction, error):
            raise
        return False


def score_in_place(transaction: Transaction, m: Materialisation, lease: Lease) -> int:
    """Call the SQL function in SET over the whole window; returns the rows written."""
    sql = m.render("score_rows_in_place", claims=lease.kind.claims)
    return int(transaction.execute(sql, **_bounds(lease.window), **_version(m)).rowcount)


def write(
    transaction: Transaction,
    m: Materialisation,
    claims: RowState,
    taken: Taken,
    answers: Sequence[Answer],
    *,
    past_locks: bool = False,
    sent: bool = False,
) -> int:
    """Write answers to the rows that still wait with the inputs that were scored; returns how many were written.

    Args:
        past_locks: lock first and step over rows that others hold; otherwise wait up to the lock_timeout.
        sent: the answers are in the form that is sent already.
    """
    if not answers:
        return 0
    capabilities = transaction.capabilities
    if past_locks and not capabilities.steps_over:
        places = _lock(transaction, m, claims, taken, guarded=True)
        taken, answers = taken.pick(places), [answers[place] for place in places]
        if not answers:
            return 0
    past = past_locks and not capabilities.locks_first
    sql = m.render("write_rows_past_locks" if past else "write_rows", claims=claims)
    sql = sql if past_locks else capabilities.at_once(sql)
    count = _write(transaction, m, sql, taken, answers, sent=sent)
    if m.versioned and count < len(answers):
        count += _write_unchanged(transaction, m, sql, claims, taken, answers)
    held = capabilities.locks_first and not past_locks and count < len(answers)
    if held and count_waiting(transaction, m, claims, taken):
        raise LockTimeoutError("another session holds rows of the batch")
    return count


def _write(
    transaction: Transaction,
    m: Materialisation,
    sql: str,
    taken: Taken,
    answers: Sequence[Answer],
    *,
    sent: bool,
) -> int:
    """One guarded write; returns how many rows it changed."""
    convert = transaction.capabilities.sent_values
    columns = _identity(m, taken)
    for place, (output, column) in enumerate(zip(m.outputs, zip(*answers, strict=True), strict=True), 1):
        packed = bool(
            output.kind.oid
        )  # the server's own answers come as it sends them, and are packed all the same
        columns[f"o{place}"] = (
            convert(column, output.kind) if packed or not sent else list(column),
            output.sent,
        )
    return transaction.execute_binary(sql, {**_bound(transaction, columns), **_version(m)})


def _write_unchanged(
    transaction: Transaction,
    m: Materialisation,
    sql: str,
    claims: RowState,
    taken: Taken,
    answers: Sequence[Answer],
) -> int:
    """Write to the rows of which another column was changed since they were read; returns how many they were."""
    count = 0
    for _ in range(_LOOKS):
        current = _current(transaction, m, claims, taken)
        if not current:
            break
        places = list(current)
        unchanged = replace(taken.pick(places), fingerprints=list(current.values()))
        count += _write(transaction, m, sql, unchanged, [answers[place] for place in places], sent=False)
    return count


def _current(transaction: Transaction, m: Materialisation, claims: RowState, taken: Taken) -> dict[int, Any]:
    """By place the versions that rows have now which were changed since they were read, but for their inputs."""
    found = transaction.fetch_binary(
        m.render("changed_rows", claims=claims), _bound(transaction, _identity(m, taken))
    )
    width = len(m.key)
    changed = {tuple(map(str, row[:width])): row for row in found}
    return {
        place: row[width]
        for place in range(len(taken))
        if (row := changed.get(taken.key(place))) is not None
        and exact(row[width + 1 :]) == exact(taken.values[place])
    }


def unanswered(transaction: Transaction, m: Materialisation, keys: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The parameters of a write of these keys without fingerprints or answers, which can be planned for."""
    nothing = [None] * len(keys)
    taken = Taken(tuple(list(column) for column in zip(*keys, strict=True)), nothing, [])
    answers = {f"o{place}": (nothing, output.sent) for place, output in enumerate(m.outputs, 1)}
    return {**_bound(transaction, {**_identity(m, taken), **answers}), **_version(m)}


def count_waiting(transaction: Transaction, m: Materialisation, claims: RowState, taken: Taken) -> int:
    """How many of the rows could still be written: they wait and their inputs have not changed."""
    sql = m.render("count_waiting", claims=claims)
    return int(transaction.fetch_binary(sql, _bound(transaction, _identity(m, taken)))[0][0])


def fail(
    transaction: Transaction,
    m: Materialisation,
    claims: RowState,
    taken: Taken,
    failures: Sequence[RowFailure],
) -> int:
    """Quarantine rows with their errors, under the same guard; returns how many were still waiting.

    Rows whose fingerprint cannot be computed come without one: that they still wait has to do, and the retry mends it.
    """
    if not failures:
        return 0
    guarded = None not in list(taken.fingerprints)
    if m.versioned and any(taken.values):
        current = _current(transaction, m, claims, taken)
        versions = [current.get(place, version) for place, version in enumerate(taken.fingerprints)]
        taken = replace(taken, fingerprints=versions)
    identity = _identity(m, taken) | ({} if guarded else {"f": ([None] * len(taken), m.fingerprint[1])})
    if transaction.capabilities.locks_first:
        places = _lock(transaction, m, claims, taken, guarded=guarded)
        if places:
            parameters = _bound(transaction, _identity(m, taken.pick(places)))
            transaction.execute_binary(m.render("mark_failed", claims=claims), parameters)
    else:
        marked = transaction.fetch_binary(
            m.render("mark_failed", claims=claims, guarded=guarded), _bound(transaction, identity)
        )
        keys = {tuple(listed(row[0])) for row in marked}
        places = [place for place in range(len(taken)) if taken.key(place) in keys]
    pairs = [(taken.key(place), failures[place]) for place in places]
    if pairs:
        record_failures(transaction, m, pairs)
    return len(pairs)


def record_failures(
    transaction: Transaction, m: Materialisation, failures: Sequence[tuple[Key, RowFailure]]
) -> None:
    """Note the errors of rows by their keys; the rows themselves are not touched."""
    transaction.execute(
        m.render("record_failures"),
        prediction=m.name,
        **_bound(
            transaction,
            {
                "keys": ([json.dumps(key) for key, _ in failures], "text"),
                "classes": ([failure.failure.value for _, failure in failures], "text"),
                "messages": ([failure.message.replace("\x00", "")[:2000] for _, failure in failures], "text"),
            },
        ),
        retry_after=m.prediction.retry_after.total_seconds(),
        max_attempts=m.prediction.max_attempts,
    )


def forget_failures(transaction: Transaction, m: Materialisation, window: Window) -> None:
    """Drop the errors of the window's rows that have been scored since."""
    _forget(transaction, m, "forget_failures", _bounds(window))


def forget_orphans(transaction: Transaction, m: Materialisation) -> int:
    """Drop the errors of rows that are neither failed nor waiting any more; returns how many."""
    return _forget(transaction, m, "forget_orphans", {})


def _forget(transaction: Transaction, m: Materialisation, statement: str, parameters: dict[str, Any]) -> int:
    sql = m.render(statement)
    if not transaction.capabilities.locks_first:
        return int(transaction.execute(sql, prediction=m.name, **parameters).rowcount)
    found = [list(row) for row in transaction.rows(sql, prediction=m.name, **parameters)]
    if not found:
        return 0
    return int(
        transaction.execute(m.render("drop_failures"), prediction=m.name, rows=json.dumps(found)).rowcount
    )


def retry(transaction: Transaction, m: Materialisation, limit: int, *, everything: bool) -> tuple[int, bool]:
    """Put up to `limit` failed rows back to pending that are due, or any; returns how many, and whether to go on.

    Rows that another session holds are left out.
    """
    if not transaction.capabilities.locks_first:
        sql = m.render("retry_failures", everything=everything)
        count = int(transaction.execute(sql, prediction=m.name, limit=limit).rowcount)
        return count, count == limit
    parameters = {"prediction": m.name, "limit": limit}
    due = _fetched(m)(transaction, m.render("list_due", everything=everything), parameters)
    found = due.pick(_lock(transaction, m, RowState.FAILED, due, guarded=False))
    sql, named = m.render("retry_failures"), _bound(transaction, _identity(m, found))
    count = transaction.execute_binary(sql, named) if len(found) else 0
    return count, len(due) == limit and count > 0


def compare(transaction: Transaction, m: Materialisation, window: Window, limit: int) -> Taken:
    """The window's rows that are not as they were scored; for its only value each has what was found (`Found`).

    Nothing is locked.

    Args:
        limit: more rows than there are in the window.

    Raises:
        DataError: an expression fails on some row.
    """
    found = transaction.fetch_binary(m.render("compare_rows"), {**_bounds(window), "limit": limit})
    width = len(m.key)
    keys = tuple([row[place] for row in found] for place in range(width))
    return Taken(keys, [None] * len(found), [row[width:] for row in found])


def list_compared(transaction: Transaction, m: Materialisation, window: Window, limit: int) -> Taken:
    """Keys of the rows that `compare` looks at, evaluating nothing that the user wrote."""
    return _fetched(m)(transaction, m.render("list_compared"), {**_bounds(window), "limit": limit})


def export(
    transaction: Transaction, m: Materialisation, window: Window, limit: int, *, scored: bool
) -> Sequence[Row]:
    """The inputs of the window's rows for which `where` holds, as models get them; nothing is locked.

    Args:
        limit: more rows than there are in the window.
        scored: only those that have been scored.

    Raises:
        DataError: an expression fails on some row.
    """
    parameters = {**_bounds(window), "limit": limit}
    return loaded(m, transaction.fetch_binary(m.render("export_rows", scored=scored), parameters))


def list_exported(transaction: Transaction, m: Materialisation, window: Window, limit: int) -> Taken:
    """Keys of the rows that `export` looks at, evaluating nothing that the user wrote."""
    return _fetched(m)(transaction, m.render("list_exported"), {**_bounds(window), "limit": limit})


def requeue(
    transaction: Transaction, m: Materialisation, taken: Taken, wanted: Sequence[int], *, accept: bool = False
) -> tuple[int, int]:
    """Put rows back to pending that are still found so; returns how many, and how many other sessions hold.

    Args:
        wanted: what they have to be found as, when they are compared once more.
        accept: take them to be as they were scored instead, and keep the fingerprint that they have now.

    Raises:
        DataError: an expression fails on some row.
    """
    if not len(taken):
        return 0, 0
    verified = ", ".join(str(int(found)) for found in wanted)
    sql, asked = m.render("accept_rows" if accept else "mark_changed", verified=verified), taken
    if transaction.capabilities.locks_first:
        asked = taken.pick(_lock(transaction, m, RowState.SCORED, taken, guarded=False, verified=verified))
    count = 0
    if len(asked):
        count = transaction.execute_binary(sql, _bound(transaction, _identity(m, asked)))
    if count == len(taken):
        return count, 0
    left = transaction.fetch_binary(
        m.render("count_changed", verified=verified), _bound(transaction, _identity(m, taken))
    )
    return count, int(left[0][0])


def _bounds(window: Window) -> dict[str, Any]:
    return {**bind_key("lo", window.lo), **bind_key("hi", window.hi)}


def _version(m: Materialisation) -> dict[str, Any]:
    return {"version": m.prediction.version_value} if m.prediction.version else {}


def _identity(m: Materialisation, taken: Taken) -> dict[str, tuple[Listed, str]]:
    """The columns that say which rows, and what their inputs were."""
    keys = zip(m.key, taken.keys, strict=True)
    return {
        **{
            f"k{place}": (values, "bigint" if key.native else "text")
            for place, (key, values) in enumerate(keys, 1)
        },
        "f": (taken.fingerprints, m.fingerprint[1]),
    }


def _bound(transaction: Transaction, columns: Mapping[str, tuple[Listed, str]]) -> dict[str, Any]:
    return transaction.capabilities.bind_columns(columns)
