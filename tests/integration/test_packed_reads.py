"""PostgreSQL's reads column by column: the same rows, values and types as row by row, whatever the inputs are."""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Connect
from tests.integration.test_inputs import ENDLESS, INPUTS, prepare
from tests.support.predictions import Barrier, applied, configuration, drain, opened, states
from tests.support.versions import reaches
from worker import reading, rows
from worker.columns import Columns, Numbers
from worker.controller import START
from worker.engine import Engine
from worker.errors import RowFaultError
from worker.leases import Lease, Window
from worker.models.protocol import Batch
from worker.reading import PACKED_FROM, Reader
from worker.rows import Taken
from worker.states import RowState, RunKind

PYTHON = {"python": "tests:none"}
PENDING, FAILED, SCORED = RowState.PENDING.value, RowState.FAILED.value, RowState.SCORED.value
MANY = START  # rows of a drain's first window, which are enough to be packed


def read(engine: Engine, lo: tuple[str, ...], hi: tuple[str, ...], *, packed: bool) -> Taken:
    """All rows between two keys."""
    prediction = engine.prediction()
    database, m = engine.database(prediction), engine.materialisation(prediction)
    window = Window(lo, hi)
    lease = Lease(1, RunKind.DRAIN, 1, window, 100_000, 1, 1)
    with database.transaction(**database.capabilities.plan_pins) as transaction:
        return rows.read(transaction, m, lease, window, lease.rows, packed=packed)


def shown(taken: Taken) -> list[Any]:
    """Every value with its type, floats to the last bit."""
    columns = [*taken.keys, taken.fingerprints]
    identity = [column.tolist() if isinstance(column, np.ndarray) else list(column) for column in columns]
    values = [
        [(type(value), marshal.dumps(value, 2) if type(value) is float else repr(value)) for value in row]
        for row in taken.values
    ]
    return [*identity, values]


def compared(engine: Engine, lo: str = "0", hi: str = "1000000") -> Taken:
    """What both ways read, which is the same."""
    by_row, by_column = (read(engine, (lo,), (hi,), packed=packed) for packed in (False, True))
    assert shown(by_column) == shown(by_row)
    assert len(by_column) == len(by_row)
    places = range(len(by_row))
    assert [by_column.key(place) for place in places] == [by_row.key(place) for place in places]
    assert shown(by_column.pick(places[::3])) == shown(by_row.pick(places[::3]))
    return by_column


# Types that are packed as bytes, with values at their edges; NULL is added to each.
EDGES = {
    "smallint": ["-32768", "-32766", "0", "32767"],
    "integer": ["-2147483648", "-2147483646", "0", "2147483647"],
    "bigint": ["-9223372036854775808", "-9223372036854775806", "0", "9223372036854775807"],
    "real": ["'NaN'", "'-Infinity'", "-0.0", "0", "0.1", "1e-45", "3.4028235e38"],
    "double precision": ["'NaN'", "'Infinity'", "-0.0", "0", "0.1", "5e-324", "1.7976931348623157e308"],
    "boolean": ["true", "false"],
    "text": ["''", "'é 😀'", r"E'\x01\\x00\n'", "'\\xff'", "repeat('long', 5000)"],
    "varchar(9)": ["''", "'varchar'"],
    "char(5)": ["''", "'ab'", "'abcde'"],
    "numeric": ["'NaN'", "'Infinity'", "0.10", "1e30", "-0.0000001"],
    "numeric(10,2)": ["1.5"],
    "uuid": ["'6bd1a3a9-5f4c-4dd4-b2d7-4ab36a9ddb3b'"],
    "date": ["'infinity'", "'0044-03-15 BC'", "'2024-02-29'"],
    "timestamp": ["'-infinity'", "'12024-01-01 01:02:03.000004'"],
    "timestamptz": ["'infinity'", "'2024-02-29 12:00+02'"],
    "timestamptz(0)": ["'2024-02-29 12:00+02'"],
    "time": ["'24:00'", "'12:00:00.000001'"],
    "interval": ["'178000000 years'", "'1 day'"],
    "inet": ["'10.0.0.0/8'", "'::1'"],
    "cidr": ["'10.0.0.0/8'"],
    "mood": ["'so so'"],
    "whole": ["7"],
    "money_like": ["1.50"],
    "day": ["'infinity'"],
}


@pytest.fixture
def application(connect: Connect) -> psycopg.Connection[Any]:
    """The table items, and types of a user's own."""
    connection: psycopg.Connection[Any] = connect()
    prepare(connection)
    connection.execute(
        "CREATE DOMAIN whole AS bigint; CREATE DOMAIN money_like AS numeric(9,2); CREATE DOMAIN day AS date"
    )
    return connection


def add(connection: psycopg.Connection[Any], types: Sequence[str]) -> list[str]:
    """A column of each type in items; returns their names."""
    names = [f"c{place}" for place in range(len(types))]
    for name, sql_type in zip(names, types, strict=True):
        connection.execute(f"ALTER TABLE items ADD COLUMN {name} {sql_type}")
    return names


@pytest.mark.parametrize("nulls", [False, True])
def test_every_type_is_read_as_row_by_row(
    database_url: str, application: psycopg.Connection[Any], nulls: bool
) -> None:
    names = add(application, list(EDGES))
    with opened(configuration(database_url, model=PYTHON, inputs=names)) as engine:
        applied(engine)
        longest = max(map(len, EDGES.values()))
        for number in range(longest):
            values = [edge[number % len(edge)] for edge in EDGES.values()]
            application.execute(f"INSERT INTO items ({', '.join(names)}) VALUES ({', '.join(values)})")
            if nulls:  # one column after the other is NULL alone, and all of them are together
                application.execute("INSERT INTO items DEFAULT VALUES")
        if nulls:
            filled = ", ".join(edge[0] for edge in EDGES.values())
            for name in names:
                application.execute(f"INSERT INTO items ({', '.join(names)}) VALUES ({filled})")
                application.execute(f"UPDATE items SET {name} = NULL WHERE id = lastval()")
        taken = compared(engine)
        assert isinstance(taken.values, Columns)
        packed_as_numbers = [isinstance(column, Numbers) for column in taken.values.columns]
        assert packed_as_numbers == [place < 6 or name == "whole" for place, name in enumerate(EDGES)]


def test_inputs_of_types_that_are_not_packed_make_the_read_one_by_row(
    database_url: str, application: psycopg.Connection[Any]
) -> None:
    inputs = {
        name: case
        for name, case in INPUTS["postgresql"].items()
        if name not in ENDLESS or reaches(application, 17)
    }
    names = add(application, [sql_type for sql_type, _ in inputs.values()])
    packed = []
    for name, (label, (_, values)) in zip(names, inputs.items(), strict=True):
        with opened(configuration(database_url, model=PYTHON, inputs=["b", name])) as engine:
            applied(engine)
            for literal in values:
                application.execute(f"INSERT INTO items (b, {name}) VALUES (1, {literal}), (NULL, NULL)")
            if isinstance(compared(engine).values, Columns):
                packed.append(label)
            application.execute("UPDATE items SET churn_state = 1")
    by_row = {"json", "jsonb", "floats", "texts", "date arrays", "intervals", "midnights", "bytes"}
    assert set(inputs) - set(packed) == by_row & set(inputs)


_numbers = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0]))
_texts = st.one_of(st.none(), st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
_generated = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-(2**15), 2**15 - 1)),
        st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        _numbers,
        st.one_of(st.none(), st.floats(width=32)),
        st.one_of(st.none(), st.booleans()),
        _texts,
        st.one_of(st.none(), st.decimals(places=5, allow_nan=True, allow_infinity=False)),
        st.one_of(st.none(), st.datetimes()),
    ),
    min_size=1,
    max_size=30,
)


@pytest.fixture
def engine_of_types(database_url: str, application: psycopg.Connection[Any]) -> Iterator[Engine]:
    """Items with a column for each of what `_generated` makes."""
    types = ["int2", "int4", "int8", "float8", "float4", "boolean", "text", "numeric", "timestamp"]
    names = add(application, types)
    with opened(configuration(database_url, model=PYTHON, inputs=names)) as engine:
        applied(engine)
        yield engine


def test_any_rows_are_read_as_row_by_row(
    engine_of_types: Engine, application: psycopg.Connection[Any]
) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(_generated)
    def check(made: list[tuple[Any, ...]]) -> None:
        application.execute("DELETE FROM items")
        columns = ", ".join(f"c{place}" for place in range(9))
        with application.cursor() as cursor:
            marks = "%b, %b, %b, %b, %b, %b, %b, %b, %b"
            cursor.executemany(f"INSERT INTO items ({columns}) VALUES ({marks})", made)
        assert len(compared(engine_of_types, hi=str(2**40))) == len(made)

    check()


@pytest.mark.parametrize("sql_type", ["smallint", "integer", "bigint", "real", "double precision"])
def test_a_value_that_stands_for_null_is_told_from_it(
    database_url: str, application: psycopg.Connection[Any], sql_type: str
) -> None:
    """The bytes that are sent for NULL, as a value: alone it is one, and beside NULL the read is made by row."""
    (name,) = add(application, [sql_type])
    with opened(configuration(database_url, model=PYTHON, inputs=["b", name])) as engine:
        applied(engine)
        m = engine.materialisation(engine.prediction())
        assert m.packings is not None
        held = bytes.fromhex(m.packings[-1].null)
        kind = {"smallint": 21, "integer": 23, "bigint": 20, "real": 700, "double precision": 701}[sql_type]
        result = application.pgconn.exec_params(
            f"INSERT INTO items (b, {name}) VALUES (1, $1), (2, $1), (3, 5)".encode(), [held], [kind], [1]
        )
        assert result.command_status == b"INSERT 0 3", result.error_message
        assert isinstance(compared(engine).values, Columns)
        application.execute(f"INSERT INTO items (b, {name}) VALUES (4, NULL)")
        assert not isinstance(compared(engine).values, Columns)
        application.execute("DELETE FROM items WHERE b < 3")
        assert isinstance(compared(engine).values, Columns)


@pytest.mark.parametrize("many", [1, 99, 100, 101, 250])
def test_many_inputs_are_counted_in_calls_of_a_hundred(
    database_url: str, application: psycopg.Connection[Any], many: int
) -> None:
    names = add(application, ["int"] * many)
    with opened(configuration(database_url, model=PYTHON, inputs=names)) as engine:
        applied(engine)
        application.execute("INSERT INTO items DEFAULT VALUES")
        application.execute(
            f"INSERT INTO items ({', '.join(names)}) VALUES ({', '.join(map(str, range(many)))})"
        )
        taken = compared(engine)
        assert list(taken.values) == [(None,) * many, tuple(range(many))]


@pytest.mark.parametrize(
    "key",
    ['id text COLLATE "C" PRIMARY KEY', "id smallint PRIMARY KEY", "id int, at date, PRIMARY KEY (id, at)"],
)
def test_keys_and_fingerprints_of_every_kind(
    database_url: str, application: psycopg.Connection[Any], key: str
) -> None:
    columns, made = ("id, at", "i, 'epoch'::date + i") if "date" in key else ("id", "i")
    application.execute(f"CREATE TABLE keyed ({key}, a float8, tags xml)")
    application.execute(
        f"INSERT INTO keyed ({columns}, a) SELECT {made}, i / 7.0 FROM generate_series(1, 300) AS i"
    )
    lo, hi = (("0", "0001-01-01"), ("999", "9999-01-01")) if "date" in key else (("0",), ("999",))
    kinds = {}
    for inputs, where in ((["a"], None), (["a"], "a <> 5"), (["a", "tags"], None), (["a", "tags"], "a <> 5")):
        config = configuration(database_url, table="keyed", model=PYTHON, inputs=inputs, where=where)
        with opened(config) as engine:
            applied(engine)
            application.execute("UPDATE keyed SET churn_state = 0")
            by_row, by_column = (read(engine, lo, hi, packed=packed) for packed in (False, True))
            assert shown(by_column) == shown(by_row)
            assert len(by_row) == (299 if where else 300)
            assert isinstance(by_column.values, Columns)
            kinds[engine.materialisation(engine.prediction()).fingerprint[1]] = True
    assert set(kinds) == {"xid", "bigint", "text"}


@pytest.mark.usefixtures("application")
def test_a_window_without_rows(database_url: str) -> None:
    with opened(configuration(database_url, model=PYTHON)) as engine:
        applied(engine)
        assert len(compared(engine)) == 0


def add_up(batch: Batch) -> list[tuple[float]]:
    """The items' model, from the columns that were read."""
    assert isinstance(batch.data, Columns)
    scores: list[float] = batch.matrix(["a", "b"]).sum(axis=1).tolist()
    return [(score,) for score in scores]


def fill(connection: psycopg.Connection[Any], count: int) -> None:
    """So many rows with a = 1, 2, ... and b = 10."""
    connection.execute(f"INSERT INTO items (a, b) SELECT i, 10 FROM generate_series(1, {count}) AS i")


def test_a_batch_of_columns_is_scored_and_written(
    database_url: str, application: psycopg.Connection[Any]
) -> None:
    with opened(configuration(database_url, model=PYTHON), add_up) as engine:
        applied(engine)
        fill(application, MANY)
        assert drain(engine).scored == MANY
    assert application.execute("SELECT count(*) FROM items WHERE p = a + 10").fetchone() == (MANY,)


def test_changes_meanwhile_are_noticed_and_looked_through(
    database_url: str, application: psycopg.Connection[Any]
) -> None:
    model = Barrier(add_up)
    config = configuration(database_url, model=PYTHON, on_input_change="ignore")
    with opened(config, model) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        fill(application, MANY)
        running = pool.submit(drain, engine, seconds=0.001)
        assert model.entered.wait(30)
        application.execute("UPDATE items SET note = 'once' WHERE id <= 50")
        application.execute("UPDATE items SET a = -1 WHERE id IN (7, 700)")
        application.execute("DELETE FROM items WHERE id = 8")
        model.released.set()
        summary = running.result()
        assert (summary.scored, summary.lost) == (MANY - 3, 3)
    wrong = "churn_state = 1 AND p IS DISTINCT FROM a + b"
    assert application.execute(f"SELECT count(*) FROM items WHERE {wrong}").fetchone() == (0,)
    assert states(application) == {SCORED: MANY - 3, PENDING: 2}


def test_poison_rows_are_found_among_columns(database_url: str, application: psycopg.Connection[Any]) -> None:
    """One that the model refuses, one whose answer is none, and one whose answer the database refuses."""

    def refuse(batch: Batch) -> list[tuple[Any]]:
        if 77.0 in batch.columns()["a"]:
            raise RowFaultError("a = 77")
        return [("none",) if answer == (60.0,) else answer for answer in add_up(batch)]

    with opened(configuration(database_url, model=PYTHON), refuse) as engine:
        applied(engine)
        application.execute("ALTER TABLE items ADD CHECK (p <> 110)")
        fill(application, MANY)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (MANY - 3, 3)
    failed = application.execute(f"SELECT a FROM items WHERE churn_state = {FAILED} ORDER BY a")
    assert failed.fetchall() == [(50.0,), (77.0,), (100.0,)]


def test_a_row_that_cannot_be_read_does_not_keep_the_others_from_it(
    database_url: str, application: psycopg.Connection[Any]
) -> None:
    def first(batch: Batch) -> list[tuple[float]]:
        return [(row[0],) for row in batch.rows]

    inputs = ["a", {"name": "share", "sql": "1 / (id - 5)"}]
    with opened(configuration(database_url, model=PYTHON, inputs=inputs), first) as engine:
        applied(engine)
        fill(application, MANY)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (MANY - 1, 1)
    failed = application.execute(f"SELECT a FROM items WHERE churn_state = {FAILED}")
    assert failed.fetchall() == [(5.0,)]


def test_rows_that_somebody_holds_are_stepped_over(
    database_url: str, application: psycopg.Connection[Any], connect: Connect
) -> None:
    holder = connect(autocommit=False)
    for where in (None, "a > 0"):  # without and with a lock of its own
        config = configuration(database_url, model=PYTHON, where=where)
        with opened(config) as engine:
            applied(engine)
            application.execute("DELETE FROM items")
            fill(application, 10)
            holder.execute("UPDATE items SET note = 'held' WHERE a IN (3, 4)")
            taken = read(engine, ("0",), ("100000",), packed=True)
            assert [row[0] for row in taken.values] == [1.0, 2.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
            holder.rollback()


def test_long_texts_are_read_row_by_row(database_url: str, application: psycopg.Connection[Any]) -> None:
    """Texts are packed once rows were seen to be short, and no longer when they were seen to be long."""
    config = configuration(database_url, model=PYTHON, inputs=["a", "note"])
    with opened(config) as engine:
        applied(engine)
        prediction = engine.prediction()
        reader = Reader(engine.database(prediction), engine.materialisation(prediction))

        def packed() -> bool:
            ids = application.execute("SELECT min(id)::text, max(id)::text, count(*) FROM items").fetchone()
            assert ids is not None
            generation = application.execute("SELECT generation FROM rowscore.prediction").fetchone()
            assert generation is not None
            lease = Lease(1, RunKind.DRAIN, 1, Window((ids[0],), (ids[1],)), ids[2], 1, generation[0])
            taken = reader.read(lease).taken
            assert len(taken) == ids[2]
            return isinstance(taken.values, Columns)

        fill(application, MANY)
        assert [packed(), packed()] == [False, True]
        long = reading.NARROW // MANY + 1000
        application.execute(f"UPDATE items SET note = repeat('x', {long})")
        assert [packed(), packed()] == [True, False]
        application.execute("UPDATE items SET note = 'short'")
        assert [packed(), packed()] == [False, True]
        application.execute("DELETE FROM items WHERE id = 1")
        assert MANY - 1 < PACKED_FROM
        assert packed() is False, "fewer rows are cheaper one by one"
