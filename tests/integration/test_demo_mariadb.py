"""The churn table, its SQL model, its traffic and the demo's figures on MariaDB; MySQL, too, where it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sql
from tests.support.mysql import MySQL
from worker.apply import apply
from worker.config import parse_configuration
from worker.demo import churn, model, table
from worker.demo.connections import MySQLConnection, connect
from worker.demo.measure import Meter, Second
from worker.demo.servers import python_path
from worker.engine import Engine

CALL = f"predict_churn({', '.join(churn.FEATURES)})"
ROWS = 12_345
PREDICTION = {
    "table": churn.TABLE,
    "inputs": list(churn.FEATURES),
    "outputs": {"churn_probability": "double precision"},
    "model": {"sql": "predict_churn"},
    "version": {"column": "churn_model", "value": "v"},
}


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server's database mltest with the demo's tables and customers."""
    server: MySQL = request.getfixturevalue(request.param)
    with connect(server.url()) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {churn.SCHEMA}")
        churn.create(connection, "mltest.first")
    url = server.url(churn.SCHEMA)
    with connect(url) as connection:
        churn.create_trigger(connection)
    assert table.fill(url, ROWS) == ROWS
    yield url
    with connect(server.url()) as connection:
        connection.execute(f"DROP DATABASE {churn.SCHEMA}")


@pytest.fixture
def connection(url: str) -> Iterator[MySQLConnection]:
    with MySQLConnection(url) as connection:
        yield connection


def traffic(url: str, out: Path, *options: str) -> dict[str, Any]:
    """Runs the traffic as a process and reads what it measured."""
    words = [sys.executable, "-m", "worker.demo.traffic", "--url", url, "--json", str(out), *options]
    subprocess.run(words, check=True, timeout=60, env=python_path())
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def answers(connection: MySQLConnection, query: str) -> list[Any]:
    """The first column of what a query answers."""
    return [row[0] for row in connection.execute(query).fetchall()]


def test_the_loaded_rows_are_the_generated_ones(connection: MySQLConnection) -> None:
    query = f"SELECT {', '.join(churn.FEATURES)} FROM {churn.TABLE} ORDER BY id LIMIT {ROWS}"
    assert connection.execute(query).fetchall() == list(churn.rows(ROWS))


def test_a_full_table_stays_as_it_is(url: str, connection: MySQLConnection) -> None:
    query = f"SELECT count(*) FROM {churn.TABLE}"
    before = answers(connection, query)
    assert table.fill(url, 10) == 0
    assert answers(connection, query) == before


def test_the_model_in_sql_gives_the_models_answers(connection: MySQLConnection) -> None:
    found = answers(connection, f"SELECT {CALL} FROM {churn.TABLE} ORDER BY id LIMIT {ROWS}")
    assert found == pytest.approx(model.predict(list(churn.rows(ROWS))), abs=1e-9)


@pytest.mark.parametrize(
    "changes", [{"day_charge": 0.0}, {"day_charge": 1e6}, {"day_charge": -1e6}, {"state": "ca"}]
)
def test_extreme_customers_get_the_same_answer_too(
    connection: MySQLConnection, changes: dict[str, float | str]
) -> None:
    row = [changes.get(name, value) for name, value in zip(churn.FEATURES, next(churn.rows(1)), strict=True)]
    places = ", ".join("%s" for _ in row)
    found = connection.execute(f"SELECT predict_churn({places})", row).fetchone()
    assert found == pytest.approx(model.predict([row]), abs=1e-9)


def test_the_model_in_sql_does_not_guess_at_what_is_unknown(connection: MySQLConnection) -> None:
    used = [name for name in churn.FEATURES if name != "phone"]
    unknown = [
        f"predict_churn({', '.join('NULL' if x == name else x for x in churn.FEATURES)})" for name in used
    ]
    query = f"SELECT {', '.join(unknown)} FROM {churn.TABLE} LIMIT 1"
    assert connection.execute(query).fetchone() == (None,) * len(used)


def test_the_simulated_trigger_waits_as_long_as_a_model_call(connection: MySQLConnection) -> None:
    row = next(churn.rows(1))
    connection.execute(churn.statement("insert_row", "mysql", **churn.named(churn.TRIGGER_TABLE)), row)
    query = f"SELECT prediction, UTC_TIMESTAMP(6) - INTERVAL 0 SECOND, created_at FROM {churn.TRIGGER_TABLE} LIMIT 1"
    prediction, now, created_at = connection.execute(query).fetchone() or (None, None, None)
    assert prediction == (model.predict([row])[0] >= 0.5)
    assert now - created_at >= timedelta(milliseconds=65)


def test_traffic_keeps_its_rate_and_reports_it(url: str, connection: MySQLConnection, tmp_path: Path) -> None:
    query = f"SELECT count(*) FROM {churn.TABLE}"
    (before,) = answers(connection, query)
    found = traffic(url, tmp_path / "out.json", "--clients", "8", "--seconds", "1", "--rate", "200")
    (after,) = answers(connection, query)
    assert found["inserts"] == after - before
    assert (found["errors"], found["first_error"]) == (0, None)
    assert found["inserts"] + found["missed"] == 200


def test_traffic_against_the_trigger_misses_what_it_cannot_insert(url: str, tmp_path: Path) -> None:
    options = ("--clients", "2", "--seconds", "1", "--rate", "300", "--table", churn.TRIGGER_TABLE)
    found = traffic(url, tmp_path / "out.json", *options)
    assert found["latency_ms"]["p50"] >= 65
    assert found["missed"] > 200


def test_traffic_reports_what_the_database_refuses(url: str, tmp_path: Path) -> None:
    options = ("--clients", "1", "--seconds", "0.1", "--rate", "20", "--table", "mltest.none")
    found = traffic(url, tmp_path / "out.json", *options)
    assert found["inserts"] == 0
    assert "doesn't exist" in found["first_error"]


def test_without_a_database_both_programs_say_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = [sys.executable, "-m", "worker.demo.traffic", "--url", "mysql://root@127.0.0.1:1/x"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=python_path())
    assert done.returncode == 1
    assert table.main(["--url", "mysql+pymysql://root@127.0.0.1:1/x"]) == 1
    for said in (done.stderr, capsys.readouterr().err):
        assert said.startswith("cannot connect: ")
        assert len(said.splitlines()) == 1


@pytest.fixture
def scored(url: str, connection: MySQLConnection) -> MySQLConnection:
    """The table as it stands in the middle of an outage: four rows before it, four in it, two that still wait."""
    connection.execute(f"DROP TABLE {churn.TABLE}")
    churn.create(connection)
    engine = Engine(parse_configuration({"database": url, "predictions": {"churn": PREDICTION}}))
    prediction = engine.prediction()
    apply(engine.database(prediction), engine.materialisation(prediction))
    engine.dispose()
    churn.load(connection, 20)
    connection.execute(
        f"UPDATE {churn.TABLE} SET created_at = '2026-01-01 10:00:00' + INTERVAL id SECOND, "
        f"churn_probability = {CALL}, churn_state = 1, churn_model = 'v', "
        "churn_scored_at = '2026-01-01 10:00:00.5' + INTERVAL id SECOND"
    )
    # 15 to 18 arrive while the model is down, from 10:00:14.9 to 10:00:18.2, and are scored at 10:00:20.
    connection.execute(
        f"UPDATE {churn.TABLE} SET churn_scored_at = '2026-01-01 10:00:20' WHERE id BETWEEN 15 AND 18"
    )
    connection.execute(
        f"UPDATE {churn.TABLE} SET churn_scored_at = NULL, churn_state = 0, churn_probability = NULL WHERE id > 18"
    )
    return connection


def test_the_meter_reads_the_figures(url: str, scored: MySQLConnection) -> None:
    (run,) = answers(scored, "SELECT id FROM rowscore_run WHERE kind = 'drain'")
    counted = (
        "rows_taken",
        "rows_scored",
        "rows_failed",
        "rows_skipped",
        "rows_lost",
        "rows_remembered",
        "rows_equal",
        "single_calls",
        "retries",
        "throttled",
    )
    timed = ("database_seconds", "total_seconds")
    called = ("calls", "call_rows", "call_seconds", "call_seconds_min", "call_seconds_max", "call_rows_min",
              "call_rows_max", "error")  # fmt: skip
    zeros = {"prediction": "churn", "run": run, "worker": "w", **dict.fromkeys(counted + timed, 0)}
    for line in (
        (10, 200, 1.0, 0.065, 0.2, 5, 50, None),
        (2, 10, 0.5, 0.1, 0.4, 1, 9, None),
        (3, 0, 0, 0, 0, 0, 0, "dead"),
    ):
        values = {**zeros, **dict(zip(called, line, strict=True))}
        scored.execute(sql.load("mysql")["log_batch"].render(), values)
    scored.execute(
        "INSERT INTO rowscore_run (prediction, kind, status, started_at, finished_at) "
        "VALUES ('churn', 'backfill', 'finished', '2026-01-01 10:00:00', '2026-01-01 10:00:02.5')"
    )
    meter = Meter(url)
    try:
        tally = meter.tally()
        assert tally.last == 20
        since = type(tally)(tally.now, 10)
        progress = meter.progress(since)
        assert (progress.arrived, progress.waiting) == (10, 2)
        assert progress.now >= tally.now
        assert meter.backfill_seconds() == 2.5
        calls = meter.calls()["drain"]
        assert (calls.calls, calls.rows, calls.failed) == (12, 210, 3)
        assert (calls.size.least, calls.size.most) == (1, 50)
        assert (calls.seconds.least, calls.seconds.most) == (0.065, 0.4)
        began = meter.began(since)
        down, up = began + timedelta(seconds=3.9), began + timedelta(seconds=7.2)
        normal, outage, catching_up = meter.freshness(since, down, up)
        assert catching_up == pytest.approx(1.8)
        assert normal is not None
        assert outage is not None
        assert (normal.p50, normal.most) == (0.5, 0.5)
        assert outage.p50 == pytest.approx(np.percentile([5, 4, 3, 2], 50))
        assert outage.most == 5
        assert meter.by_second(since)[:2] == [Second(0, 1, 1), Second(1, 1, 1)]
        assert sum(second.scored for second in meter.by_second(since)) == 8
        facts = meter.facts(since, {"inserts": 10, "errors": 0}, existing=10, version="v")
        assert [fact.holds for fact in facts] == [False, True, True, False, False]
    finally:
        meter.close()
