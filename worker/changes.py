"""One step of `apply` or `remove`: its SQL and what it means for a live table; plain data."""

from __future__ import annotations

from dataclasses import dataclass

import sql


@dataclass(frozen=True, slots=True)
class Change:
    """One step, whole or not at all.

    Attributes:
        title: what it does, in words.
        statements: exactly what is run, in order.
        transactional: False for what refuses to run in a transaction (CREATE INDEX CONCURRENTLY): one
            statement; and for DDL where it commits by itself.
        waits: whether it waits for older transactions at its end, as an index does that is built meanwhile.
        destructive: whether data or an object goes.
        lock: the strongest lock that it takes on the user's table and for how long; empty where none.
    """

    title: str
    statements: tuple[str, ...]
    transactional: bool = True
    waits: bool = False
    destructive: bool = False
    lock: str = ""
    dialect: str = "postgresql"

    @property
    def sql(self) -> str:
        """The statements as one text."""
        return ";\n".join(self.statements)

    @property
    def script(self) -> str:
        """What a DBA would run by hand with the same effect."""
        statements = sql.load(self.dialect)
        if self.transactional:
            return statements["in_transaction"].show(body=self.sql)
        return statements["alone"].show(body=self.sql) if "alone" in statements else f"{self.sql};"
