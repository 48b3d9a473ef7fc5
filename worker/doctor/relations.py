"""Checks of the table and what `apply` made of it: key, drift, index, view, triggers, policies, vacuum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import sql
from worker.config import Prediction
from worker.database import Transaction
from worker.discovery.choices import calls_model, model_functions
from worker.discovery.facts import FoundFunction, read_functions, read_insert_triggers
from worker.doctor.findings import Findings, error, ok, warning
from worker.doctor.server import Server
from worker.errors import PrivilegeError, RefusedError, RowscoreError
from worker.facts import view_address
from worker.kinds.sql import SqlModel
from worker.materialisation import Materialisation
from worker.names import index_name, trigger_name
from worker.plan import plan_changes
from worker.refusals import roles_of
from worker.sections import split_name
from worker.survey import read_facts, read_forgotten, read_registrations
from worker.switches import against
from worker.table import Column, Table, Trigger, read_table


def describe_table(transaction: Transaction, prediction: Prediction) -> tuple[Table, tuple[Column, ...]]:
    """The table and the key that identifies its rows; reads the catalogue alone.

    Raises:
        ConfigurationError, MissingObjectError: there is none, or it has no usable key.
    """
    schema, name = split_name(prediction.table)
    table = read_table(transaction, schema, name, f"predictions.{prediction.name}.table")
    return table, table.choose_key(prediction.key, f"predictions.{prediction.name}.key")


def check_table(table: Table, key: tuple[Column, ...]) -> Findings:
    """What the table is, and what identifies its rows."""
    rows = f"about {table.estimated_rows:,} rows" if table.estimated_rows >= 0 else "never analysed"
    parts = sum(1 for partition in table.partitions if partition.leaf)
    yield ok("table", f"{table.label}, {rows}" + (f", {parts} partitions" if table.partitioned else ""))
    yield ok("key", ", ".join(f"{column.name} ({column.type})" for column in key))


def explain_refusal(refusal: RowscoreError, server: Server, located: Any) -> Findings:
    """Why the prediction's definition does not fit, and the GRANT where a privilege is all that it lacks."""
    if isinstance(refusal, PrivilegeError) and not located.readable:
        what = "may not read a column that an expression of `inputs` or `where` names"
        remedy = server.remedy("grant_read_all", target=located.target)
        yield error("privileges", f"role {server.role} {what}: {refusal}", remedy)
    else:
        yield error("definition", str(refusal))


def check_applied(transaction: Transaction, m: Materialisation) -> Findings:
    """Whether `apply` was run, with this very definition, and what it would change now."""
    subject = "applied"
    command = f"rowscore apply {m.name}"
    known = next((item for item in read_registrations(transaction) if item.name == m.name), None)
    wanted = (m.prediction.definition_hash, m.prediction.version_value)
    left = read_forgotten(transaction, m.prediction)
    if left is not None:
        yield warning(
            "shadow", f"{left} left the file and is still in the database", f"rowscore remove {left}"
        )
    if known is None:
        yield warning(subject, "not yet: no column, index or view has been made", command)
        return
    if (switch := against(known.definition, *wanted)) is not None:
        yield error(subject, switch.explain(m.name), switch.command)
        return
    if (known.definition_hash, known.version) != wanted:
        message = (
            f"the database has definition {known.definition_hash} and version {known.version!r}, this file "
            f"{wanted[0]} and {wanted[1]!r}: workers with this file refuse to score"
        )
        yield error(subject, message, f"{command}, if this file is the newer one")
        return
    if not sees_all(transaction, m):
        hidden = "only who may `apply` sees whether it would change anything"
        yield ok(subject, f"definition {known.definition_hash}; {hidden}")
        return
    titles = list(planned(transaction, m))
    if titles:
        yield warning(subject, "; ".join(titles), command)
    else:
        yield ok(subject, f"definition {known.definition_hash}, nothing to change")


def sees_all(transaction: Transaction, m: Materialisation) -> bool:
    """Whether the catalogue shows this role what `apply` made, or hides triggers and views that it may not change."""
    if "find_missing_grants" not in sql.load(m.dialect):
        return True
    return not read_facts(transaction, m).abilities.missing


def planned(transaction: Transaction, m: Materialisation) -> Iterator[str]:
    """What `apply` would change, or why it would refuse, as the table's owner would see it."""
    facts = read_facts(transaction, m)
    able = replace(
        facts.abilities,
        owns_table=True,
        may_create_index=True,
        may_create_view=True,
        missing=(),
        may_trigger=True,
    )
    try:
        changes = plan_changes(replace(facts, abilities=able))
    except (RefusedError, PrivilegeError) as refusal:
        yield from str(refusal).splitlines()
        return
    yield from (f"`apply` would {change.title}" for change in changes)


def check_index(transaction: Transaction, m: Materialisation) -> Findings:
    """That the pending index is there, valid, and over the key; without it a claim reads the whole table."""
    subject, name = "pending index", index_name(m.name)
    rows = transaction.rows(
        m.render("find_pending_indexes"),
        oid=m.table.oid,
        schema=m.table.schema,
        name=m.table.name,
        relations=[m.table.oid],
        names=[name],
        key=[column.name for column in m.key],
        state=m.prediction.state_column,
    )
    index = next((row for row in rows if row.name == name), None)
    command = f"rowscore apply {m.name}"
    if index is None:
        yield error(subject, f"{name} is missing: every claim would read all of {m.table.label}", command)
    elif not index.valid:
        yield error(
            subject, f"{name} is invalid: building it was interrupted, or a partition lacks its part", command
        )
    elif not index.fits:
        yield error(subject, f"{name} is over other columns than the key of the rows that wait", command)
    else:
        yield ok(subject, f"{name} is valid")


def check_view(transaction: Transaction, m: Materialisation, server: Server) -> Findings:
    """That the view is there and checks its reader's rights."""
    address = view_address(m)
    if address is None:
        return
    subject, label = "view", ".".join(address)
    statement = sql.load(m.dialect)["find_view_rights"].render()
    view = transaction.row(statement, schema=address[0], name=address[1])
    target = ".".join(sql.quote(part, m.dialect) for part in address)
    if view is None and not sees_all(transaction, m):
        yield ok(subject, f"role {server.role} does not see {label}")
    elif view is None:
        yield warning(subject, f"{label} is missing", f"rowscore apply {m.name}")
    elif not view.is_view:
        yield error(subject, f"{label} is not a view", "name another one with `view`")
    elif view.as_reader:
        yield ok(subject, f"{label} checks its reader's rights")
    elif server.readers_rights:
        message = f"{label} checks its owner's rights: who may read it sees all rows of {m.table.label}"
        yield warning(subject, message, server.remedy("mend_view", view=target))
    else:
        yield ok(
            subject,
            f"{label} checks its owner's rights ({server.label} has no others): grant it like the table",
        )


def check_row_security(transaction: Transaction, m: Materialisation, server: Server) -> Findings:
    """Policies that would hide rows from the worker, which would then never be scored."""
    statements = sql.load(m.dialect)
    if "find_row_security" not in statements:
        return
    row: Any = transaction.row(statements["find_row_security"].render(), oid=m.table.oid)
    if not row.active:
        return
    if row.sees_all:
        yield ok("row security", f"a policy lets role {server.role} reach all rows of {m.table.label}")
        return
    message = f"policies hide rows of {m.table.label} from role {server.role}: those would never be scored"
    role = server.quoted_role
    remedy = (
        f"CREATE POLICY rowscore_worker ON {m.target} TO {role} USING (true) WITH CHECK (true);\n"
        f"-- or, where restrictive policies remain: ALTER ROLE {role} BYPASSRLS;"
    )
    yield warning("row security", message, remedy)


def check_rights(transaction: Transaction, m: Materialisation, server: Server, *, needed: bool) -> Findings:
    """Whether this role may `apply`, where tables have no owner; a worker need not, and had better not."""
    subject = "ownership"
    try:
        plan_changes(read_facts(transaction, m))
    except PrivilegeError as refusal:
        if needed:
            remedy = "run `rowscore apply` with another account, or give the DBA its --dry-run"
            yield warning(subject, f"role {server.role} may not `apply`: {refusal}", remedy)
        else:
            yield ok(subject, f"role {server.role} only scores {m.table.label}; it may not `apply`")
        return
    except RefusedError:
        pass  # told already
    yield ok(subject, f"role {server.role} may `apply`")


def check_triggers(m: Materialisation, server: Server) -> Findings:
    """The application's triggers that writing a prediction would fire."""
    own = {m.table.columns[name].number for name in roles_of(m.prediction) if name in m.table.columns}
    fired = [item for item in m.table.triggers if _fires(item, own) and item.name != trigger_name(m.name)]
    for trigger in fired:
        when = "BEFORE" if trigger.before else "AFTER"
        each = "each row" if " FOR EACH ROW " in trigger.definition else "each batch"
        guarded = " where its WHEN holds" if " WHEN (" in trigger.definition else ""
        what = ", ".join(part for part in (f"{trigger.name} ({when} UPDATE", trigger.function) if part) + ")"
        message = f"{what} fires for {each} that rowscore writes{guarded}"
        yield warning("triggers", message, None if guarded else server.counsel.trigger_guard)
    if not fired:
        yield ok("triggers", f"no trigger of {m.table.label} fires when a prediction is written")


def _fires(trigger: Trigger, own: set[int]) -> bool:
    """UPDATE OF fires only for the columns that the statement names."""
    limited = {int(number) for number in trigger.columns.split()}
    return (
        trigger.enabled
        and not trigger.function.startswith("rowscore.")
        and (not limited or bool(limited & own))
    )


def check_inserts(transaction: Transaction, m: Materialisation, *, applied: bool) -> Findings:
    """The application's triggers that call a model in the INSERT, which is what rowscore is there to end."""
    subject = "inserts"
    functions = read_functions(transaction)
    models = [*model_functions(functions), *_called(m.prediction, functions)]
    relations = {m.table.oid, *(partition.oid for partition in m.table.partitions)}
    found = [
        trigger
        for trigger in read_insert_triggers(transaction, (m.table.schema, m.table.name))
        if trigger.table_oid in relations and calls_model(trigger.source, models)
    ]
    for trigger in found:
        when = "BEFORE" if trigger.before else "AFTER"
        message = f"every INSERT still waits for the model: {trigger.name} ({when} INSERT) calls it"
        # Dropped any sooner, new rows would have no way to their prediction.
        yield warning(
            subject,
            message,
            trigger.removal if applied else f"once rowscore scores the rows: {trigger.removal}",
        )
    if not found:
        yield ok(subject, f"no trigger of {m.table.label} calls a model in an INSERT")


def _called(prediction: Prediction, functions: Sequence[FoundFunction]) -> list[FoundFunction]:
    """The prediction's own function, which calls a model whatever it is called."""
    if not isinstance(prediction.model, SqlModel):
        return []
    schema, name = split_name(prediction.model.sql)
    return [item for item in functions if item.name == name and schema in (None, item.schema)]


def check_vacuum(transaction: Transaction, m: Materialisation, server: Server) -> Findings:
    """Every prediction written leaves a dead row behind."""
    subject = "vacuum"
    statements = sql.load(m.dialect)
    if "find_unvacuumed" not in statements:
        return
    rows = transaction.rows(statements["find_unvacuumed"].render(), oid=m.table.oid)
    if not server.autovacuum:
        message = "autovacuum is off: dead rows of every prediction written stay until somebody vacuums"
        yield warning(subject, message, "set autovacuum = on in the server's configuration")
    elif not rows:
        yield ok(subject, f"autovacuum looks after {m.table.label}")
    for row in rows:
        message = f"autovacuum is off for {row.target}"
        yield warning(subject, message, f"ALTER TABLE {row.target} RESET (autovacuum_enabled);")
