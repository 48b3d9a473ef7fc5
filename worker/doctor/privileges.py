"""Checks of what the connected role may do, each with the GRANT that mends it; only the catalogue is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sql
from worker.attempts import attempt, refusal_of
from worker.config import Prediction
from worker.database import Transaction
from worker.doctor.findings import Findings, error, ok, warning
from worker.doctor.server import Server
from worker.errors import DatabaseError, PrivilegeError
from worker.kinds.sql import SqlModel
from worker.refusals import roles_of
from worker.sections import split_name
from worker.state import OWN_TABLES, PREFIX
from worker.table import listed

_AWS_FUNCTION = re.compile(r"\b(aws_(?:sagemaker|comprehend|bedrock))\.(\w+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A column that the catalogue does not show."""

    quoted: str


def locate_table(transaction: Transaction, prediction: Prediction) -> Any | None:
    """The table's place in the catalogue, even in a schema that this role may not use; None: none."""
    schema, name = split_name(prediction.table)
    statement = sql.load(transaction.capabilities.dialect)["locate_tables"].render()
    return transaction.row(statement, schema=schema, name=name)


def hidden_table(transaction: Transaction, prediction: Prediction, server: Server) -> str | None:
    """The table's quoted name, where the server does not say whether it is there because this role may not read it."""
    statements = sql.load(transaction.capabilities.dialect)
    if "try_table" not in statements:
        return None
    schema, name = split_name(prediction.table)
    target = ".".join(sql.quote(part, server.dialect) for part in (schema or server.database, name))
    refusal = refusal_of(transaction, statements["try_table"].render(relation=target))
    return target if isinstance(refusal, PrivilegeError) else None


def check_table_access(
    prediction: Prediction, server: Server, located: Any | None, hidden: str | None = None
) -> Findings:
    """That the table can be found under the name that the configuration gives it."""
    subject = "table"
    schema, _ = split_name(prediction.table)
    if located is None and hidden is not None:
        message = f"role {server.role} may not read {hidden}, if it is there"
        yield error(subject, message, server.remedy("grant_read_all", target=hidden))
    elif located is None:
        message = f"there is no table {prediction.table} in database {server.database}"
        yield error(subject, message, "mend `table`, or the database's URL")
    elif not located.usable:
        message = f"role {server.role} may not use schema {located.schema}, where {located.name} is"
        yield error(
            subject, message, f"GRANT USAGE ON SCHEMA {located.quoted_schema} TO {server.quoted_role};"
        )
    elif schema is None and not located.visible:
        message = f"{located.name} is in schema {located.schema}, which is not on the search path"
        yield error(subject, message, f'write table = "{located.schema}.{located.name}"')


def check_table_privileges(
    transaction: Transaction,
    prediction: Prediction,
    server: Server,
    located: Any,
    key: Iterable[str],
    moving: Iterable[str],
) -> Findings:
    """SELECT on what is read, UPDATE on what is written; columns that `apply` has yet to add are left out.

    Args:
        moving: columns that move by themselves, as far as they are seen; those that `apply` noted come with them.
    """
    statement = sql.load(transaction.capabilities.dialect)["find_column_privileges"].render()
    rows = transaction.rows(statement, oid=located.oid, schema=located.schema, name=located.name)
    columns = {row.name: row for row in rows}
    own = [name for name in roles_of(prediction) if name in columns]
    read = [*key, *(item.column for item in prediction.inputs if item.column), *own]
    read += [prediction.arrived_at] if prediction.arrived_at else []
    written = [*roles_of(prediction), *moving, *_noted(transaction, prediction)]
    read += written[len(roles_of(prediction)) :]
    target = located.target
    hidden = _hidden_columns(transaction, target, [*read, *written], columns)
    unread = _quoted(
        columns | hidden,
        (name for name in [*read, *hidden] if name in hidden or _lacks(columns, name, "readable")),
    )
    unwritten = _quoted(
        columns | hidden,
        (name for name in written if name in hidden or _lacks(columns, name, "writable")),
    )
    if unread:
        message = f"role {server.role} may not read {unread} of {target}"
        yield error("privileges", message, server.remedy("grant_read", columns=unread, target=target))
    if unwritten:
        message = f"role {server.role} may not write {unwritten} of {target}"
        yield error("privileges", message, server.remedy("grant_write", columns=unwritten, target=target))
    if not unread and not unwritten:
        what = "read the inputs and write rowscore's columns" if own else "read the inputs"
        yield ok("privileges", f"role {server.role} may {what} of {target}")


def _noted(transaction: Transaction, prediction: Prediction) -> list[str]:
    """Columns that move by themselves and that `apply` saw; none where this role may not read what it noted."""
    statements = sql.load(transaction.capabilities.dialect)
    if "find_noted" not in statements:
        return []
    try:
        found = attempt(transaction, statements["find_noted"].render(), prediction=prediction.name)
    except DatabaseError:
        return []
    return listed(found[0].held) if found else []


def _lacks(columns: dict[str, Any], name: str, right: str) -> bool:
    return name in columns and not getattr(columns[name], right)


def _hidden_columns(
    transaction: Transaction, target: str, names: Iterable[str], columns: dict[str, Any]
) -> dict[str, Any]:
    """Columns that are there and not shown, where a server hides what a role may do nothing with."""
    statements = sql.load(transaction.capabilities.dialect)
    if "try_column" not in statements:
        return {}
    dialect = transaction.capabilities.dialect
    return {
        name: _Hidden(sql.quote(name, dialect))
        for name in dict.fromkeys(names)
        if name not in columns
        and isinstance(
            refusal_of(transaction, statements["try_column"].render(column=name, relation=target)),
            PrivilegeError,
        )
    }


def _quoted(columns: dict[str, Any], names: Iterable[str]) -> str:
    return ", ".join(columns[name].quoted for name in dict.fromkeys(names))


def check_own_tables(transaction: Transaction, server: Server) -> Findings:
    """That this role may look into rowscore's own schema, and do everything with the tables that `apply` made."""
    statements = sql.load(transaction.capabilities.dialect)
    own: Any = transaction.row(statements["find_own_privileges"].render())
    subject = "own tables"
    lacking = list(listed(own.lacking))
    if "try_delete" in statements:
        lacking = _lacking(transaction, lacking, listed(own.seen))
    if not own.there and not lacking:
        yield ok(subject, server.counsel.own_missing)
        return
    if not own.usable:
        message = f"role {server.role} may not use the schema rowscore"
        yield error(subject, message, server.remedy("grant_own_schema"))
    if lacking:
        message = f"role {server.role} may not read and write rowscore's own tables ({', '.join(lacking)})"
        names = {"schema": server.database, "relations": lacking}
        yield error(subject, message, server.remedy("grant_own_tables", **names))
    if own.usable and not lacking:
        yield ok(subject, f"role {server.role} may use rowscore's own tables")


def _lacking(transaction: Transaction, lacking: list[str], seen: list[str]) -> list[str]:
    """Own tables that the role may not fully use; whether it may delete rows the server tells best, where it is asked.

    A table on which the role has no privilege at all is hidden from it, and the server says that it is not granted
    instead of that it is not there.
    """
    statements = sql.load(transaction.capabilities.dialect)
    names = [f"{PREFIX}{name}" for name in OWN_TABLES]
    if not seen:
        hidden = refusal_of(transaction, statements["find_revision"].render())
        return names if isinstance(hidden, PrivilegeError) else []
    refused = [
        name
        for name in seen
        if name != names[0]
        and isinstance(
            refusal_of(transaction, statements["try_delete"].render(relation=name)), PrivilegeError
        )
    ]
    return [name for name in names if name in lacking or name in refused or name not in seen]


def check_function_privileges(transaction: Transaction, prediction: Prediction, server: Server) -> Findings:
    """That this role may call the SQL function, and what the function calls with the caller's rights."""
    if not isinstance(prediction.model, SqlModel):
        return
    schema, name = split_name(prediction.model.sql)
    found = _functions(transaction, schema, name)
    visible = [row for row in found if schema is not None or row.visible or not row.usable]
    made = prediction.model.made  # by `apply`, beside the table; or it is the server's own
    if not found:
        yield from _check_hidden(
            transaction, prediction.model.sql, prediction.inputs, server, needed=not made
        )
    elif not visible and made:
        visible = found
    elif not visible:
        message = f"{found[0].signature} is in a schema that is not on the search path"
        yield error(
            "function", message, f"write model = {{ sql = '{found[0].quoted_schema}.{found[0].name}' }}"
        )
    for row in visible:
        yield from _check_call(row, server)
        if not row.as_owner:
            yield from _check_services(transaction, row.source, server)


def _check_hidden(
    transaction: Transaction, asked: str, inputs: Iterable[Any], server: Server, *, needed: bool
) -> Findings:
    """No function is seen: there is none, or the server hides it from those who may not call it."""
    statements = sql.load(transaction.capabilities.dialect)
    if "try_function" in statements:
        schema, name = split_name(asked)
        signature = ".".join(sql.quote(part, server.dialect) for part in (schema or server.database, name))
        call = statements["try_function"].render(function=signature, inputs=inputs)
        if isinstance(refusal_of(transaction, call), PrivilegeError):
            message = f"role {server.role} may not call {signature}"
            yield error("function", message, server.remedy("grant_function", signature=signature))
            return
    if needed:
        yield error("function", f"there is no function {asked}", "create it, or mend `model`")


def _check_services(transaction: Transaction, source: str, server: Server) -> Findings:
    """The functions of aws_ml that a function's source names: nobody may call them unless it is granted."""
    for schema, name in dict.fromkeys(
        (match[1].lower(), match[2].lower()) for match in _AWS_FUNCTION.finditer(source)
    ):
        found = _functions(transaction, schema, name)
        for row in found:
            yield from _check_call(row, server)
        if not found:
            message = f"it calls {schema}.{name}, which is not there"
            yield error("function", message, "CREATE EXTENSION IF NOT EXISTS aws_ml CASCADE;")


def _check_call(row: Any, server: Server) -> Findings:
    if not row.usable:
        message = f"role {server.role} may not use schema {row.quoted_schema}, where {row.name} is"
        yield error(
            "function", message, f"GRANT USAGE ON SCHEMA {row.quoted_schema} TO {server.quoted_role};"
        )
    if not row.executable:
        message = f"role {server.role} may not call {row.signature}"
        yield error("function", message, server.remedy("grant_function", signature=row.signature))


def _functions(transaction: Transaction, schema: str | None, name: str) -> list[Any]:
    statement = sql.load(transaction.capabilities.dialect)["locate_functions"].render()
    return list(transaction.rows(statement, schema=schema, name=name))


def check_ownership(server: Server, located: Any, *, needed: bool) -> Findings:
    """Only the table's owner may `apply`; a worker need not, and had better not, be it."""
    if located.owned:
        yield ok(
            "ownership",
            f"role {server.role} owns {located.target} or is a member of its owner: it may `apply`",
        )
    elif needed:
        message = (
            f"{located.target} belongs to {located.owner}: role {server.role} may score it but not `apply`"
        )
        yield warning(
            "ownership", message, f"run `rowscore apply` as {located.owner}, or give the DBA its --dry-run"
        )
    else:
        yield ok(
            "ownership", f"{located.target} belongs to {located.owner}; role {server.role} only scores it"
        )
