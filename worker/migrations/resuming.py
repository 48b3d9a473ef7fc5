"""Alembic's operations where DDL commits by itself: what a migration that died had done already is left out.

Alembic takes the last class that names a dialect. Scripts need not know: they run from their beginning, and each
operation looks at the tables as the server has them, and as the operations before it leave them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alembic.ddl.mysql import MySQLImpl
from sqlalchemy import Index, Table

from worker.migrations import Part


class Parts:
    """What rowscore's own tables consist of, while migrations are rendered: moved on by each operation.

    Args:
        found: table, kind (`column` or `index`) and name of each part that the server has.
    """

    def __init__(self, found: Iterable[Part] = ()) -> None:
        self._found = set(found)

    def has_table(self, table: str) -> bool:
        """Whether the table is there."""
        return any(known == table for known, _, _ in self._found)

    def add(self, table: str, kind: str, name: str) -> bool:
        """From now on it is there; returns whether it was not."""
        missing = (table, kind, name) not in self._found
        self._found.add((table, kind, name))
        return missing

    def drop(self, table: str, kind: str, name: str) -> bool:
        """From now on it is gone; returns whether it was there."""
        there = (table, kind, name) in self._found
        self._found.discard((table, kind, name))
        return there

    def drop_table(self, table: str) -> None:
        """From now on the table is gone."""
        self._found = {part for part in self._found if part[0] != table}


class Resuming(MySQLImpl):
    """MySQL's operations, each of which does nothing where it is done."""

    __dialect__ = "mysql"

    @property
    def _parts(self) -> Parts:
        parts: Parts = self.context_opts["parts"]
        return parts

    def create_table(self, table: Table, **options: Any) -> None:
        """Unless it is there: CREATE TABLE is whole or not at all."""
        if not self._parts.has_table(table.name):
            super().create_table(table, **options)
        for column in table.columns:
            self._parts.add(table.name, "column", column.name)

    def drop_table(self, table: Table, **options: Any) -> None:
        """If it is there."""
        if self._parts.has_table(table.name):
            super().drop_table(table, **options)
        self._parts.drop_table(table.name)

    def add_column(self, table_name: str, column: Any, **options: Any) -> None:
        """Unless it is there."""
        if self._parts.add(table_name, "column", column.name):
            super().add_column(table_name, column, **options)

    def drop_column(self, table_name: str, column: Any, **options: Any) -> None:
        """If it is there."""
        if self._parts.drop(table_name, "column", column.name):
            super().drop_column(table_name, column, **options)

    def create_index(self, index: Index, **options: Any) -> None:
        """Unless it is there."""
        if self._parts.add(*_place(index)):
            super().create_index(index, **options)

    def drop_index(self, index: Index, **options: Any) -> None:
        """If it is there."""
        if self._parts.drop(*_place(index)):
            super().drop_index(index, **options)


class ResumingMariaDB(Resuming):
    """The same for MariaDB."""

    __dialect__ = "mariadb"


def _place(index: Index) -> tuple[str, str, str]:
    assert index.table is not None and index.name is not None  # noqa: S101, PT018 - of an operation, which names both
    return index.table.name, "index", index.name
