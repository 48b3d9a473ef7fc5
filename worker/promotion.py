"""Whether a shadow becomes the live prediction, or back, and what it takes; `apply` carries it out.

A database whose DDL is transactional gets one change. Where DDL commits by itself the intent is noted first, with a
definition that no worker has, so that nobody writes until the last change registers both anew; whichever change a death
leaves undone is found by the next call. A mark in the comment of the state column tells whether the table is switched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.capabilities import capabilities_of
from worker.changeover import Changeover, own_indexes, paired_columns, state_marks
from worker.changes import Change
from worker.config import Prediction, swapped
from worker.database import Transaction
from worker.errors import RefusedError
from worker.facts import Facts, Registration
from worker.materialisation import resolve
from worker.names import digest, trigger_name
from worker.plan import plan_changes
from worker.state import registration_of
from worker.states import RowState
from worker.survey import read_facts, read_registrations
from worker.switches import Direction, Switch, read_switch

Pair = tuple[Prediction, Prediction]


@dataclass(frozen=True, slots=True)
class Course:
    """How the switch stands, and what it takes.

    Attributes:
        live, shadow: the two as they will be, with their models changed over.
        in_file: whether the file has them so already.
        changes: what is to be done, in order.
        missing: rows that the live prediction has scored and the shadow has not, by the shadow's state of them.
    """

    live: Prediction
    shadow: Prediction
    in_file: bool
    changes: list[Change]
    missing: Mapping[RowState, int]


@dataclass(frozen=True, slots=True)
class _Ends:
    """The pair as the database has it, and as it shall be."""

    now: Pair
    then: Pair
    in_file: bool


def plan_switch(
    transaction: Transaction,
    pair: Pair,
    direction: Direction,
    *,
    allow_missing: bool = False,
    allow_copy: bool = False,
) -> Course:
    """The changes that make the two change places, or those that are left of them.

    Args:
        transaction: where to look.
        pair: the live prediction and its shadow, as the file has them.
        direction: promote, or back.
        allow_missing: though there are rows that the shadow has not scored.
        allow_copy: though the server cannot change the table without copying it.

    Raises:
        RefusedError: why it is not done; nothing was changed.
        PrivilegeError: the role may not.
    """
    live, shadow = pair
    known = _registered(transaction, pair)
    begun = [read_switch(item.definition) for item in known]
    if begun[0] is not None and begun[0].target is not None:
        return _go_on(transaction, pair, known, direction, allow_copy=allow_copy)
    ends = _ends(pair, known, direction)
    if ends.now == ends.then:
        return Course(*ends.then, ends.in_file, [], {})
    facts = [read_facts(transaction, resolve(transaction, prediction)) for prediction in ends.now]
    _refuse_drift(live, facts)
    reasons = [*_unlike(facts), *_bound(transaction, facts)]
    if reasons:
        raise RefusedError("\n".join(f"predictions.{live.name}: {reason}" for reason in reasons))
    missing = _unscored(transaction, facts)
    if missing and not allow_missing:
        raise RefusedError(_lacking(live, shadow, missing))
    after = [resolve(transaction, prediction) for prediction in ends.then]
    targets = [registration_of(m) for m in after]
    token = digest(*(mark.digest or "" for mark in state_marks(facts)), *(t.definition_hash for t in targets))
    switches = [
        Switch(token, direction, live.name, shadow.name, item.definition_hash, item.version) for item in known
    ]
    made = Changeover(transaction, facts, after, switches, targets, allow_copy)
    changes = made.begin(known) + made.rest(table_done=False)
    return Course(*ends.then, ends.in_file, changes, missing)


def _registered(transaction: Transaction, pair: Pair) -> list[Registration]:
    live, shadow = pair
    known = {item.name: item for item in read_registrations(transaction)}
    for prediction in pair:
        if prediction.name not in known:
            raise RefusedError(
                f"{prediction.name} is not applied to this database; run `rowscore apply {live.name}`, and have its "
                f"rows scored with `rowscore rescore {live.name} --shadow`"
            )
    return [known[live.name], known[shadow.name]]


def _ends(pair: Pair, known: Sequence[Registration], direction: Direction) -> _Ends:
    """Which of the two orders the database has."""
    live, shadow = pair
    turned = _turned(pair)
    if _is(pair, turned):
        raise RefusedError(f"predictions.{live.name} and its shadow have the same model and version")
    has_file, has_turned = _has(known, pair), _has(known, turned)
    if not has_file and not has_turned:
        raise RefusedError(
            f"predictions.{live.name}: the file has other definitions than the database; "
            f"run `rowscore apply {live.name}`"
        )
    made = [read_switch(item.definition) for item in known]
    promoted = made[0] is not None and made[1] is not None and made[0].token == made[1].token
    promoted = promoted and made[0] is not None and made[0].direction is Direction.PROMOTE
    if direction is Direction.ROLLBACK and not promoted:
        raise RefusedError(
            f"nothing is to be rolled back: {shadow.name} was not promoted, or applied anew since"
        )
    if direction is Direction.PROMOTE and promoted:
        if has_turned:
            return _Ends(turned, turned, in_file=False)
        raise RefusedError(
            f"{shadow.name} was promoted already; `rowscore rescore {live.name} --rollback` makes them change back"
        )
    return _Ends(pair, turned, in_file=False) if has_file else _Ends(turned, pair, in_file=True)


def _turned(pair: Pair) -> Pair:
    live, shadow = pair
    try:
        return swapped(live, shadow)
    except ValueError as error:
        raise RefusedError(
            f"predictions.{live.name}: it cannot have the model of {shadow.name}: {error}"
        ) from error


def _is(one: Pair, other: Pair) -> bool:
    return all(
        (a.definition_hash, a.version_value) == (b.definition_hash, b.version_value)
        for a, b in zip(one, other, strict=True)
    )


def _has(known: Sequence[Registration], pair: Pair) -> bool:
    return all(
        (item.definition_hash, item.version) == (prediction.definition_hash, prediction.version_value)
        for item, prediction in zip(known, pair, strict=True)
    )


# --- what stands against it ---------------------------------------------------------------------------------


def _refuse_drift(live: Prediction, facts: Sequence[Facts]) -> None:
    """All is as `apply` leaves it; the view's columns, the triggers and the indexes are what is changed over."""
    titles = [change.title for item in facts for change in plan_changes(item)]
    if titles:
        raise RefusedError(f"run `rowscore apply {live.name}` first; it would {'; '.join(titles)}")


def _unlike(facts: Sequence[Facts]) -> list[str]:
    """Columns that could not take each other's place."""
    found = []
    columns = facts[0].materialisation.table.columns
    for one, other in paired_columns(facts):
        shapes = [_shape(columns[name]) for name in (one, other)]
        found += [
            f"columns {one} and {other} are not alike: {left or 'nothing'} and {right or 'nothing'}"
            for left, right in zip(*shapes, strict=True)
            if left != right
        ]
    return found


def _shape(column: Any) -> tuple[str, ...]:
    default = column.default_text or ""
    collation = f"collation {column.collation}" if column.collation else ""
    return (
        column.type,
        collation,
        "NOT NULL" if column.not_null else "",
        "" if default.upper() in ("", "NULL") else f"default {default}",
    )


def _bound(transaction: Transaction, facts: Sequence[Facts]) -> list[str]:
    m = facts[0].materialisation
    indexes = [item for own in facts for item in own_indexes(own)]
    views = [view.oid for own in facts for view in own.views if view.mark is not None]
    rows = transaction.rows(
        m.render("find_bound"),
        oid=m.table.oid,
        schema=m.table.schema,
        name=m.table.name,
        columns=[name for pair in paired_columns(facts) for name in pair],
        indexes=[item.oid if capabilities_of(m.dialect).own_schema else item.name for item in indexes]
        or [""],
        views=views,
        trigger=trigger_name(facts[0].materialisation.name),
        other_trigger=trigger_name(facts[1].materialisation.name),
    )
    return [
        f"{row.description} is bound to a column that gets another name, and would stay with the old values; drop it "
        f"first and make it again afterwards"
        for row in rows
    ]


def _unscored(transaction: Transaction, facts: Sequence[Facts]) -> dict[RowState, int]:
    m, other = (item.materialisation for item in facts)
    rows = transaction.rows(m.render("count_unscored", other=other.prediction.state_column))
    return {RowState(row.state): int(row.rows) for row in rows}


def _lacking(live: Prediction, shadow: Prediction, missing: Mapping[RowState, int]) -> str:
    counts = ", ".join(f"{rows:,} {state.name.lower()}" for state, rows in missing.items())
    return (
        f"{sum(missing.values()):,} rows are scored by {live.name} and not by {shadow.name} ({counts}): they would "
        f"lose their prediction; `rowscore rescore {live.name} --shadow` scores existing rows, workers those that "
        f"are pending, and --allow-missing switches all the same"
    )


def _go_on(
    transaction: Transaction,
    pair: Pair,
    known: Sequence[Registration],
    direction: Direction,
    *,
    allow_copy: bool,
) -> Course:
    """What is left of a switch that was interrupted, by what was noted when it began."""
    begun = [read_switch(item.definition) for item in known]
    switches = [item for item in begun if item is not None and item.target is not None]
    if len(switches) != len(known) or switches[0].direction is not direction:
        raise RefusedError((begun[0] or switches[0]).explain(pair[0].name))
    targets = [item.target for item in switches if item.target is not None]
    turned = _turned(pair)
    in_file = targets[0].definition_hash == pair[0].definition_hash
    then = pair if in_file else turned
    facts = [read_facts(transaction, resolve(transaction, prediction)) for prediction in pair]
    after = [resolve(transaction, prediction) for prediction in then]
    made = Changeover(transaction, facts, after, switches, targets, allow_copy)
    done = any(mark.digest == switches[0].token for mark in state_marks(facts))
    return Course(*then, in_file, made.rest(table_done=done), {})
