"""Leases: live windows never overlap, the cursor loses no row, whatever workers do meanwhile."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Connect
from tests.support.children import children
from tests.support.databases import Session, ago, is_postgresql, only, own, session, waiting_sessions
from tests.support.deadlines import eventually
from tests.support.dying import lease_all
from tests.support.predictions import (
    add_items,
    applied,
    calls,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker.engine import Engine
from worker.errors import LeaseLostError
from worker.leases import Idle, Lease, Leases, share_prediction
from worker.states import RowState, RunKind

PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value
CONFORMANCE = True
POSTGRESQL_ALONE = only("postgresql")


def overlapping(connection: Session) -> int:
    """Pairs of leases that share a key."""
    lease = own(connection, "lease")
    cast = "CAST({0} ->> 0 AS bigint)"
    if not is_postgresql(connection):
        cast = "CAST(JSON_UNQUOTE(JSON_EXTRACT({0}, '$[0]')) AS SIGNED)"
    first, second = (tuple(cast.format(f"{name}.{end}") for end in ("lo", "hi")) for name in "ab")
    (count,) = connection.execute(
        f"SELECT count(*) FROM {lease} a JOIN {lease} b ON a.run_id = b.run_id AND a.token < b.token "
        f"WHERE {first[0]} <= {second[1]} AND {second[0]} <= {first[1]}"
    ).fetchone() or (0,)
    return int(count)


def expire(connection: Session, where: str = "") -> None:
    """Let leases run out, or some."""
    connection.execute(f"UPDATE {own(connection, 'lease')} SET expires_at = '2020-01-01' {where}")


def insert(connection: Session, key: int) -> None:
    """A row of that key, unless there is one."""
    ending = "ON CONFLICT DO NOTHING" if is_postgresql(connection) else "ON DUPLICATE KEY UPDATE id = id"
    connection.execute(f"INSERT INTO items (id, a, b) VALUES (%s, 1, 2) {ending}", [key])


class Workers:
    """Several leasing workers that only lease: they end a window by marking its rows themselves."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.database = engine.database(engine.prediction())
        self.m = engine.materialisation(engine.prediction())
        self.leases = [Leases(self.database, self.m, f"worker-{number}") for number in range(count)]
        self.held: list[list[Lease]] = [[] for _ in range(count)]

    def acquire(self, worker: int, rows: int) -> Lease | Idle:
        """One more window for that worker."""
        found = self.leases[worker].acquire(RunKind.DRAIN, rows)
        if isinstance(found, Lease):
            self.held[worker].append(found)
        return found

    def step(self, connection: Session, worker: int, chance: random.Random) -> str:
        """One thing that a worker does; says which."""
        held = self.held[worker]
        step = chance.choice(["acquire"] * 4 + (["finish"] * 3 + ["abandon", "die"]) * bool(held))
        if step == "acquire":
            self.acquire(worker, chance.choice([1, 2, 5, 20]))
        elif step == "finish":
            self.finish(connection, worker, chance.choice(held))
        elif step == "abandon":
            self.leases[worker].abandon(held.pop())
        else:
            held.clear()
        return step

    def finish(self, connection: Session, worker: int, lease: Lease) -> bool:
        """Mark at most as many rows as the lease speaks of, as a batch does, and end the lease."""
        self.held[worker].remove(lease)
        due = "SELECT id FROM items WHERE churn_state = 0 AND id BETWEEN %s AND %s ORDER BY id LIMIT %s"
        due += " FOR UPDATE SKIP LOCKED"
        change = "churn_state = 1, p = coalesce(p, 0) + 1"
        connection.execute(
            f"UPDATE items SET {change} FROM ({due}) AS due WHERE items.id = due.id"
            if is_postgresql(connection)
            else f"UPDATE ({due}) AS due STRAIGHT_JOIN items FORCE INDEX (PRIMARY) ON items.id = due.id SET {change}",
            [lease.window.lo[0], lease.window.hi[0], lease.rows],
        )
        with self.database.transaction() as transaction:
            return self.leases[worker].finish(transaction, lease)


def meddle(application: Session, chance: random.Random) -> str:
    """One thing that happens to leases and rows from outside; says which."""
    step = chance.choice(["insert", "insert", "expire", "delete"])
    if step == "insert":  # ahead of the cursor, behind it, and inside live windows
        for key in chance.sample(range(1000), 5):
            insert(application, key)
    elif step == "delete":
        application.execute("DELETE FROM items WHERE id = %s", [chance.randrange(1000)])
    else:
        lease = own(application, "lease")
        expire(
            application, f"WHERE token = (SELECT first FROM (SELECT min(token) AS first FROM {lease}) AS l)"
        )
    return step


@pytest.mark.parametrize("seed", range(6))
def test_live_windows_are_disjoint_and_no_row_is_lost(database_url: str, connect: Connect, seed: int) -> None:
    chance = random.Random(seed)
    application = connect()
    make_items(application)
    with opened(configuration(database_url, workers=3, max_rows_per_claim=20)) as engine:
        applied(engine)
        workers = Workers(engine, 4)
        for key in chance.sample(range(1000), 60):
            insert(application, key)
        for _ in range(60):
            worker = chance.randrange(4)
            inside = chance.random() < 0.6
            step = workers.step(application, worker, chance) if inside else meddle(application, chance)
            assert overlapping(application) == 0, step
            live = application.execute(
                f"SELECT count(DISTINCT owner) FROM {own(application, 'lease')} WHERE expires_at > now()"
            ).fetchone()
            assert live is not None
            assert live[0] <= 3
        expire(application)
        application.execute(f"UPDATE {own(application, 'run')} SET wrapped_at = NULL")
        drain(engine)
        left = set(states(application)) - {SCORED}
        assert left <= {RowState.FAILED.value}, "only a row whose workers died again and again is not scored"
        assert application.execute(f"SELECT count(*) FROM {own(application, 'lease')}").fetchone() == (0,)


def test_a_row_that_committed_late_waits_for_no_pause_in_the_traffic(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        add_items(application, 10)
        late = connect(autocommit=False)
        late.execute("INSERT INTO items (id, a, b) VALUES (11, 1, 2)")
        workers = Workers(engine, 1)

        def window_after(keys: range, rows: int) -> tuple[str, str]:
            for key in keys:
                insert(application, key)
            lease = workers.acquire(0, rows)
            assert isinstance(lease, Lease)
            workers.finish(application, 0, lease)
            return lease.window.lo[0], lease.window.hi[0]

        assert window_after(range(12, 21), 100) == ("1", "20")
        late.commit()
        run = own(application, "run")
        application.execute(f"UPDATE {run} SET wrapped_at = {ago(application, -60)}")
        assert window_after(range(21, 24), 100) == ("21", "23"), "the walk from the beginning is rationed"
        application.execute(f"UPDATE {run} SET wrapped_at = {ago(application, 60)}")
        assert window_after(range(24, 30), 3) == ("24", "26"), (
            "a full window is no end: the rows ahead come first"
        )
        assert window_after(range(30, 31), 100) == ("11", "30"), (
            "traffic goes on, and yet the late row is seen"
        )


def test_processes_that_lease_at_once_share_the_keys_without_overlap(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, workers=8)) as engine:
        applied(engine)
    add_items(application, 1000)
    begin, found = children.Barrier(2), children.Queue()
    processes = [
        children.Process(target=lease_all, args=(database_url, f"process-{number}", begin, found))
        for number in range(2)
    ]
    for process in processes:
        process.start()
    windows = sorted(window for _ in processes for window in found.get(timeout=60))
    for process in processes:
        process.join()
    assert [lo for lo, _, _ in windows] == list(range(1, 1001, 10))
    assert all(hi == lo + 9 and rows == 10 for lo, hi, rows in windows)


def test_a_lease_that_ends_between_two_statements_of_another_worker(
    database_url: str, connect: Connect
) -> None:
    """The other worker waits for the run's row; meanwhile the lease in its way is finished."""
    application = connect()
    make_items(application)
    with opened(configuration(database_url, workers=4)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        workers = Workers(engine, 2)
        add_items(application, 20)
        first = workers.acquire(0, 5)
        assert isinstance(first, Lease)
        application.execute(f"UPDATE {own(application, 'run')} SET pos = NULL")
        holder = connect(autocommit=False)
        holder.execute(f"SELECT 1 FROM {own(application, 'run')} FOR UPDATE")
        running = pool.submit(workers.acquire, 1, 5)
        eventually(lambda: waiting_sessions(application) == 1, "it waits for the run")
        holder.execute(f"DELETE FROM {own(application, 'lease')}")
        holder.commit()
        second = running.result()
        assert isinstance(second, Lease)
        assert second.window == first.window, "nobody holds it any more, and its rows wait still"
        with pytest.raises(LeaseLostError):
            workers.leases[0].renew(first)
        assert not workers.finish(application, 0, first)
        assert application.execute(f"SELECT count(*) FROM {own(application, 'lease')}").fetchone() == (1,)


def test_an_expired_lease_whose_owner_is_writing_is_not_taken_over(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, workers=4)) as engine:
        applied(engine)
        workers = Workers(engine, 2)
        add_items(application, 10)
        first = workers.acquire(0, 5)
        assert isinstance(first, Lease)
        expire(application)
        with workers.database.transaction() as transaction:
            assert workers.leases[0].finish(transaction, first)
            second = workers.acquire(1, 20)
            assert isinstance(second, Lease)
            assert (second.window.lo, second.attempts) == (("6",), 1)


def test_a_token_that_was_taken_over_neither_renews_nor_ends_the_lease(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, workers=4)) as engine:
        applied(engine)
        workers = Workers(engine, 2)
        add_items(application, 10)
        old = workers.acquire(0, 20)
        expire(application)
        new = workers.acquire(1, 20)
        assert isinstance(old, Lease)
        assert isinstance(new, Lease)
        assert (new.window, new.attempts) == (old.window, 2)
        with pytest.raises(LeaseLostError):
            workers.leases[0].renew(old)
        workers.leases[0].abandon(old)
        assert not workers.finish(application, 0, old)
        workers.leases[1].renew(new)
        assert application.execute(f"SELECT token, attempts FROM {own(application, 'lease')}").fetchall() == [
            (new.token, 2)
        ]


def test_a_window_taken_over_is_cut_to_the_rows_that_are_asked_for(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, workers=4)) as engine:
        applied(engine)
        workers = Workers(engine, 1)
        add_items(application, 100)
        whole = workers.acquire(0, 100)
        assert isinstance(whole, Lease)
        workers.leases[0].abandon(whole)
        windows = []
        while isinstance(lease := workers.acquire(0, 30), Lease):
            windows.append((lease.window.lo[0], lease.window.hi[0], lease.rows, lease.attempts))
        assert windows == [("1", "30", 30, 1), ("31", "60", 30, 1), ("61", "90", 30, 1), ("91", "100", 10, 1)]


@POSTGRESQL_ALONE
def test_an_immutable_function_that_is_too_slow_for_its_lease_gets_smaller_windows(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    application.execute(
        """CREATE OR REPLACE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
        $$ BEGIN PERFORM pg_sleep(0.005); RETURN a + b; END $$"""
    )
    with opened(configuration(database_url, lease_time="1s", max_lock_time="10s")) as engine:
        applied(engine)
        application.execute(f"UPDATE {own(application, 'learned')} SET rows_per_claim = 200")
        add_items(application, 200)
        for _ in range(4):
            drain(engine)
            if states(application) == {SCORED: 200}:
                break
    assert states(application) == {SCORED: 200}


def test_many_drains_of_random_sizes_score_each_row_once(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, max_rows_per_claim=100, workers=5)
    stop = threading.Event()
    with opened(config) as engine, ThreadPoolExecutor(7) as pool:
        applied(engine)

        def feed() -> None:
            with session(database_url) as connection:
                for _ in range(30):
                    add_items(connection, 50)
            stop.set()

        def work(seed: int) -> int:
            chance, scored = random.Random(seed), 0
            while True:
                last = stop.is_set()
                with session(database_url) as connection:
                    size = chance.choice([1, 10, 70])
                    connection.execute(f"UPDATE {own(connection, 'learned')} SET rows_per_claim = %s", [size])
                summary = drain(engine, seconds=chance.choice([0.0, 0.05, 1.0]))
                scored += summary.scored
                if last and summary.empty:
                    return scored

        feeding = pool.submit(feed)
        working = [pool.submit(work, seed) for seed in range(6)]
        feeding.result()
        total = sum(running.result() for running in working)
        assert total == 1500
        assert calls(application) == 1500
        assert states(application) == {SCORED: 1500}


def test_a_prediction_that_is_held_by_a_rescore_makes_workers_wait(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 5)
        holder = connect(autocommit=False)
        holder.execute(f"SELECT 1 FROM {own(application, 'prediction')} FOR UPDATE")
        running = pool.submit(drain, engine)
        eventually(lambda: waiting_sessions(application) == 1, "it waits for the prediction")
        holder.rollback()
        assert running.result().scored == 5
        database = engine.database(engine.prediction())
        with database.transaction() as one, database.transaction() as two:
            m = engine.materialisation(engine.prediction())
            assert share_prediction(one, m).generation == share_prediction(two, m).generation
