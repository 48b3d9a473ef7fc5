"""The tables, functions and triggers of a database as `init` sees them; it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sql
from worker.database import Transaction
from worker.survey import read_marked
from worker.table import listed


@dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column; `made` where the database makes its values, `ours` where rowscore added it."""

    name: str
    type: str
    base_type: str
    category: str
    made: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table; `key` is None where nothing is unique and NOT NULL, `estimated_rows` -1 before any ANALYZE."""

    oid: int | str
    schema: str
    name: str
    visible: bool
    estimated_rows: int
    columns: tuple[FoundColumn, ...]
    key: tuple[str, ...] | None

    @property
    def label(self) -> str:
        """schema.table for messages."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class FoundFunction:
    """A function; `fields` are the names and types of a composite answer, empty for a scalar one."""

    schema: str
    name: str
    visible: bool
    argument_names: tuple[str, ...]
    argument_types: tuple[str, ...]
    returns: str
    fields: tuple[tuple[str, str], ...]
    source: str

    @property
    def label(self) -> str:
        """The name for messages, with its schema only where the search path does not lead there."""
        return self.name if self.visible else f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class FoundTrigger:
    """A row trigger that an INSERT into the table fires; `removal` is the SQL that drops it."""

    table_oid: int | str
    name: str
    before: bool
    source: str
    removal: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that `init` looks at."""

    tables: tuple[FoundTable, ...]
    functions: tuple[FoundFunction, ...]
    triggers: tuple[FoundTrigger, ...]


def read_surroundings(transaction: Transaction) -> Surroundings:
    """Look the whole database over, in four queries however many tables there are.

    Raises:
        DatabaseError: the database refuses.
    """
    ours = {(marked.oid, marked.column) for marked in read_marked(transaction)}
    tables = tuple(_table(row, ours) for row in _rows(transaction, "list_tables"))
    return Surroundings(tables, read_functions(transaction), read_insert_triggers(transaction))


def read_functions(transaction: Transaction) -> tuple[FoundFunction, ...]:
    """The user's functions that answer one row for one call."""
    return tuple(_function(row) for row in _rows(transaction, "list_functions"))


def read_insert_triggers(
    transaction: Transaction, table: tuple[str, str] | None = None
) -> tuple[FoundTrigger, ...]:
    """The row triggers that an INSERT fires, of all tables; MySQL looks at this one alone, by its schema and name."""
    schema, name = table or (None, None)
    statement = sql.load(transaction.capabilities.dialect)["list_insert_triggers"]
    found = transaction.rows(statement.render(of_table=table is not None), schema=schema, name=name)
    rows = [dict(row._mapping) for row in found]
    return tuple(FoundTrigger(**{**row, "before": bool(row["before"])}) for row in rows)


def _rows(transaction: Transaction, name: str) -> list[dict[str, Any]]:
    statement = sql.load(transaction.capabilities.dialect)[name]
    return [dict(row._mapping) for row in transaction.rows(statement.render())]


def _table(row: dict[str, Any], ours: set[tuple[int | str, str]]) -> FoundTable:
    columns = tuple(
        FoundColumn(**{**column, "made": bool(column["made"]), "ours": (row["oid"], column["name"]) in ours})
        for column in listed(row["columns"])
    )
    key = tuple(listed(row["key"])) or None
    return FoundTable(**{**row, "visible": bool(row["visible"]), "columns": columns, "key": key})


def _function(row: dict[str, Any]) -> FoundFunction:
    fields = tuple((name, kind) for name, kind in listed(row["fields"]))
    names, types = tuple(listed(row["argument_names"])), tuple(listed(row["argument_types"]))
    found = {"argument_names": names, "argument_types": types, "fields": fields}
    return FoundFunction(**{**row, **found, "visible": bool(row["visible"])})
