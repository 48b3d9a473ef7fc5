"""What makes a shadow the live prediction, and back: columns take each other's names; `apply` carries it out.

A database whose DDL is transactional gets one change. Where DDL commits by itself the intent is noted first, with a
definition that no worker has, so that nobody writes until the last change registers both anew; whichever change a death
leaves undone is found by the next call. A mark in the comment of the state column tells whether the table is switched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sql
from worker.capabilities import Lock, capabilities_of
from worker.changes import Change
from worker.config import Prediction, swapped
from worker.database import Transaction
from worker.errors import RefusedError
from worker.facts import Facts, PendingIndex, Registration, read_facts, read_registrations, view_address
from worker.materialisation import Materialisation, resolve
from worker.names import Mark, Role, digest, index_name, literal, trigger_name
from worker.plan import in_dialect, plan_changes, plan_trigger, plan_view
from worker.refusals import roles_of
from worker.state import own_statements, registration_of
from worker.states import RowState
from worker.switches import UNDER_WAY, Direction, Registered, Switch, read_switch, without_switch
from worker.wrappers import wanted_objects

_COMMENT = re.compile(r" COMMENT '(?:[^'\\]|''|\\.)*'")
_JSON = re.compile(r"longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin(.*) CHECK \(json_valid\(`.*`\)\)$")
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
    reasons = [*_own_functions(facts), *_unlike(facts), *_bound(transaction, facts)]
    if reasons:
        raise RefusedError("\n".join(f"predictions.{live.name}: {reason}" for reason in reasons))
    missing = _unscored(transaction, facts)
    if missing and not allow_missing:
        raise RefusedError(_lacking(live, shadow, missing))
    after = [resolve(transaction, prediction) for prediction in ends.then]
    targets = [registration_of(m) for m in after]
    token = digest(
        *(mark.digest or "" for mark in _state_marks(facts)), *(t.definition_hash for t in targets)
    )
    switches = [
        Switch(token, direction, live.name, shadow.name, item.definition_hash, item.version) for item in known
    ]
    made = _Making(transaction, facts, after, switches, targets, allow_copy)
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


def _own_functions(facts: Sequence[Facts]) -> list[str]:
    return [
        f"{item.materialisation.name} calls a service of Aurora's by a function that `apply` made for it, and "
        f"functions do not change places; make both functions by hand"
        for item in facts
        if wanted_objects(item) or item.models
    ]


def _unlike(facts: Sequence[Facts]) -> list[str]:
    """Columns that could not take each other's place."""
    found = []
    columns = facts[0].materialisation.table.columns
    for one, other in _columns(facts):
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
    indexes = [item for own in facts for item in _own_indexes(own)]
    views = [view.oid for own in facts for view in own.views if view.mark is not None]
    rows = transaction.rows(
        m.render("find_bound"),
        oid=m.table.oid,
        schema=m.table.schema,
        name=m.table.name,
        columns=[name for pair in _columns(facts) for name in pair],
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


# --- what it takes ------------------------------------------------------------------------------------------


def _columns(facts: Sequence[Facts]) -> list[tuple[str, str]]:
    """The columns that change places, the live prediction's first."""
    roles = [roles_of(item.materialisation.prediction) for item in facts]
    return list(zip(*roles, strict=True))


def _own_indexes(facts: Facts) -> list[PendingIndex]:
    """The pending index, and its parts on partitions."""
    whole = index_name(facts.materialisation.name)
    found = [item for item in facts.indexes if item.name == whole and item.relation == facts.relations[0].oid]
    for item in found:  # which grows meanwhile
        found += [part for part in facts.indexes if part.parent == item.oid and part.parent is not None]
    return found


def _state_marks(facts: Sequence[Facts]) -> list[Mark]:
    names = {item.materialisation.prediction.state_column for item in facts}
    oid = facts[0].materialisation.table.oid
    return [item.mark for item in facts[0].marked if item.oid == oid and item.column in names]


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
    made = _Making(transaction, facts, after, switches, targets, allow_copy)
    done = any(mark.digest == switches[0].token for mark in _state_marks(facts))
    return Course(*then, in_file, made.rest(table_done=done), {})


@dataclass(frozen=True)
class _Making:
    """The SQL of one switch; `facts` and `after` are of the live prediction and of its shadow."""

    transaction: Transaction
    facts: Sequence[Facts]
    after: Sequence[Materialisation]
    switches: Sequence[Switch]
    targets: Sequence[Registered]
    allow_copy: bool

    @property
    def m(self) -> Materialisation:
        """The live prediction, for what is the table's."""
        return self.facts[0].materialisation

    @property
    def names(self) -> dict[str, str]:
        """As parameters."""
        return {"live": self.switches[0].live, "shadow": self.switches[0].shadow}

    @property
    def at_once(self) -> bool:
        """Whether one transaction holds all of it."""
        return capabilities_of(self.m.dialect).alteration.transactional

    def begin(self, known: Sequence[Registration]) -> list[Change]:
        """The note of what is about to be done; nobody writes from here on."""
        if self.at_once:
            return []
        noted = [
            Registered(
                replace(switch, target=target).stored_with(without_switch(item.definition)),
                UNDER_WAY,
                item.version,
            )
            for switch, target, item in zip(self.switches, self.targets, known, strict=True)
        ]
        statements = (
            *self._own("lock_pair", "cancel_runs", "void_pair", "rewind_pair"),
            *self._register(noted),
        )
        title = f"note that {self._title} change places: workers of both stop"
        return [Change(title, statements, dialect=self.m.dialect)]

    def rest(self, *, table_done: bool) -> list[Change]:
        """All that comes after the note."""
        made = [
            Registered(
                replace(switch, target=None).stored_with(target.definition),
                target.definition_hash,
                target.version,
            )
            for switch, target in zip(self.switches, self.targets, strict=True)
        ]
        own = (*self._own("lock_pair", "switch_own_rows"), *self._register(made))
        locks = capabilities_of(self.m.dialect).alteration.locks
        title = f"let {self._title} change places in {self.m.table.label}"
        if self.at_once:
            stopped = self._own("lock_pair", "cancel_runs", "void_pair", "rewind_pair")
            statements = (*stopped, *own[1:], *self._table(), *self._triggers(), *self._view())
            return [Change(title, statements, lock=locks[Lock.ALTER], dialect=self.m.dialect)]
        table = Change(title, tuple(self._table()), lock=locks[Lock.COPY if self.allow_copy else Lock.ALTER])
        view = plan_view(replace(self.facts[0], materialisation=self.after[0]))
        register = Change(
            f"register {self._title} anew: workers with the new file may begin", own, dialect=self.m.dialect
        )
        return [
            *([] if table_done else in_dialect([table], self.m.dialect)),
            register,
            *in_dialect(view, self.m.dialect),
        ]

    @property
    def _title(self) -> str:
        return f"{self.switches[0].live} and {self.switches[0].shadow}"

    def _own(self, *names: str) -> tuple[str, ...]:
        return own_statements(names, self.names, self.m.dialect)

    def _register(self, wanted: Sequence[Registered]) -> list[str]:
        found: list[str] = []
        for name, target in zip(self.names.values(), wanted, strict=True):
            values = {
                "prediction": name,
                "definition_hash": target.definition_hash,
                "definition": target.definition,
                "version": target.version,
            }
            found += own_statements(("switch_registration",), values, self.m.dialect)
        return found

    # --- the table ---

    def _table(self) -> list[str]:
        """The columns and indexes under each other's names, with what belongs to a column's name."""
        pairs = _columns(self.facts)
        if "find_comments" not in sql.load(self.m.dialect):
            indexes = [(index_name(self.names["live"]), index_name(self.names["shadow"]))]
            columns = self._definitions(pairs)
            return [
                self.m.show("switch_columns", columns=columns, indexes=indexes, allow_copy=self.allow_copy)
            ]
        return [
            self.m.show("switch_columns", pairs=pairs),
            *self._comments(pairs),
            *self._grants(pairs),
            *self._indexes(),
        ]

    def _definitions(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Each column's name with its new name, its definition, and the comment that belongs to the new name."""
        row: Any = self.transaction.row(self.m.render("show_table"))
        lines = [line.strip().removesuffix(",") for line in row[1].splitlines()]
        found = {}
        for name in [name for pair in pairs for name in pair]:
            start = f"{sql.quote(name, self.m.dialect)} "
            definition = next(line for line in lines if line.startswith(start)).removeprefix(start)
            comment = _COMMENT.search(definition)
            plain = _JSON.sub(r"JSON\1", _COMMENT.sub("", definition, count=1))
            found[name] = (plain, comment[0] if comment else "")
        state = self.m.prediction.state_column
        mark = Mark(self.m.name, Role.STATE, self.switches[0].token)
        definitions = []
        for one, other in [*pairs, *((b, a) for a, b in pairs)]:
            comment_text = found[other][1]
            if other == state:
                comment_text = f" COMMENT {literal(str(mark), self.m.dialect)}"
            text = f"{sql.quote(other, self.m.dialect)} {found[one][0]}{comment_text}"
            definitions.append((one, text))
        return definitions

    def _comments(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Comments, marks among them, stay with the names."""
        rows = self._read("find_comments", pairs)
        comments = {row.column: row.comment for row in rows}
        found = []
        for one, other in [*pairs, *((b, a) for a, b in pairs)]:
            wanted = comments.get(other)
            if wanted != comments.get(one):
                text = "NULL" if wanted is None else literal(wanted, self.m.dialect)
                found.append(self.m.show("comment_column", column=other, comment=text))
        return found

    def _grants(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Privileges on single columns stay with the names."""
        rows = self._read("find_column_grants", pairs)
        grants: dict[str, dict[tuple[str, str, bool], Any]] = {}
        for row in rows:
            grants.setdefault(row.column, {})[(row.privilege, row.grantee, row.grantable)] = row
        found = []
        for one, other in [*pairs, *((b, a) for a, b in pairs)]:
            has, wanted = grants.get(one, {}), grants.get(other, {})
            gone = [has[key] for key in has if key not in wanted]
            come = [wanted[key] for key in wanted if key not in has]
            found += [self.m.show("revoke_column", column=other, grant=grant) for grant in gone]
            found += [self.m.show("grant_column", column=other, grant=grant) for grant in come]
        return found

    def _read(self, statement: str, pairs: Sequence[tuple[str, str]]) -> Sequence[Any]:
        columns = [name for pair in pairs for name in pair]
        return self.transaction.rows(self.m.render(statement), oid=self.m.table.oid, columns=columns)

    def _indexes(self) -> list[str]:
        """Each relation's two pending indexes, by way of a third name."""
        ours, theirs = ({item.relation: item for item in _own_indexes(facts)} for facts in self.facts)
        steps = []
        for relation, one in ours.items():
            other = theirs[relation]
            for index, wanted in (
                (one.name, "rowscore$other"),
                (other.name, one.name),
                ("rowscore$other", other.name),
            ):
                steps.append(self.m.show("rename_index", schema=one.schema, index=index, wanted=wanted))
        return steps

    def _triggers(self) -> list[str]:
        """Made anew: their conditions are bound to columns by number, and their functions name them."""
        return [
            text
            for facts in self.facts
            for change in plan_trigger(facts, anew=True)
            for text in change.statements
        ]

    def _view(self) -> list[str]:
        """Made anew over the columns that have the names now."""
        if view_address(self.after[0]) is None:
            return []
        facts = replace(self.facts[0], materialisation=self.after[0])
        return [text for change in plan_view(facts, anew=True) for text in change.statements]
