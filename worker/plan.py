"""The DDL that takes a table from what it is to what is wanted: pure decisions, which `apply` carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sql
from worker.changes import INSTANT, Change
from worker.errors import RefusedError
from worker.facts import Facts, View, view_address
from worker.indexes import Step, StepKind, plan_indexes
from worker.materialisation import Materialisation
from worker.names import Mark, Role, digest, function_name, literal, trigger_name
from worker.refusals import refuse, roles_of
from worker.state import registration_statements
from worker.states import RowState
from worker.view import ViewColumn, qualified, view_sql

_PENDING_DEFAULTS = ("0", "'0'::smallint", "(0)::smallint")
_STATE_TYPE, _TIME_TYPE, _VERSION_TYPE = "smallint", "timestamp with time zone", "text"


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column that the table lacks."""

    name: str
    type: str
    role: Role


def plan_changes(facts: Facts) -> list[Change]:
    """The changes that are missing, in order; none where everything is as wanted.

    Raises:
        PrivilegeError: the role may not make them.
        RefusedError: a change would hurt the table, or take something of somebody else's away.
    """
    refuse(facts)
    return [
        *_own_tables(facts),
        *_plan_columns(facts),
        *(_index_change(facts.materialisation, step) for step in _index_steps(facts)),
        *_plan_trigger(facts),
        *_plan_view(facts),
        *_plan_registration(facts),
    ]


def _own_tables(facts: Facts) -> list[Change]:
    if not facts.migrations:
        return []
    return [Change("make or update rowscore's own tables, in the schema rowscore", (facts.migrations,))]


def missing_columns(facts: Facts) -> tuple[NewColumn, ...]:
    """The columns to add: state, outputs, time, version."""
    prediction = facts.materialisation.prediction
    types = {Role.STATE: _STATE_TYPE, Role.SCORED_AT: _TIME_TYPE, Role.VERSION: _VERSION_TYPE}
    return tuple(
        NewColumn(name, types.get(role) or prediction.outputs[name], role)
        for name, role in roles_of(prediction).items()
        if name not in facts.materialisation.table.columns
    )


def _plan_columns(facts: Facts) -> list[Change]:
    """One transaction: a crash before the new default would mark rows to come as existing."""
    materialisation = facts.materialisation
    new = missing_columns(facts)
    state = materialisation.table.columns.get(materialisation.prediction.state_column)
    statements = []
    if new:
        statements.append(materialisation.show("add_columns", columns=new, existing=RowState.EXISTING.value))
    if state is None or state.default_text not in _PENDING_DEFAULTS:
        statements.append(materialisation.show("set_pending_default", pending=RowState.PENDING.value))
    for column in new:
        comment = literal(str(Mark(materialisation.name, column.role)))
        statements.append(materialisation.show("comment_column", column=column.name, comment=comment))
    if not statements:
        return []
    title = f"add {', '.join(column.name for column in new)} to" if new else "let new rows wait in"
    return [
        Change(
            f"{title} {materialisation.table.label}",
            tuple(statements),
            lock=f"ACCESS EXCLUSIVE on the table, {INSTANT}",
        )
    ]


def _index_steps(facts: Facts) -> list[Step]:
    return plan_indexes(facts.materialisation.name, facts.relations, facts.indexes)


def _index_change(materialisation: Materialisation, step: Step) -> Change:
    dialect, label = materialisation.dialect, step.relation.label
    shared: dict[str, Any] = {"schema": step.schema, "index": step.index}
    make: dict[str, Any] = {
        "index": step.index,
        "key": [column.name for column in materialisation.key],
        "state": materialisation.prediction.state_column,
        "pending": RowState.PENDING.value,
        "table": qualified((step.relation.schema, step.relation.name), dialect),
    }
    show = sql.load(dialect)
    if step.kind is StepKind.BUILD:
        statement = show["create_pending_index"].show(**make, concurrently=True, only=False)
        lock = "SHARE UPDATE EXCLUSIVE while it builds: reads and writes go on; waits for older transactions"
        return Change(f"build the pending index of {label}", (statement,), transactional=False, lock=lock)
    if step.kind is StepKind.DROP:
        statement = show["drop_pending_index"].show(**shared, concurrently=True)
        lock = "SHARE UPDATE EXCLUSIVE: reads and writes go on"
        return Change(
            f"drop the unfinished or outdated index of {label}", (statement,), transactional=False, lock=lock
        )
    if step.kind is StepKind.FRAME:
        statement = show["create_pending_index"].show(**make, concurrently=False, only=True)
        return Change(
            f"make the partitioned pending index of {label}", (statement,), lock=f"SHARE on it, {INSTANT}"
        )
    if step.kind is StepKind.DROP_FRAME:
        statement = show["drop_pending_index"].show(**shared, concurrently=False)
        return Change(
            f"drop the outdated index of {label}", (statement,), lock=f"ACCESS EXCLUSIVE, {INSTANT}"
        )
    parent_schema, parent = step.parent or ("", "")
    statement = show["attach_pending_index"].show(**shared, parent_schema=parent_schema, parent=parent)
    lock = f"SHARE UPDATE EXCLUSIVE on the partition, {INSTANT}"
    return Change(f"attach the pending index of {label} to the one above", (statement,), lock=lock)


def _plan_trigger(facts: Facts) -> list[Change]:
    """The staleness trigger and its function, made anew where their SQL is another one."""
    materialisation = facts.materialisation
    names = {"trigger": trigger_name(materialisation.name), "function": function_name(materialisation.name)}
    pending = RowState.PENDING.value
    drop = materialisation.show("drop_staleness_trigger", **names)
    if not facts.watched:
        if not facts.trigger_there:
            return []
        statements = (drop, materialisation.show("drop_staleness_function", **names))
        title = f"drop the trigger that notices changed inputs of {materialisation.table.label}"
        return [Change(title, statements, destructive=True, lock=f"ACCESS EXCLUSIVE on the table, {INSTANT}")]
    body = literal(materialisation.show("staleness_body", pending=pending))
    function = materialisation.show("create_staleness_function", **names, body=body)
    trigger = materialisation.show(
        "create_staleness_trigger", **names, pending=pending, changed=_changed(facts)
    )
    function_mark = Mark(materialisation.name, Role.FUNCTION, digest(function))
    trigger_mark = Mark(materialisation.name, Role.TRIGGER, digest(trigger))
    steps: list[str] = []
    if facts.function != function_mark:
        comment = literal(str(function_mark))
        steps += [function, materialisation.show("comment_function", **names, comment=comment)]
    if facts.trigger != trigger_mark or not facts.trigger_enabled:
        steps += [drop] if facts.trigger_there else []
        steps += [
            trigger,
            materialisation.show("comment_trigger", **names, comment=literal(str(trigger_mark))),
        ]
    if not steps:
        return []
    strength = "ACCESS EXCLUSIVE" if facts.trigger_there else "SHARE ROW EXCLUSIVE"
    title = f"put rows of {materialisation.table.label} back into the queue when an input changes (trigger)"
    return [Change(title, tuple(steps), lock=f"{strength} on the table, {INSTANT}")]


def _changed(facts: Facts) -> list[str]:
    """The comparisons of the trigger: by equality where it is exact, by image for all other types at once."""
    materialisation = facts.materialisation
    columns = [materialisation.table.columns[name] for name in facts.watched]
    changed = [
        materialisation.show("column_changed", column=column.name) for column in columns if column.exact
    ]
    if images := [column.name for column in columns if not column.exact]:
        changed.append(materialisation.show("columns_changed_image", columns=images))
    return changed


def _plan_view(facts: Facts) -> list[Change]:
    """Make the view, replace it in place where the database can, else drop it and make it with its grants."""
    materialisation = facts.materialisation
    address = view_address(materialisation)
    old = [view for view in facts.views if (view.schema, view.name) != address]
    steps = [_drop_view(facts, view, "it is no longer wanted") for view in old]
    if address is None:
        title = "drop the view " + ", ".join(view.label for view in old)
        return [Change(title, tuple(steps), destructive=True)] if steps else []
    existing = next((view for view in facts.views if (view.schema, view.name) == address), None)
    columns = view_columns(facts)
    able = facts.abilities.security_invoker
    create = view_sql(materialisation, address, columns, security_invoker=able)
    mark = Mark(materialisation.name, Role.VIEW, digest(_signature(facts, address, columns)))
    if existing is None or existing.mark != mark:
        replaceable = existing is not None and _replaceable(existing, columns)
        if existing is not None and not replaceable:
            steps.append(_drop_view(facts, existing, "a column of it was removed or changed its type"))
        if replaceable:
            create = view_sql(materialisation, address, columns, security_invoker=able, replace=True)
        target = qualified(address, materialisation.dialect)
        steps += [create, materialisation.show("comment_view", view=target, comment=literal(str(mark)))]
        if existing is not None and not replaceable:
            steps += [materialisation.show("grant_view", grant=grant) for grant in existing.grants]
    if not steps:
        return []
    title = f"make the view {'.'.join(address)} over scored and unscored rows"
    destructive = any(view is not existing for view in old)
    return [Change(title, tuple(steps), destructive=destructive)]


def _signature(facts: Facts, address: tuple[str, str], columns: list[ViewColumn]) -> str:
    """The view's SQL as its digest sees it: types in the server's own words, whoever spelt them how."""
    types = {output.name: output.cast_type for output in facts.materialisation.outputs}
    spelt = [ViewColumn(column.name, types.get(column.name, column.type)) for column in columns]
    able = facts.abilities.security_invoker
    return view_sql(facts.materialisation, address, spelt, security_invoker=able)


def view_columns(facts: Facts) -> list[ViewColumn]:
    """The table's columns in order, then those to be added; without the states, which `prediction_state`
    says.
    """
    materialisation = facts.materialisation
    table = materialisation.table
    hidden = {item.column for item in facts.marked if item.oid == table.oid and item.mark.role is Role.STATE}
    hidden.add(materialisation.prediction.state_column)
    columns = [ViewColumn(column.name, column.type) for column in table.columns.values()]
    columns += [ViewColumn(column.name, column.type) for column in missing_columns(facts)]
    return [column for column in columns if column.name not in hidden]


def _replaceable(view: View, columns: list[ViewColumn]) -> bool:
    """CREATE OR REPLACE only adds columns at the end."""
    names = ("prediction_state", *(column.name for column in columns))
    types = ("text", *(column.type for column in columns))
    count = len(view.columns)
    return view.columns == names[:count] and view.types == types[:count]


def _drop_view(facts: Facts, view: View, reason: str) -> str:
    if view.dependents:
        raise RefusedError(
            f"the view {view.label} must be dropped ({reason}), and "
            f"{', '.join(view.dependents)} depends on it; drop that first and make it again afterwards"
        )
    dialect = facts.materialisation.dialect
    return sql.load(dialect)["drop_view"].show(view=qualified((view.schema, view.name), dialect))


def _plan_registration(facts: Facts) -> list[Change]:
    prediction = facts.materialisation.prediction
    known = facts.registration
    wanted = (prediction.definition_hash, prediction.version_value, True)
    if known is not None and (known.definition_hash, known.version, known.complete) == wanted:
        return []
    if known is None:
        title = f"register prediction {prediction.name}: workers may begin"
    else:
        title = f"register the new definition or version of {prediction.name}: workers with the old one stop"
    return [Change(title, registration_statements(prediction, facts.materialisation.dialect))]
