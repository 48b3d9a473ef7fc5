"""The plan of DDL changes as plain decisions: what it does, what it refuses, that it comes to an end; no
database.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.applied import prediction
from worker.answers import OutputKind, OutputType
from worker.capabilities import capabilities_of
from worker.errors import PrivilegeError, RefusedError
from worker.facts import (
    Abilities,
    Facts,
    MarkedColumn,
    PendingIndex,
    Registration,
    Relation,
    View,
)
from worker.indexes import Step, StepKind, plan_indexes
from worker.materialisation import Materialisation, Output
from worker.names import LONGEST, Mark, Role, fitted, index_name, literal, read_mark
from worker.plan import plan_changes
from worker.table import Column, Table

POSTGRESQL = capabilities_of("postgresql")
ABILITIES = Abilities(
    security_invoker=True,
    role="app",
    owns_table=True,
    owner="app",
    may_create_index=True,
    may_create_view=True,
    is_partition=False,
    has_children=False,
)


def column(name: str, type: str = "integer", number: int = 1, **other: Any) -> Column:
    fields: dict[str, Any] = {
        "base_type": type,
        "cast_type": type,
        "category": "S" if type == "text" else "N",
        "element": None,
        "not_null": False,
        "generated": False,
        "identity": False,
        "default_text": None,
        "deterministic": True,
        "collation": None,
        "exact": POSTGRESQL.is_exact(type, deterministic=other.get("deterministic", True)),
        "native": POSTGRESQL.is_native_key(type),
        "moves": False,
        "unfit": POSTGRESQL.is_unfit_key(type),
    }
    return Column(name=name, type=type, number=number, **{**fields, **other})


def facts(*columns: Column, overrides: dict[str, Any] | None = None, **known: Any) -> Facts:
    """A table items(id, a, b) with these further columns; `overrides` go to the prediction, `known` to the
    facts.
    """
    asked = prediction(**(overrides or {}))
    every = [column("id", "bigint", not_null=True), column("a", "double precision"), column("b"), *columns]
    table = Table(
        oid=1,
        schema="public",
        name="items",
        kind="r",
        row_security=False,
        forced_row_security=False,
        owner="app",
        estimated_rows=0,
        columns={item.name: item for item in every},
        unique_keys=(),
        partitions=(),
        triggers=(),
    )
    double = OutputType(OutputKind.FLOAT, None, "double precision")
    outputs = tuple(
        Output(name=name, type=kind, cast_type=kind, kind=double, sent=kind)
        for name, kind in asked.outputs.items()
    )
    fields: dict[str, Any] = {
        "materialisation": Materialisation(
            asked, table, (every[0],), outputs, ("double precision", "integer"), None, "postgresql"
        ),
        "abilities": ABILITIES,
        "migrations": "CREATE SCHEMA rowscore",
        "registration": None,
        "marked": (),
        "claimed": {},
        "partition_keys": frozenset(),
        "costly_types": frozenset(),
        "relations": (Relation(1, "public", "items", "r", None),),
        "indexes": (),
        "watched": ("a", "b"),
        "trigger": None,
        "trigger_there": False,
        "trigger_enabled": False,
        "function": None,
        "views": (),
    }
    return Facts(**{**fields, **known})


def marked(name: str, role: Role, of: str = "churn", oid: int = 1) -> MarkedColumn:
    return MarkedColumn(oid, "public", "items", name, Mark(of, role))


STATE = column("churn_state", "smallint", not_null=True, default_text="0")


def test_a_fresh_table_gets_everything_in_an_order_that_lets_workers_in_last() -> None:
    changes = plan_changes(facts())
    titles = [change.title.split()[0] for change in changes]
    assert titles == ["make", "add", "build", "put", "make", "register"]
    assert [change.transactional for change in changes] == [True, True, False, True, True, True]
    assert not any(change.destructive for change in changes)


def test_the_state_and_its_new_default_are_one_transaction() -> None:
    (columns,) = [change for change in plan_changes(facts()) if change.title.startswith("add")]
    assert "NOT NULL DEFAULT 4" in columns.statements[0]
    assert columns.statements[1].endswith('ALTER COLUMN "churn_state" SET DEFAULT 0')
    assert columns.statements[0].count("ADD COLUMN") == 3
    assert columns.script.startswith("BEGIN;\nSET LOCAL lock_timeout")
    assert columns.script.endswith("COMMIT;")


def test_a_state_that_still_defaults_to_existing_is_mended() -> None:
    half = replace(STATE, default_text="4")
    changes = plan_changes(facts(half, marked=(marked("churn_state", Role.STATE),)))
    assert any("SET DEFAULT 0" in change.sql for change in changes)


def test_no_update_of_in_the_trigger_and_equality_only_where_it_is_exact() -> None:
    known = facts(column("j", "json"), watched=("a", "j"))
    (trigger,) = [change for change in plan_changes(known) if "CREATE TRIGGER" in change.sql]
    assert "UPDATE OF" not in trigger.sql
    assert 'OLD."a" IS DISTINCT FROM NEW."a"' in trigger.sql
    assert 'ROW(OLD."j")::record OPERATOR(pg_catalog.*<>) ROW(NEW."j")::record' in trigger.sql


def test_ignore_makes_no_trigger_and_drops_one_that_is_there() -> None:
    overrides = {"on_input_change": "ignore"}
    assert "TRIGGER" not in "".join(
        change.sql for change in plan_changes(facts(overrides=overrides, watched=()))
    )
    (drop,) = [c for c in plan_changes(facts(watched=(), trigger_there=True)) if "TRIGGER" in c.sql]
    assert drop.destructive
    assert "DROP TRIGGER" in drop.sql


def test_a_fingerprint_alone_makes_its_column_and_no_trigger() -> None:
    overrides = {"on_input_change": "fingerprint"}
    changes = plan_changes(facts(overrides=overrides, trigger_there=True))
    (columns,) = [change for change in changes if change.title.startswith("add")]
    assert 'ADD COLUMN "churn_fingerprint" bigint' in columns.sql
    assert "prediction churn, fingerprint" in columns.sql
    (drop,) = [change for change in changes if "TRIGGER" in change.sql]
    assert "DROP TRIGGER" in drop.sql
    (view,) = [change for change in changes if "CREATE VIEW" in change.sql]
    assert "churn_fingerprint" not in view.sql


def test_a_fingerprint_beside_the_trigger_makes_both() -> None:
    texts = "".join(change.sql for change in plan_changes(facts(overrides={"fingerprint": "f"})))
    assert 'ADD COLUMN "f" bigint' in texts
    assert "CREATE TRIGGER" in texts


def test_a_fingerprint_that_is_no_longer_kept_is_dropped_and_one_of_another_prediction_is_not() -> None:
    known = facts(
        column("f", "bigint"),
        column("g", "bigint"),
        marked=(marked("f", Role.FINGERPRINT), marked("g", Role.FINGERPRINT, "other")),
    )
    (drop,) = [change for change in plan_changes(known) if change.destructive]
    assert 'DROP COLUMN "f"' in drop.sql
    assert '"g"' not in drop.sql
    (view,) = [change for change in plan_changes(known) if "CREATE VIEW" in change.sql]
    assert '"g"' not in view.sql
    assert '"f"' not in view.sql


def test_an_unchanged_registration_is_no_change_and_another_version_is() -> None:
    asked = prediction(version={"column": "v", "value": "2"})
    known = Registration("churn", asked.definition_hash, "2", asked.definition, True)
    overrides = {"version": {"column": "v", "value": "2"}}
    assert not [
        c for c in plan_changes(facts(overrides=overrides, registration=known)) if "register" in c.title
    ]
    old = replace(known, version="1")
    (change,) = [
        c for c in plan_changes(facts(overrides=overrides, registration=old)) if "register" in c.title
    ]
    assert "generation + 1" in change.sql


VIEW = View(7, "public", "items_scored", "v", Mark("churn", Role.VIEW, "0" * 12), (), (), (), ())


def test_a_view_is_replaced_in_place_while_columns_only_join_at_the_end() -> None:
    names = ("prediction_state", "id", "a", "b")
    types = ("text", "bigint", "double precision", "integer")
    (change,) = [
        c for c in plan_changes(facts(views=(replace(VIEW, columns=names, types=types),))) if "VIEW" in c.sql
    ]
    assert "CREATE OR REPLACE VIEW" in change.sql
    assert "DROP" not in change.sql
    other = replace(
        VIEW, columns=names, types=("text", "integer", "integer", "integer"), grants=("SELECT ON x TO y",)
    )
    (change,) = [c for c in plan_changes(facts(views=(other,))) if "VIEW" in c.sql]
    assert change.statements[0] == 'DROP VIEW "public"."items_scored"'
    assert change.statements[-1] == "GRANT SELECT ON x TO y"


def test_a_view_that_others_build_upon_is_not_dropped() -> None:
    with pytest.raises(RefusedError, match="view report depends on it"):
        plan_changes(
            facts(views=(replace(VIEW, columns=("x",), types=("text",), dependents=("view report",)),))
        )


OTHER_STATE = marked("churn_state", Role.STATE)
REFUSALS = [
    (facts(column("p", "double precision", generated=True)), "p is generated"),
    (facts(column("p", "double precision", identity=True)), "p is an identity"),
    (facts(column("p", "double precision", not_null=True)), "let it be NULL: ALTER TABLE"),
    (facts(column("p"), partition_keys=frozenset({"p"})), "decides in which partition"),
    (facts(overrides={"outputs": {"id": "bigint"}}), "id is part of the key"),
    (facts(column("churn_state", "smallint", not_null=True)), "there already and not rowscore's"),
    (facts(column("churn_state", "text"), marked=(OTHER_STATE,)), "is text and was smallint NOT NULL"),
    (facts(column("churn_scored_at", "text")), "expected timestamp with time zone"),
    (facts(column("v", "integer"), overrides={"version": {"column": "v", "value": "1"}}), "expected text"),
    (facts(claimed={"p": "other"}), "written by prediction other"),
    (facts(column("p"), marked=(marked("p", Role.OUTPUT, "other"),)), "written by prediction other"),
    (facts(costly_types=frozenset({"p"})), "would rewrite the table"),
    (facts(column("p"), watched=("a", "p")), "computed from column p"),
    (facts(marked=(marked("churn_state", Role.STATE, oid=2),)), "run `rowscore remove churn` before"),
    (
        facts(column("old", "smallint"), marked=(marked("old", Role.STATE),)),
        'RENAME COLUMN "old" TO "churn_state"',
    ),
    (facts(column("prediction_state")), "set view = false"),
    (facts(overrides={"view": "v" * 64}), "longer than 63 bytes"),
    (facts(views=(replace(VIEW, mark=None),)), "not this prediction's"),
    (facts(views=(replace(VIEW, kind="r"),)), "not this prediction's"),
    (facts(abilities=replace(ABILITIES, is_partition=True)), "name the partitioned table"),
    (facts(abilities=replace(ABILITIES, has_children=True)), "INHERITS"),
    (
        facts(relations=(Relation(1, "public", "items", "p", None), Relation(2, "s", "f", "f", 1))),
        "s.f is a foreign",
    ),
]


@pytest.mark.parametrize(("known", "reason"), REFUSALS, ids=[reason for _, reason in REFUSALS])
def test_refusals_say_why(known: Facts, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        plan_changes(known)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("lacking", "advice"),
    [
        ({"owns_table": False, "owner": "boss"}, 'GRANT "boss" TO "app"'),
        ({"may_create_index": False}, 'GRANT CREATE ON SCHEMA "public" TO "app"'),
        ({"may_create_view": False}, 'GRANT CREATE ON SCHEMA "public" TO "app"'),
    ],
)
def test_lacking_privileges_name_the_grant(lacking: dict[str, Any], advice: str) -> None:
    with pytest.raises(PrivilegeError) as caught:
        plan_changes(facts(abilities=replace(ABILITIES, **lacking)))
    assert advice in str(caught.value)


names = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(names, names)
def test_names_fit_into_an_identifier_and_stay_apart(one: str, other: str) -> None:
    assert len(fitted(one).encode()) <= LONGEST
    assert (fitted(one) == fitted(other)) == (one == other)
    assert len(index_name("p" * 40, one).encode()) <= LONGEST


@given(st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True), st.sampled_from(list(Role)), st.booleans())
def test_marks_read_back(name: str, role: Role, digested: bool) -> None:
    mark = Mark(name, role, "0123456789ab" if digested else None)
    assert read_mark(str(mark)) == mark


@pytest.mark.parametrize(
    "comment", [None, "", "a user's words", "maintained by rowscore: prediction x, nonsense"]
)
def test_comments_of_others_are_no_marks(comment: str | None) -> None:
    assert read_mark(comment) is None


def test_literals_are_safe_whatever_the_server_thinks_of_backslashes() -> None:
    assert literal("it's") == "'it''s'"
    assert literal("a\\'b") == "E'a\\\\''b'"
    with pytest.raises(ValueError, match="NUL"):
        literal("\x00")


# --- the pending index: any tree, any leftovers, a crash after any step -------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> tuple[Relation, ...]:
    """A table alone, or with partitions of up to three levels, parents first."""
    if draw(st.booleans()):
        return (Relation(1, "public", "t", "r", None),)
    relations = [Relation(1, "public", "t", "p", None)]
    for oid in range(2, draw(st.integers(2, 8))):
        above = draw(st.sampled_from([item for item in relations if item.partitioned]))
        relations.append(Relation(oid, "public", f"t{oid}", draw(st.sampled_from("rp")), above.oid))
    return tuple(relations)


def carry_out(world: dict[int, PendingIndex], step: Step, oid: int) -> None:
    """What PostgreSQL does for one step; `oid` is the next free one."""
    by_name = {item.name: item for item in world.values()}
    if step.kind in (StepKind.BUILD, StepKind.FRAME):
        assert step.index not in by_name
        world[oid] = PendingIndex(oid, step.relation.oid, step.schema, step.index, True, None, True)
    elif step.kind is StepKind.ATTACH:
        assert step.parent is not None
        index, above = by_name[step.index], by_name[step.parent[1]]
        assert above.relation == step.relation.parent
        assert index.valid
        assert index.parent is None
        world[index.oid] = replace(index, parent=above.oid)
    else:
        index = by_name[step.index]
        assert index.parent is None, "an attached index cannot be dropped"
        gone = {index.oid}
        while below := {item.oid for item in world.values() if item.parent in gone} - gone:
            gone |= below
        for item in gone:
            del world[item]


@given(trees(), st.data())
def test_the_index_comes_to_an_end_whatever_was_left_and_wherever_it_crashes(
    relations: tuple[Relation, ...], data: st.DataObject
) -> None:
    world: dict[int, PendingIndex] = {}
    for relation in relations:  # leftovers: loose ones of ours, unfinished or of another key
        if data.draw(st.booleans()):
            name = index_name("churn", relation.label if relation.parent else None)
            valid = relation.partitioned or data.draw(st.booleans())
            fits = data.draw(st.booleans())
            world[100 + relation.oid] = PendingIndex(
                100 + relation.oid, relation.oid, "public", name, valid, None, fits
            )
    oid = 1000
    for _ in range(50):
        steps = plan_indexes("churn", relations, list(world.values()))
        if not steps:
            break
        crash = data.draw(st.integers(1, len(steps)))
        for step in steps[:crash]:
            oid += 1
            carry_out(world, step, oid)
    assert plan_indexes("churn", relations, list(world.values())) == []
    assert {item.relation for item in world.values()} == {item.oid for item in relations}
    assert all(item.valid and item.fits for item in world.values())
    by_oid = {item.oid: item for item in world.values()}
    for item in relations[1:]:
        (index,) = [index for index in world.values() if index.relation == item.oid]
        assert index.parent is not None
        assert by_oid[index.parent].relation == item.parent


@given(trees())
def test_partitions_that_got_their_index_from_postgresql_need_no_step(
    relations: tuple[Relation, ...],
) -> None:
    own = {item.oid: 100 + item.oid for item in relations}
    indexes = [
        PendingIndex(
            own[item.oid],
            item.oid,
            "public",
            f"auto_{item.oid}" if item.parent else index_name("churn"),
            True,
            own[item.parent] if item.parent else None,
            True,
        )
        for item in relations
    ]
    assert plan_indexes("churn", relations, indexes) == []
