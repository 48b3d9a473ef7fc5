"""A shadow takes the live prediction's place and gives it back: columns, indexes, triggers, view, own rows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.applied import HURRIED, STEADY, partition_items
from tests.support.catalogue import catalogue, described, storage
from tests.support.databases import columns_of, is_postgresql, one, only, own, session
from tests.support.dying import child, die_switching
from tests.support.predictions import Barrier, CallableModel, add_items, drain, in_the_model, opened, states
from tests.support.routines import add_function
from tests.support.shadows import (
    VERSIONED,
    apply_both,
    indexes,
    make,
    rows_of,
    score_both,
    shadowed,
    tried,
    turned,
)
from worker import backfill
from worker.apply import apply, switch
from worker.changes import Change
from worker.config import Configuration
from worker.engine import Engine
from worker.errors import ConfigurationError, LockTimeoutError, RefusedError, StaleDefinitionError
from worker.models.protocol import Batch
from worker.promotion import Course
from worker.states import RowState
from worker.switches import Direction

CONFORMANCE = True
PROMOTE, ROLLBACK = Direction.PROMOTE, Direction.ROLLBACK
OLD = [(1, 11.0, 10.0), (2, 12.0, 20.0), (3, 13.0, 30.0)]
NEW = [(1, 10.0, 11.0), (2, 20.0, 12.0), (3, 30.0, 13.0)]


def both(engine: Engine) -> tuple[Any, Any]:
    return engine.prediction("churn"), engine.prediction("churn_shadow")


def change(engine: Engine, direction: Direction, **options: Any) -> Course:
    """Switch with this process's file."""
    return switch(engine.database(engine.prediction()), both(engine), direction, **options)


def settled(config: Configuration) -> None:
    """`apply` with this file finds nothing to do, and nobody is refused."""
    with opened(config) as engine:
        for prediction in both(engine):
            assert apply(engine.database(prediction), engine.materialisation(prediction)) == [], (
                prediction.name
            )
            assert drain(engine, name=prediction.name).fault is None


def test_the_two_change_places_and_back_and_again(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 3)
    first, second = shadowed(database_url), turned(database_url)
    with opened(first) as engine:
        apply_both(engine)
        score_both(engine)
        assert rows_of(application, "id, p, p_shadow") == OLD
        before, on_disk, columns = (
            indexes(application),
            storage(application),
            columns_of(application, "items_scored"),
        )
        course = change(engine, PROMOTE)
        assert course.changes
        assert not course.in_file
        assert (course.live.model, course.shadow.model) == tuple(item.model for item in both_of(second))
    settled(second)
    assert rows_of(application, "id, p, p_shadow") == NEW
    assert rows_of(application, "id, p", "WHERE churn_state = 1") == [row[:2] for row in NEW]
    assert application.execute("SELECT id, p FROM items_scored ORDER BY id").fetchall() == [
        row[:2] for row in NEW
    ]
    assert columns_of(application, "items_scored") == columns
    assert indexes(application) == before
    assert storage(application) == on_disk, "no row was written anew"
    with opened(second) as engine:
        change(engine, ROLLBACK)
    settled(first)
    assert rows_of(application, "id, p, p_shadow") == OLD
    assert application.execute("SELECT id, p FROM items_scored ORDER BY id").fetchall() == [
        row[:2] for row in OLD
    ]
    with opened(first) as engine:
        change(engine, PROMOTE)
    settled(second)
    assert rows_of(application, "id, p, p_shadow") == NEW
    assert indexes(application) == before


def both_of(config: Configuration) -> tuple[Any, Any]:
    return config.predictions["churn"], config.predictions["churn_shadow"]


def test_a_column_that_was_there_before_is_still_the_users(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 3)
    kind = "numeric(8,2)" if is_postgresql(application) else "decimal(8,2)"
    application.execute(f"ALTER TABLE items ADD COLUMN p {kind}")
    comment = "COMMENT ON COLUMN items.p IS 'of the team''s own'"
    if not is_postgresql(application):
        comment = f"ALTER TABLE items MODIFY COLUMN p {kind} NULL COMMENT 'of the team''s own'"
    application.execute(comment)
    with opened(shadowed(database_url)) as engine:
        apply_both(engine)
        score_both(engine)
        marks = {name: described(application, name) for name in ("p", "p_shadow", "churn_scored_at")}
        assert marks["p"] == (kind, "of the team's own")
        assert marks["p_shadow"][0] == kind
        change(engine, PROMOTE)
    assert {name: described(application, name) for name in marks} == marks
    settled(turned(database_url))


def test_triggers_notice_changed_inputs_on_both_sides_afterwards(database_url: str, connect: Connect) -> None:
    """Each looks at its own state: where one waits already, the other must notice all the same."""
    application, other = connect(), connect()
    with tried(application, database_url, 3) as engine:
        other.execute(
            "UPDATE items SET a = a + 1 WHERE id = 3"
        )  # a session that knows the triggers from before
        score_both(engine)
        change(engine, PROMOTE)
    other.execute("UPDATE items SET a = a + 1, churn_shadow_state = 0 WHERE id = 3")
    assert rows_of(application, "id, churn_state, churn_shadow_state", "WHERE id = 3") == [(3, 0, 0)]
    other.execute("UPDATE items SET churn_shadow_state = 0 WHERE id = 1")
    other.execute("UPDATE items SET a = a + 1 WHERE id = 1")
    assert rows_of(application, "id, churn_state, churn_shadow_state", "WHERE id = 1") == [(1, 0, 0)]
    other.execute("UPDATE items SET churn_state = 0 WHERE id = 2")
    other.execute("UPDATE items SET a = a + 1 WHERE id = 2")
    assert rows_of(application, "id, churn_state, churn_shadow_state", "WHERE id = 2") == [(2, 0, 0)]
    with opened(turned(database_url)) as engine:
        for name in ("churn", "churn_shadow"):
            assert drain(engine, name=name).scored == 3
        other.execute("UPDATE items SET note = 'no input'")
        assert states(application) == {1: 3}
        assert states(application, column="churn_shadow_state") == {1: 3}
    assert (
        rows_of(application, "p = a * b AND p_shadow = a + b") == [(True,)] * 3
        if is_postgresql(application)
        else [(1,)] * 3
    )


def test_new_rows_wait_for_both_afterwards(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 2) as engine:
        change(engine, PROMOTE)
    add_items(application, 1)
    assert states(application) == {0: 1, 1: 2}
    with opened(turned(database_url)) as engine:
        assert [drain(engine, name=name).scored for name in ("churn", "churn_shadow")] == [1, 1]
    assert rows_of(application, "p, p_shadow", "WHERE a = 1") == [(10.0, 11.0)] * 2


def test_versions_go_with_their_models(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 1, **VERSIONED) as engine:
        assert rows_of(application, "model, model_shadow") == [("1", "2")]
        course = change(engine, PROMOTE)
        assert (course.live.version_value, course.shadow.version_value) == ("2", "1")
    assert rows_of(application, "model, model_shadow") == [("2", "1")]
    back = {
        "version": {"column": "model", "value": "2"},
        "shadow": {"model": {"sql": "predict"}, "version": "1"},
    }
    settled(turned(database_url, **back))


def test_what_is_known_of_a_model_goes_with_it(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 2) as engine:
        backfill.begin(engine, "churn")
        application.execute(
            f"UPDATE {own(application, 'circuit')} SET failures = 3 WHERE prediction = 'churn'"
        )
        application.execute(
            f"UPDATE {own(application, 'learned')} SET rows_per_claim = 77 WHERE prediction = 'churn_shadow'"
        )
        application.execute(
            f"UPDATE {own(application, 'run')} SET spent_calls = 5 WHERE prediction = 'churn' AND kind = 'drain'"
        )
        table = own(application, "prediction")
        generations = dict(application.execute(f"SELECT name, generation FROM {table}").fetchall())
        change(engine, PROMOTE)
    after = dict(application.execute(f"SELECT name, generation FROM {table}").fetchall())
    assert after.keys() == generations.keys()
    assert all(after[name] > number for name, number in generations.items())

    def of(table: str, column: str, more: str = "") -> Any:
        query = f"SELECT {column} FROM {own(application, table)} WHERE prediction = 'churn_shadow' {more}"
        return one(application, query)

    assert of("circuit", "failures") == 3
    assert (
        one(
            application,
            f"SELECT rows_per_claim FROM {own(application, 'learned')} WHERE prediction = 'churn'",
        )
        == 77
    )
    assert of("run", "spent_calls", "AND kind = 'drain'") == 5
    assert of("run", "status", "AND kind = 'backfill' ORDER BY id DESC LIMIT 1") == "cancelled"
    assert one(application, f"SELECT count(*) FROM {own(application, 'lease')}") == 0


# --- the file ---------------------------------------------------------------------------------------------


def test_the_file_of_before_is_refused_and_told_what_to_do(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 2) as engine:
        change(engine, PROMOTE)
        add_items(application, 1)
        for prediction in both(engine):
            with pytest.raises(
                StaleDefinitionError, match=r"churn was promoted.*other way round.*--promote` says what"
            ):
                drain(engine, name=prediction.name)
            with pytest.raises(RefusedError, match=r"churn was promoted.*other way round"):
                apply(engine.database(prediction), engine.materialisation(prediction))
        before = catalogue(application)
        course = change(engine, PROMOTE)  # says it again, and does nothing
        assert course.changes == []
        assert course.live.model.sql == "predict_two"
        assert catalogue(application) == before
        course = change(engine, ROLLBACK)  # after which this file is right
        assert course.in_file
    settled(shadowed(database_url))
    assert rows_of(application, "p, p_shadow", "WHERE id <= 2") == [row[1:] for row in OLD[:2]]


def test_the_file_may_be_changed_first(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 2) as engine:
        change(engine, PROMOTE)
        change(engine, ROLLBACK)
    with opened(turned(database_url)) as engine:
        assert change(engine, PROMOTE).in_file
    settled(turned(database_url))
    assert rows_of(application, "id, p, p_shadow") == NEW[:2]


def test_what_was_not_promoted_cannot_be_rolled_back(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 1)
    with opened(shadowed(database_url)) as engine:
        with pytest.raises(RefusedError, match=r"churn is not applied.*rowscore apply churn"):
            change(engine, PROMOTE)
        apply_both(engine)
        score_both(engine)
        with pytest.raises(RefusedError, match="nothing is to be rolled back"):
            change(engine, ROLLBACK)
        change(engine, PROMOTE)
    again = pytest.raises(RefusedError, match="promoted already; `rowscore rescore churn --rollback`")
    with opened(turned(database_url)) as engine, again:
        change(engine, PROMOTE)
    third = turned(database_url, shadow={"model": {"python": "tests:third"}})
    with opened(third) as engine:
        with pytest.raises(
            RefusedError, match="other definitions than the database; run `rowscore apply churn`"
        ):
            change(engine, ROLLBACK)
        apply_both(engine)
        with pytest.raises(RefusedError, match="applied anew since"):
            change(engine, ROLLBACK)


# --- what stands against it -------------------------------------------------------------------------------


def test_rows_that_would_lose_their_prediction_are_counted(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 5) as engine:
        application.execute("UPDATE items SET churn_shadow_state = 0 WHERE id = 1")
        application.execute("UPDATE items SET churn_shadow_state = 4 WHERE id IN (2, 3)")
        before = catalogue(application)
        with pytest.raises(RefusedError, match=r"3 rows are scored by churn .* \(1 pending, 2 existing\)"):
            change(engine, PROMOTE)
        assert catalogue(application) == before
        assert dict(change(engine, PROMOTE, allow_missing=True).missing) == {
            RowState.PENDING: 1,
            RowState.EXISTING: 2,
        }
    assert states(application) == {0: 1, 1: 2, 4: 2}


BOUND: dict[str, dict[str, str]] = {
    "postgresql": {
        "index by_p": "CREATE INDEX by_p ON items (p)",
        "constraint small on table items": "ALTER TABLE items ADD CONSTRAINT small CHECK (p < 1e9)",
        "view report": "CREATE VIEW report AS SELECT p FROM items",
        "column twice": "ALTER TABLE items ADD COLUMN twice float8 GENERATED ALWAYS AS (p * 2) STORED",
        "index by_time": "CREATE INDEX by_time ON items (churn_scored_at)",
        "index by_shadow": "CREATE INDEX by_shadow ON items ((p_shadow + 1))",
        "trigger noted": "CREATE TRIGGER noted BEFORE UPDATE OF p ON items FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "constraint other_p_fkey": "ALTER TABLE items ADD CONSTRAINT one_p UNIQUE (p); "
        "CREATE TABLE other (p float8 REFERENCES items (p))",
    },
    "mysql": {
        "index by_p": "CREATE INDEX by_p ON items (p)",
        "constraint small": "ALTER TABLE items ADD CONSTRAINT small CHECK (p < 1e9)",
        "generated column twice": "ALTER TABLE items ADD COLUMN twice double GENERATED ALWAYS AS (p * 2) VIRTUAL",
        "index by_time": "CREATE INDEX by_time ON items (churn_scored_at)",
    },
}


def test_what_others_built_upon_the_columns_is_named(database_url: str, connect: Connect) -> None:
    """One after the other on one table; nothing is changed by a refusal."""
    application = connect()
    with tried(application, database_url, 1) as engine:
        for description, statement in BOUND["postgresql" if is_postgresql(application) else "mysql"].items():
            application.execute(statement)
            if description == "column twice" or description.startswith("generated"):
                apply_both(engine)  # the view shows it
            before = catalogue(application)
            with pytest.raises(RefusedError) as caught:
                change(engine, PROMOTE)
            assert f"{description} " in str(caught.value), str(caught.value)
            assert catalogue(application) == before


def test_columns_that_are_not_alike_are_refused(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 1)
    application.execute("ALTER TABLE items ADD COLUMN p_shadow int")
    with opened(shadowed(database_url)) as engine:
        apply_both(engine)
        score_both(engine)
        with pytest.raises(RefusedError, match=r"columns p and p_shadow are not alike: double.* and int"):
            change(engine, PROMOTE)


def test_a_view_of_the_users_upon_ours_shows_the_new_predictions(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 3) as engine:
        application.execute("CREATE VIEW report AS SELECT id, p FROM items_scored")
        change(engine, PROMOTE)
    assert application.execute("SELECT id, p FROM report ORDER BY id").fetchall() == [row[:2] for row in NEW]
    settled(turned(database_url))


# --- while others are at work -----------------------------------------------------------------------------


def test_a_reader_sees_all_old_or_all_new(database_url: str, connect: Connect) -> None:
    """A reader in a loop, through the table and through the view, from before the switch until after it."""
    application = connect()
    make(application, 200)
    seen: list[tuple[set[str], set[str]]] = []
    done, read = threading.Event(), threading.Condition()

    def look() -> None:
        reader = connect()
        while not done.is_set():
            found = []
            for source in ("items", "items_scored"):
                rows = reader.execute(f"SELECT a, b, p FROM {source}").fetchall()
                assert len(rows) == 200
                found.append(
                    {"old" if p == a + b else "new" if p == a * b else "neither" for a, b, p in rows}
                )
            with read:
                seen.append((found[0], found[1]))
                read.notify_all()

    def a_look_more() -> None:
        with read:
            count = len(seen)
            assert read.wait_for(lambda: len(seen) > count + 1, 30)

    with opened(shadowed(database_url)) as engine:
        apply_both(engine)
        score_both(engine)
        application.execute(
            "UPDATE items SET b = 11, churn_state = 1, churn_shadow_state = 1, p = a + 11, p_shadow = a * 11"
        )
        reader = threading.Thread(target=look)
        reader.start()
        try:
            a_look_more()
            change(engine, PROMOTE, patience=STEADY, on_change=lambda _: a_look_more())
            a_look_more()
        finally:
            done.set()
            reader.join()
    assert all(len(kinds) == 1 and "neither" not in kinds for pair in seen for kinds in pair)
    assert seen[0] == ({"old"}, {"old"})
    assert seen[-1] == ({"new"}, {"new"})
    order = [next(iter(pair[0])) for pair in seen]
    assert order == sorted(order, reverse=True), "never back again"


def test_a_lock_that_is_never_granted_leaves_all_as_it_was(database_url: str, connect: Connect) -> None:
    application, holder = connect(), connect(autocommit=False)
    with tried(application, database_url, 2) as engine:
        holder.execute("SELECT count(*) FROM items")
        with pytest.raises(LockTimeoutError):
            change(engine, PROMOTE, patience=HURRIED)
        holder.rollback()
        assert rows_of(application, "id, p, p_shadow") == OLD[:2]
        waits: list[str] = []
        holder.execute("SELECT count(*) FROM items")

        def let_go(message: str) -> None:
            waits.append(message)
            holder.rollback()

        change(engine, PROMOTE, patience=STEADY, on_wait=let_go)
        assert waits
    settled(turned(database_url))
    assert rows_of(application, "id, p, p_shadow") == NEW[:2]


@pytest.mark.parametrize("name", ["churn", "churn_shadow"])
def test_answers_that_come_late_are_void(database_url: str, connect: Connect, name: str) -> None:
    """A worker of either is inside its model while the two change places: it writes nothing afterwards."""
    application = connect()
    make(application)
    models = {"model": {"python": "tests:none"}, "shadow": {"model": {"python": "tests:other"}}}
    barrier = Barrier()
    with opened(shadowed(database_url, **models)) as engine:
        engine._models[name] = CallableModel(barrier)  # type: ignore[assignment]
        apply_both(engine)
        add_items(application, 4)
        with in_the_model(engine, barrier, name=name) as running:
            change(engine, PROMOTE, patience=STEADY)
            barrier.released.set()
            assert running.result(60).scored == 0
        assert rows_of(application, "p, p_shadow") == [(None, None)] * 4
        with pytest.raises(StaleDefinitionError, match="was promoted"):
            drain(engine, name=name)


def dies_after(number: int) -> Callable[[Change], None]:
    """Ends the switch before its change of that number, as a death there would leave it."""
    made = iter(range(100))

    def note(_: Change) -> None:
        if next(made) == number:
            raise KeyboardInterrupt

    return note


@only("mariadb", "mysql")
@pytest.mark.parametrize("direction", [PROMOTE, ROLLBACK])
@pytest.mark.parametrize("number", [1, 2])
def test_a_switch_that_was_interrupted_is_ended_by_the_next_call(
    database_url: str, connect: Connect, number: int, direction: Direction
) -> None:
    """DDL commits by itself: between any two changes nobody writes, `apply` refuses, and the next call goes on."""
    application = connect()
    make(application, 3)
    first, second = shadowed(database_url), turned(database_url)
    with opened(first) as engine:
        apply_both(engine)
        score_both(engine)
        if direction is ROLLBACK:
            change(engine, PROMOTE)
    before, after = (first, second) if direction is PROMOTE else (second, first)
    with opened(before) as engine:
        with pytest.raises(KeyboardInterrupt):
            change(engine, direction, on_change=dies_after(number))
        add_items(application, 1)
        for config in (first, second):
            with opened(config) as late:
                for prediction in both(late):
                    with pytest.raises(StaleDefinitionError, match=rf"interrupted; .*--{direction}` ends it"):
                        drain(late, name=prediction.name)
                    with pytest.raises(RefusedError, match="interrupted"):
                        apply(late.database(prediction), late.materialisation(prediction))
        other = ROLLBACK if direction is PROMOTE else PROMOTE
        with pytest.raises(RefusedError, match="interrupted"):
            change(engine, other)
        assert change(engine, direction, allow_missing=True).changes
    with opened(after) as engine:
        assert [drain(engine, name=name).scored for name in ("churn", "churn_shadow")] == [1, 1]
    settled(after)
    wanted = NEW if direction is PROMOTE else OLD
    assert rows_of(application, "id, p, p_shadow", "WHERE id <= 3") == wanted
    assert application.execute("SELECT id, p FROM items_scored WHERE id <= 3 ORDER BY id").fetchall() == [
        row[:2] for row in wanted
    ]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_switch_that_is_killed_at_any_statement_is_ended_by_the_next_call(
    database_url: str, connect: Connect, moment: str
) -> None:
    """All is as before or as after for whoever reads, whatever the statement; with `--rollback` in turn."""
    application = connect()
    make(application, 3)
    first, second = shadowed(database_url), turned(database_url)
    with opened(first) as engine:
        apply_both(engine)
        score_both(engine)
        (_, usual) = child(database_url, sections(first), "promote", 0, "before", work=die_switching)
    assert rows_of(application, "id, p, p_shadow") == NEW
    now, deaths = PROMOTE, 0
    last = (
        4 if is_postgresql(application) else 10
    )  # statements that write, and those that take and give the locks
    fatals = range(usual - last, usual + 1, 2)  # before one is after the one before it: each once
    for fatal in fatals:
        now = ROLLBACK if now is PROMOTE else PROMOTE
        config = first if now is PROMOTE else second
        code, _ = child(database_url, sections(config), now.value, fatal, moment, work=die_switching)
        deaths += code == -signal.SIGKILL
        seen = rows_of(application, "id, p, p_shadow")
        assert seen in (OLD, NEW), f"{moment} statement {fatal}"
        view = application.execute("SELECT id, p FROM items_scored ORDER BY id").fetchall()
        assert view == [row[:2] for row in seen], f"{moment} statement {fatal}"
        with opened(config) as engine, suppress(RefusedError):  # which it is where all was done
            change(engine, now, patience=STEADY)
        wanted = NEW if now is PROMOTE else OLD
        assert rows_of(application, "id, p, p_shadow") == wanted, f"{moment} statement {fatal}"
    settled(second if now is PROMOTE else first)
    assert deaths > len(fatals) // 2, "the children did die"


def sections(config: Configuration) -> dict[str, Any]:
    """The file's section, for another process."""
    live = config.prediction()
    shadow = live.shadow.model_dump(exclude_unset=True) if live.shadow else None
    return {"model": live.model.model_dump(exclude_unset=True), "shadow": shadow}


# --- tables and columns of all kinds ----------------------------------------------------------------------


def test_partitions_and_their_indexes(database_url: str, connect: Connect) -> None:
    application = connect()
    partition_items(application)
    for name, expression in (("predict", "a + b"), ("predict_two", "a * b")):
        add_function(application, name, "a double precision, b int", expression)
    with opened(shadowed(database_url)) as engine:
        apply_both(engine)
        score_both(engine)
        before = indexes(application)
        change(engine, PROMOTE)
    settled(turned(database_url))
    assert indexes(application) == before
    right = application.execute("SELECT count(*) FROM items WHERE p = a * b AND p_shadow = a + b")
    assert right.fetchone() == (100,)
    application.execute("UPDATE items SET a = a + 1 WHERE id = 60")
    assert states(application) == {0: 1, 1: 99}


def test_documents_and_texts(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 2)
    kinds = {"doc": "json", "label": "varchar(20)"}
    models = {"model": {"python": "tests:none"}, "shadow": {"model": {"python": "tests:other"}}}
    with opened(shadowed(database_url, outputs=kinds, **models)) as engine:
        for name, word in (("churn", "one"), ("churn_shadow", "two")):
            engine._models[name] = CallableModel(partial(answer, word))  # type: ignore[assignment]
        apply_both(engine)
        score_both(engine)
        before = {name: described(application, name) for name in columns_of(application, "items")}
        change(engine, PROMOTE)
    if not is_postgresql(application):  # where the mark tells that the table is switched
        assert described(application, "churn_state")[1] != before["churn_state"][1]
        before.pop("churn_state")
    assert {name: described(application, name) for name in before} == before
    assert rows_of(application, "label, label_shadow") == [("two", "one")] * 2
    read = "doc->>'word', doc_shadow->>'word'"
    if not is_postgresql(application):
        read = "JSON_VALUE(doc, '$.word'), JSON_VALUE(doc_shadow, '$.word')"
    assert rows_of(application, read) == [("two", "one")] * 2
    back = {"model": models["shadow"]["model"], "shadow": {"model": models["model"]}}
    with opened(turned(database_url, outputs=kinds, **back)) as engine:
        for prediction in both(engine):
            assert apply(engine.database(prediction), engine.materialisation(prediction)) == []


def answer(word: str, batch: Batch) -> list[tuple[Any, ...]]:
    return [({"word": word}, word) for _ in batch.rows]


def test_fingerprints_go_along(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 3)
    kept = {"on_input_change": "fingerprint"}
    with opened(shadowed(database_url, **kept)) as engine:
        apply_both(engine)
        score_both(engine)
        before = rows_of(application, "churn_fingerprint, churn_shadow_fingerprint")
        change(engine, PROMOTE)
    settled(turned(database_url, **kept))
    assert rows_of(application, "p, p_shadow") == [row[1:] for row in NEW]
    assert rows_of(application, "churn_fingerprint, churn_shadow_fingerprint") == before
    assert None not in before[0]


def test_a_copy_is_made_where_somebody_allows_it(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 3) as engine:
        if is_postgresql(application):
            with pytest.raises(ConfigurationError, match="--allow-copy: this database renames"):
                change(engine, PROMOTE, allow_copy=True)
            return
        assert "ALGORITHM" not in str(change(engine, PROMOTE, allow_copy=True).changes)
    assert rows_of(application, "id, p, p_shadow") == NEW
    settled(turned(database_url))


@only("postgresql")
def test_privileges_on_columns_stay_with_their_names(
    database_url: str, connect: Connect, account: Account
) -> None:
    application = connect()
    with tried(application, database_url, 1) as engine:
        application.execute(f"GRANT SELECT (id, p), UPDATE (note) ON items TO {account.quoted}")
        with session(account.url) as reader:
            assert reader.execute("SELECT id, p FROM items").fetchall() == [(1, 11.0)]
            change(engine, PROMOTE)
            assert reader.execute("SELECT id, p FROM items").fetchall() == [(1, 10.0)]
            with pytest.raises(Exception, match="permission denied"):
                reader.execute("SELECT p_shadow FROM items")


def test_a_live_view_calls_the_new_model(database_url: str, connect: Connect) -> None:
    application = connect()
    with tried(application, database_url, 1, live=True) as engine:
        add_items(application, 1)
        assert one(application, "SELECT p FROM items_scored WHERE prediction_state = 'pending'") == 11.0
        change(engine, PROMOTE)
    assert one(application, "SELECT p FROM items_scored WHERE prediction_state = 'pending'") == 10.0
    with opened(turned(database_url, live=True)) as engine:
        for prediction in both(engine):
            assert apply(engine.database(prediction), engine.materialisation(prediction)) == []
    unable = shadowed(database_url, live=True, shadow={"model": {"python": "tests:none"}})
    with (
        opened(unable) as engine,
        pytest.raises(RefusedError, match=r"cannot have the model of churn_shadow.*live"),
    ):
        change(engine, PROMOTE)
