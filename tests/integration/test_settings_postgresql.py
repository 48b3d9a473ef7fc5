"""Servers and roles of PostgreSQL with settings of their own, which rowscore neither needs nor leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker.database import Database
from worker.states import RowState

PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value


@pytest.fixture
def role(database_url: str, connect: Connect) -> Iterator[str]:
    """A superuser of this test's own, whose settings the test may spoil."""
    name = f"tuned_{database_url.rpartition('_')[2]}"
    connection = connect()
    connection.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")
    yield name
    connection.execute(f"REASSIGN OWNED BY {name} TO postgres")
    connection.execute(f"DROP ROLE {name}")


SETTINGS = {
    "default_transaction_isolation": "'serializable'",
    "statement_timeout": "'20s'",
    "lock_timeout": "'10s'",
    "idle_in_transaction_session_timeout": "'20s'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'sql_standard'",
    "TimeZone": "'Asia/Kathmandu'",
    "extra_float_digits": "'-15'",
    "bytea_output": "'escape'",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "client_min_messages": "'debug1'",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "plan_cache_mode": "'force_generic_plan'",
    "row_security": "off",
    "search_path": "public, pg_catalog",
    "synchronous_commit": "off",
    "work_mem": "'64kB'",
    "jit_above_cost": "0",
    "escape_string_warning": "off",
    "lc_numeric": "'C'",
}
KEYED = """
CREATE TABLE items (at timestamptz, b bytea, i interval, f numeric, a float8, n int, p float8[], t timestamptz,
  bytes bytea, note text, PRIMARY KEY (at, b, i, f))
"""
ROWS = r"""
INSERT INTO items
SELECT '2024-02-03 04:05:06.000007+00'::timestamptz + i * interval '1 day 1 s', decode(md5(i::text), 'hex'),
  (-i || ' days 03:04:05')::interval, i / 7.0, i / 3.0, 10, NULL, NULL, '\x5c00ff', E'back\\slash ''q'''
FROM generate_series(1, 40) AS i
"""


@pytest.mark.parametrize("way", ["update", "select", "worker"])
def test_a_role_with_settings_of_its_own(database_url: str, connect: Connect, role: str, way: str) -> None:
    """Composite keys whose texts depend on settings; answers with fractions, NULLs, times and bytes."""
    application = connect()
    application.execute(KEYED)
    application.execute(
        r"""CREATE FUNCTION predict(a float8, b int, note text, OUT p float8[], OUT t timestamptz, OUT bytes bytea)
        LANGUAGE sql AS $$
        SELECT ARRAY[a, NULL, b], '2024-03-04 05:06:07.000008+00'::timestamptz, decode('5c2700', 'hex') $$"""
    )
    for name, value in SETTINGS.items():
        application.execute(f"ALTER ROLE {role} SET {name} = {value}")

    def answers(batch: Any) -> list[tuple[Any, ...]]:
        assert {row[2] for row in batch.rows} <= {"back\\slash 'q'"}
        return [([row[0], None, row[1]], "2024-03-04 05:06:07.000008+00", "\\x5c2700") for row in batch.rows]

    config = configuration(
        database_url.replace("postgres@", f"{role}@"),
        model={"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way},
        inputs=["a", {"column": "n", "default": 10}, {"column": "note", "default": "back\\slash 'q'"}],
        outputs={"p": "float8[]", "t": "timestamptz", "bytes": "bytea"},
        where="n IS NULL OR n < 100",
        max_rows_per_claim=7,
        workers=2,
    )
    with opened(config, answers if way == "worker" else None) as engine, ThreadPoolExecutor(2) as pool:
        applied(engine)
        application.execute(ROWS)
        application.execute("UPDATE items SET note = NULL WHERE a < 3")
        summaries = [running.result() for running in [pool.submit(drain, engine) for _ in range(2)]]
        last = drain(engine)
        assert sum(summary.scored for summary in [*summaries, last]) == 40
        assert sum(summary.failed + summary.lost for summary in summaries) == 0
        assert states(application) == {SCORED: 40}
        right = r"p[1] = a AND p[2] IS NULL AND p[3] = 10 AND bytes = '\x5c2700'"
        right += " AND t = '2024-03-04 05:06:07.000008+00'"
        assert application.execute(f"SELECT count(*) FROM items WHERE {right}").fetchone() == (40,)


def test_a_server_whose_default_is_serializable_and_a_pooled_connection_that_keeps_no_settings(
    database_url: str, connect: Connect
) -> None:
    """PgBouncer in transaction mode hands the connection to somebody else after each commit."""
    application = connect()
    make_items(application)
    name = database_url.rpartition("/")[2]
    application.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    shown = "SELECT name, setting FROM pg_settings WHERE context = 'user' ORDER BY name"
    database = Database(database_url)
    for model, function in (({"sql": "predict"}, None), ({"python": "x:y"}, add_up)):
        with opened(configuration(database_url, model=model, max_rows_per_claim=50), function) as engine:
            pool = engine.database(engine.prediction())
            with pool.engine.connect() as connection:
                before = {row[0]: row[1] for row in connection.exec_driver_sql(shown)}
            applied(engine)
            add_items(application, 300)
            assert drain(engine).scored == 300
            checked = 0
            with pool.engine.connect() as one, pool.engine.connect() as two:
                for connection in (one, two):
                    after = {row[0]: row[1] for row in connection.exec_driver_sql(shown)}
                    assert {name: after[name] for name in before} == before
                    prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements")
                    assert prepared.scalar() == 0
                    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                    assert connection.exec_driver_sql(locks).scalar() == 0
                    checked += 1
            assert checked == 2
    database.dispose()
