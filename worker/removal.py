"""The DDL that undoes `apply`, found by rowscore's marks and names alone, so that it works on ruins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sql
from worker.capabilities import Alteration, Lock, capabilities_of
from worker.changes import Change
from worker.config import Prediction
from worker.database import Transaction
from worker.errors import RefusedError
from worker.facts import MarkedColumn, OwnModel, View
from worker.names import LONGEST, Role, fitted, function_name, index_name, literal, trigger_name
from worker.plan import in_dialect
from worker.state import own_tables_removal, unregistration_statement
from worker.survey import (
    bind_tables,
    named_tables,
    read_dependents,
    read_marked,
    read_models,
    read_registrations,
    read_views,
)
from worker.view import qualified
from worker.wrappers import drop_models


@dataclass(frozen=True, slots=True)
class OwnIndex:
    """A pending index that is left; `partitioned` where it is the frame of a partitioned table's."""

    schema: str
    name: str
    table: str
    partitioned: bool


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left of a prediction in the database.

    Attributes:
        tables_sql: SQL that drops rowscore's own tables; empty where they are gone or others use them.
        columns: the columns to drop; `kept` the output columns that lose only rowscore's mark.
        definitions: of the kept columns without that mark, where the database wants a column's whole definition.
        triggers: tables (schema, name) that bear the trigger.
        dependents: what others built upon the columns to drop.
        models: functions that call a service for it, and the types that they answer.
    """

    prediction: str
    registered: bool
    tables_sql: str
    columns: tuple[MarkedColumn, ...]
    kept: tuple[MarkedColumn, ...]
    definitions: dict[MarkedColumn, str]
    views: tuple[View, ...]
    triggers: tuple[tuple[str, str], ...]
    function: bool
    indexes: tuple[OwnIndex, ...]
    dependents: tuple[str, ...]
    dialect: str
    models: tuple[OwnModel, ...] = ()


def read_remains(transaction: Transaction, prediction: Prediction, *, drop_outputs: bool) -> Remains:
    """Look up what is left of the prediction; tables that are gone leave nothing."""
    name, dialect = prediction.name, transaction.capabilities.dialect
    statements = sql.load(dialect)

    def rows(statement: str, **parameters: Any) -> Sequence[Any]:
        if statement not in statements:
            return ()
        return transaction.rows(
            statements[statement].render(parts=range(len(tables) + 1)), **bind_tables(tables), **parameters
        )

    function, trigger = function_name(name), trigger_name(name)
    tables = named_tables(transaction, prediction)
    marked = [item for item in read_marked(transaction, prediction) if item.mark.prediction == name]
    kept = [] if drop_outputs else [item for item in marked if item.mark.role is Role.OUTPUT]
    columns = [item for item in marked if item not in kept]
    views = tuple(view for view in read_views(transaction, prediction, None))
    registered = [item.name for item in read_registrations(transaction)]
    whole = index_name(name)
    indexes = rows("find_own_indexes", index=whole, stem=fitted(whole, LONGEST - 9))
    triggers = rows("find_own_triggers", trigger=trigger, function=function)
    return Remains(
        prediction=name,
        registered=name in registered,
        tables_sql=_tables_sql(transaction, set(registered) - {name}, function),
        columns=tuple(columns),
        kept=tuple(kept),
        definitions=_definitions(transaction, kept),
        views=views,
        triggers=tuple((row.schema, row.table) for row in triggers),
        function=bool(rows("find_staleness_function", function=function)),
        indexes=tuple(OwnIndex(**row._mapping) for row in indexes),
        dependents=_dependents(transaction, name, columns, views),
        dialect=dialect,
        models=read_models(transaction, prediction),
    )


def _definitions(transaction: Transaction, kept: Sequence[MarkedColumn]) -> dict[MarkedColumn, str]:
    """Each column's line of its table's definition, without rowscore's mark."""
    dialect = transaction.capabilities.dialect
    statements = sql.load(dialect)
    found: dict[MarkedColumn, str] = {}
    for item in kept if "show_table" in statements else ():
        table = qualified((item.schema, item.table), dialect)
        row: Any = transaction.row(statements["show_table"].render(table=table))
        start = f"  {sql.quote(item.column, dialect)} "
        line = next(line for line in row[1].splitlines() if line.startswith(start))
        mark = f" COMMENT {literal(str(item.mark), dialect)}"
        found[item] = line.strip().removesuffix(",").replace(mark, "")
    return found


def _dependents(
    transaction: Transaction, prediction: str, columns: Sequence[MarkedColumn], views: Sequence[View]
) -> tuple[str, ...]:
    found: set[str] = set()
    for oid in {item.oid for item in columns}:
        group = [item for item in columns if item.oid == oid]
        found.update(read_dependents(transaction, group, prediction, [view.oid for view in views]))
    return tuple(sorted(found))


def _tables_sql(transaction: Transaction, others: set[str], function: str) -> str:
    statements = sql.load(transaction.capabilities.dialect)
    own: Any = transaction.row(statements["find_own_schema"].render())
    if (
        others
        or not own.remains
        or transaction.value(statements["count_own_objects"].render(), function=function)
    ):
        return ""
    return own_tables_removal(transaction)


def plan_removal(remains: Remains) -> list[Change]:
    """The changes that undo `apply`, workers first: once the registration is gone, nobody writes any more.

    Raises:
        RefusedError: something of the user's depends on the view or on a column; it is named, never dropped.
    """
    above: list[View | OwnModel] = [*remains.views, *remains.models]
    built = sorted({*remains.dependents, *(item for thing in above for item in thing.dependents)})
    if built:
        raise RefusedError(
            f"predictions.{remains.prediction}: {', '.join(built)} depends on what would be dropped; "
            f"drop that first"
        )
    schema = [
        *_drop_views(remains),
        *_drop_trigger(remains),
        *drop_models(remains.models, remains.dialect),
        *_drop_indexes(remains),
        *_drop_columns(remains),
        *_drop_tables(remains),
    ]
    return [*_unregister(remains), *in_dialect(schema, remains.dialect)]


def _alteration(remains: Remains) -> Alteration:
    return capabilities_of(remains.dialect).alteration


def _unregister(remains: Remains) -> list[Change]:
    if not remains.registered:
        return []
    statement = unregistration_statement(remains.prediction, remains.dialect)
    title = f"forget prediction {remains.prediction} with its failures and log: workers stop"
    return [Change(title, (statement,), destructive=True, dialect=remains.dialect)]


def _drop_views(remains: Remains) -> list[Change]:
    show = sql.load(remains.dialect)["drop_view"].show
    return [
        Change(
            f"drop the view {view.label}",
            (show(view=qualified((view.schema, view.name), remains.dialect)),),
            destructive=True,
        )
        for view in remains.views
    ]


def _drop_trigger(remains: Remains) -> list[Change]:
    statements = sql.load(remains.dialect)
    names = {"trigger": trigger_name(remains.prediction), "function": function_name(remains.prediction)}
    steps = [
        statements["drop_staleness_trigger"].show(
            **names, schema=table[0], table=qualified(table, remains.dialect)
        )
        for table in remains.triggers
    ]
    steps += [statements["drop_staleness_function"].show(**names)] if remains.function else []
    if not steps:
        return []
    lock = _alteration(remains).locks[Lock.CHANGE_TRIGGER] if remains.triggers else ""
    return [Change("drop the trigger that notices changed inputs", tuple(steps), destructive=True, lock=lock)]


def _drop_indexes(remains: Remains) -> list[Change]:
    show, locks = sql.load(remains.dialect)["drop_pending_index"].show, _alteration(remains).locks
    return [
        Change(
            f"drop the pending index {index.schema}.{index.name}",
            (
                show(
                    schema=index.schema,
                    index=index.name,
                    table=qualified((index.schema, index.table), remains.dialect),
                    concurrently=not index.partitioned,
                ),
            ),
            transactional=index.partitioned,
            waits=not index.partitioned,
            destructive=True,
            lock=locks[Lock.DROP_FRAME if index.partitioned else Lock.DROP_INDEX],
        )
        for index in remains.indexes
    ]


def _drop_columns(remains: Remains) -> list[Change]:
    statements = sql.load(remains.dialect)
    changes = []
    ours = sorted((*remains.columns, *remains.kept), key=lambda item: (item.schema, item.table))
    for (schema, name), group in groupby(ours, key=lambda item: (item.schema, item.table)):
        members = list(group)
        table = qualified((schema, name), remains.dialect)
        dropped = [item.column for item in members if item in remains.columns]
        kept = [item for item in members if item not in remains.columns]
        steps = [statements["drop_columns"].show(table=table, columns=dropped)] if dropped else []
        steps += [
            statements["comment_column"].show(
                table=table,
                column=item.column,
                comment="NULL",
                definition=remains.definitions.get(item),
            )
            for item in kept
        ]
        parts = [
            f"drop {', '.join(dropped)} of" if dropped else "",
            f"keep {', '.join(item.column for item in kept)} in" if kept else "",
        ]
        title = f"{' and '.join(part for part in parts if part)} {schema}.{name}"
        lock = _alteration(remains).locks[Lock.ALTER]
        changes.append(Change(title, tuple(steps), destructive=bool(dropped), lock=lock))
    return changes


def _drop_tables(remains: Remains) -> list[Change]:
    if not remains.tables_sql:
        return []
    along = " and their schema" if capabilities_of(remains.dialect).own_schema else ""
    return [Change(f"drop rowscore's own tables{along}", (remains.tables_sql,), destructive=True)]
