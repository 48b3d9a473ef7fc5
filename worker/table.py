"""A user's table as the catalogue describes it: columns, usable keys, partitions, triggers; it changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sql
from worker.capabilities import Capabilities
from worker.database import Transaction
from worker.errors import ConfigurationError, MissingObjectError


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the user's table."""

    name: str
    type: str
    base_type: str
    cast_type: str  # without a length: a cast to varchar(10) truncates where an assignment refuses
    category: str
    element: str | None
    not_null: bool
    generated: bool
    identity: bool
    default_text: str | None
    number: int
    deterministic: bool
    collation: str | None
    exact: bool  # its equality tells apart what its text tells apart
    native: bool  # a key of this type travels in the driver's own form, not as text
    moves: bool  # an UPDATE that does not name it changes it
    unfit: bool  # as a key: a value may not be found again by itself
    settable: bool = True  # to itself, by this role
    type_oid: int = 0  # the type's number, where the catalogue has numbers


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index over whole columns."""

    index: str
    is_primary: bool
    columns: tuple[str, ...]
    not_null: bool


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition below the table; `parent` is the oid of the table or partition above it."""

    oid: int
    schema: str
    name: str
    leaf: bool
    level: int
    parent: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """A row trigger on UPDATE that the application owns."""

    name: str
    function: str
    before: bool
    enabled: bool
    columns: str
    definition: str


@dataclass(frozen=True, slots=True)
class Table:
    """The table as it stands in the catalogue."""

    oid: int | str  # a number, or where there is none its qualified name
    schema: str
    name: str
    kind: str
    row_security: bool
    forced_row_security: bool
    owner: str
    estimated_rows: int
    columns: dict[str, Column]
    unique_keys: tuple[UniqueKey, ...]
    partitions: tuple[Partition, ...]
    triggers: tuple[Trigger, ...]
    versioned: bool = False  # each row carries a version of its own that every UPDATE of it changes

    @property
    def partitioned(self) -> bool:
        """Whether the rows live in partitions."""
        return self.kind == "p"

    @property
    def label(self) -> str:
        """schema.table for messages."""
        return f"{self.schema}.{self.name}"

    def column(self, name: str, where: str) -> Column:
        """The column of that name; `where` names the configuration key that asked for it.

        Raises:
            ConfigurationError: the table has no such column; a near miss is suggested.
        """
        if name in self.columns:
            return self.columns[name]
        near = [known for known in self.columns if known.lower() == name.lower()]
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(self.columns)}"
        raise ConfigurationError(f"{where}: {self.label} has no column {name!r}{hint}")

    def index_of(self, key: tuple[Column, ...]) -> str | None:
        """The unique index over these columns."""
        names = {column.name for column in key}
        return next((known.index for known in self.unique_keys if set(known.columns) == names), None)

    def choose_key(self, asked: tuple[str, ...] | None, where: str) -> tuple[Column, ...]:
        """The key that identifies rows: the one asked for, else the primary key, else the first usable unique one.

        Raises:
            ConfigurationError: there is none, or the one asked for is not unique and NOT NULL, or its type is unfit.
        """
        usable = [key for key in self.unique_keys if key.not_null]
        if asked is not None:
            for name in asked:
                self.column(name, where)
            usable = [key for key in usable if set(key.columns) == set(asked)]
        if not usable:
            reason = f"({', '.join(asked)}) is not" if asked else "it has no key that is"
            raise ConfigurationError(
                f"{where}: {self.label}: {reason} unique and NOT NULL (a primary key, or a UNIQUE index over NOT NULL "
                f"columns); rowscore needs one to write each prediction to its own row"
            )
        unfit: str = ""
        for key in usable:
            columns = tuple(self.columns[name] for name in (asked or key.columns))
            bad = [column for column in columns if column.unfit]
            if not bad:
                return tuple(self.columns[name] for name in key.columns)
            unfit = (
                f"{bad[0].name} is {bad[0].type}, which does not compare equal to itself after a round trip"
            )
        raise ConfigurationError(f"{where}: {self.label}: {unfit}; name another unique key with key = [...]")


def read_table(transaction: Transaction, schema: str | None, name: str, where: str) -> Table:
    """Describe a table.

    Raises:
        MissingObjectError: there is no such table, or it is hidden from this role.
        ConfigurationError: it is a view or another thing that rows cannot be written to.
    """
    statements = sql.load(transaction.capabilities.dialect)
    found = transaction.row(statements["find_table"].render(), schema=schema, name=name)
    shown = f"{schema}.{name}" if schema else name
    if found is None:
        raise MissingObjectError(f"{where}: there is no table {shown} that this role can see")
    if found.kind not in ("r", "p"):
        kinds = {
            "v": "a view", "m": "a materialised view", "f": "a foreign table",
            "e": "not a table of InnoDB, the engine that has transactions and row locks",
        }  # fmt: skip
        advice = "" if found.kind == "e" else "; name the table itself"
        raise ConfigurationError(f"{where}: {shown} is {kinds.get(found.kind, 'not a table')}{advice}")

    address = {"oid": found.oid, "schema": found.schema, "name": found.name}

    def read(name: str, kind: type[Any]) -> list[Any]:
        rows = transaction.rows(statements[name].render(), **address)
        return [kind(**_tupled(row._mapping)) for row in rows]

    columns = [
        _column(row, transaction.capabilities)
        for row in transaction.rows(statements["find_columns"].render(), **address)
    ]
    return Table(
        oid=found.oid,
        schema=found.schema,
        name=found.name,
        kind=found.kind,
        row_security=found.row_security,
        forced_row_security=found.forced_row_security,
        owner=found.owner,
        estimated_rows=found.estimated_rows,
        columns={column.name: column for column in columns},
        unique_keys=tuple(
            UniqueKey(row.index, bool(row.is_primary), tuple(listed(row.columns)), bool(row.not_null))
            for row in transaction.rows(statements["find_unique_keys"].render(), **address)
        ),
        partitions=tuple(read("find_partitions", Partition)),
        triggers=tuple(read("find_triggers", Trigger)),
        versioned=bool(found.versioned),
    )


def _column(row: Any, capabilities: Capabilities) -> Column:
    return Column(
        **row._mapping,
        exact=capabilities.is_exact(row.base_type, deterministic=row.deterministic),
        native=capabilities.is_native_key(row.type),
        unfit=capabilities.is_unfit_key(row.base_type),
    )


def _tupled(mapping: Any) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in mapping.items()}


def instant(value: datetime | None) -> datetime | None:
    """A time of rowscore's own tables, which a database without time zones answers in UTC and without saying so."""
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def listed(value: Any) -> list[Any]:
    """A list that a database without arrays answers as JSON."""
    return json.loads(value) if isinstance(value, str) else list(value or ())
