"""Backfills where PostgreSQL alone can be brought to fail, or to wait, at the moment that is meant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.integration.test_backfill import WAYS, double_of, expire, model, right, status, work
from tests.support.deadlines import eventually
from tests.support.predictions import applied, calls, configuration, make_items, opened
from worker.errors import DatabaseError


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_is_cut_at_chosen_moments(database_url: str, connect: Connect, way: str) -> None:
    """A trigger cuts the connection of the statement that writes; another time the one that leases is cut."""
    application = connect()
    make_items(application, 60)
    application.execute(
        """CREATE TABLE cuts (remaining int); INSERT INTO cuts VALUES (0);
        CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT FROM cuts WHERE remaining > 0) AND NEW.id % 17 = 3 THEN
            PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NEW; END $$;
        CREATE TRIGGER cut AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION cut()"""
    )
    with opened(
        configuration(database_url, model=model(way), max_rows_per_claim=20), double_of(way)
    ) as engine:
        applied(engine)
        application.execute(
            """CREATE FUNCTION cut_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              IF EXISTS (SELECT FROM cuts WHERE remaining < 0) THEN
                PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN NULL; END $$;
            CREATE TRIGGER cut_insert AFTER INSERT ON rowscore.lease EXECUTE FUNCTION cut_lease();
            CREATE TRIGGER cut_delete AFTER DELETE ON rowscore.lease EXECUTE FUNCTION cut_lease()"""
        )
        for remaining in (1, -1, 1, -1):
            application.execute("UPDATE cuts SET remaining = %s", [remaining])
            with pytest.raises(DatabaseError):
                work(engine)
            expire(application)
        application.execute("UPDATE cuts SET remaining = 0")
        work(engine)
    assert right(application) == 60
    assert status(application) == [("finished", 60, 60, 0, 0)]


def test_a_batch_that_is_paid_for_waits_for_the_runs_row_and_is_not_paid_for_again(
    database_url: str, connect: Connect
) -> None:
    """All workers count into the run's row; the one that leases holds it for longer than a batch waits for rows."""
    application = connect()
    make_items(application, 20)
    application.execute(
        """CREATE TABLE gate (); CREATE OR REPLACE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE plpgsql AS
        $$ BEGIN PERFORM nextval('calls');
        LOOP EXIT WHEN EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.005); END LOOP; RETURN a + b; END $$"""
    )
    with opened(configuration(database_url)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        running = pool.submit(work, engine)
        called = "SELECT is_called FROM calls"
        eventually(lambda: application.execute(called).fetchone() == (True,), "it calls the function")
        holder = connect(autocommit=False)
        run = "SELECT FROM rowscore.run WHERE kind = 'backfill' FOR UPDATE"
        eventually(lambda: ended(holder, f"{run} NOWAIT"), "the look ahead has ended")
        application.execute("INSERT INTO gate DEFAULT VALUES")
        asked = """SELECT count(*) FROM pg_stat_activity
            WHERE wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '150 ms'"""
        eventually(
            lambda: application.execute(asked).fetchone()[0] > 0, "it has waited for longer than for a row"
        )
        holder.rollback()
        assert running.result().scored == 20
    assert calls(application) == 20


def ended(connection: psycopg.Connection[Any], statement: str) -> bool:
    """Whether the statement finds its row free; it is then held."""
    try:
        connection.execute(statement)
    except psycopg.errors.LockNotAvailable:
        connection.rollback()
        return False
    return True
