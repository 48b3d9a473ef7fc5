"""Tables as only PostgreSQL has them: rows that move between partitions under a lock, and policies over rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.applied import partition_items
from tests.support.databases import series
from tests.support.deadlines import eventually
from tests.support.predictions import (
    WAYS,
    add_items,
    applied,
    configuration,
    double_of,
    drain,
    make_items,
    model_of,
    opened,
    states,
)
from tests.support.routines import Gate, add_function
from worker.states import RowState

PENDING, SCORED, EXISTING = RowState.PENDING.value, RowState.SCORED.value, RowState.EXISTING.value
WRONG = f"SELECT count(*) FROM items WHERE churn_state = {SCORED} AND p IS DISTINCT FROM a + b"


@pytest.mark.parametrize("way", ["update", "worker"])
def test_a_row_that_moves_while_its_lock_is_asked_for(database_url: str, connect: Connect, way: str) -> None:
    """PostgreSQL answers 40001: the window is read again, and the drain goes on."""
    application = connect()
    partition_items(application)
    add_function(application, "predict", "a float8, b int", "a + b")
    gate = Gate(connect())
    waits = f"IF id = 165 AND current_query() NOT LIKE '%IS NOT TRUE%' THEN {gate.passage} END IF;"
    add_function(application, "gate", "id bigint", "true", returns="boolean", before=waits)
    config = configuration(database_url, model=model_of(way), where="gate(id)", max_rows_per_claim=100)
    with opened(config, double_of(way)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        application.execute(
            f"INSERT INTO items (id, a, b) SELECT i, i, 3 FROM {series(application, 160, 169)}"
        )
        running = pool.submit(drain, engine)
        eventually(gate.waiting, "the gate is reached")
        application.execute("UPDATE items SET b = 1 WHERE id = 165")
        gate.open()
        running.result()
        drain(engine)
    assert states(application) == {SCORED: 10, EXISTING: 100}
    assert application.execute(WRONG).fetchone() == (0,)


def grant(connection: psycopg.Connection, account: Account) -> None:
    """What a worker's role needs, and nothing else."""
    role = account.quoted
    connection.execute(f"GRANT USAGE ON SCHEMA rowscore TO {role}")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rowscore TO {role}")
    connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA rowscore, public TO {role}")
    connection.execute(f"GRANT SELECT ON items TO {role}")
    connection.execute(f"GRANT UPDATE (p, churn_state, churn_scored_at) ON items TO {role}")


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_row_level_security(
    database_url: str, connect: Connect, account: Account, way: str, forced: bool
) -> None:
    """A policy decides which rows a role may score: the others wait untouched for one that may."""
    application = connect()
    make_items(application)
    with opened(configuration(database_url, model=model_of(way))) as owner:
        applied(owner)
    application.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    if forced:
        application.execute("ALTER TABLE items FORCE ROW LEVEL SECURITY")
    role = account.quoted
    application.execute(f"CREATE POLICY own ON items TO {role} USING (id % 2 = 0) WITH CHECK (id % 2 = 0)")
    grant(application, account)
    add_items(application, 20)
    with opened(configuration(account.url, model=model_of(way)), double_of(way)) as engine:
        assert drain(engine).scored == 10
        assert states(application) == {SCORED: 10, PENDING: 10}
        application.execute(f"ALTER ROLE {role} BYPASSRLS")
        assert drain(engine).scored == 10
    assert application.execute(WRONG).fetchone() == (0,)
