"""`verify` as it walks: windows, held rows, being stopped, slices of Celery's; and what `apply` makes for it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.applied import prediction, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import (
    Session,
    columns_of,
    each,
    is_postgresql,
    one,
    only,
    own,
    series,
    waiting_sessions,
)
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    make_items,
    model_of,
    opened,
    states,
)
from tests.support.routines import add_function, refuse
from worker import backfill, rows, throttle, verification
from worker.app import create_app
from worker.apply import apply, drift, remove
from worker.database import Database
from worker.engine import Engine
from worker.errors import ConfigurationError, RefusedError, StaleDefinitionError
from worker.states import RowState, RunKind
from worker.verification import Verification, verify, verify_slice

CONFORMANCE = True
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value
ALONE = {"on_input_change": "fingerprint"}
BOTH = {"fingerprint": "churn_inputs"}


def scored(engine: Engine, connection: Session, rows: int) -> None:
    """So many rows that are scored, with fingerprints."""
    applied(engine)
    add_items(connection, rows)
    drain(engine)
    assert states(connection) == {SCORED: rows}


def test_rows_that_others_hold_are_left_alone_and_nobody_waits(database_url: str, connect: Connect) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    with opened(configuration(database_url, **ALONE)) as engine:
        scored(engine, application, 20)
        application.execute("UPDATE items SET a = a + 1 WHERE id BETWEEN 5 AND 8")
        holder.execute("SELECT id FROM items WHERE id = 6 FOR UPDATE")
        holder.execute("UPDATE items SET a = -9 WHERE id = 9")  # not committed: as it was, for all others
        holder.execute("INSERT INTO items (id, a, b) VALUES (100, 1, 1)")
        done = verify(engine)
        assert waiting_sessions(application) == 0
        assert (done.changed, done.requeued, done.held) == (4, 3, 1)
        assert states(application) == {SCORED: 17, PENDING: 3}
        holder.commit()
        done = verify(engine)
        assert (done.changed, done.requeued, done.held) == (2, 2, 0)
        drain(engine)
    assert one(application, "SELECT count(*) FROM items WHERE p = a + b") == 21


@pytest.mark.parametrize("way", ["update", "select", "worker"])
def test_writes_past_locks_keep_fingerprints(database_url: str, connect: Connect, way: str) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    config = configuration(database_url, model=model_of(way), **ALONE)
    with opened(config, add_up if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, 20)
        holder.execute("SELECT id FROM items WHERE id IN (3, 12) FOR UPDATE")
        assert drain(engine, seconds=5).scored == 18
        holder.rollback()
        drain(engine)
        done = verify(engine)
        assert (done.rows, done.changed, done.unknown) == (20, 0, 0)
        application.execute("UPDATE items SET b = 0")
        assert verify(engine).changed == 20


def test_a_function_that_is_called_in_place_keeps_fingerprints(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    if is_postgresql(application):
        application.execute(
            "CREATE FUNCTION twice(a float8, b int) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT a * 2 + b'"
        )
    else:
        add_function(application, "twice", "a double, b int", "a * 2 + b")
    with opened(configuration(database_url, model={"sql": "twice"}, **ALONE)) as engine:
        scored(engine, application, 30)
        assert (verify(engine).changed, verify(engine).unknown) == (0, 0)
        application.execute("UPDATE items SET b = 3 WHERE id <= 10")
        assert verify(engine).requeued == 10


def once(engine: Engine, kind: RunKind) -> Verification:
    """A run of that kind from its beginning to its end, and what `verify` finds after it."""
    run = backfill.begin(engine, kind=kind)
    backfill.work(engine, None, run, lambda *_: None, lambda _: None)
    return verify(engine, dry_run=True)


def test_backfills_and_rescores_keep_fingerprints(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 30)
    version = {"column": "model", "value": "1"}
    with opened(configuration(database_url, version=version, **ALONE)) as engine:
        applied(engine)
        done = once(engine, RunKind.BACKFILL)
        assert states(application) == {SCORED: 30}
        assert (done.rows, done.changed, done.unknown) == (30, 0, 0)
    version["value"] = "2"
    with opened(configuration(database_url, version=version, **ALONE)) as engine:
        applied(engine)
        assert verify(engine).changed == 0, "another version makes no other fingerprint"
        application.execute("UPDATE items SET b = 4 WHERE id <= 10")
        assert verify(engine, dry_run=True).changed == 10
        done = once(engine, RunKind.RESCORE)
        assert (done.changed, done.unknown) == (0, 0)
    assert one(application, "SELECT count(*) FROM items WHERE p = a + b AND model = '2'") == 30


KEYS = {
    "postgresql": ["id bigint", "id text", "region text, id int", "at timestamptz, id uuid"],
    "mysql": [
        "id bigint",
        "id varchar(40)",
        "region enum('b', 'a'), id int",
        "at datetime(6), id binary(16)",
    ],
}
VALUES = {
    "bigint": "i",
    "int": "i",
    "text": "CONCAT('k', i % 3, '-', i)",
    "varchar(40)": "CONCAT('k', i % 3, '-', i)",
    "enum('b', 'a')": "CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END",
    "timestamptz": "'2024-01-01'::timestamptz + i % 4 * interval '1 h'",
    "datetime(6)": "TIMESTAMPADD(HOUR, i % 4, '2024-01-01')",
    "uuid": "md5(i::text)::uuid",
    "binary(16)": "UNHEX(LEFT(SHA2(i, 256), 32))",
}


@each("key", KEYS)
def test_windows_over_any_key(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(verification, "ROWS_PER_LOOK", 7)
    monkeypatch.setattr(verification, "ROWS_PER_MARK", 3)
    application = connect()
    parts = [part.split(" ", 1) for part in key.replace("', '", "','").split(", ")]
    names = ", ".join(name for name, _ in parts)
    application.execute(f"CREATE TABLE items ({key}, a double precision, b int, PRIMARY KEY ({names}))")
    values = ", ".join(VALUES[kind.replace("','", "', '")] for _, kind in parts)
    config = configuration(database_url, model=model_of("worker"), **ALONE)
    windows: list[int] = []
    with opened(config, add_up) as engine:
        applied(engine)
        application.execute(
            f"INSERT INTO items ({names}, a, b) SELECT {values}, i, 1 FROM {series(application, 1, 40)}"
        )
        drain(engine)
        application.execute("UPDATE items SET b = 2 WHERE a > 5")
        done = verify(engine, progress=lambda _, rows: windows.append(rows))
        assert (done.rows, done.changed, done.requeued, done.held) == (40, 35, 35, 0)
        assert windows == [7, 7, 7, 7, 7, 5]
        assert states(application) == {SCORED: 5, PENDING: 35}
        drain(engine)
        assert verify(engine).changed == 0


def test_it_may_be_stopped_after_any_window(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ROWS_PER_LOOK", 10)
    application = connect()
    make_items(application)
    config = configuration(database_url, **ALONE)
    with opened(config) as engine:
        scored(engine, application, 30)
        application.execute("UPDATE items SET b = 2")
        stopped = verify(engine, progress=lambda found, _: engine.stop.set() if found.rows == 20 else None)
        assert (stopped.rows, stopped.requeued, stopped.complete) == (20, 20, False)
        assert stopped.position == ("20",)
        assert states(application) == {SCORED: 10, PENDING: 20}
    with opened(config) as engine:
        rest = verify(engine, start=stopped.position)
        assert (rest.rows, rest.requeued, rest.complete) == (10, 10, True)
        assert drain(engine).scored == 30


def test_a_window_that_it_is_stopped_in_is_not_taken_for_done(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped while it looks for the row on which an expression fails."""
    application = connect()
    make_items(application)
    add_function(application, "part_of", "x int", "100 / x")
    inputs = ["a", {"name": "x", "sql": "part_of(b)"}]
    config = configuration(database_url, model=model_of("worker"), inputs=inputs, **ALONE)
    with opened(config, lambda batch: [(1.0,) for _ in batch.rows]) as engine:
        scored(engine, application, 30)
        failing = refuse(application, "x = 0", "x is zero")
        add_function(application, "part_of", "x int", "100 / x", before=failing)
        application.execute("UPDATE items SET b = CASE id WHEN 5 THEN 0 ELSE 20 END")
        looked, compare = [], rows.compare

        def then_stop(*arguments: Any) -> Any:
            looked.append(arguments[2])
            if len(looked) == 4:
                engine.stop.set()
            return compare(*arguments)

        monkeypatch.setattr(rows, "compare", then_stop)
        done = verify(engine)
        assert (done.complete, done.position, done.rows) == (False, None, 0)
        monkeypatch.undo()
        engine.stop.clear()
        done = verify(engine)
        assert (done.complete, done.failing) == (True, 1)
        assert states(application) == {SCORED: 1, PENDING: 29}


def test_it_gives_way_to_a_pause(
    database_url: str, connect: Connect, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "LOOK_AGAIN", 0.0)
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **ALONE)) as engine:
        scored(engine, application, 3)
        application.execute("UPDATE items SET b = 2")
        throttle.pause(database, "churn", None, "closing")
        done = verify(engine)
        assert (done.rows, done.complete, done.ended) == (
            0,
            False,
            "throttled: paused by an operator: closing",
        )
        said: list[str] = []

        def resume(reason: str) -> None:
            said.append(reason)
            throttle.resume(database, "churn")

        monkeypatch.setattr(engine.stop, "wait", lambda _: None)
        assert verify(engine, waits=resume).requeued == 3
        assert said == ["throttled: paused by an operator: closing"]


# --- slices -----------------------------------------------------------------------------------------------


def test_a_large_table_is_walked_in_slices_that_follow_each_other(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ROWS_PER_LOOK", 10)
    monkeypatch.setattr(verification, "SLICE", 0.0)
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **ALONE)) as engine:
        scored(engine, application, 25)
        application.execute("UPDATE items SET b = 2 WHERE id IN (1, 11, 25)")

        def step(walk: int | None = None) -> tuple[int, int, bool]:
            done = verify_slice(engine, walk=walk)
            assert done.found is not None, done.reason
            assert (done.follow is None) == done.found.complete
            return done.found.rows, done.found.requeued, done.found.complete

        first = verify_slice(engine)
        assert first.found is not None
        assert (first.found.rows, first.found.requeued, first.walk) == (10, 1, 1)
        assert first.follow is not None
        assert verify_slice(engine).found is None, "beat's next message finds a walk that is under way"
        assert step(1) == (10, 1, False)
        monkeypatch.setattr(verification, "QUIET", 0.0)
        assert step() == (5, 1, True), "a walk that was abandoned goes on where it was"
        assert verify_slice(engine, walk=1).found is None, "a message that comes late finds it at its end"
        assert verify_slice(engine).found is None, "the next one is not due for a day"
        application.execute(
            f"UPDATE {own(application, 'run')} SET finished_at = '2001-01-01' WHERE kind = 'verify'"
        )
        assert verify_slice(engine).walk == 2
        assert one(application, f"SELECT count(*) FROM {own(application, 'run')} WHERE kind = 'verify'") == 1


def test_two_tasks_at_one_slice_have_one_successor(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ROWS_PER_LOOK", 10)
    monkeypatch.setattr(verification, "SLICE", 0.0)
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **ALONE)) as engine:
        scored(engine, application, 25)
        assert verify_slice(engine).walk == 1
        walk, seen = verification.verify, []

        def while_another_does_the_same(*arguments: Any, **options: Any) -> Verification:
            monkeypatch.setattr(verification, "verify", walk)
            seen.append(verify_slice(engine, walk=1))
            return walk(*arguments, **options)

        monkeypatch.setattr(verification, "verify", while_another_does_the_same)
        late = verify_slice(engine, walk=1)
        assert (late.follow, late.reason) == (None, "another task went on with the walk meanwhile")
        assert [item.follow is not None for item in seen] == [True]


def test_another_definition_begins_the_walk_anew(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "ROWS_PER_LOOK", 10)
    monkeypatch.setattr(verification, "SLICE", 0.0)
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **ALONE)) as old:
        scored(old, application, 25)
        verify_slice(old)
        with opened(configuration(database_url, inputs=["b", "a"], **ALONE)) as new:
            applied(new)
            with pytest.raises(StaleDefinitionError):
                verify_slice(old, walk=1)
            done = verify_slice(new, walk=1)
            assert done.found is not None
            assert done.found.position == ("10",)


def test_the_task_finds_what_changed_and_says_so(database_url: str, connect: Connect) -> None:
    """Run in this process, without a broker: the whole table is one slice."""
    application = connect()
    make_items(application)
    config = configuration(database_url, **ALONE)
    with opened(config) as engine:
        scored(engine, application, 5)
    application.execute("UPDATE items SET b = 2 WHERE id = 3")
    app = create_app(config)
    app.loader.import_default_modules()
    try:
        done = app.tasks["rowscore.verify"].apply(("churn",)).get()
        assert (done["rows"], done["changed"], done["requeued"], done["walk"]) == (5, 1, 1, 1)
        again = app.tasks["rowscore.verify"].apply(("churn",)).get()
        assert again == {
            "prediction": "churn",
            "walk": None,
            "reason": "no walk is due, or another task is at it",
        }
    finally:
        app.engine.dispose()
    assert states(application) == {SCORED: 4, PENDING: 1}


def test_a_task_without_fingerprints_says_what_to_configure(database_url: str, connect: Connect) -> None:
    make_items(connect())
    with opened(configuration(database_url)) as engine:
        applied(engine)
        with pytest.raises(ConfigurationError, match="keeps no fingerprints"):
            verify_slice(engine)


# --- what `apply` makes for it ----------------------------------------------------------------------------


def test_the_column_comes_and_goes_with_the_setting(connect: Connect, database: Database) -> None:
    application = connect()
    make_items(application)
    before = catalogue(application)
    model = {"sql": "predict"}
    kept = resolved(database, model=model, **ALONE)
    first = apply(database, kept)
    assert any("churn_fingerprint" in change.title for change in first)
    made = catalogue(application)
    assert (made["triggers"], made["functions"]) == (before["triggers"], before["functions"])
    assert "churn_fingerprint" in columns_of(application, "items")
    assert "churn_fingerprint" not in columns_of(application, "items_scored")
    kept = resolved(database, model=model, **ALONE)
    assert apply(database, kept) == []
    with database.transaction() as transaction:
        assert list(drift(transaction, kept)) == []
    off = resolved(database, model=model)
    dropped = [change.title for change in apply(database, off) if change.destructive]
    assert any("drop churn_fingerprint of " in title for title in dropped)
    assert "churn_fingerprint" not in columns_of(application, "items")
    assert apply(database, resolved(database, model=model)) == []
    apply(database, resolved(database, model=model, **BOTH))
    assert "churn_inputs" in columns_of(application, "items")
    assert "churn_inputs" not in columns_of(application, "items_scored")
    remove(database, prediction(model=model, **BOTH), drop_outputs=True)
    assert catalogue(application) == before


def test_a_column_that_is_there_is_taken_where_it_fits(connect: Connect, database: Database) -> None:
    application = connect()
    make_items(application)
    application.execute("ALTER TABLE items ADD COLUMN churn_inputs bigint, ADD COLUMN texts varchar(9)")
    with pytest.raises(RefusedError, match=r"fingerprint column texts is .*; expected bigint"):
        apply(database, resolved(database, fingerprint="texts"))
    apply(database, resolved(database, **BOTH))
    with pytest.raises(RefusedError, match="written by prediction churn; two cannot share a column"):
        apply(database, resolved(database, "other", outputs={"q": "double precision"}, **BOTH, view=False))
    remove(database, prediction(**BOTH), drop_outputs=True)
    assert "churn_inputs" in columns_of(application, "items")


def test_another_name_is_refused_with_what_renames_it(connect: Connect, database: Database) -> None:
    make_items(connect())
    apply(database, resolved(database, **ALONE))
    with pytest.raises(RefusedError, match=r"the fingerprint column is churn_fingerprint .* RENAME COLUMN"):
        apply(database, resolved(database, **BOTH))


def test_an_input_that_rowscore_writes_is_refused(connect: Connect, database: Database) -> None:
    application = connect()
    make_items(application)
    application.execute("ALTER TABLE items ADD COLUMN p double precision")
    for where in ("p IS NULL", "coalesce(p, 0) < 1"):
        with pytest.raises(RefusedError, match="computed from column p"):
            apply(database, resolved(database, where=where, **ALONE))


@only("postgresql")
def test_the_row_as_a_whole_is_refused(database_url: str, connect: Connect, database: Database) -> None:
    make_items(connect())
    inputs = [{"name": "x", "sql": "to_jsonb(c)"}]
    with pytest.raises(RefusedError, match="computed from column churn_state"):
        apply(database, resolved(database, inputs=inputs, **ALONE))
    assert database_url
    apply(database, resolved(database, inputs=inputs))


@only("postgresql")
def test_fingerprints_outlive_a_restored_dump(database_url: str, connect: Connect) -> None:
    """There types of users have other numbers, as they have when they are made anew."""
    application = connect()
    make_items(application)
    make = "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN document AS jsonb"
    application.execute(f"{make}; ALTER TABLE items ADD m mood, ADD n mood[], ADD d document")
    config = configuration(database_url, model=model_of("worker"), inputs=["m", "n", "d", "note"], **ALONE)
    with opened(config, lambda batch: [(1.0,) for _ in batch.rows]) as engine:
        applied(engine)
        application.execute(
            "INSERT INTO items (m, n, d, note) VALUES ('sad', '{sad,NULL}', '{\"a\": 1}', 'é')"
        )
        drain(engine)
    application.execute("DROP VIEW items_scored")
    texts = ", ".join(f"ALTER {name} TYPE {kind} USING {name}::text::{kind}" for name, kind in
                      (("m", "text"), ("n", "text"), ("d", "text")))  # fmt: skip
    back = ", ".join(f"ALTER {name} TYPE {kind} USING {name}::{kind}" for name, kind in
                     (("m", "mood"), ("n", "mood[]"), ("d", "document")))  # fmt: skip
    application.execute(f"ALTER TABLE items {texts}; DROP TYPE mood; DROP DOMAIN document; {make}")
    application.execute(f"ALTER TABLE items {back}")
    with opened(config, lambda batch: [(1.0,) for _ in batch.rows]) as engine:
        done = verify(engine)
        assert (done.rows, done.changed, done.unknown) == (1, 0, 0)


@only("postgresql")
def test_fingerprints_do_not_depend_on_the_sessions_encoding(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = connect()
    make_items(application)
    application.execute("ALTER TABLE items ADD j jsonb")
    config = configuration(database_url, model=model_of("worker"), inputs=["note", "j"], **ALONE)
    with opened(config, lambda batch: [(1.0,) for _ in batch.rows]) as engine:
        applied(engine)
        application.execute("INSERT INTO items (note, j) VALUES ('é', '\"ü\"')")
        drain(engine)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with opened(config) as engine:
        done = verify(engine)
        assert (done.rows, done.changed, done.unknown) == (1, 0, 0)
