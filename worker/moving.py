"""Columns that the server moves by itself in each UPDATE: no process writes that cannot hold them still.

MySQL hides a column from an account that was granted nothing on it. `apply`, which sees them all, keeps their names
beside the definition, and a worker compares them with those that its own statements hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import sql
from worker.attempts import refusal_of
from worker.database import Transaction
from worker.errors import GenerationChangedError, PrivilegeError
from worker.materialisation import Materialisation


def check_moving(transaction: Transaction, m: Materialisation, noted: Sequence[str]) -> None:
    """That this process's statements hold every column still that `apply` noted; no statement where it sees them all.

    One that was dropped, or moves no longer, is looked up each time, until `apply` is run again.

    Raises:
        PrivilegeError: this account may not set one to itself; it names the GRANT.
        GenerationChangedError: one was changed since this process looked at the table; the next look knows it.
    """
    doubtful = [name for name in noted if name not in m.held or not m.table.columns[name].settable]
    if not doubtful:
        return
    address = {"oid": m.table.oid, "schema": m.table.schema, "name": m.table.name}
    found = transaction.rows(sql.load(m.dialect)["find_columns"].render(), **address)
    moving = {row.name: bool(row.settable) for row in found if row.moves}
    seen = {row.name for row in found}
    lacking = [name for name in doubtful if not moving.get(name, True)]
    lacking += [name for name in doubtful if name not in seen and _is_hidden(transaction, m, name)]
    if lacking:
        raise PrivilegeError(_refusal(transaction, m, lacking))
    if moving.keys() - set(m.held):
        raise GenerationChangedError


def _is_hidden(transaction: Transaction, m: Materialisation, name: str) -> bool:
    """Whether the column is there, of those that the catalogue does not show."""
    statement = sql.load(m.dialect)["try_column"].render(column=name, relation=m.target)
    return isinstance(refusal_of(transaction, statement), PrivilegeError)


def _refusal(transaction: Transaction, m: Materialisation, names: Sequence[str]) -> str:
    statements = sql.load(m.dialect)
    role = transaction.value(statements["name_account"].render())
    columns = ", ".join(sql.quote(name, m.dialect) for name in names)
    grant = statements["grant_held"].show(columns=columns, target=m.target, role=role)
    return (
        f"role {role} may not hold {columns} of {m.table.label} still, which every UPDATE would move "
        f"(ON UPDATE CURRENT_TIMESTAMP): {grant}"
    )
