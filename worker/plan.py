"""The DDL that takes a table from what it is to what is wanted: pure decisions, which `apply` carries out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sql
from worker.capabilities import Alteration, Lock, capabilities_of
from worker.changes import Change
from worker.config import SHADOW_SUFFIX
from worker.errors import RefusedError
from worker.facts import Facts, Registration, View, view_address
from worker.indexes import Step, StepKind, plan_indexes
from worker.materialisation import Materialisation
from worker.names import Mark, Role, digest, function_name, literal, trigger_name
from worker.refusals import refuse, roles_of
from worker.state import registration_statements
from worker.states import RowState
from worker.switches import against
from worker.view import ViewColumn, qualified, view_sql
from worker.wrappers import Wrapping, plan_function, plan_leftovers


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column that the table lacks; `comment` is the literal that marks it as rowscore's."""

    name: str
    type: str
    role: Role
    comment: str


def plan_changes(facts: Facts, *, allow_copy: bool = False) -> list[Change]:
    """The changes that are missing, in order; none where everything is as wanted.

    Args:
        facts: what is there, and what is wanted.
        allow_copy: whether the table may be copied, where the server cannot add a column otherwise.

    Raises:
        PrivilegeError: the role may not make them.
        RefusedError: a change would hurt the table, or take something of somebody else's away.
    """
    refuse(facts)
    wrapping = plan_function(facts)
    schema = [
        *_own_tables(facts),
        *_plan_function(facts, wrapping),
        *_plan_columns(facts, allow_copy=allow_copy),
        *(_index_change(facts.materialisation, step, allow_copy=allow_copy) for step in _index_steps(facts)),
        *plan_trigger(facts),
        *_plan_outdated(facts),
        *_plan_view(facts, wrapping),
        *plan_leftovers(facts),
    ]
    dialect = facts.materialisation.dialect
    return [*in_dialect(schema, dialect), *_plan_registration(facts)]


def plan_view(facts: Facts, *, anew: bool = False) -> list[Change]:
    """The change of the view alone that is missing; none where it fits the table and the configuration.

    With `anew` it is made in any case: it is bound to columns that get other names.

    Raises:
        RefusedError: it cannot be made anew for what others built upon it.
    """
    return _plan_view(facts, plan_function(facts), anew=anew)


def in_dialect(changes: Iterable[Change], dialect: str) -> list[Change]:
    """Changes of the schema as the dialect makes them: in a transaction only where it takes DDL back."""
    able = capabilities_of(dialect).alteration.transactional
    return [
        replace(change, dialect=dialect, transactional=change.transactional and able) for change in changes
    ]


def _alteration(materialisation: Materialisation) -> Alteration:
    return capabilities_of(materialisation.dialect).alteration


def _own_tables(facts: Facts) -> list[Change]:
    if not facts.migrations:
        return []
    schema = capabilities_of(facts.materialisation.dialect).own_schema
    where = f", in the schema {schema}" if schema else ""
    return [Change(f"make or update rowscore's own tables{where}", (facts.migrations,))]


def missing_columns(facts: Facts) -> tuple[NewColumn, ...]:
    """The columns to add: state, outputs, time, version, fingerprint."""
    prediction, dialect = facts.materialisation.prediction, facts.materialisation.dialect
    own = _alteration(facts.materialisation)
    types = {
        Role.STATE: own.state_type,
        Role.SCORED_AT: own.time_type,
        Role.VERSION: own.version_type,
        Role.FINGERPRINT: own.fingerprint_type,
    }
    outputs = {output.name: output.type for output in facts.materialisation.outputs}
    return tuple(
        NewColumn(
            name,
            types.get(role) or outputs[name],
            role,
            literal(str(Mark(prediction.name, role)), dialect),
        )
        for name, role in roles_of(prediction).items()
        if name not in facts.materialisation.table.columns
    )


def _plan_columns(facts: Facts, *, allow_copy: bool) -> list[Change]:
    """One transaction, or two statements under one lock: rows that come before the new default count as existing.

    Where DDL commits by itself, a server that dies between the two statements leaves the old default until the next
    `apply`; the rows that come meanwhile are scored by `rowscore backfill`, like those from before.
    """
    materialisation, own = facts.materialisation, _alteration(facts.materialisation)
    new = missing_columns(facts)
    state = materialisation.table.columns.get(materialisation.prediction.state_column)
    statements = []
    if new:
        statements.append(
            materialisation.show(
                "add_columns",
                columns=new,
                existing=RowState.EXISTING.value,
                allow_copy=allow_copy,
            )
        )
    if state is None or state.default_text not in own.pending_defaults:
        statements.append(materialisation.show("set_pending_default", pending=RowState.PENDING.value))
    if state is None and len(statements) > 1:
        statements = _locked(materialisation, statements)
    if own.transactional:  # else the mark was made with the column
        statements += [
            materialisation.show("comment_column", column=column.name, comment=column.comment)
            for column in new
        ]
    if not statements:
        return []
    title = f"add {', '.join(column.name for column in new)} to" if new else "let new rows wait in"
    return [
        Change(
            f"{title} {materialisation.table.label}",
            tuple(statements),
            lock=own.locks[Lock.COPY if new and allow_copy else Lock.ALTER],
        )
    ]


def _locked(materialisation: Materialisation, statements: Sequence[str]) -> list[str]:
    """The statements with nobody between them, where no transaction holds them together."""
    if _alteration(materialisation).transactional:
        return [*statements]
    return [materialisation.show("lock_table"), *statements, materialisation.show("unlock_table")]


def _index_steps(facts: Facts) -> list[Step]:
    return plan_indexes(facts.materialisation.name, facts.relations, facts.indexes)


def _index_change(materialisation: Materialisation, step: Step, *, allow_copy: bool) -> Change:
    locks = _alteration(materialisation).locks
    dialect, label = materialisation.dialect, step.relation.label
    table = qualified((step.relation.schema, step.relation.name), dialect)
    shared: dict[str, Any] = {"schema": step.schema, "index": step.index, "table": table}
    make: dict[str, Any] = {
        "index": step.index,
        "allow_copy": allow_copy,
        "key": [column.name for column in materialisation.key],
        "state": materialisation.prediction.state_column,
        "pending": RowState.PENDING.value,
        "table": table,
    }
    show = sql.load(dialect)
    if step.kind is StepKind.BUILD:
        statement = show["create_pending_index"].show(**make, concurrently=True, only=False)
        title, lock = f"build the pending index of {label}", locks[Lock.COPY if allow_copy else Lock.BUILD]
        return Change(title, (statement,), transactional=False, waits=True, lock=lock)
    if step.kind is StepKind.DROP:
        statement = show["drop_pending_index"].show(**shared, concurrently=True)
        title, lock = f"drop the unfinished or outdated index of {label}", locks[Lock.DROP_INDEX]
        return Change(title, (statement,), transactional=False, waits=True, lock=lock)
    if step.kind is StepKind.FRAME:
        statement = show["create_pending_index"].show(**make, concurrently=False, only=True)
        return Change(f"make the partitioned pending index of {label}", (statement,), lock=locks[Lock.FRAME])
    if step.kind is StepKind.DROP_FRAME:
        statement = show["drop_pending_index"].show(**shared, concurrently=False)
        return Change(f"drop the outdated index of {label}", (statement,), lock=locks[Lock.DROP_FRAME])
    parent_schema, parent = step.parent or ("", "")
    statement = show["attach_pending_index"].show(**shared, parent_schema=parent_schema, parent=parent)
    title = f"attach the pending index of {label} to the one above"
    return Change(title, (statement,), lock=locks[Lock.ATTACH])


def plan_trigger(facts: Facts, *, anew: bool = False) -> list[Change]:
    """The staleness trigger, and its function where it has one, made anew where their SQL is another one.

    With `anew` the trigger is in any case: its condition is bound to columns that get other names.
    """
    materialisation = facts.materialisation
    statements, locks = sql.load(materialisation.dialect), _alteration(materialisation).locks
    names = {
        "schema": materialisation.table.schema,
        "trigger": trigger_name(materialisation.name),
        "function": function_name(materialisation.name),
    }
    drop = materialisation.show("drop_staleness_trigger", **names)
    if not facts.watched or materialisation.prediction.on_input_change != "trigger":
        if not facts.trigger_there:
            return []
        dropped = [drop]
        if "drop_staleness_function" in statements:
            dropped.append(materialisation.show("drop_staleness_function", **names))
        title = f"drop the trigger that notices changed inputs of {materialisation.table.label}"
        return [Change(title, tuple(dropped), destructive=True, lock=locks[Lock.CHANGE_TRIGGER])]
    steps = _function_steps(facts, names) if "create_staleness_function" in statements else []
    trigger, mark = _trigger(facts, names)
    if facts.trigger != mark or not facts.trigger_enabled or anew:
        made = [*([drop] if facts.trigger_there else []), trigger]
        steps += _locked(materialisation, made) if len(made) > 1 else made
        if "comment_trigger" in statements:
            comment = literal(str(mark), materialisation.dialect)
            steps.append(materialisation.show("comment_trigger", **names, comment=comment))
    if not steps:
        return []
    lock = locks[Lock.CHANGE_TRIGGER if facts.trigger_there else Lock.ADD_TRIGGER]
    title = f"put rows of {materialisation.table.label} back into the queue when an input changes (trigger)"
    return [Change(title, tuple(steps), lock=lock)]


def _plan_outdated(facts: Facts) -> list[Change]:
    """A fingerprint that is no longer kept goes: rows that are scored without it would look changed later on."""
    materialisation = facts.materialisation
    if materialisation.prediction.fingerprint_column:
        return []
    kept = [
        item.column
        for item in facts.marked
        if item.oid == materialisation.table.oid
        and (item.mark.prediction, item.mark.role) == (materialisation.name, Role.FINGERPRINT)
    ]
    if not kept:
        return []
    statement = materialisation.show("drop_columns", columns=kept)
    title = f"drop {', '.join(kept)} of {materialisation.table.label}, which is no longer kept"
    lock = _alteration(materialisation).locks[Lock.ALTER]
    return [Change(title, (statement,), destructive=True, lock=lock)]


def _function_steps(facts: Facts, names: dict[str, str]) -> list[str]:
    """What makes the trigger's function, where it is not there or another one."""
    materialisation = facts.materialisation
    body = literal(materialisation.show("staleness_body", pending=RowState.PENDING.value))
    function = materialisation.show("create_staleness_function", **names, body=body)
    mark = Mark(materialisation.name, Role.FUNCTION, digest(function))
    if facts.function == mark:
        return []
    return [function, materialisation.show("comment_function", **names, comment=literal(str(mark)))]


def _trigger(facts: Facts, names: dict[str, str]) -> tuple[str, Mark]:
    """The trigger's SQL and its mark, which stands in the SQL itself where triggers have no comments."""
    materialisation = facts.materialisation

    def text(mark: str) -> str:
        return materialisation.show(
            "create_staleness_trigger",
            **names,
            pending=RowState.PENDING.value,
            changed=_changed(facts),
            mark=literal(mark, materialisation.dialect),
        )

    mark = Mark(materialisation.name, Role.TRIGGER, digest(text("")))
    return text(str(mark)), mark


def _changed(facts: Facts) -> list[str]:
    """The comparisons of the trigger: by equality where it is exact, by image for all other types at once."""
    materialisation = facts.materialisation
    columns = [materialisation.table.columns[name] for name in facts.watched]
    changed = [
        materialisation.show("column_changed", column=column.name) for column in columns if column.exact
    ]
    if images := [column for column in columns if not column.exact]:
        changed.append(materialisation.show("columns_changed_image", columns=images))
    return changed


def _plan_function(facts: Facts, wrapping: Wrapping) -> list[Change]:
    """The function that calls a service of Aurora's, first: what comes after it may call it."""
    if not wrapping.statements or _with_view(facts, wrapping):
        return []
    return [Change(f"make the function {wrapping.label}", wrapping.statements, destructive=wrapping.anew)]


def _with_view(facts: Facts, wrapping: Wrapping) -> bool:
    """Whether the function can only be made anew while the view that calls it is away."""
    able = _alteration(facts.materialisation).transactional  # else no dependency is kept
    live = facts.materialisation.prediction.live
    address = view_address(facts.materialisation)
    return wrapping.anew and able and live and any((v.schema, v.name) == address for v in facts.views)


def _plan_view(facts: Facts, wrapping: Wrapping, *, anew: bool = False) -> list[Change]:
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
    mark = Mark(materialisation.name, Role.VIEW, digest(_signature(facts, address, columns)))
    around = _with_view(facts, wrapping)
    if existing is None or existing.mark != mark or around or anew:
        free = _alteration(materialisation).replaces_views
        replaceable = not around and existing is not None and (free or _replaceable(existing, columns))
        if existing is not None and not replaceable:
            reason = "the function that it calls" if around else "a column of it was removed or"
            steps.append(_drop_view(facts, existing, f"{reason} changed its type"))
        steps += wrapping.statements if around else ()
        comment = literal(str(mark), materialisation.dialect)
        steps.append(
            view_sql(
                materialisation, address, columns, security_invoker=able, replace=replaceable, mark=comment
            )
        )
        if "comment_view" in sql.load(materialisation.dialect):
            target = qualified(address, materialisation.dialect)
            steps.append(materialisation.show("comment_view", view=target, comment=comment))
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
    says, without fingerprints, and without the columns of a shadow.

    Those that a view of ours has already keep their places: its readers may count them.
    """
    materialisation = facts.materialisation
    table = materialisation.table
    of_rowscore = (Role.STATE, Role.FINGERPRINT)
    hidden = {item.column for item in facts.marked if item.oid == table.oid and item.mark.role in of_rowscore}
    hidden |= {materialisation.prediction.state_column, materialisation.prediction.fingerprint_column or ""}
    shadow = materialisation.name + SHADOW_SUFFIX
    hidden |= {
        item.column for item in facts.marked if item.oid == table.oid and item.mark.prediction == shadow
    }
    columns = [ViewColumn(column.name, column.type) for column in table.columns.values()]
    columns += [ViewColumn(column.name, column.type) for column in missing_columns(facts)]
    view = next((v for v in facts.views if (v.schema, v.name) == view_address(materialisation)), None)
    known = view.columns if view is not None and view.mark is not None else ()
    place = {name: number for number, name in enumerate(known)}
    shown = [column for column in columns if column.name not in hidden]
    return sorted(shown, key=lambda column: place.get(column.name, len(place)))


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


def _refuse_switched(facts: Facts, known: Registration) -> None:
    """A file from before a switch would let its models write among the others' predictions."""
    prediction = facts.materialisation.prediction
    found = against(known.definition, prediction.definition_hash, prediction.version_value)
    if found is None:
        return
    other = found.shadow if prediction.name == found.live else found.live
    if other in facts.claimed.values():  # else there is nothing any more that it could change places with
        raise RefusedError(found.explain(prediction.name))


def _plan_registration(facts: Facts) -> list[Change]:
    m, known = facts.materialisation, facts.registration
    prediction = m.prediction
    if known is not None:
        _refuse_switched(facts, known)
    if known is None:
        title = f"register prediction {prediction.name}: workers may begin"
    elif (known.definition_hash, known.version) != (prediction.definition_hash, prediction.version_value):
        title = f"register the new definition or version of {prediction.name}: workers with the old one stop"
    elif not known.complete:
        title = f"make what belongs to prediction {prediction.name} and is missing"
    elif tuple(known.definition.get("held", ())) != m.held:
        named = ", ".join(m.held) or "none"
        title = f"note which columns of {m.table.label} an UPDATE moves by itself: {named}"
    else:
        return []
    return [Change(title, registration_statements(m), dialect=m.dialect)]
