"""The privileges that a worker needs and no more, as SQL for the DBA; it grants nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import sql
from worker.batching import service_of
from worker.capabilities import capabilities_of
from worker.database import Transaction
from worker.doctor.findings import remedy
from worker.doctor.server import Server, read_server
from worker.errors import NotAppliedError
from worker.function import address_of
from worker.kinds.sql import SqlModel
from worker.materialisation import Materialisation
from worker.names import literal
from worker.refusals import roles_of
from worker.state import OWN_TABLES, PREFIX
from worker.survey import read_columns

_SERVICE = re.compile(r"\b(aws_(?:sagemaker|comprehend|bedrock))\.(\w+)", re.IGNORECASE)


def worker_grants(transaction: Transaction, m: Materialisation, name: str) -> list[str]:
    """The statements that let a role score this prediction, its CREATE first; each ends in a semicolon.

    SELECT on the key, what is read and rowscore's columns, UPDATE on rowscore's columns, EXECUTE on the function and on
    the services that it calls with its caller's rights, and rowscore's own tables.

    Args:
        name: of the role; in MySQL of the account, `name` or `name@host`.

    Raises:
        NotAppliedError: the columns and tables that the grants speak of are not there yet.
    """
    if m.prediction.state_column not in m.table.columns:
        raise NotAppliedError(
            f"{m.name} is not applied to this database, and the grants name what `rowscore apply {m.name}` makes"
        )
    server = read_server(transaction)
    role = _account(m.dialect, name)
    return [*dict.fromkeys(_Grants(transaction, m, server, role).all())]


def _account(dialect: str, name: str) -> str:
    user, _, host = name.partition("@")
    quoted = {"user": literal(user, dialect), "host": literal(host or "%", dialect)}
    return sql.load(dialect)["account"].show(name=name, **quoted)


class _Grants:
    """The grants of one prediction to one role."""

    def __init__(self, transaction: Transaction, m: Materialisation, server: Server, role: str) -> None:
        self._transaction = transaction
        self._m = m
        self._server = server
        self._role = role
        self._statements = sql.load(m.dialect)

    def all(self) -> Iterator[str]:
        yield self._remedy("create_role")
        yield from self._schemas([self._m.table.schema])
        yield from self._table()
        yield from self._function()
        yield from self._own()

    def _remedy(self, name: str, **names: object) -> str:
        return remedy(self._m.dialect, name, role=self._role, **names)

    def _schemas(self, names: Iterable[str]) -> Iterator[str]:
        if "grant_schema" in self._statements:
            for name in names:
                yield self._remedy("grant_schema", schema=sql.quote(name, self._m.dialect))

    def _table(self) -> Iterator[str]:
        m = self._m
        written = [
            *roles_of(m.prediction),
            *(name for name, column in m.table.columns.items() if column.moves),
        ]
        read = {*(column.name for column in m.key), *read_columns(self._transaction, m), *written}
        read |= {m.prediction.arrived_at} if m.prediction.arrived_at else set()
        for grant, names in (("grant_read", read), ("grant_write", written)):
            quoted = [sql.quote(name, m.dialect) for name in m.table.columns if name in names]
            yield self._remedy(grant, columns=", ".join(quoted), target=m.target)

    def _function(self) -> Iterator[str]:
        """The function, and what it calls with the rights of who calls it."""
        model, function = self._m.prediction.model, self._m.function
        if not isinstance(model, SqlModel) or function is None:
            return
        schema, name = address_of(model.sql, self._m.table.schema)
        rows = [row for row in self._located(schema, name) if function.oid in (0, row.oid)]
        if not rows:
            rows = [row for row in self._located(None, name) if row.oid == function.oid]
        for row in rows:
            yield from self._call(row)
            if not row.as_owner:
                for service in dict.fromkeys(_SERVICE.findall(row.source)):
                    for called in self._located(*service):
                        yield from self._call(called)
        service = service_of(function)
        if self._server.aurora and service is not None and "grant_services" in self._statements:
            yield self._remedy("grant_services", access=f"AWS_{service.split('_')[1].upper()}_ACCESS")

    def _located(self, schema: str | None, name: str) -> list[Any]:
        return list(
            self._transaction.rows(self._statements["locate_functions"].render(), schema=schema, name=name)
        )

    def _call(self, row: Any) -> Iterator[str]:
        if "grant_schema" in self._statements:
            yield self._remedy("grant_schema", schema=row.quoted_schema)
        yield self._remedy("grant_function", signature=row.signature)

    def _own(self) -> Iterator[str]:
        if capabilities_of(self._m.dialect).own_schema is not None:
            yield self._remedy("grant_own_schema")
        names = [f"{PREFIX}{name}" for name in OWN_TABLES]
        yield self._remedy("grant_own_tables", schema=self._server.database, relations=names)
