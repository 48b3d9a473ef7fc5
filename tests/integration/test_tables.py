"""Tables as applications have them: partitions, triggers, foreign keys, generated columns, odd names."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import partition_items
from tests.support.databases import Session, dialect, is_postgresql, one, own, series
from tests.support.predictions import (
    WAYS,
    Barrier,
    add_items,
    applied,
    configuration,
    double_of,
    drain,
    in_the_model,
    make_items,
    model_of,
    opened,
    states,
)
from tests.support.routines import add_function, add_trigger, assign, refuse
from tests.support.versions import needs
from worker.models.protocol import Batch
from worker.states import RowState

CONFORMANCE = True
PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value
EXISTING = RowState.EXISTING.value


def wrong(connection: Session) -> int:
    """Scored rows whose prediction is not a + b."""
    right = "p = a + b AND p IS NOT NULL"
    return int(one(connection, f"SELECT count(*) FROM items WHERE churn_state = {SCORED} AND NOT ({right})"))


def add_new(connection: Session, first: int, last: int) -> None:
    """Rows of these keys in the partitioned table."""
    connection.execute(
        f"INSERT INTO items (id, a, b, note) SELECT i, i, i % 5, 'new' FROM {series(connection, first, last)}"
    )


# --- partitions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_partitions_of_two_levels(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    partition_items(application)
    add_function(application, "predict", "a double precision, b int", "a + b")
    config = configuration(database_url, model=model_of(way), max_rows_per_claim=30)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_new(application, 1, 49)
        add_new(application, 150, 199)
        summary = drain(engine)
        assert (summary.scored, summary.failed, summary.lost) == (99, 0, 0)
    assert states(application) == {SCORED: 99, EXISTING: 100}
    assert wrong(application) == 0


def test_a_row_that_moves_to_another_partition_while_it_is_scored(
    database_url: str, connect: Connect
) -> None:
    """With a part of its key, so its first answer is lost: there is no such row any more."""
    application = connect()
    partition_items(application)
    barrier = Barrier()
    config = configuration(database_url, model=model_of("worker"), inputs=["a", {"name": "b", "sql": "10"}])
    with opened(config, barrier) as engine:
        applied(engine)
        application.execute(
            f"INSERT INTO items (id, a, b) SELECT i, i, 3 FROM {series(application, 160, 169)}"
        )
        with in_the_model(engine, barrier) as running:
            application.execute("UPDATE items SET b = 2 WHERE id = 165")  # its partition and its key
            application.execute("UPDATE items SET note = 'moved' WHERE id = 165")
        assert running.result().scored == 10
    assert states(application) == {SCORED: 10, EXISTING: 100}
    assert application.execute("SELECT p, b FROM items WHERE id = 165").fetchone() == (175.0, 2)


# --- the application's triggers and foreign keys ----------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_before_trigger_that_normalises_an_input_when_the_row_is_written(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application)
    body = assign(application, "b", "abs(NEW.b)")
    body += assign(application, "note", "concat(coalesce(NEW.note, ''), '.')")
    for event in ("INSERT", "UPDATE"):
        add_trigger(application, f"keep_{event}", f"BEFORE {event}", body)
    with opened(configuration(database_url, model=model_of(way)), double_of(way)) as engine:
        applied(engine)
        add_items(application, 5)
        assert drain(engine).scored == 5
        application.execute("UPDATE items SET b = -7 WHERE id = 2")
        assert drain(engine).scored == 1
    assert wrong(application) == 0
    assert application.execute("SELECT p, note FROM items WHERE id = 2").fetchone() == (9.0, "....")


@pytest.mark.parametrize("moment", ["BEFORE", "AFTER"])
@pytest.mark.parametrize("way", WAYS)
def test_a_trigger_that_refuses_the_prediction_of_a_row(
    database_url: str, connect: Connect, way: str, moment: str
) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model_of(way))
    with opened(config, double_of(way)) as engine:
        applied(engine)
        refusal = refuse(application, "NEW.p > 13", "no predictions above 13")
        add_trigger(application, "refuse", f"{moment} UPDATE", refusal)
        add_items(application, 5)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (3, 2)
    assert states(application) == {SCORED: 3, FAILED: 2}
    found = application.execute(f"SELECT DISTINCT message FROM {own(application, 'failure')}").fetchall()
    assert found
    assert all("no predictions above 13" in row[0] for row in found)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_nobody_may_update_stops_nobody(database_url: str, connect: Connect, way: str) -> None:
    """A trigger refuses every UPDATE of a closed row: it can be neither scored nor marked failed."""
    application = connect()
    make_items(application)
    add_trigger(
        application, "closed", "BEFORE UPDATE", refuse(application, "OLD.note = 'closed'", "it is closed")
    )
    config = configuration(database_url, model=model_of(way), max_rows_per_claim=20)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 30)
        application.execute("UPDATE items SET note = 'closed' WHERE id IN (3, 17)")
        summary = drain(engine, seconds=20.0)
        assert summary.scored == 28
        assert summary.seconds < 10, "and nobody circles round them"
    assert wrong(application) == 0
    assert states(application) == {SCORED: 28, PENDING: 2}


@pytest.mark.parametrize("way", WAYS)
def test_foreign_keys_in_both_directions(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    application.execute("CREATE TABLE owners (id int PRIMARY KEY)")
    application.execute("INSERT INTO owners VALUES (1), (2), (3)")
    application.execute("ALTER TABLE items ADD COLUMN owner int")
    application.execute(
        "ALTER TABLE items ADD FOREIGN KEY (owner) REFERENCES owners (id) ON UPDATE CASCADE ON DELETE CASCADE"
    )
    application.execute(
        "CREATE TABLE orders (item bigint, FOREIGN KEY (item) REFERENCES items (id) ON DELETE RESTRICT)"
    )
    inputs = ["a", "owner"]
    with opened(configuration(database_url, model=model_of(way), inputs=inputs), double_of(way)) as engine:
        applied(engine)
        application.execute(
            f"INSERT INTO items (id, a, b, owner) SELECT i, i, 10, i % 3 + 1 FROM {series(application, 1, 9)}"
        )
        application.execute("INSERT INTO orders SELECT id FROM items WHERE owner = 1")
        assert drain(engine).scored == 9
        application.execute("UPDATE owners SET id = 20 WHERE id = 2")  # cascades into an input
        application.execute("DELETE FROM owners WHERE id = 3")
        if not is_postgresql(application):  # InnoDB's cascades fire no trigger
            assert states(application) == {SCORED: 6}
            application.execute("UPDATE items SET churn_state = 0 WHERE owner = 20")
        assert drain(engine).scored == 3
    assert one(application, "SELECT count(*) FROM items WHERE p = a + owner AND churn_state = 1") == 6


# --- kinds of tables and columns --------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["STORED", "VIRTUAL"])
@pytest.mark.parametrize("way", WAYS)
def test_generated_columns_as_inputs(database_url: str, connect: Connect, way: str, kept: str) -> None:
    application = connect()
    if kept == "VIRTUAL" and is_postgresql(application):
        needs(application, 18, "a VIRTUAL generated column")
    make_items(application)
    application.execute(f"ALTER TABLE items ADD COLUMN g int GENERATED ALWAYS AS (b * 2) {kept}")
    config = configuration(database_url, model=model_of(way), inputs=["a", "g"], where="g > 0")
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 6)
        assert drain(engine).scored == 6
        application.execute("UPDATE items SET b = b + 1 WHERE id = 3")
        assert drain(engine).scored == 1
    assert one(application, "SELECT count(*) FROM items WHERE p = a + 2 * b") == 6


ODD_TABLE = {
    "postgresql": "CREATE UNLOGGED TABLE items (gone int, c bigint PRIMARY KEY, v text, gone_too text, k int, w text, "
    "u int, q int, f int, items int)",
    "mysql": "CREATE TABLE items (gone int, c bigint PRIMARY KEY, v longtext, gone_too text, k int, w longtext, "
    "u int, q int, f int, items int) DEFAULT CHARSET utf8mb4",
}


@pytest.mark.parametrize("way", WAYS)
def test_dropped_columns_and_long_texts_in_a_table_whose_columns_are_named_as_our_aliases(
    database_url: str, connect: Connect, way: str
) -> None:
    """PostgreSQL keeps such texts out of line, and such a table out of its log."""
    application = connect()
    application.execute(ODD_TABLE[dialect(application)])
    application.execute("ALTER TABLE items DROP COLUMN gone, DROP COLUMN gone_too")
    text = "text" if is_postgresql(application) else "longtext"
    lengths_of = "char_length(x) + y + char_length(z)"
    add_function(application, "predict", f"x {text}, y int, z {text}", lengths_of)

    def lengths(batch: Batch) -> list[tuple[float]]:
        return [(float(len(v) + k + len(w)),) for v, k, w in batch.rows]

    where = "q > u AND f = items"
    config = configuration(database_url, model=model_of(way), inputs=["v", "k", "w"], where=where)
    with opened(config, double_of(way, lengths)) as engine:
        applied(engine)
        hashed = "md5(i::text)" if is_postgresql(application) else "LEFT(SHA2(i, 256), 32)"
        application.execute(
            f"""INSERT INTO items (c, v, k, w, u, q, f, items)
            SELECT i, repeat({hashed}, 3000), i, repeat('é', 20000), 0, 1, 2, 2 FROM {series(application, 1, 8)}"""
        )
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (8, 0)
    assert one(application, "SELECT count(*) FROM items WHERE p = 96000 + k + 20000") == 8
