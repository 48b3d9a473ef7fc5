"""What `read_status` finds on real tables: counts, freshness, speed, failures, leases, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, ago, analyse, is_postgresql, own, schema_of
from tests.support.predictions import (
    add_items,
    applied,
    configuration,
    drain,
    fail_at,
    make_items,
    opened,
)
from worker import backfill
from worker.engine import Engine
from worker.errors import ServiceUnavailableError, ThrottledError
from worker.leases import Lease, Leases
from worker.options import Options
from worker.standing import Status
from worker.states import RunKind
from worker.status import Limits, read_circuit, read_status

CONFORMANCE = True


@pytest.fixture
def rows(connect: Connect) -> Session:
    connection = connect()
    make_items(connection, rows=30)
    column = (
        "timestamptz DEFAULT clock_timestamp()"
        if is_postgresql(connection)
        else "timestamp(6) NULL DEFAULT CURRENT_TIMESTAMP(6)"
    )
    connection.execute(f"ALTER TABLE items ADD COLUMN created_at {column}")
    return connection


@pytest.fixture
def engine(rows: Session, database_url: str) -> Iterator[Engine]:
    assert rows is not None
    with opened(configuration(database_url, arrived_at="created_at")) as engine:
        applied(engine)
        yield engine


def counts(status: Status) -> dict[str, int | None]:
    assert status.rows is not None
    names = ("pending", "scored", "failed", "skipped", "existing")
    return {name: getattr(status.rows, name) for name in names if getattr(status.rows, name) != 0}


def test_a_prediction_that_was_never_applied(rows: Session, database_url: str) -> None:
    with opened(configuration(database_url)) as engine:
        found = read_status(engine)
        assert (found.definition, found.rows, found.table) == (None, None, f"{schema_of(rows)}.items")
        assert read_circuit(engine, engine.prediction()) is None


def test_rows_are_counted_by_state(engine: Engine, rows: Session) -> None:
    assert counts(read_status(engine)) == {"existing": 30}
    add_items(rows, 20)
    found = read_status(engine)
    assert counts(found) == {"existing": 30, "pending": 20}
    assert found.rows is not None
    assert (found.rows.exact, found.rows.total, found.rows.more_pending, found.rows.stale) == (
        True,
        50,
        False,
        0,
    )
    assert found.oldest_waiting is not None
    assert 0 < found.oldest_waiting < 60
    drain(engine)
    rows.execute("UPDATE items SET a = a + 1 WHERE id IN (31, 32)")
    found = read_status(engine)
    assert counts(found) == {"existing": 30, "pending": 2, "scored": 18}
    assert found.rows is not None
    assert found.rows.stale == 2
    assert found.oldest_waiting is None, "a row with an old prediction arrived long ago, but waits only since"


def test_large_tables_are_estimated(engine: Engine, rows: Session) -> None:
    large = Limits(count_up_to=15, small_table=0)
    add_items(rows, 20)
    drain(engine)
    add_items(rows, 15)
    analyse(rows)
    found = read_status(engine, limits=large)
    assert found.rows is not None
    assert not found.rows.exact
    assert counts(found) == {"existing": 30, "pending": 15, "scored": 20}
    add_items(rows, 1)
    found = read_status(engine, limits=large)
    assert found.rows is not None
    assert (found.rows.pending, found.rows.more_pending, found.rows.stale) == (15, True, None)


def test_freshness_leaves_backfilled_rows_out(engine: Engine, rows: Session) -> None:
    assert read_status(engine).freshness is None
    run = backfill.begin(engine)
    backfill.work(engine, None, run, lambda *_: None, lambda _: None)
    assert read_status(engine).freshness is None, "they arrived before anybody was to score them"
    add_items(rows, 10)
    rows.execute("UPDATE items SET created_at = created_at - interval '10' second WHERE id = 40")
    drain(engine)
    rows.execute(f"UPDATE items SET created_at = {ago(rows, 7200)} WHERE id = 39")
    fresh = read_status(engine).freshness
    assert fresh is not None
    assert fresh.rows == 8, "one arrived before the prediction was applied, one too long ago"
    assert 0 < fresh.p50 <= fresh.p99 < 10


@pytest.mark.parametrize("column", [None, "b"])
def test_without_arrival_times_nobody_knows(rows: Session, database_url: str, column: str | None) -> None:
    overrides = {} if column is None else {"arrived_at": column}
    with opened(configuration(database_url, **overrides)) as engine:
        applied(engine)
        add_items(rows, 5)
        found = read_status(engine)
        assert (found.arrived_at, found.freshness, found.oldest_waiting) == (None, None, None)
        drain(engine)
        assert counts(read_status(engine)) == {"existing": 30, "scored": 5}


def test_activity_comes_from_the_batch_log(engine: Engine, rows: Session) -> None:
    idle = read_status(engine).activity
    assert idle is not None
    assert (idle.batches, idle.idle, idle.rows_per_second, idle.call_rows) == (0, None, None, None)
    for size in (10, 30):
        add_items(rows, size)
        drain(engine)
    busy = read_status(engine).activity
    assert busy is not None
    assert (busy.batches, busy.scored, busy.calls, busy.error) == (2, 40, 2, None)
    assert busy.batch_rows is not None
    assert (busy.batch_rows.min, busy.batch_rows.avg, busy.batch_rows.max) == (10, 20, 30)
    assert busy.call_seconds is not None
    assert 0 < busy.call_seconds.min <= busy.call_seconds.avg <= busy.call_seconds.max
    assert busy.idle is not None
    assert busy.idle >= 0


def test_time_that_two_workers_share_counts_once(engine: Engine, rows: Session) -> None:
    add_items(rows, 10)
    drain(engine)
    log = own(rows, "batch")
    rows.execute(f"UPDATE {log} SET total_seconds = 4, rows_scored = 30, finished_at = {ago(rows, 0)}")
    for seconds in (1, 3, 100):
        rows.execute(
            f"""INSERT INTO {log} (
              prediction, run_id, worker, finished_at, rows_taken, rows_scored, rows_failed, rows_skipped,
              rows_lost, calls, call_rows, call_seconds, retries, throttled, database_seconds, total_seconds)
            SELECT prediction, run_id, 'other', finished_at - interval '{seconds}' second, 30, 30, 0, 0, 0,
              1, 30, 1, 0, 0, 1, 2
            FROM {log} WHERE worker <> 'other'"""
        )
    activity = read_status(engine).activity
    assert activity is not None
    assert activity.busy_seconds == pytest.approx(7, abs=0.01), "4 s, 1 s before them, 2 s long ago"
    assert activity.rows_per_second == pytest.approx(120 / 7, abs=0.05)


def test_failures_leases_and_learned_sizes(engine: Engine, rows: Session) -> None:
    fail_at(rows, 3)
    add_items(rows, 10)
    drain(engine)
    found = read_status(engine)
    assert counts(found) == {"existing": 30, "scored": 9, "failed": 1}
    assert found.failures is not None
    assert (found.failures.rows, found.failures.due, found.failures.final) == (1, 0, 0)
    assert found.learned is not None
    assert found.learned.rows_per_claim is not None
    add_items(rows, 5)
    leases = Leases(
        engine.database(engine.prediction()), engine.materialisation(engine.prediction()), "host:1"
    )
    lease = leases.acquire(RunKind.DRAIN, 3)
    assert isinstance(lease, Lease)
    (shown,) = read_status(engine).leases
    assert (shown.kind, shown.owner, shown.lo, shown.hi) == ("drain", "host:1", ("41",), ("43",))
    assert 0 < shown.seconds_left <= 60
    leases.abandon(lease)
    (shown,) = read_status(engine).leases
    assert shown.seconds_left == 0


def test_a_running_backfill_is_shown_with_its_progress(engine: Engine) -> None:
    assert read_status(engine).backfill is None
    run = backfill.begin(engine)
    shown = read_status(engine).backfill
    assert shown is not None
    assert (shown.run, shown.total, shown.done, shown.rows_per_second) == (run.id, 30, 0, None)
    backfill.work(engine, None, run, lambda *_: None, lambda _: None)
    assert read_status(engine).backfill is None


def test_a_running_rescore_is_shown_as_one(engine: Engine, rows: Session) -> None:
    add_items(rows, 20)
    drain(engine)
    rows.execute(f"UPDATE items SET churn_scored_at = {ago(rows, 7200)} WHERE id > 35")
    run = backfill.begin(engine, None, Options(older_than="1h"), RunKind.RESCORE)
    found = read_status(engine)
    assert found.backfill is None
    assert found.rescore is not None
    assert (found.rescore.run, found.rescore.total, found.rescore.options) == (run.id, 15, "--older-than 1h")
    backfill.work(engine, None, run, lambda *_: None, lambda _: None)
    assert read_status(engine).rescore is None


@pytest.mark.parametrize(
    ("fault", "failure_class"),
    [
        (ServiceUnavailableError("away"), "service-temporary"),
        (ThrottledError("slower", retry_after=30), "throttled"),
    ],
)
def test_an_open_circuit_says_why(
    database_url: str, rows: Session, fault: Exception, failure_class: str
) -> None:
    def refuse(_: object) -> None:
        raise fault

    overrides = {"model": {"python": "tests:refuse"}, "arrived_at": "created_at"}
    with opened(configuration(database_url, **overrides), refuse) as engine:
        applied(engine)
        add_items(rows, 1)
        drain(engine)
        circuit = read_status(engine).circuit
        assert circuit is not None
        assert (circuit.open, circuit.failure_class, circuit.reason) == (True, failure_class, str(fault))
        assert circuit.seconds is not None
        assert circuit.seconds > 0


def test_drift_is_told(engine: Engine, database_url: str) -> None:
    found = read_status(engine)
    assert found.definition is not None
    assert found.definition.drift == ()
    version = {"column": "churn_model", "value": "2"}
    with opened(configuration(database_url, where="a > 0", version=version)) as other:
        definition = read_status(other).definition
        assert definition is not None
        assert [text.split(" is ")[0] for text in definition.drift] == [
            "the file's definition",
            "the file's model version",
        ]
    with opened(configuration(database_url, state="another_column")) as other:
        found = read_status(other)
        assert found.definition is not None
        assert (len(found.definition.drift), found.rows) == (1, None)


def test_what_takes_too_long_is_unknown(engine: Engine, rows: Session) -> None:
    add_items(rows, 200_000)
    found = read_status(engine, limits=Limits(timeout="1ms", small_table=0))
    assert found.rows is not None
    assert (found.rows.pending, found.rows.stale, found.oldest_waiting) == (None, None, None)
