"""The SQL by which a shadow and the live prediction change places: columns, indexes, marks, functions, registrations.

`worker/promotion.py` decides whether it is made, and what is left of one that was interrupted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sql
from worker.capabilities import Lock, capabilities_of
from worker.changes import Change
from worker.database import Transaction
from worker.facts import Facts, PendingIndex, Registration, view_address
from worker.materialisation import Materialisation
from worker.names import Mark, Role, index_name, literal
from worker.plan import in_dialect, plan_trigger, plan_view
from worker.refusals import roles_of
from worker.state import own_statements
from worker.survey import read_models
from worker.switches import UNDER_WAY, Registered, Switch, without_switch
from worker.wrappers import plan_handover

_COMMENT = re.compile(r" COMMENT '(?:[^'\\]|''|\\.)*'")
_JSON = re.compile(r"longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin(.*) CHECK \(json_valid\(`.*`\)\)$")


def paired_columns(facts: Sequence[Facts]) -> list[tuple[str, str]]:
    """The columns that change places, the live prediction's first."""
    roles = [roles_of(item.materialisation.prediction) for item in facts]
    return list(zip(*roles, strict=True))


def own_indexes(facts: Facts) -> list[PendingIndex]:
    """The pending index, and its parts on partitions."""
    whole = index_name(facts.materialisation.name)
    found = [item for item in facts.indexes if item.name == whole and item.relation == facts.relations[0].oid]
    for item in found:  # which grows meanwhile
        found += [part for part in facts.indexes if part.parent == item.oid and part.parent is not None]
    return found


def state_marks(facts: Sequence[Facts]) -> list[Mark]:
    """The marks of the two state columns."""
    names = {item.materialisation.prediction.state_column for item in facts}
    oid = facts[0].materialisation.table.oid
    return [item.mark for item in facts[0].marked if item.oid == oid and item.column in names]


@dataclass(frozen=True)
class Changeover:
    """The SQL of one switch.

    Attributes:
        transaction: where to look.
        facts: of the live prediction and of its shadow, as they are; `after` both as they shall be.
        switches: what is noted of it in the registration of each.
        targets: what is to be registered of each.
        allow_copy: whether the server may copy the table.
    """

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
            functions = self._functions()
            statements = (
                *stopped,
                *own[1:],
                *self._table(),
                *self._triggers(),
                *functions,
                *self._view(),
            )
            return [Change(title, statements, lock=locks[Lock.ALTER], dialect=self.m.dialect)]
        table = Change(title, tuple(self._table()), lock=locks[Lock.COPY if self.allow_copy else Lock.ALTER])
        view = plan_view(replace(self.facts[0], materialisation=self.after[0]))
        functions = self._functions()
        handed = Change(f"hand the functions of {self._title} over", tuple(functions), destructive=True)
        register = Change(
            f"register {self._title} anew: workers with the new file may begin", own, dialect=self.m.dialect
        )
        return [
            *([] if table_done else in_dialect([table], self.m.dialect)),
            *(in_dialect([handed], self.m.dialect) if functions else []),
            register,
            *in_dialect(view, self.m.dialect),
        ]

    @property
    def _title(self) -> str:
        return f"{self.switches[0].live} and {self.switches[0].shadow}"

    def _functions(self) -> list[str]:
        """Functions that call a service go with their models: each is marked as the other prediction's."""
        services = next((item.services for item in self.facts if item.services is not None), None)
        found = []
        for m in self.after:
            there = read_models(self.transaction, m.prediction, m)
            found += plan_handover(replace(self.facts[0], materialisation=m, services=services), there)
        return found

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
        pairs = paired_columns(self.facts)
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
        ours, theirs = ({item.relation: item for item in own_indexes(facts)} for facts in self.facts)
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
