"""What rowscore locks in InnoDB, and that it never queues up for a row that the application holds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import INNODB, Session, ago, session
from tests.support.mysql import URL, provided
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    fail_at,
    make_items,
    opened,
    states,
)
from worker import rows, upkeep
from worker.database import Transaction
from worker.demo.installs import mariadb_install
from worker.demo.mysql import FAST_SETTINGS, MySQLServer
from worker.errors import FailureClass
from worker.leases import Lease, Window
from worker.materialisation import Materialisation, restricted
from worker.models.protocol import Batch, RowFailure
from worker.options import Options
from worker.states import RowState, RunKind

CONFORMANCE = INNODB
ROWS, BATCH = 2000, 200
LEASE = Lease(1, RunKind.DRAIN, 1, Window(("1001",), (str(1000 + 2 * BATCH),)), BATCH, 1, 1)


def read(transaction: Transaction, m: Materialisation) -> int:
    """Read the window, as the worker-side path does."""
    return len(rows.read(transaction, m, LEASE, LEASE.window, BATCH))


def write(transaction: Transaction, m: Materialisation) -> int:
    """Write answers for the window's rows."""
    with_answers = rows.identify(transaction, m, LEASE, LEASE.window, BATCH)
    return rows.write(transaction, m, RowState.PENDING, with_answers, [(1.0,)] * len(with_answers))


def score(transaction: Transaction, m: Materialisation) -> int:
    """Call the function for the window's rows."""
    return rows.score(transaction, m, LEASE, LEASE.window, BATCH)


def locked_rows(connection: Any, number: int) -> int:
    """Row locks of the session, which is the only one that holds any.

    innodb_trx would show an old picture to who reads it within 100 ms of another, and MySQL's status no session that
    only shares rows. data_locks, which MariaDB lacks, at times names another thread for a part of them.
    """
    if "MariaDB" not in connection.execute("SELECT VERSION()").fetchone()[0]:
        (count,) = connection.execute(
            """SELECT COUNT(*) FROM performance_schema.data_locks
            WHERE object_schema = DATABASE() AND object_name = 'items' AND lock_type = 'RECORD'"""
        ).fetchone()
        return int(count)
    (_, _, status) = connection.execute("SHOW ENGINE INNODB STATUS").fetchone()
    mine = next(part for part in status.split("---TRANSACTION") if f"thread id {number}," in part)
    found = re.search(r"(\d+) row lock\(s\)", mine)
    assert found, mine
    return int(found[1])


@pytest.mark.parametrize("step", [read, write, score])
def test_a_batch_locks_its_rows_alone(
    database_url: str, connect: Connect, step: Callable[[Transaction, Materialisation], int]
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        add_items(application, ROWS)
        application.execute("DELETE FROM items WHERE id % 2 = 0")  # the even keys are free
        m = engine.materialisation(engine.prediction())
        with engine.database(engine.prediction()).transaction() as transaction:
            assert step(transaction, m) == BATCH
            locked = locked_rows(application, transaction.value("SELECT CONNECTION_ID()"))
            # Each row once in the pending index and once in the table; a write locks its new index entry as well.
            assert BATCH <= locked <= 3 * BATCH + 5
            application.execute("SET SESSION innodb_lock_wait_timeout = 1")
            for key in (1000, 1002, 1200, 1000 + 2 * BATCH, 1002 + 2 * BATCH):
                application.execute("INSERT INTO items (id, a, b) VALUES (%s, 1, 1)", [key])
            application.execute("UPDATE items SET a = a + 1 WHERE id IN (999, %s)", [1001 + 2 * BATCH])


# The statements that walk the pending index, and those that look rows up by their keys.
STATEMENTS: dict[str, dict[str, Any]] = {
    "probe_window": {"claims": RowState.PENDING, "start": "after", "cap": "before", "upper": False},
    "first_claimable": {"claims": RowState.PENDING, "upper": False},
    "read_rows": {"claims": RowState.PENDING},
    "score_rows": {"claims": RowState.PENDING},
    "list_rows": {"claims": RowState.PENDING, "unheld": True},
    "write_rows": {"claims": RowState.PENDING},
}


@pytest.mark.parametrize("kind", [RunKind.DRAIN, RunKind.RESCORE])
@pytest.mark.parametrize("key", ["id", "region, id"])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_reads_its_window_and_sorts_nothing(
    database_url: str, connect: Connect, statement: str, key: str, kind: RunKind
) -> None:
    """Counted by the server's own counters of the session: rows read, and files sorted."""
    application = connect()
    application.execute(
        f"CREATE TABLE items (id bigint, region varchar(5) NOT NULL DEFAULT 'r', a double, b int, PRIMARY KEY ({key}))"
    )
    application.execute(
        "CREATE FUNCTION predict(a double, b int) RETURNS double DETERMINISTIC NO SQL RETURN a + b"
    )
    config = configuration(database_url, version={"column": "model", "value": "2"})
    with opened(config) as engine:
        applied(engine)
        add = "INSERT INTO items (id, a, b) SELECT i, i, 1 FROM JSON_TABLE(%s, '$[*]' COLUMNS (i bigint PATH '$')) s"
        application.execute(add, [str(list(range(1, ROWS + 1)))])
        m = engine.materialisation(engine.prediction())
        lease = replace(LEASE, kind=kind)
        if kind is RunKind.RESCORE:
            old = f"churn_scored_at = {ago(application, 60)}, model = '1'"
            application.execute(f"UPDATE items SET churn_state = {kind.claims.value}, {old}")
            m = restricted(m, kind, Options(before="2999-01-01 00:00:00"))
        application.execute("ANALYZE TABLE items")
        prefix = ("r",) if "region" in key else ()
        names = {"lo": "1001", "hi": str(1000 + BATCH), "start": "1000", "cap": str(1001 + BATCH)}
        bounds = {
            f"{name}_{place}": value
            for name, last in names.items()
            for place, value in enumerate((*prefix, last), 1)
        }
        answers = [[*prefix, number, None, 1.0] for number in range(1001, 1001 + BATCH)]
        with engine.database(engine.prediction()).transaction() as transaction:
            listed = rows.identify(
                transaction, m, lease, Window((*prefix, "1001"), (*prefix, str(1000 + BATCH))), BATCH
            )
            assert len(listed) == BATCH
            for answer, fingerprint in zip(answers, listed.fingerprints, strict=True):
                answer[len(prefix) + 1] = fingerprint
            parameters = {**bounds, "limit": BATCH, "rows": json.dumps(answers), "version": "2"}
            before = counters(transaction)
            text = m.render(statement, **{**STATEMENTS[statement], "claims": kind.claims})
            transaction.fetch_binary(text, parameters)
            after = counters(transaction)
        read_rows = sum(after[name] - before[name] for name in after if name.startswith("Handler_read"))
        # One walk; a second one to find the last of a window; writes look each row up again.
        assert read_rows <= 8 * BATCH + 50, (statement, read_rows)
        assert after["Handler_read_rnd_next"] - before["Handler_read_rnd_next"] <= 5 * BATCH + 50


def counters(transaction: Transaction) -> dict[str, int]:
    """The session's counters of rows read."""
    return {
        row[0]: int(row[1])
        for row in transaction.rows("SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%%'")
    }


def queued(connection: Session) -> int:
    """How often any session has queued up for a row, were it for a moment, since the counter was turned on."""
    connection.execute("SET GLOBAL innodb_monitor_enable = 'lock_rec_lock_waits'")
    row = connection.execute(
        "SELECT `count` FROM information_schema.innodb_metrics WHERE name = 'lock_rec_lock_waits'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def hold(holder: Session) -> None:
    """A transaction of the application's: rows locked, changed, deleted and inserted, and none of it committed."""
    holder.execute("SELECT id FROM items WHERE id IN (3, 5, 30) FOR UPDATE")
    holder.execute("UPDATE items SET a = a + 1000 WHERE id = 6")
    holder.execute("DELETE FROM items WHERE id = 7")
    holder.execute("INSERT INTO items (id, a, b) VALUES (21, 21, 10)")


HELD = {3, 5, 6, 7, 30}
PENDING, SCORED, FAILED, SKIPPED = (
    state.value for state in (RowState.PENDING, RowState.SCORED, RowState.FAILED, RowState.SKIPPED)
)


@pytest.mark.skipif(URL in os.environ, reason=f"the server of {URL} is shared, and this counts all its waits")
@pytest.mark.parametrize(
    ("way", "held"),
    [
        ("update", "before it is read"),
        ("select", "before it is read"),
        ("worker", "before it is read"),
        ("worker", "before it is written"),
    ],
)
def test_it_never_queues_up_for_a_row_of_the_applications(
    database_url: str, connect: Connect, way: str, held: str
) -> None:
    """Who queues up while holding rows may be part of a deadlock. One batch at a time, for workers wait for workers."""
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    late = held == "before it is written"

    def model(batch: Batch) -> list[Any]:
        if late and moment:
            hold(moment.pop())
        refused = RowFailure(FailureClass.ROW_PERMANENT, "poison")
        return [refused if row[0] in (3, 13) else add_up(Batch(batch.names, [row]))[0] for row in batch.rows]

    moment: list[Session] = []
    chosen = {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}
    config = configuration(database_url, model=chosen, where="id <> 30 AND id <> 31")
    with opened(config, model if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, 40)
        fail_at(application, 3, 13)
        application.execute("DELETE FROM items WHERE id = 21")
        drain(engine)
        assert states(application) == {SCORED: 35, FAILED: 2, SKIPPED: 2}
        assert calls(application) == 0
        application.execute("UPDATE items SET b = b + 1")
        application.execute("UPDATE rowscore_run SET pos = NULL")  # one window holds them all
        before = queued(application)
        moment.append(holder)
        if not late:
            hold(moment.pop())
        drain(engine, seconds=0)
        assert queued(application) == before, "by a drain"
        # A row that the application holds is not skipped, failed or scored; what it deletes is still there.
        left = {row[0] for row in application.execute("SELECT id FROM items WHERE churn_state = 0")}
        # Rows that `where` excludes are skipped when the others are read, and around a poison row on the next pass.
        assert left == {"before it is read": HELD, "before it is written": HELD - {30}}[held] | (
            {31} if way == "update" else set()
        )
        holder.execute("SELECT id FROM items WHERE id = 13 FOR UPDATE")
        assert upkeep.retry_failures(engine, everything=True) == 0
        upkeep.prune(engine, keep=0)
        assert queued(application) == before, "by upkeep"
        holder.rollback()
        assert upkeep.retry_failures(engine, everything=True) == 1
        drain(engine)
        assert states(application) == {SCORED: 35, FAILED: 2, SKIPPED: 2}


def test_where_a_lock_that_is_not_granted_undoes_the_transaction_nothing_is_written_beside_a_held_row(
    tmp_path: Path,
) -> None:
    """MariaDB gives up all locks then, those under which the generation and the lease were looked at as well."""
    settings = {**FAST_SETTINGS, "innodb_rollback_on_timeout": "ON"}
    with MySQLServer(tmp_path, install=provided(mariadb_install), settings=settings) as server:
        with session(server.url()) as administrator:
            administrator.execute("CREATE DATABASE held")
        url = server.url("held")
        with (
            session(url) as application,
            session(url, autocommit=False) as holder,
            opened(configuration(url)) as engine,
        ):
            make_items(application)
            applied(engine)
            add_items(application, 10)
            holder.execute("SELECT id FROM items WHERE id = 5 FOR UPDATE")
            drain(engine)
            assert (states(application), calls(application)) == ({PENDING: 10}, 0)
            holder.rollback()
            drain(engine)
            assert (states(application), calls(application)) == ({SCORED: 10}, 10)
