"""What the planner may never do: scan or hash the user's table for a batch, whatever its statistics say."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import applied, configuration, drain, opened
from worker.leases import bind_key
from worker.materialisation import Materialisation
from worker.models.protocol import Batch
from worker.plans import analyse
from worker.states import RowState

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
        ]:
            facts, buffers = explained(engine.database(m.prediction), m, statement, extra, parameters)
            assert facts.seq_scans == (), f"{statement}: {facts}"
            assert facts.hash_joins == (), f"{statement}: {facts}"
            assert facts.rows_scanned <= 3 * BATCH, f"{statement} read {facts.rows_scanned} rows"
            assert buffers <= 40 * BATCH, f"{statement} touched {buffers} buffers"


CLAIMS: dict[str, Any] = {"claims": RowState.PENDING}
# `write_rows` and its kin look each row up by its key; the others walk the pending index.
STATEMENTS: dict[str, dict[str, Any]] = {
    "probe_window": {"pending": True, "start": "after", "cap": None, "upper": False},
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


def window(connection: psycopg.Connection[Any], m: Materialisation) -> dict[str, Any]:
    """The parameters of a batch in the middle of the table: its bounds, its keys, fingerprints and answers."""
    key = ", ".join(f'"{column.name}"' for column in m.key)
    texts = ", ".join(f'"{column.name}"::text AS k{place}' for place, column in enumerate(m.key))
    rows = connection.execute(
        f"SELECT {m.fingerprint[0]}, {texts} FROM keyed WHERE churn_state = 0 ORDER BY {key} OFFSET 3000 LIMIT {BATCH}"
    ).fetchall()
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
        "o1": [0.5] * BATCH,
        "limit": BATCH,
    }


class _UndoError(Exception):
    """Rolls a transaction back."""


def explained(
    database: Any, m: Materialisation, statement: str, extra: dict[str, Any], parameters: dict[str, Any]
) -> tuple[Any, int]:
    """The statement's facts when it is really run under the worker's settings, undone afterwards."""
    found: list[Any] = []
    with (
        contextlib.suppress(_UndoError),
        database.transaction(**database.capabilities.plan_pins) as transaction,
    ):
        text = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + m.render(statement, **extra)
        found.extend(transaction.fetch_binary(text, parameters)[0])
        raise _UndoError
    plan = found[0][0]["Plan"]
    return analyse(found[0], "keyed"), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


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
        keyed.execute("INSERT INTO keyed (a) SELECT i FROM generate_series(1, 3000) AS i")
        before = entries_read(keyed)
        assert drain(engine, seconds=0.0).scored == BATCH
        assert entries_read(keyed) - before <= 6 * BATCH
        snapshot.rollback()


def entries_read(connection: psycopg.Connection[Any]) -> int:
    """Index entries read from the pending index so far, dead ones among them."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute(
        "SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_all_indexes WHERE indexrelname LIKE '%pending%'"
    ).fetchone()
    return int(row[0]) if row else 0
