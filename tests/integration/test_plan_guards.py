"""What the planner may never do: scan or hash the user's table for a batch, whatever its statistics say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.deadlines import eventually
from tests.support.predictions import applied, configuration, drain, opened
from worker.engine import Engine
from worker.leases import bind_key
from worker.materialisation import Materialisation, restricted
from worker.models.protocol import Batch
from worker.options import Options
from worker.plans import analyse
from worker.states import RowState, RunKind

ROWS = 200_000
BATCH = 1_000
KEYS = {
    "bigint": ("id bigint PRIMARY KEY", "i"),
    "uuid": ("id uuid PRIMARY KEY", "md5(i::text)::uuid"),
    "composite": ("region text, id int, PRIMARY KEY (region, id)", "'r' || i % 7, i"),
}
STATISTICS = ("fresh", "none", "from before the rows came", "from before they were scored")


def make_rows(connection: psycopg.Connection[Any], key: str, statistics: str) -> None:
    """200,000 rows, one in twenty pending, with statistics that may be badly out of date."""
    if statistics == "from before the rows came":
        connection.execute("ANALYZE keyed")
    scored = "INSERT INTO keyed SELECT {0}, i, {1} FROM generate_series(1, {2}) AS i"
    if statistics == "from before they were scored":
        connection.execute(scored.format(KEYS[key][1], 0, ROWS))
        connection.execute("ANALYZE keyed")
        connection.execute("UPDATE keyed SET churn_state = 1 WHERE a::int % 20 <> 0")
    else:
        connection.execute(scored.format(KEYS[key][1], "CASE WHEN i % 20 = 0 THEN 0 ELSE 1 END", ROWS))
    if statistics == "fresh":
        connection.execute("VACUUM ANALYZE keyed")


@pytest.fixture
def keyed(connect: Connect) -> psycopg.Connection[Any]:
    connection = connect()
    connection.execute(
        "CREATE FUNCTION predict(a float8) RETURNS float8 LANGUAGE sql STABLE AS 'SELECT a * 2'"
    )
    return connection


@pytest.fixture(params=["postgres", "postgres_16"])
def url_of_either(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of its own on a server of either version: before PostgreSQL 18 walks end otherwise."""
    server = request.getfixturevalue(request.param)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS walks")
        connection.execute("CREATE DATABASE walks")
        yield server.url("walks")
        connection.execute("DROP DATABASE walks WITH (FORCE)")


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("key", KEYS)
def test_no_statement_of_a_batch_scans_or_hashes_the_table(
    database_url: str, keyed: psycopg.Connection[Any], key: str, statistics: str
) -> None:
    keyed.execute(f"CREATE TABLE keyed ({KEYS[key][0]}, a float8)")
    with opened(configuration(database_url, table="keyed", inputs=["a"])) as engine:
        applied(engine)
        keyed.execute("ALTER TABLE keyed DROP COLUMN p CASCADE")
        keyed.execute("ALTER TABLE keyed ADD COLUMN p float8")
        make_rows(keyed, key, statistics)
        m = engine.materialisation(engine.prediction())
        parameters = window(keyed, m)
        for statement, extra in [
            *STATEMENTS.items(),
            ("probe_window", {**STATEMENTS["probe_window"], "start": None}),
            ("read_rows", {**CLAIMS, "packed": True}),
        ]:
            facts, buffers = explained(engine.database(m.prediction), m, statement, extra, parameters)
            assert facts.seq_scans == (), f"{statement}: {facts}"
            assert facts.hash_joins == (), f"{statement}: {facts}"
            assert facts.rows_scanned <= 3 * BATCH, f"{statement} read {facts.rows_scanned} rows"
            assert buffers <= 40 * BATCH, f"{statement} touched {buffers} buffers"


CLAIMS: dict[str, Any] = {"claims": RowState.PENDING}
# `write_rows` and its kin look each row up by its key; the others walk the pending index.
STATEMENTS: dict[str, dict[str, Any]] = {
    "probe_window": {**CLAIMS, "start": "after", "cap": None, "upper": False},
    "first_claimable": {**CLAIMS, "upper": False},
    "read_rows": CLAIMS,
    "write_rows": CLAIMS,
    "write_rows_past_locks": CLAIMS,
    "count_waiting": CLAIMS,
    "mark_failed": {**CLAIMS, "guarded": True},
    "claim_rows": CLAIMS,
    "score_rows": CLAIMS,
    "score_rows_in_place": CLAIMS,
    "list_rows": {**CLAIMS, "unheld": True},
}


def window(
    connection: psycopg.Connection[Any],
    m: Materialisation,
    *,
    state: int = 0,
    offset: int = 3000,
    step: int = 1,
) -> dict[str, Any]:
    """The parameters of a batch in the middle of the table: its bounds, its keys, fingerprints and answers.

    Args:
        state: that its rows are in.
        offset: rows before it.
        step: 2: every other row of the window alone is in the batch.
    """
    key = ", ".join(f'"{column.name}"' for column in m.key)
    texts = ", ".join(f'"{column.name}"::text AS k{place}' for place, column in enumerate(m.key))
    rows = connection.execute(
        f"SELECT {m.fingerprint[0]}, {texts} FROM keyed WHERE churn_state = {state} "
        f"ORDER BY {key} OFFSET {offset} LIMIT {BATCH}"
    ).fetchall()[::step]
    columns = list(zip(*rows, strict=True))
    keys = [
        [int(value) for value in values] if column.native else list(values)
        for column, values in zip(m.key, columns[1:], strict=True)
    ]
    return {
        **bind_key("lo", rows[0][1:]),
        **bind_key("hi", rows[-1][1:]),
        **bind_key("start", rows[0][1:]),
        **{f"k{place}": values for place, values in enumerate(keys, 1)},
        "f": list(columns[0]),
        "o1": [0.5] * len(rows),
        "limit": BATCH,
    }


RESCORED = 20_000  # rows; each version's are every other one
CLAIMS_SCORED: dict[str, Any] = {"claims": RunKind.RESCORE.claims}


@pytest.mark.parametrize("where", ["beginning", "end"])
@pytest.mark.parametrize("key", KEYS)
def test_no_statement_of_a_rescores_batch_reads_more_than_its_window(
    url_of_either: str, key: str, where: str
) -> None:
    """It walks the key, over rows of either version, at either end of the table."""
    config = configuration(
        url_of_either, table="keyed", inputs=["a"], version={"column": "model", "value": "2"}
    )
    with psycopg.connect(url_of_either, autocommit=True) as connection, opened(config) as engine:
        connection.execute(
            "CREATE FUNCTION predict(a float8) RETURNS float8 LANGUAGE sql STABLE AS 'SELECT a * 2'"
        )
        connection.execute(f"CREATE TABLE keyed ({KEYS[key][0]}, a float8)")
        applied(engine)
        columns = "a, churn_state, churn_scored_at, model"
        own = f"INSERT INTO keyed ({', '.join(key_columns(key))}, {columns})"
        connection.execute(
            f"{own} SELECT {KEYS[key][1]}, i, 1, clock_timestamp(), i % 2 + 1 FROM generate_series(1, {RESCORED}) AS i"
        )
        connection.execute("VACUUM ANALYZE keyed")
        plain = engine.materialisation(engine.prediction())
        m = restricted(plain, RunKind.RESCORE, Options(before="2999-01-01 00:00:00"))
        offset = 0 if where == "beginning" else RESCORED - 2 * BATCH
        parameters = {**window(connection, m, state=1, offset=offset, step=2), "version": "2"}
        for statement, extra in [*RESCORING.items(), ("read_rows", {**CLAIMS_SCORED, "packed": True})]:
            if statement == "score_rows_in_place" and not m.ends_walks:
                continue  # see InDatabase.score_window
            plan = executed(engine.database(m.prediction), m, statement, extra, parameters)
            facts = analyse([{"Plan": plan}], "keyed")
            buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert facts.seq_scans == (), f"{statement}: {facts}"
            assert facts.hash_joins == (), f"{statement}: {facts}"
            assert buffers <= 45 * BATCH, f"{statement} touched {buffers} buffers"
            # The walk over a window of 1,000 keys passes 1,000 rows; before PostgreSQL 18 twice.
            read = [node for node in nodes(plan) if "Scan" in node["Node Type"] and node.get("Relation Name")]
            passed = sum(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                for node in read
            )
            assert passed <= 3 * BATCH, f"{statement} read {passed} rows: {facts}"


def key_columns(key: str) -> tuple[str, ...]:
    """The names of the key's columns."""
    return ("region", "id") if key == "composite" else ("id",)


RESCORING: dict[str, dict[str, Any]] = {
    "probe_window": {**CLAIMS_SCORED, "start": "after", "cap": None, "upper": False},
    **{
        name: CLAIMS_SCORED
        for name in (
            "read_rows", "write_rows", "write_rows_past_locks", "count_waiting", "changed_rows", "claim_rows",
            "score_rows", "score_rows_in_place", "answer_rows",
        )
    },
    "mark_failed": {**CLAIMS_SCORED, "guarded": True},
    "list_rows": {**CLAIMS_SCORED, "unheld": True},
}  # fmt: skip
WALKS = (
    "probe_window",
    "read_rows",
    "claim_rows",
    "score_rows",
    "score_rows_in_place",
    "list_rows",
    "skip_rows",
)
BACKLOG = 100_000


@pytest.mark.parametrize("key", ["id bigint", "tenant int DEFAULT 7, id int"])
def test_a_walk_ends_at_its_window_however_long_the_backlog(url_of_either: str, key: str) -> None:
    """Buffers touched at the beginning of a backlog and at its end, where walking on costs nothing, are the same."""
    tenant = ("7",) if "tenant" in key else ()
    columns = "tenant, id" if tenant else "id"
    config = configuration(url_of_either, table="walked", inputs=["a"], where="a > 0")
    with psycopg.connect(url_of_either, autocommit=True) as connection, opened(config) as engine:
        connection.execute(
            "CREATE FUNCTION predict(a float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT a * 2'"
        )
        connection.execute(f"CREATE TABLE walked ({key}, a float8, PRIMARY KEY ({columns}))")
        applied(engine)
        connection.execute(f"INSERT INTO walked (id, a) SELECT i, i FROM generate_series(1, {BACKLOG}) AS i")
        connection.execute("UPDATE walked SET churn_state = 1 WHERE id % 2 = 0")  # LIMIT is not reached
        connection.execute("VACUUM ANALYZE walked")
        m = engine.materialisation(engine.prediction())
        assert m.ends_walks is (connection.info.server_version >= 180000)
        for statement in WALKS:
            if statement == "score_rows_in_place" and not m.ends_walks:
                continue  # see InDatabase.score_window
            first, last = (
                walked(engine.database(m.prediction), m, statement, tenant, start)
                for start in (1, BACKLOG - 400)
            )
            assert abs(first - last) < 30, f"{statement} touched {first} and {last} buffers"


def walked(database: Any, m: Materialisation, statement: str, tenant: tuple[str, ...], start: int) -> int:
    """Buffers that the statement's walks touch for a window of 400 keys, of which half wait: fewer than its LIMIT."""
    lo, hi = (*tenant, str(start)), (*tenant, str(start + 399))
    bounds = {"lo": lo, "hi": hi, "start": lo, "cap": hi}
    parameters = {name: value for key in bounds for name, value in bind_key(key, bounds[key]).items()}
    extra = {
        "probe_window": {**CLAIMS, "start": "at", "cap": "until", "upper": False},
        "list_rows": {**CLAIMS, "unheld": True},
    }.get(statement, CLAIMS)
    plan = executed(database, m, statement, extra, {**parameters, "limit": 300})
    scans = [node for node in nodes(plan) if "pending" in node.get("Index Name", "")]
    assert scans
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in scans)


@pytest.mark.parametrize("key", ["id bigint", "tenant int DEFAULT 7, id int"])
@pytest.mark.parametrize("version", ["postgres", "postgres_16"])
def test_a_window_of_verify_or_export_costs_what_it_holds_wherever_it_is(
    request: pytest.FixtureRequest, version: str, key: str
) -> None:
    server = request.getfixturevalue(version)
    tenant = ("7",) if "tenant" in key else ()
    columns = "tenant, id" if tenant else "id"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS verified")
        connection.execute("CREATE DATABASE verified")
    url = server.url("verified")
    kept = {"on_input_change": "fingerprint", "fingerprint": "seen"}
    config = configuration(url, table="walked", inputs=["a"], model={"python": "tests:none"}, **kept)
    with psycopg.connect(url, autocommit=True) as connection, opened(config) as engine:
        connection.execute(f"CREATE TABLE walked ({key}, a float8, PRIMARY KEY ({columns}))")
        applied(engine)
        connection.execute(f"INSERT INTO walked (id, a) SELECT i, i FROM generate_series(1, {BACKLOG}) AS i")
        m = engine.materialisation(engine.prediction())
        assert m.kept is not None
        connection.execute(f"UPDATE walked AS c SET churn_state = 1, seen = {m.kept.expression}")
        connection.execute("VACUUM FULL walked")
        connection.execute("VACUUM ANALYZE walked")
        connection.execute(f"UPDATE walked SET a = -1 WHERE id IN (300, {BACKLOG - 100})")
        database = engine.database(m.prediction)
        statements: dict[str, dict[str, Any]] = {
            "walk_keys": {"start": True}, "compare_rows": {}, "list_compared": {}, "export_rows": {"scored": False},
            "list_exported": {},
        }  # fmt: skip
        for statement, extra in statements.items():
            touched = []
            for start in (200, BACKLOG - 400):
                lo, hi = (*tenant, str(start)), (*tenant, str(start + 399))
                bounds = {**bind_key("lo", lo), **bind_key("hi", hi), **bind_key("start", lo), "limit": 400}
                plan = executed(database, m, statement, extra, bounds)
                assert not any(node["Node Type"] == "Seq Scan" for node in nodes(plan)), statement
                touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
                if statement == "compare_rows":
                    assert plan["Actual Rows"] == 1
            assert abs(touched[0] - touched[1]) < 30, f"{statement} touched {touched} buffers"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE verified WITH (FORCE)")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


class _UndoError(Exception):
    """Rolls a transaction back."""


def explained(
    database: Any, m: Materialisation, statement: str, extra: dict[str, Any], parameters: dict[str, Any]
) -> tuple[Any, int]:
    """The statement's facts when it is really run, and the buffers that it touched."""
    plan = executed(database, m, statement, extra, parameters)
    return analyse([{"Plan": plan}], "keyed"), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def executed(
    database: Any, m: Materialisation, statement: str, extra: dict[str, Any], parameters: dict[str, Any]
) -> Any:
    """The statement's plan when it is really run under the worker's settings, undone afterwards."""
    found: list[Any] = []
    with (
        contextlib.suppress(_UndoError),
        database.transaction(**database.capabilities.plan_pins) as transaction,
    ):
        text = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + m.render(statement, **extra)
        found.extend(transaction.fetch_binary(text, parameters)[0])
        raise _UndoError
    return found[0][0]["Plan"]


@pytest.mark.parametrize("model", [{"sql": "predict"}, {"python": "x:y"}], ids=["database", "worker"])
def test_a_batch_reads_no_dead_entries_behind_an_open_snapshot(
    database_url: str, keyed: psycopg.Connection[Any], connect: Connect, model: dict[str, str]
) -> None:
    keyed.execute("CREATE TABLE keyed (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a float8)")
    config = configuration(database_url, table="keyed", inputs=["a"], model=model, max_rows_per_claim=BATCH)

    def double(batch: Batch) -> list[tuple[float]]:
        return [(row[0] * 2,) for row in batch.rows]

    with opened(config, None if "sql" in model else double) as engine:
        applied(engine)
        keyed.execute("INSERT INTO keyed (a) SELECT i FROM generate_series(1, 100000) AS i")
        snapshot = connect(autocommit=False)
        snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        snapshot.execute("SELECT count(*) FROM keyed")
        assert drain(engine).scored == 100_000
        counted(engine, keyed)
        keyed.execute("INSERT INTO keyed (a) SELECT i FROM generate_series(1, 3000) AS i")
        before = entries_read(keyed)
        assert drain(engine, seconds=0.0).scored == BATCH
        counted(engine, keyed)
        assert entries_read(keyed) - before <= 6 * BATCH
        snapshot.rollback()


def counted(engine: Engine, connection: psycopg.Connection[Any]) -> None:
    """End the worker's sessions: until then what they read is counted when the server finds the time."""
    engine.database(engine.prediction()).engine.dispose()
    there = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'rowscore'"
    eventually(lambda: connection.execute(there).fetchone() == (0,), "the end of the worker's sessions")


def entries_read(connection: psycopg.Connection[Any]) -> int:
    """Index entries read from the pending index so far, dead ones among them."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_all_indexes WHERE indexrelname LIKE '%pending%'"
    ).fetchone()
    return int(row[0]) if row else 0
