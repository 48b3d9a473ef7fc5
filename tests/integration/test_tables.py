"""Tables as applications have them: partitions, triggers, policies, generated columns, odd inputs, and `where`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Connect
from tests.support.applied import partition_items
from tests.support.deadlines import eventually
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from tests.support.versions import needs, reaches
from worker.models.protocol import Batch
from worker.states import RowState

PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value
SKIPPED, EXISTING = RowState.SKIPPED.value, RowState.EXISTING.value
WAYS = ["update", "select", "worker"]


def model(way: str) -> dict[str, str]:
    """The model section for one of the three ways that an answer takes."""
    return {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}


def double_of(way: str, function: Any = add_up) -> Any:
    """The model in this process, where the worker calls it."""
    return function if way == "worker" else None


def wrong(connection: psycopg.Connection[Any], table: str = "items") -> int:
    """Scored rows whose prediction is not a + b."""
    row = connection.execute(
        f"SELECT count(*) FROM {table} WHERE churn_state = {SCORED} AND p IS DISTINCT FROM a + b"
    ).fetchone()
    return int(row[0]) if row else 0


def make_predict(connection: psycopg.Connection[Any], volatility: str = "VOLATILE") -> None:
    """predict(a, b) = a + b."""
    connection.execute(
        f"CREATE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE sql {volatility} AS 'SELECT a + b'"
    )


# --- partitions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_partitions_of_two_levels(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    partition_items(application)
    make_predict(application)
    config = configuration(database_url, model=model(way), max_rows_per_claim=30)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        application.execute("INSERT INTO items SELECT i, i, i % 5, 'new' FROM generate_series(1, 49) AS i")
        application.execute("INSERT INTO items SELECT i, i, i % 5, 'new' FROM generate_series(150, 199) AS i")
        summary = drain(engine)
        assert (summary.scored, summary.failed, summary.lost) == (99, 0, 0)
    assert states(application) == {SCORED: 99, EXISTING: 100}
    assert wrong(application) == 0


def test_a_row_that_moves_to_another_partition_while_it_is_scored(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    partition_items(application)
    barrier = Barrier()
    config = configuration(database_url, model=model("worker"), inputs=["a", {"name": "b", "sql": "10"}])
    with opened(config, barrier) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        application.execute("INSERT INTO items SELECT i, i, 3, 'new' FROM generate_series(160, 169) AS i")
        running = pool.submit(drain, engine)
        assert barrier.entered.wait(30)
        application.execute("UPDATE items SET b = 1 WHERE id = 165")  # its partition and its key
        barrier.released.set()
        assert running.result().scored == 10
    assert states(application) == {SCORED: 10, EXISTING: 100}
    assert application.execute("SELECT p, tableoid::regclass::text FROM items WHERE id = 165").fetchone() == (
        175.0,
        "items_2a",
    )


@pytest.mark.parametrize("way", ["update", "worker"])
def test_a_row_that_moves_while_its_lock_is_asked_for(database_url: str, connect: Connect, way: str) -> None:
    """PostgreSQL answers 40001: the window is read again, and the drain goes on."""
    application = connect()
    partition_items(application)
    make_predict(application)
    application.execute(
        """CREATE FUNCTION gate(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF id = 165 AND current_query() NOT LIKE '%IS NOT TRUE%' THEN
          PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1); END IF;
        RETURN true; END $$"""
    )
    gate = connect()
    gate.execute("SELECT pg_advisory_lock(1)")
    config = configuration(database_url, model=model(way), where="gate(id)", max_rows_per_claim=100)
    with opened(config, double_of(way)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        application.execute("INSERT INTO items SELECT i, i, 3, 'new' FROM generate_series(160, 169) AS i")
        running = pool.submit(drain, engine)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: application.execute(waiting).fetchone() == (1,), "the gate is reached")
        application.execute("UPDATE items SET b = 1 WHERE id = 165")
        gate.execute("SELECT pg_advisory_unlock(1)")
        running.result()
        drain(engine)
    assert states(application) == {SCORED: 10, EXISTING: 100}
    assert wrong(application) == 0


# --- the application's triggers and foreign keys ----------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_before_trigger_that_normalises_an_input_when_the_row_is_written(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application)
    application.execute(
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.b := abs(NEW.b); NEW.note := coalesce(NEW.note, '') || '.'; RETURN NEW; END $$;
        CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION keep()"""
    )
    with opened(configuration(database_url, model=model(way)), double_of(way)) as engine:
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
    application.execute(
        f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.p > 13 THEN RAISE 'no predictions above 13'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER refuse {moment} UPDATE ON items FOR EACH ROW EXECUTE FUNCTION refuse()"""
    )
    with opened(
        configuration(database_url, model=model(way), outputs={"p": "float8"}), double_of(way)
    ) as engine:
        applied(engine)
        add_items(application, 5)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (3, 2)
    assert states(application) == {SCORED: 3, FAILED: 2}
    found = application.execute("SELECT DISTINCT message FROM rowscore.failure").fetchall()
    assert all("no predictions above 13" in row[0] for row in found)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_that_nobody_may_update_stops_nobody(database_url: str, connect: Connect, way: str) -> None:
    """A trigger refuses every UPDATE of a closed row: it can be neither scored nor marked failed."""
    application = connect()
    make_items(application)
    application.execute(
        """CREATE FUNCTION closed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF OLD.note = 'closed' THEN RAISE 'row % is closed', OLD.id; END IF; RETURN NEW; END $$;
        CREATE TRIGGER closed BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION closed()"""
    )
    config = configuration(database_url, model=model(way), max_rows_per_claim=20)
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
    application.execute("INSERT INTO owners SELECT generate_series(1, 3)")
    application.execute(
        "ALTER TABLE items ADD owner int REFERENCES owners ON UPDATE CASCADE ON DELETE CASCADE"
    )
    application.execute("CREATE TABLE orders (item bigint REFERENCES items ON DELETE RESTRICT)")
    with opened(
        configuration(database_url, model=model(way), inputs=["a", "owner"]), double_of(way)
    ) as engine:
        applied(engine)
        application.execute(
            "INSERT INTO items (a, b, owner) SELECT i, 10, i % 3 + 1 FROM generate_series(1, 9) i"
        )
        application.execute("INSERT INTO orders SELECT id FROM items WHERE owner = 1")
        assert drain(engine).scored == 9
        application.execute("UPDATE owners SET id = 20 WHERE id = 2")  # cascades into an input
        application.execute("DELETE FROM owners WHERE id = 3")
        assert drain(engine).scored == 3
    rows = application.execute(
        "SELECT count(*) FROM items WHERE p = a + owner AND churn_state = 1"
    ).fetchone()
    assert rows == (6,)


# --- kinds of tables and columns --------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["STORED", "VIRTUAL"])
@pytest.mark.parametrize("way", WAYS)
def test_generated_columns_as_inputs(database_url: str, connect: Connect, way: str, kept: str) -> None:
    application = connect()
    if kept == "VIRTUAL":
        needs(application, 18, "a VIRTUAL generated column")
    make_items(application)
    application.execute(f"ALTER TABLE items ADD COLUMN g int GENERATED ALWAYS AS (b * 2) {kept}")
    config = configuration(database_url, model=model(way), inputs=["a", "g"], where="g > 0")
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 6)
        assert drain(engine).scored == 6
        application.execute("UPDATE items SET b = b + 1 WHERE id = 3")
        assert drain(engine).scored == 1
    assert application.execute("SELECT count(*) FROM items WHERE p = a + 2 * b").fetchone() == (6,)


@pytest.mark.parametrize("way", WAYS)
def test_unlogged_with_dropped_columns_and_toasted_texts_in_a_column_named_as_our_aliases(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    application.execute(
        """CREATE UNLOGGED TABLE items (gone int, c bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text,
        gone_too text, k int, w text, u int, q int, f int, items int)"""
    )
    application.execute("ALTER TABLE items DROP COLUMN gone, DROP COLUMN gone_too")
    application.execute(
        "CREATE FUNCTION predict(text, int, text) RETURNS float8 LANGUAGE sql AS 'SELECT length($1) + $2 + length($3)'"
    )

    def lengths(batch: Batch) -> list[tuple[float]]:
        return [(float(len(v) + k + len(w)),) for v, k, w in batch.rows]

    config = configuration(
        database_url, model=model(way), inputs=["v", "k", "w"], where="q > u AND f = items"
    )
    with opened(config, double_of(way, lengths)) as engine:
        applied(engine)
        application.execute(
            """INSERT INTO items (v, k, w, u, q, f, items)
            SELECT string_agg(md5(i::text || j), ''), i, repeat('é', 20000), 0, 1, 2, 2
            FROM generate_series(1, 8) i, generate_series(1, 3000) j GROUP BY i"""
        )
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (8, 0)
    assert application.execute("SELECT count(*) FROM items WHERE p = 96000 + k + 20000").fetchone() == (8,)


ROLE = "scorer_{}"


@pytest.fixture
def role(database_url: str, connect: Connect) -> Any:
    """A role of this test's own that may log in; dropped with all that it owns."""
    name = ROLE.format(database_url.rpartition("_")[2])
    connection = connect()
    connection.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    connection.execute(f"DROP OWNED BY {name} CASCADE")
    connection.execute(f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    """The database's URL for the role."""
    return url.replace("postgres@", f"{role}@")


def grant(connection: psycopg.Connection[Any], role: str) -> None:
    """What a worker's role needs, and nothing else."""
    connection.execute(f"GRANT USAGE ON SCHEMA rowscore TO {role}")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rowscore TO {role}")
    connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA rowscore, public TO {role}")
    connection.execute(f"GRANT SELECT ON items TO {role}")
    connection.execute(f"GRANT UPDATE (p, churn_state, churn_scored_at) ON items TO {role}")


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_row_level_security(database_url: str, connect: Connect, role: str, way: str, forced: bool) -> None:
    """A policy decides which rows a role may score: the others wait untouched for one that may."""
    application = connect()
    make_items(application)
    with opened(configuration(database_url, model=model(way))) as owner:
        applied(owner)
    application.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    if forced:
        application.execute("ALTER TABLE items FORCE ROW LEVEL SECURITY")
    application.execute(f"CREATE POLICY own ON items TO {role} USING (id % 2 = 0) WITH CHECK (id % 2 = 0)")
    grant(application, role)
    add_items(application, 20)
    with opened(configuration(as_role(database_url, role), model=model(way)), double_of(way)) as engine:
        assert drain(engine).scored == 10
        assert states(application) == {SCORED: 10, PENDING: 10}
        application.execute(f"ALTER ROLE {role} BYPASSRLS")
        assert drain(engine).scored == 10
    assert wrong(application) == 0


# --- where ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_where_on_a_column_that_is_no_input(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model(way), where="length(note) > 2", max_rows_per_claim=3)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        application.execute(
            "INSERT INTO items (a, b, note) "
            "SELECT i, 1, (ARRAY['long', 'no', NULL])[i % 3 + 1] FROM generate_series(0, 11) AS i"
        )
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (4, 8)
        assert states(application) == {SCORED: 4, SKIPPED: 8}
        application.execute("UPDATE items SET note = 'long enough' WHERE note IS NULL")
        application.execute("UPDATE items SET b = 2 WHERE note = 'no'")
        assert states(application) == {SCORED: 4, PENDING: 8}
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (4, 4)
        application.execute("UPDATE items SET note = NULL WHERE note = 'long'")
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (0, 4)
    assert application.execute("SELECT count(*) FROM items WHERE p = a + b").fetchone() == (8,)


def test_a_row_that_where_excludes_while_the_model_is_called_is_not_written(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    barrier = Barrier()
    config = configuration(
        database_url, model=model("worker"), where="note IS NULL", on_input_change="ignore"
    )
    with opened(config, barrier) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 4)
        running = pool.submit(drain, engine)
        assert barrier.entered.wait(30)
        application.execute("UPDATE items SET note = 'out' WHERE id = 2")
        barrier.released.set()
        summary = running.result()
        assert (summary.scored, summary.skipped) == (3, 1)
    assert application.execute("SELECT p, churn_state FROM items WHERE id = 2").fetchone() == (None, SKIPPED)


@pytest.mark.parametrize("way", WAYS)
def test_where_that_fails_on_a_row_fails_that_row(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model(way), where="100 / b > 1")
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 20)
        application.execute("UPDATE items SET b = CASE id WHEN 7 THEN 0 ELSE 99 END WHERE id IN (7, 9)")
        summary = drain(engine)
        assert (summary.scored, summary.failed, summary.skipped) == (18, 1, 1)
    assert states(application) == {SCORED: 18, FAILED: 1, SKIPPED: 1}


# --- inputs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_defaults_and_expressions(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    application.execute("ALTER TABLE items ADD flag boolean")
    application.execute("DROP FUNCTION predict(float8, int)")
    application.execute(
        """CREATE FUNCTION predict(float8, int, text, boolean, int) RETURNS float8 LANGUAGE sql
        AS 'SELECT $1 + $2 + length($3) + $4::int * 1000 + $5'"""
    )
    inputs = [
        {"column": "a", "default": -1.5},
        {"column": "b", "default": 3},
        {"column": "note", "default": "it's 100% :odd"},
        {"column": "flag", "default": True},
        {"name": "share", "sql": "CASE WHEN note LIKE '%:x' THEN 1 ELSE coalesce(b, 0) % 7 END"},
    ]

    def weigh(batch: Batch) -> list[tuple[float]]:
        return [(a + b + len(note) + flag * 1000 + share,) for a, b, note, flag, share in batch.rows]

    with opened(
        configuration(database_url, model=model(way), inputs=inputs), double_of(way, weigh)
    ) as engine:
        applied(engine)
        application.execute("INSERT INTO items (a) VALUES (NULL)")
        application.execute("INSERT INTO items (a, b, note, flag) VALUES (1, 15, '%:x', false)")
        assert drain(engine).scored == 2
    found = application.execute("SELECT p FROM items ORDER BY id").fetchall()
    assert found == [(-1.5 + 3 + 14 + 1000 + 0,), (1 + 15 + 3 + 1,)]


# A column's type, values as literals, and the values that a Python model is given for them.
INPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "json": ("json", {"'{\"a\": [1, null]}'": {"a": [1, None]}, "'null'": None, "'3'": 3}),
    "jsonb": ("jsonb", {"'[{\"é\": 1.5}]'": [{"é": 1.5}], "'\"t\"'": "t"}),
    "floats": ("float8[]", {"'{1,NULL,-2.5}'": [1.0, None, -2.5], "'{}'": [], "'{{1,2},{3,4}}'": [[1, 2], [3, 4]]}),
    "texts": ("text[]", {"ARRAY['a\"b', NULL, '{,}']": ['a"b', None, "{,}"]}),
    "enum": ("mood", {"'so so'": "so so"}),
    "enums": ("mood[]", {"'{sad,\"so so\"}'": '{sad,"so so"}'}),
    "domain": ("positive", {"7": 7}),
    "range": ("int4range", {"'[1,5)'": "[1,5)"}),
    "timestamptz": ("timestamptz", {"'infinity'": "infinity", "'-infinity'": "-infinity"}),
    "bc": ("timestamp", {"'0044-03-15 BC'": "0044-03-15T00:00:00.000000 BC"}),
    "dates": ("date", {"'infinity'": "infinity", "'12024-01-01'": "12024-01-01"}),
    "date arrays": ("date[]", {"'{infinity,2024-01-01}'": None}),
    "interval": ("interval", {"'infinity'": "infinity", "'-infinity'": "-infinity"}),
    "long interval": ("interval", {"'178000000 years'": None}),
    "intervals": ("interval[]", {"'{infinity,1 day}'": None}),
    "midnight": ("time", {"'24:00'": "24:00:00"}),
    "midnights": ("time[]", {"'{24:00,01:00}'": None}),
    "zoned": ("timetz", {"'24:00+02'": "24:00:00+02"}),
    "numeric": ("numeric", {"'NaN'": None, "'Infinity'": None}),
    "money": ("money", {"12.5": "$12.50"}),
    "bytes": ("bytea", {r"'\x00ff'": b"\x00\xff"}),
    "point": ("point", {"'(1,2)'": "(1,2)"}),
    "inet": ("inet", {"'10.0.0.0/8'": None, "'::1'": None}),
    "vector": ("vector(2)", {"'[1,2.5]'": "[1,2.5]"}),
    "tsvector": ("tsvector", {"'b a'": "'a' 'b'"}),
    "composite": ("pair", {"ROW(1, 'x,y')": '(1,"x,y")'}),
    "bits": ("bit(3)", {"B'101'": "101"}),
    "name": ("name", {"'n'": "n"}),
    "oid": ("oid", {"4000000000": None}),
    "internal": ('"char"', {"'x'": "x"}),
}  # fmt: skip
ENDLESS = {"interval", "intervals"}  # with values that came with PostgreSQL 17


def test_inputs_of_every_type_reach_a_python_model_and_the_guard_holds(
    database_url: str, connect: Connect
) -> None:
    """None in the table of expectations: any value, as long as the row is scored and not an error."""
    application = connect()
    make_items(application)
    application.execute(
        """CREATE EXTENSION vector; CREATE TYPE mood AS ENUM ('sad', 'so so');
        CREATE DOMAIN positive AS int CHECK (value > 0); CREATE TYPE pair AS (n int, t text)"""
    )
    expected: dict[tuple[int, int], Any] = {}
    rows: list[tuple[str, str]] = []
    inputs = {name: INPUTS[name] for name in INPUTS if name not in ENDLESS or reaches(application, 17)}
    for place, (name, (sql_type, values)) in enumerate(inputs.items()):
        application.execute(f'ALTER TABLE items ADD COLUMN "{name}" {sql_type}')
        for literal, value in values.items():
            expected[place, len(rows)] = value
            rows.append((name, literal))
    seen: dict[int, tuple[Any, ...]] = {}

    def note_rows(batch: Batch) -> list[tuple[float]]:
        for row in batch.rows:
            seen[int(row[-1])] = row
        return [(float(row[-1]),) for row in batch.rows]

    config = configuration(database_url, model=model("worker"), inputs=[*inputs, "b"])
    with opened(config, note_rows) as engine:
        applied(engine)
        for number, (name, literal) in enumerate(rows):
            application.execute(f'INSERT INTO items (b, "{name}") VALUES ({number}, {literal})')
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (len(rows), 0)
        wrong_values = {
            rows[number]: seen[number][place]
            for (place, number), value in expected.items()
            if value is not None and seen[number][place] != value
        }
        assert not wrong_values
        for name, literal in rows:
            changed = application.execute(
                sql.SQL("UPDATE items SET {name} = NULL WHERE {name} IS NOT NULL AND churn_state = 1").format(
                    name=sql.Identifier(name)
                )
            )
            assert changed.rowcount >= 0, literal
        assert states(application) == {PENDING: len(rows)}, "every change was noticed"


@pytest.mark.parametrize("case", ["interval", "midnight", "json", "bc"])
def test_inputs_alone_where_the_driver_has_no_value_for_them(
    database_url: str, connect: Connect, case: str
) -> None:
    application = connect()
    if case in ENDLESS:
        needs(application, 17, "an infinite interval")
    make_items(application)
    sql_type, values = INPUTS[case]
    application.execute(f"ALTER TABLE items ADD COLUMN x {sql_type}")
    with opened(
        configuration(database_url, model=model("worker"), inputs=["x"]), lambda batch: [(1.0,)] * len(batch)
    ) as engine:
        applied(engine)
        for literal in values:
            application.execute(f"INSERT INTO items (x) VALUES ({literal})")
        assert drain(engine).scored == len(values)
