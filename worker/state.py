"""rowscore's own tables: migrating them, registering what was applied; users' tables are not its concern."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sql
from worker.capabilities import seconds
from worker.database import Database, Transaction
from worker.errors import LockTimeoutError, PrivilegeError, RefusedError
from worker.materialisation import Materialisation
from worker.migrations import HEAD, Part
from worker.names import literal
from worker.switches import Registered

PREFIX = "rowscore_"  # of own tables where the database has no schemas
OWN_TABLES = (
    "alembic_version",
    "batch",
    "circuit",
    "failure",
    "learned",
    "lease",
    "prediction",
    "run",
    "throttle",
)
LOCK_TIMEOUT = "2s"
FIRST_CLAIM = 1000  # rows, or a full model call if that is more
_REGISTER = (
    "lock_registration", "cancel_outdated_backfills", "void_outdated_leases", "rewind_drain",
    "save_definition", "add_drain", "add_circuit", "add_learned",
)  # fmt: skip
_BIND = re.compile(r"(?<![:\w]):([a-z]\w*)")


def migrate(database: Database, *, lock_timeout: str = LOCK_TIMEOUT) -> bool:
    """Bring rowscore's own tables to this version's shape; returns whether anything was to be done.

    The SQL is the text that `pending_migrations` shows. Two at once do no harm: the second waits, and finds
    it done.

    Raises:
        PrivilegeError: the role may not create the schema.
        RefusedError: the tables were made by a newer rowscore.
        LockTimeoutError: another process migrates, or holds the tables, for longer than `lock_timeout`.
    """
    with database.transaction(lock_timeout=lock_timeout) as transaction, _alone(transaction, lock_timeout):
        text = pending_migrations(transaction)
        if text:
            transaction.script(text)
    return bool(text)


@contextmanager
def _alone(transaction: Transaction, lock_timeout: str) -> Iterator[None]:
    """Hold the lock of those who plan; the end of the transaction gives it back, or a statement where it does not."""
    statements = sql.load(transaction.capabilities.dialect)
    patience = seconds(lock_timeout)
    if transaction.value(statements["lock_plans"].render(), patience=patience) == 0:
        raise LockTimeoutError("another rowscore apply or remove is at work")
    try:
        yield
        if "keep_plans" in statements:
            transaction.execute(statements["keep_plans"].render())
    finally:
        if "unlock_plans" in statements:
            transaction.value(statements["unlock_plans"].render())


def pending_migrations(transaction: Transaction) -> str:
    """The SQL that brings rowscore's own tables up to date, without BEGIN and COMMIT; empty where they are.

    Raises:
        PrivilegeError: the role may not create the schema.
        RefusedError: the tables were made by a newer rowscore.
    """
    statements = sql.load(transaction.capabilities.dialect)
    own: Any = transaction.row(statements["find_own_schema"].render())
    current = transaction.value(statements["find_revision"].render()) if own.migrated else None
    if current == HEAD:
        return ""
    if not own.schema_exists and not own.may_create_schema:
        raise PrivilegeError(
            f"rowscore keeps its own tables in a schema, and role {own.role} may not create one: "
            f"GRANT CREATE ON DATABASE {sql.quote(own.database, transaction.capabilities.dialect)} "
            f"TO {sql.quote(own.role, transaction.capabilities.dialect)}"
        )
    steps = "" if own.schema_exists else statements["create_own_schema"].show() + ";\n\n"
    known = current is None or current in _revisions()
    remains = "drop_own_tables" in statements and own.remains and known
    if remains and (current is None or not _registered(transaction)):
        return steps + _unfinished(transaction) + _rendered(transaction, "base:head")
    return steps + _rendered(transaction, f"{current or 'base'}:head", found=_parts(transaction))


def _unfinished(transaction: Transaction) -> str:
    """The SQL that clears what a crash left of the first migrations, where DDL commits by itself.

    Raises:
        RefusedError: the tables hold predictions: only their version is lost.
    """
    statements = sql.load(transaction.capabilities.dialect)
    if _registered(transaction):
        own: Any = transaction.row(statements["find_own_schema"].render())
        raise RefusedError(
            f"rowscore's own tables are in {own.database}, but {PREFIX}alembic_version does not say of which "
            f"version; restore that table"
        )
    return statements["drop_own_tables"].show() + ";\n\n"


def _registered(transaction: Transaction) -> bool:
    """Whether there are predictions, so that rowscore's own tables hold what nobody could make again."""
    statements = sql.load(transaction.capabilities.dialect)
    own: Any = transaction.row(statements["find_own_schema"].render())
    return bool(own.registrable and transaction.rows(statements["find_registrations"].render()))


def own_tables_removal(transaction: Transaction) -> str:
    """The SQL that drops rowscore's own tables and their schema; nothing of anybody else's goes with them."""
    statements = sql.load(transaction.capabilities.dialect)
    if "drop_own_tables" in statements:
        return statements["drop_own_tables"].show()
    current = transaction.value(statements["find_revision"].render())
    dropped = _rendered(transaction, f"{current}:base", down=True)
    last = [statements[name].show() for name in ("drop_revision_table", "drop_own_schema")]
    return ";\n".join([dropped, *last])


def register(transaction: Transaction, materialisation: Materialisation) -> None:
    """Record the prediction's definition and version, and make the rows that belong to it.

    Where the definition or the version changed a new generation begins and the leases of the old one end, so
    that a worker that still runs with the old file can write nothing.
    """
    statements = sql.load(transaction.capabilities.dialect)
    values = _registration(materialisation)
    for name in _REGISTER:
        transaction.execute(statements[name].render(), **values)


def registration_statements(materialisation: Materialisation) -> tuple[str, ...]:
    """What `register` runs, with its values written out: for the DBA."""
    values, dialect = _registration(materialisation), materialisation.dialect
    return tuple(_written_out(sql.load(dialect)[name].show(), values, dialect) for name in _REGISTER)


def registration_of(materialisation: Materialisation) -> Registered:
    """What `register` would store."""
    values = _registration(materialisation)
    prediction = materialisation.prediction
    return Registered(
        json.loads(str(values["definition"])), prediction.definition_hash, prediction.version_value
    )


def own_statements(names: Sequence[str], values: Mapping[str, Any], dialect: str) -> tuple[str, ...]:
    """Statements over rowscore's own tables with their values written out, as a DBA may run them."""
    texts = {
        key: json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }
    return tuple(_written_out(sql.load(dialect)[name].show(), texts, dialect) for name in names)


def unregister(transaction: Transaction, name: str) -> None:
    """Forget the prediction with its runs, leases, failures and log; its columns stay as they are."""
    transaction.execute(
        sql.load(transaction.capabilities.dialect)["delete_prediction"].render(), prediction=name
    )


def unregistration_statement(name: str, dialect: str) -> str:
    """What `unregister` runs, with its value written out."""
    return _written_out(sql.load(dialect)["delete_prediction"].show(), {"prediction": name}, dialect)


@contextmanager
def one_at_a_time(database: Database, *, lock_timeout: str = LOCK_TIMEOUT) -> Iterator[None]:
    """Keep other applies and removes of this database out while the block runs.

    An idle transaction holds the lock. It has no snapshot, so that CREATE INDEX CONCURRENTLY does not wait
    for it.

    Raises:
        LockTimeoutError: another one is at work.
    """
    with database.transaction(lock_timeout=lock_timeout) as transaction:
        statements = sql.load(transaction.capabilities.dialect)
        if "outlast_timeouts" in statements:
            transaction.execute(statements["outlast_timeouts"].render())
        with _alone(transaction, lock_timeout):
            yield


def _registration(materialisation: Materialisation) -> dict[str, str | int]:
    """The values; what `worker.moving` looks for is kept beside the definition, and is no part of it."""
    prediction, held = materialisation.prediction, materialisation.held
    definition = {**prediction.definition, "held": held} if held else prediction.definition
    return {
        "prediction": prediction.name,
        "definition_hash": prediction.definition_hash,
        "definition": json.dumps(definition, sort_keys=True),
        "version": prediction.version_value,
        "rows_per_claim": min(
            max(FIRST_CLAIM, prediction.max_rows_per_batch or 0), prediction.max_rows_per_claim
        ),
    }


def _written_out(statement: str, values: dict[str, Any], dialect: str) -> str:
    """A statement of state.sql with its parameters as literals; it holds no text of a user's, so the search
    is safe.
    """
    texts = {
        key: literal(value, dialect) if isinstance(value, str) else str(value)
        for key, value in values.items()
    }
    return _BIND.sub(lambda match: texts[match[1]], statement)


def _parts(transaction: Transaction) -> frozenset[Part]:
    """What there is of rowscore's own tables, where a migration may have died in the middle."""
    statements = sql.load(transaction.capabilities.dialect)
    if "find_own_parts" not in statements:
        return frozenset()
    found = transaction.rows(statements["find_own_parts"].render())
    return frozenset((row.table, row.kind, row.name) for row in found)


def _rendered(
    transaction: Transaction, span: str, *, down: bool = False, found: frozenset[Part] = frozenset()
) -> str:
    from worker.migrations.rendering import render

    capabilities = transaction.capabilities
    return render(capabilities.dialect, capabilities.own_schema, PREFIX, span, down=down, found=found)


def _revisions() -> tuple[str, ...]:
    from worker.migrations.rendering import revisions

    return revisions()
