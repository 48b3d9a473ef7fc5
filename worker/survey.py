"""Reads what is there before `apply`, and what is wanted, out of the catalogue; it decides nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import sql
from worker.aurora import service_objects
from worker.capabilities import mentioned
from worker.config import Prediction, forgotten_shadow
from worker.database import Transaction
from worker.facts import (
    MARK_PREFIX,
    Abilities,
    Facts,
    MarkedColumn,
    OwnModel,
    PendingIndex,
    Registration,
    Relation,
    Services,
    View,
    view_address,
)
from worker.function import address_of
from worker.kinds.sql import SqlModel
from worker.materialisation import Materialisation, resolve
from worker.names import Mark, Role, function_name, index_name, read_mark, trigger_name
from worker.sections import split_name
from worker.state import pending_migrations
from worker.table import listed


def read_facts(transaction: Transaction, materialisation: Materialisation) -> Facts:
    """Look up what is there; the table is read again, so that a plan never rests on an old picture of it.

    Raises:
        ConfigurationError: the configuration does not fit the table.
        MissingObjectError: the table, a column, the function or a type is not there.
        DatabaseError: an expression of the configuration is not SQL.
    """
    prediction = materialisation.prediction
    current = resolve(transaction, prediction)
    reader = _Reader(transaction, current)
    registrations = read_registrations(transaction)
    relations = tuple(Relation(**row) for row in reader.rows("find_relations"))
    trigger = reader.first("find_staleness_trigger", trigger=trigger_name(prediction.name))
    function = None
    if "find_staleness_function" in sql.load(transaction.capabilities.dialect):
        function = reader.first("find_staleness_function", function=function_name(prediction.name))
    return Facts(
        materialisation=current,
        abilities=reader.abilities(),
        migrations=pending_migrations(transaction),
        registration=next((item for item in registrations if item.name == prediction.name), None),
        marked=read_marked(transaction, prediction),
        claimed=reader.claims([item for item in registrations if item.name != prediction.name]),
        partition_keys=frozenset(row["name"] for row in reader.rows("find_partition_keys")),
        costly_types=reader.costly_types(),
        relations=relations,
        indexes=reader.indexes(relations),
        watched=reader.watched() if prediction.on_input_change != "ignore" else (),
        trigger=read_mark(trigger["comment"]) if trigger else None,
        trigger_there=trigger is not None,
        trigger_enabled=bool(trigger and trigger["enabled"]),
        function=read_mark(function["comment"]) if function else None,
        views=read_views(transaction, prediction, view_address(current)),
        models=read_models(transaction, prediction, current),
        services=reader.services(),
    )


def read_columns(transaction: Transaction, materialisation: Materialisation) -> set[str]:
    """The columns that inputs and `where` read, as far as the database tells."""
    return _Reader(transaction, materialisation).read()


def read_registrations(transaction: Transaction) -> tuple[Registration, ...]:
    """All registered predictions; none where rowscore's own tables are not there."""
    statements = sql.load(transaction.capabilities.dialect)
    own: Any = transaction.row(statements["find_own_schema"].render())
    if not own.registrable:
        return ()
    return tuple(
        Registration(**{**row._mapping, "definition": _document(row.definition)})
        for row in transaction.rows(statements["find_registrations"].render())
    )


def read_forgotten(transaction: Transaction, prediction: Prediction) -> str | None:
    """The name of the prediction's shadow where it left the file and is still registered."""
    name = forgotten_shadow(prediction).name
    if prediction.shadow is not None or prediction.shadow_of is not None:
        return None
    found = (item for item in read_registrations(transaction) if item.name == name)
    return next((item.name for item in found if item.definition["table"] == prediction.table), None)


def _document(value: Any) -> dict[str, Any]:
    """A JSON document, which some drivers answer as its text."""
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


def named_tables(transaction: Transaction, prediction: Prediction | None) -> list[tuple[str, str]]:
    """Schema and name of the tables that this prediction and the registered ones name with a schema.

    Where databases share a server, marks elsewhere may be another rowscore's: only these tables are looked at there.
    """
    if transaction.capabilities.own_schema is not None:  # a database is a world of its own
        return []
    tables = [item.definition["table"] for item in read_registrations(transaction)]
    tables += [prediction.table] if prediction else []
    addresses = {split_name(table) for table in tables}
    return sorted((schema, name) for schema, name in addresses if schema is not None)


def bind_tables(tables: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Parameters of a statement that looks at these tables besides the connection's own database."""
    named = {f"schema_{number}": schema for number, (schema, _) in enumerate(tables, 1)}
    return named | {f"name_{number}": name for number, (_, name) in enumerate(tables, 1)}


def read_marked(transaction: Transaction, prediction: Prediction | None = None) -> tuple[MarkedColumn, ...]:
    """All columns of the database that bear rowscore's mark."""
    tables = named_tables(transaction, prediction)
    statement = sql.load(transaction.capabilities.dialect)["find_marked_columns"].render(
        parts=range(len(tables) + 1)
    )
    rows = transaction.rows(statement, prefix=MARK_PREFIX, **bind_tables(tables))
    found = ((row, read_mark(row.comment)) for row in rows)
    return tuple(
        MarkedColumn(row.oid, row.schema, row.table, row.column, mark)
        for row, mark in found
        if mark is not None
    )


def read_models(
    transaction: Transaction, prediction: Prediction, wanted: Materialisation | None = None
) -> tuple[OwnModel, ...]:
    """The functions and types that call a service for the prediction, and whatever bears a name that is wanted."""
    objects = service_objects(wanted) if wanted is not None else ()
    table_schema, _ = split_name(prediction.table)
    model = prediction.model
    named, _ = split_name(model.sql) if isinstance(model, SqlModel) else (None, "")
    rows = transaction.rows(
        sql.load(transaction.capabilities.dialect, "aurora")["find_models"].render(),
        prefix=str(Mark(prediction.name, Role.MODEL)),
        own=f"{MARK_PREFIX}{prediction.name}, ",
        schema=objects[0].schema if objects else named or table_schema,
        names=[item.name for item in objects] or [""],
    )
    return tuple(
        OwnModel(
            kind=row.kind,
            schema=row.schema,
            name=row.name,
            signature=row.signature,
            mark=read_mark(row.comment),
            names=tuple(row.names or ()),
            types=tuple(row.types or ()),
            returns=row.returns or "",
            dependents=tuple(listed(row.dependents)),
        )
        for row in rows
    )


def read_views(
    transaction: Transaction, prediction: Prediction, wanted: tuple[str, str] | None
) -> tuple[View, ...]:
    """The prediction's views, and whatever bears the wanted name."""
    schema, name = wanted or (None, None)
    table_schema, table_name = split_name(prediction.table)
    rows = transaction.rows(
        sql.load(transaction.capabilities.dialect)["find_views"].render(),
        prefix=str(Mark(prediction.name, Role.VIEW)),
        schema=schema,
        name=name,
        table_schema=table_schema,
        table_name=table_name,
    )
    return tuple(
        View(
            oid=row.oid,
            schema=row.schema,
            name=row.name,
            kind=row.kind,
            mark=read_mark(row.comment),
            columns=_columns_of(transaction, row),
            types=tuple(listed(row.types)),
            grants=tuple(listed(row.grants)),
            dependents=tuple(sorted(listed(row.dependents))),
        )
        for row in rows
    )


def _columns_of(transaction: Transaction, view: Any) -> tuple[str, ...]:
    if view.columns is not None:
        return tuple(listed(view.columns))
    statement = sql.load(transaction.capabilities.dialect)["list_view_columns"].render()
    return tuple(row.name for row in transaction.rows(statement, schema=view.schema, name=view.name))


class _Reader:
    """The queries about one materialisation."""

    def __init__(self, transaction: Transaction, materialisation: Materialisation) -> None:
        self._transaction = transaction
        self._statements = sql.load(transaction.capabilities.dialect)
        self._materialisation = materialisation
        self._table = materialisation.table

    def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        table = {"oid": self._table.oid, "schema": self._table.schema, "name": self._table.name}
        asked = {**table, **parameters}
        return [
            dict(row._mapping)
            for row in self._transaction.rows(self._statements[statement].render(), **asked)
        ]

    def first(self, statement: str, **parameters: Any) -> dict[str, Any] | None:
        return next(iter(self.rows(statement, **parameters)), None)

    def value(self, statement: str, **parameters: Any) -> Any:
        return self._transaction.value(self._statements[statement].render(), **parameters)

    def abilities(self) -> Abilities:
        view = view_address(self._materialisation)
        schema = view[0] if view else self._table.schema
        (row,) = self.rows("find_abilities", view_schema=schema)
        if "find_missing_grants" not in self._statements:
            return Abilities(**row)
        trigger = self._materialisation.prediction.on_input_change == "trigger"
        objects = service_objects(self._materialisation)
        missing = self._transaction.rows(
            self._statements["find_missing_grants"].render(
                trigger=trigger, view=view is not None, function=bool(objects)
            ),
            schema=self._table.schema,
            name=self._table.name,
            view_schema=schema,
            function_schema=objects[0].schema if objects else None,
        )
        return Abilities(
            **row,
            missing=tuple((item.privilege, item.schema, item.name, item.grantee) for item in missing),
            may_trigger=not (trigger and self.value("find_trigger_obstacle")),
        )

    def services(self) -> Services | None:
        """What the server has for a function that `apply` makes."""
        model = self._materialisation.prediction.model
        if not isinstance(model, SqlModel) or not model.made:
            return None
        aurora = sql.load(self._transaction.capabilities.dialect, "aurora")
        schema, name = address_of(model.sql, self._table.schema)
        found: Any = self._transaction.row(aurora["find_services"].render(), schema=schema)
        callers: tuple[str, ...] = ()
        if "find_model_callers" in aurora and model.aurora is not None:
            call = rf"(^|[^a-z0-9_$])`?{re.escape(name.lower())}`?\s*\("
            address = {"schema": self._table.schema, "name": self._table.name, "call": call}
            rows = self._transaction.rows(aurora["find_model_callers"].render(), **address)
            callers = tuple(row.caller for row in rows)
        return Services(
            aurora=bool(found.aurora),
            installed=bool(found.installed),
            functions=frozenset(listed(found.functions)),
            may_create=bool(found.may_create),
            role=found.role,
            binary_log=self._binary_log(),
            callers=callers,
        )

    def _binary_log(self) -> str:
        if "find_replication" not in self._statements:
            return ""
        rows = self._transaction.rows(self._statements["find_replication"].render())
        settings = dict(map(tuple, rows))
        return settings.get("binlog_format", "ROW") if settings.get("log_bin") == "ON" else ""

    def costly_types(self) -> frozenset[str]:
        return frozenset(
            name
            for name, sql_type in self._materialisation.prediction.outputs.items()
            if name not in self._table.columns and self.value("find_costly_type", type=sql_type)
        )

    def claims(self, others: Iterable[Registration]) -> dict[str, str]:
        """Columns of this very table that other predictions write."""
        claimed: dict[str, str] = {}
        for other in others:
            schema, name = split_name(other.definition["table"])
            found = self.rows("find_table", schema=schema, name=name)
            if found and found[0]["oid"] == self._table.oid:
                columns = [*other.definition["outputs"], *filter(None, other.definition["columns"])]
                claimed |= dict.fromkeys(columns, other.name)
        return claimed

    def indexes(self, relations: tuple[Relation, ...]) -> tuple[PendingIndex, ...]:
        prediction = self._materialisation.prediction
        names = [
            index_name(prediction.name),
            *(index_name(prediction.name, item.label) for item in relations[1:]),
        ]
        rows = self.rows(
            "find_pending_indexes",
            relations=[item.oid for item in relations],
            names=names,
            key=[column.name for column in self._materialisation.key],
            state=prediction.state_column,
        )
        return tuple(PendingIndex(**row) for row in rows)

    def watched(self) -> tuple[str, ...]:
        """The columns that inputs and `where` read, in the table's order; generated ones as what they come
        from. Last those of rowscore's that are not there yet.
        """
        read = self.read()
        sources: dict[str, set[str]] = {}
        for row in self.rows("find_generated"):
            sources.setdefault(row["name"], set()).add(row["source"])
        expanded = set(read)
        while further := {source for name in expanded for source in sources.get(name, ())} - expanded:
            expanded |= further
        there = self._table.columns.items()
        named = [name for name, column in there if name in expanded and not column.generated]
        return (*named, *sorted((expanded & self._own_columns()).difference(self._table.columns)))

    def read(self) -> set[str]:
        """The columns that inputs and `where` name."""
        prediction = self._materialisation.prediction
        read = {item.column for item in prediction.inputs if item.column is not None}
        expressions = [item.sql for item in prediction.inputs if item.sql is not None]
        expressions += [prediction.where] if prediction.where else []
        if expressions and "probe_expressions" in self._statements:
            return read | self._probe(expressions)
        return read | mentioned(expressions, self._table.columns)

    def _probe(self, expressions: list[str]) -> set[str]:
        """The columns that expressions read, as PostgreSQL parses them: as a view that is rolled back."""
        savepoint = self._transaction.connection.begin_nested()
        try:
            self._transaction.script(self._materialisation.show("probe_expressions", expressions=expressions))
            if self.value("read_probe_whole_row"):
                whole = set(self._table.columns) | self._own_columns()
                kept = self._materialisation.prediction.fingerprint_column
                return whole if kept else whole - self._own_columns()  # a fingerprint is of the row as it is
            return {row["name"] for row in self.rows("read_probe")}
        finally:
            savepoint.rollback()

    def _own_columns(self) -> set[str]:
        return set(self._materialisation.prediction.own_columns)


def read_dependents(
    transaction: Transaction,
    columns: Sequence[MarkedColumn],
    prediction: str,
    own_views: Iterable[int | str],
) -> tuple[str, ...]:
    """What others built upon columns of ours, of one table, which stops them from being dropped."""
    rows = transaction.rows(
        sql.load(transaction.capabilities.dialect)["find_column_dependents"].render(),
        oid=columns[0].oid,
        schema=columns[0].schema,
        name=columns[0].table,
        columns=[item.column for item in columns],
        trigger=trigger_name(prediction),
        own_views=list(own_views),
        view_mark=str(Mark(prediction, Role.VIEW)),
    )
    return tuple(row.description for row in rows)
