"""What `read_status` relies on in PostgreSQL alone: the planner's statistics, partitions, and the pending index."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.conftest import Connect
from tests.support.applied import partition_items
from tests.support.predictions import add_items, applied, configuration, make_items, opened
from worker.database import Database
from worker.plans import analyse
from worker.status import Limits, read_status


def test_before_any_analyze_nobody_knows_how_many_rows_exist(database_url: str, connect: Connect) -> None:
    make_items(connect(), rows=30)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = read_status(engine, limits=Limits(count_up_to=15, small_table=0))
    assert found.rows is not None
    assert (found.rows.exact, found.rows.existing, found.rows.pending) == (False, None, 0)


def test_partitions_are_counted_together(connect: Connect, database_url: str) -> None:
    connection = connect()
    partition_items(connection)
    connection.execute(
        "CREATE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE sql RETURN a + b; ANALYZE items"
    )
    with opened(configuration(database_url)) as engine:
        applied(engine)
        connection.execute("ANALYZE items")
        found = [read_status(engine, limits=limits).rows for limits in (Limits(), Limits(small_table=0))]
    assert [(item and item.total, item and item.existing) for item in found] == [(100, 100), (100, 100)]


def test_waiting_rows_are_counted_by_their_index(database_url: str, connect: Connect) -> None:
    rows: psycopg.Connection[Any] = connect()
    make_items(rows, rows=30)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        rows.execute("ANALYZE items")  # when no row waited
        add_items(rows, 5000)
        m = engine.materialisation(engine.prediction())
        database: Database = engine.database(engine.prediction())
        with database.transaction(**database.capabilities.plan_pins) as transaction:
            plan = transaction.value(
                f"EXPLAIN (FORMAT JSON) {m.render('count_pending', arrived_at=None)}", limit=101
            )
    facts = analyse(plan, "items")
    assert facts.index_names == ("rowscore_churn_pending",)
    assert facts.by_index
