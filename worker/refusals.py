"""What `apply` will not do to a table, each with its reason and what to do instead; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sql
from worker.capabilities import Calling, bare_type, capabilities_of
from worker.config import Prediction
from worker.errors import PrivilegeError, RefusedError
from worker.facts import Facts, Services, View, view_address
from worker.kinds.aurora import ComprehendSentiment
from worker.kinds.sql import SqlModel
from worker.materialisation import Output
from worker.names import LONGEST, Role
from worker.table import Column
from worker.view import STATE_NAME
from worker.wrappers import foreign as made_by_hand
from worker.wrappers import standing, unlike, wanted_objects

_RENAMED = (Role.STATE, Role.SCORED_AT, Role.VERSION, Role.FINGERPRINT)


def roles_of(prediction: Prediction) -> dict[str, Role]:
    """The columns that rowscore writes, in the order in which it adds them, and what each is for."""
    roles = {prediction.state_column: Role.STATE}
    roles |= dict.fromkeys(prediction.outputs, Role.OUTPUT)
    roles[prediction.scored_at_column] = Role.SCORED_AT
    if prediction.version:
        roles[prediction.version.column] = Role.VERSION
    if prediction.fingerprint_column:
        roles[prediction.fingerprint_column] = Role.FINGERPRINT
    return roles


def refuse(facts: Facts) -> None:
    """Raise where the plan must not be carried out.

    Raises:
        PrivilegeError: the role does not own the table, or may not create beside it; it names the GRANT.
        RefusedError: all the reasons, one a line.
    """
    _refuse_privileges(facts)
    reasons = [*_table(facts), *_moved(facts), *_columns(facts), *_view(facts), *_service(facts)]
    if reasons:
        name = facts.materialisation.name
        raise RefusedError("\n".join(f"predictions.{name}: {reason}" for reason in reasons))


def _refuse_privileges(facts: Facts) -> None:
    able, table = facts.abilities, facts.materialisation.table
    _refuse_missing(facts)
    if not able.owns_table:
        raise PrivilegeError(
            f"{table.label} belongs to role {able.owner} and only its owner may alter it: "
            f'run `rowscore apply` as {able.owner}, or GRANT "{able.owner}" TO "{able.role}"'
        )
    view = view_address(facts.materialisation)
    lacking = [] if able.may_create_index else [table.schema]
    if (services := facts.services) is not None and not services.may_create and (made := unlike(facts)):
        schema = made[0][0].schema
        raise PrivilegeError(
            f"role {services.role} may not create a function in schema {schema}, or there is no such schema: "
            f'GRANT CREATE ON SCHEMA "{schema}" TO "{services.role}"'
        )
    if view is not None and not able.may_create_view:
        lacking.append(view[0])
    if lacking:
        raise PrivilegeError(
            f"role {able.role} may not create an index and a view in schema {lacking[0]}, "
            f"or there is no such schema: "
            f'GRANT CREATE ON SCHEMA "{lacking[0]}" TO "{able.role}"'
        )


def _refuse_missing(facts: Facts) -> None:
    """Privileges that are granted one by one."""
    able, dialect = facts.abilities, facts.materialisation.dialect
    wanted: dict[tuple[str, str | None, str], list[str]] = {}
    for privilege, schema, name, grantee in able.missing:
        wanted.setdefault((schema, name, grantee), []).append(privilege)
    grants = [
        sql.load(dialect)["grant_missing"].show(
            privileges=", ".join(privileges),
            target=f"{sql.quote(schema, dialect)}.{sql.quote(name, dialect) if name else '*'}",
            grantee=grantee,
        )
        for (schema, name, grantee), privileges in wanted.items()
    ]
    if grants:
        raise PrivilegeError(f"role {able.role} may not do all that is needed: {'; '.join(grants)}")
    if not able.may_trigger:
        raise PrivilegeError(
            f"role {able.role} may not create a trigger while the binary log is on: SET GLOBAL "
            f"log_bin_trust_function_creators = 1 (on Aurora and RDS in the parameter group), "
            f'or do without it by on_input_change = "fingerprint" or "ignore"'
        )


def _table(facts: Facts) -> Iterator[str]:
    label = facts.materialisation.table.label
    if facts.abilities.is_partition:
        yield f"{label} is a partition and cannot have columns of its own; name the partitioned table"
    if facts.abilities.has_children:
        yield f"{label} has children by INHERITS, whose rows its key does not cover; use partitions"
    for relation in facts.relations:
        if relation.kind == "f":
            yield f"partition {relation.label} is a foreign table, which can have no pending index"


def _moved(facts: Facts) -> Iterator[str]:
    """The configuration names another table or other columns than those that were applied."""
    materialisation = facts.materialisation
    wanted = {role: name for name, role in roles_of(materialisation.prediction).items()}
    for marked in facts.marked:
        if marked.mark.prediction != materialisation.name:
            continue
        if marked.oid != materialisation.table.oid:
            yield (
                f"it is applied to {marked.schema}.{marked.table} (column {marked.column}); "
                f"run `rowscore remove {materialisation.name}` before you apply it to "
                f"{materialisation.table.label}"
            )
            return
        role = marked.mark.role
        if role in _RENAMED and wanted.get(role, marked.column) != marked.column:
            yield (
                f"the {role} column is {marked.column} in the database and {wanted[role]} in the file; "
                f"first {materialisation.show('rename_column', column=marked.column, wanted=wanted[role])}, "
                f"or run `rowscore remove {materialisation.name}`"
            )


def _columns(facts: Facts) -> Iterator[str]:
    materialisation = facts.materialisation
    others = {
        item.column: item.mark.prediction
        for item in facts.marked
        if item.oid == materialisation.table.oid and item.mark.prediction != materialisation.name
    }
    for name, role in roles_of(materialisation.prediction).items():
        if owner := facts.claimed.get(name) or others.get(name):
            yield f"column {name} is written by prediction {owner}; two cannot share a column"
            continue
        if name in facts.watched:
            yield f"an input is computed from column {name}, which rowscore writes: no row would stay scored"
        column = materialisation.table.columns.get(name)
        if column is not None:
            yield from _existing(facts, column, role)
        elif name in facts.costly_types:
            yield (
                f"outputs.{name}: the type {materialisation.prediction.outputs[name]} has a default or "
                f"a constraint of its own, so a new column would rewrite the table; use its base type"
            )


def _existing(facts: Facts, column: Column, role: Role) -> Iterator[str]:
    """Whether a column that is there can take its role."""
    name = f"{role} column {column.name}"
    alteration = capabilities_of(facts.materialisation.dialect).alteration
    if column.generated or column.identity:
        yield f"{name} is {'generated' if column.generated else 'an identity'}: only the database writes it"
    elif column.name in {part.name for part in facts.materialisation.key}:
        yield f"{name} is part of the key, by which rowscore finds the row"
    elif column.name in facts.partition_keys:
        yield f"{name} decides in which partition a row lives: writing it would move rows"
    elif role is Role.STATE:
        yield from _existing_state(facts, column)
    elif column.not_null and role in (Role.OUTPUT, Role.SCORED_AT, Role.FINGERPRINT):
        loosen = facts.materialisation.show("allow_null", column=column.name, type=column.type)
        yield (
            f"{name} is NOT NULL, and a row that waits, or a model that answers NULL, has no value for it; "
            f"let it be NULL: {loosen}"
        )
    elif role is Role.SCORED_AT and bare_type(column.base_type) not in alteration.time_types:
        yield f"{name} is {column.type}; expected {alteration.time_type}"
    elif role is Role.VERSION and column.category != "S":
        yield f"{name} is {column.type}; expected {bare_type(alteration.version_type).split()[0]}"
    elif role is Role.FINGERPRINT and bare_type(column.base_type) != alteration.fingerprint_type:
        yield f"{name} is {column.type}; expected {alteration.fingerprint_type}"


def _existing_state(facts: Facts, column: Column) -> Iterator[str]:
    registration = facts.registration
    registered = registration is not None and registration.definition["columns"][0] == column.name
    marked = any(
        item.column == column.name
        and item.oid == facts.materialisation.table.oid
        and item.mark.role is Role.STATE
        for item in facts.marked
    )
    if not registered and not marked:
        yield f'column {column.name} is there already and not rowscore\'s; name another with state = "..."'
    elif bare_type(column.type) != "smallint" or not column.not_null:
        kind = column.type + (" NOT NULL" if column.not_null else "")
        yield f"the state column {column.name} is {kind} and was smallint NOT NULL when it was made; mend it"


def _view(facts: Facts) -> Iterator[str]:
    address = view_address(facts.materialisation)
    if address is None:
        return
    if STATE_NAME in facts.materialisation.table.columns:
        yield f"the table has a column {STATE_NAME}, as the view has; set view = false, or rename it"
    if len(address[1].encode()) > LONGEST:
        yield f'the view\'s name {address[1]!r} is longer than {LONGEST} bytes; name it with view = "..."'
    for view in facts.views:
        if (view.schema, view.name) == address and foreign(view, facts.materialisation.name):
            yield f'{view.label} is there already and not this prediction\'s; name another with view = "..."'


def foreign(view: View, prediction: str) -> bool:
    """Whether what bears the wanted name is somebody else's."""
    return view.kind != "v" or view.mark is None or view.mark.prediction != prediction


def _service(facts: Facts) -> Iterator[str]:
    """What Aurora forbids to functions that call its services, and what a server that is not Aurora lacks."""
    services, model = facts.services, facts.materialisation.prediction.model
    if services is None or not isinstance(model, SqlModel) or model.aurora is None:
        return
    calling = capabilities_of(facts.materialisation.dialect).calling
    outputs = facts.materialisation.outputs
    if len(outputs) > 1 and not calling.composites:
        yield (
            f"a function of {calling.product} answers one value and {len(outputs)} outputs are configured: only the "
            f"first of the model's answers would come; make a prediction of each, or use an http model"
        )
        return
    yield from _forbidden(facts, services, calling)
    for output in outputs:
        yield from _answer(facts, output, calling)
    yield from _unavailable(facts, services, calling)


def _forbidden(facts: Facts, services: Services, calling: Calling) -> Iterator[str]:
    for caller in services.callers:
        yield (
            f"{caller} of {facts.materialisation.table.label} calls {_function_name(facts)}, and Aurora refuses its "
            f"machine learning in {calling.forbidden_in}: drop it first"
        )
    if services.binary_log == "STATEMENT":
        yield (
            "binlog_format is STATEMENT, under which Aurora refuses its machine learning, since a replica would call "
            "the model again: set it to ROW in the cluster's parameter group"
        )


def _function_name(facts: Facts) -> str:
    function = facts.materialisation.function
    return function.label if function is not None else "the function"


def _answer(facts: Facts, output: Output, calling: Calling) -> Iterator[str]:
    """Whether the function may return what the output's column holds, and the column holds what it returns."""
    m = facts.materialisation
    model = m.prediction.model
    service = model.aurora if isinstance(model, SqlModel) else None
    capabilities = capabilities_of(m.dialect)
    if m.function is not None and m.function.made:
        document = hasattr(service, "bedrock") or hasattr(service, "embeddings")
        if capabilities.answer_type(output.kind.name, output.cast_type, document=document) is None:
            yield (
                f"outputs.{output.name} is {output.type}, and a function of {calling.product} that calls SageMaker "
                f"returns {calling.returnable}; take varchar(2000), for example"
            )
    column = m.table.columns.get(output.name)
    if column is None or not calling.charset or column.collation is None:
        return
    charset = column.collation.partition("_")[0]
    if charset != calling.charset:
        yield (
            f"output column {column.name} is in {charset}, and Aurora's services answer {calling.charset}: "
            f"what has no place in it would be lost without a word; first "
            f"ALTER TABLE {m.target} MODIFY {sql.quote(column.name, m.dialect)} {column.type} CHARACTER SET utf8mb4"
        )
    length = re.search(r"\((\d+)\)", column.type)
    words = isinstance(service, ComprehendSentiment) and service.comprehend[0] == "sentiment"
    if words and length is not None and int(length[1]) < len("POSITIVE"):
        yield f"output column {column.name} is {column.type}, too short for POSITIVE and NEGATIVE; make it varchar(8)"


def _unavailable(facts: Facts, services: Services, calling: Calling) -> Iterator[str]:
    """The service's function, where one has to be made that calls it, or it is called by itself."""
    function = facts.materialisation.function
    advice = calling.outdated if services.installed and calling.outdated else calling.missing
    missing = advice.format(function=_function_name(facts))
    for item, _ in unlike(facts):
        there = services.aurora if calling.aliases else item.needs in services.functions
        if item.needs and not there:
            what = "machine learning services" if calling.aliases else item.needs
            yield f"this server has no {what}, which the function {item.schema}.{item.name} is to call: {missing}"
    for item in wanted_objects(facts):
        if item.kind == "type" and made_by_hand(standing(facts, item), facts):
            yield f"a type {item.schema}.{item.name} is there already and not rowscore's; drop or rename it"
    built_in = function is not None and not function.made and function.trailing
    if built_in and not services.aurora and function is not None and function.label not in services.functions:
        asked = facts.materialisation.prediction.model
        named = asked.sql if isinstance(asked, SqlModel) else function.label
        missing = calling.missing.format(function=named)
        yield f"this server has no {function.label}, which is a function of Aurora's own: {missing}"
