"""What is there before `apply`, and what is wanted, as plain data; `worker/survey.py` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.materialisation import Materialisation
from worker.names import Mark
from worker.sections import split_name

MARK_PREFIX = "maintained by rowscore: prediction "


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the role may do to the table, what the table is to others, and what the server can.

    `missing` are privileges as the server has them: name, schema, object or None, and to whom they are to be granted;
    `may_trigger` is False where the server lets nobody like this role make a trigger.
    """

    security_invoker: bool
    role: str
    owns_table: bool
    owner: str
    may_create_index: bool
    may_create_view: bool
    is_partition: bool
    has_children: bool
    missing: tuple[tuple[str, str, str | None, str], ...] = ()
    may_trigger: bool = True


@dataclass(frozen=True, slots=True)
class MarkedColumn:
    """A column that bears rowscore's mark."""

    oid: int | str
    schema: str
    table: str
    column: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Registration:
    """What is registered in rowscore's own tables; `complete` where the rows that belong to it are there."""

    name: str
    definition_hash: str
    version: str
    definition: Mapping[str, Any]
    complete: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """The table, or a partition below it; `parent` is the oid of the one above."""

    oid: int | str
    schema: str
    name: str
    kind: str
    parent: int | str | None

    @property
    def label(self) -> str:
        """schema.name, which names a partition's index and messages."""
        return f"{self.schema}.{self.name}"

    @property
    def partitioned(self) -> bool:
        """Whether it holds no rows itself."""
        return self.kind == "p"


@dataclass(frozen=True, slots=True)
class PendingIndex:
    """An index that is ours or could be: `fits` where it is over the key WHERE pending, `parent` where
    attached.
    """

    oid: int | str
    relation: int | str
    schema: str
    name: str
    valid: bool
    parent: int | str | None
    fits: bool


@dataclass(frozen=True, slots=True)
class View:
    """A view of ours, or whatever else bears the name that is wanted."""

    oid: int | str
    schema: str
    name: str
    kind: str
    mark: Mark | None
    columns: tuple[str, ...]
    types: tuple[str, ...]
    grants: tuple[str, ...]
    dependents: tuple[str, ...]

    @property
    def label(self) -> str:
        """schema.view for messages."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A function or type by which a service of Aurora's is called, or what bears the name that one shall have.

    Attributes:
        kind: `function` or `type`.
        signature: how DROP names it.
        names, types, returns: its arguments and answer; empty where the database does not tell.
        dependents: what others built upon it.
    """

    kind: str
    schema: str
    name: str
    signature: str
    mark: Mark | None
    names: tuple[str, ...]
    types: tuple[str, ...]
    returns: str
    dependents: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """schema.name for messages."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Services:
    """What the server has of Aurora's machine learning, for a model that calls it.

    Attributes:
        installed: aws_ml is, where that is an extension.
        functions: the services' functions that are there, stand-ins included.
        may_create: whether this role may make a function beside the table.
        binary_log: the format of the binary log; empty where none is written.
        callers: what of the table's own calls the function, in words.
    """

    aurora: bool
    installed: bool
    functions: frozenset[str]
    may_create: bool
    role: str
    binary_log: str = ""
    callers: tuple[str, ...] = ()

    @property
    def stand_in(self) -> bool:
        """Whether the services' functions are stand-ins."""
        return not self.aurora and not self.installed


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the plan of `apply` depends on.

    Attributes:
        migrations: SQL that rowscore's own tables wait for; empty where they are up to date.
        marked: columns with rowscore's mark, of all predictions and tables.
        claimed: columns of this table that other registered predictions write, and which.
        partition_keys: columns that decide in which partition a row lives.
        costly_types: wanted output columns whose type would not simply be NULL in every row.
        watched: columns whose change makes a row stale, generated ones expanded; empty where none asked.
        trigger: our trigger's mark; `trigger_enabled` False where somebody disabled it.
        models: functions and types by which this prediction calls a service of Aurora's.
        services: None where the prediction's model calls none.
    """

    materialisation: Materialisation
    abilities: Abilities
    migrations: str
    registration: Registration | None
    marked: tuple[MarkedColumn, ...]
    claimed: Mapping[str, str]
    partition_keys: frozenset[str]
    costly_types: frozenset[str]
    relations: tuple[Relation, ...]
    indexes: tuple[PendingIndex, ...]
    watched: tuple[str, ...]
    trigger: Mark | None
    trigger_there: bool
    trigger_enabled: bool
    function: Mark | None
    views: tuple[View, ...]
    models: tuple[OwnModel, ...] = ()
    services: Services | None = None


def view_address(materialisation: Materialisation) -> tuple[str, str] | None:
    """Schema and name of the view that is wanted, or None; without a schema of its own it lives beside the
    table.
    """
    name = materialisation.prediction.view_name
    if name is None:
        return None
    schema, view = split_name(name)
    return schema or materialisation.table.schema, view
