"""The churn table, its SQL model and its traffic against a real PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from worker.demo import churn, model
from worker.demo.servers import PostgresServer, python_path

SETTINGS = {"shared_buffers": "16MB", "max_connections": "40", "fsync": "off"}
CALL = f"predict_churn({', '.join(churn.FEATURES)})"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("postgres"), settings=SETTINGS) as server:
        with psycopg.connect(server.url()) as connection:
            churn.create(connection)
            churn.create_trigger(connection)
            churn.load(connection, 12_345)
        yield server


@pytest.fixture
def connection(server: PostgresServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        yield connection


def traffic(server: PostgresServer, out: Path, *options: str) -> dict[str, object]:
    """Runs the traffic as a process and reads what it measured."""
    words = [sys.executable, "-m", "worker.demo.traffic", "--url", server.url(), "--json", str(out), *options]
    subprocess.run(words, check=True, timeout=60, env=python_path())
    found: dict[str, object] = json.loads(out.read_text())
    return found


def test_the_loaded_rows_are_the_generated_ones(connection: psycopg.Connection) -> None:
    found = connection.execute(
        f"SELECT {', '.join(churn.FEATURES)} FROM {churn.TABLE} ORDER BY id LIMIT 12345"
    ).fetchall()
    assert found == list(churn.rows(12_345))


def test_the_model_in_sql_gives_the_models_answers(connection: psycopg.Connection) -> None:
    query = f"SELECT {CALL} FROM {churn.TABLE} ORDER BY id LIMIT 12345"
    found = [row[0] for row in connection.execute(query)]
    assert found == pytest.approx(model.predict(list(churn.rows(12_345))), abs=1e-9)


@pytest.mark.parametrize("day_charge", [0.0, 1e6, -1e6])
def test_extreme_customers_get_the_same_answer_too(connection: psycopg.Connection, day_charge: float) -> None:
    row = [
        day_charge if name == "day_charge" else value
        for name, value in zip(churn.FEATURES, next(churn.rows(1)), strict=True)
    ]
    places = ", ".join("%s" for _ in row)
    found = connection.execute(f"SELECT predict_churn({places})", row).fetchone()
    assert found == pytest.approx(model.predict([row]), abs=1e-9)


def test_the_model_in_sql_does_not_guess_at_what_is_unknown(connection: psycopg.Connection) -> None:
    used = [name for name in churn.FEATURES if name != "phone"]
    unknown = [
        f"predict_churn({', '.join('NULL' if x == name else x for x in churn.FEATURES)})" for name in used
    ]
    query = f"SELECT {', '.join(unknown)} FROM {churn.TABLE} LIMIT 1"
    found = connection.execute(query).fetchone()
    assert found == (None,) * len(used)


def test_the_simulated_trigger_waits_as_long_as_a_model_call(connection: psycopg.Connection) -> None:
    insert = churn.statement("insert_row", **churn.named(churn.TRIGGER_TABLE))
    cursor = psycopg.RawCursor(connection)
    row = next(churn.rows(1))
    cursor.execute(insert, row)
    query = f"SELECT prediction, clock_timestamp() - created_at FROM {churn.TRIGGER_TABLE} LIMIT 1"
    found = connection.execute(query).fetchone()
    assert found is not None
    assert found[0] == (model.predict([row])[0] >= 0.5)
    assert found[1] >= timedelta(milliseconds=65)


def test_traffic_keeps_its_rate_and_reports_it(
    server: PostgresServer, connection: psycopg.Connection, tmp_path: Path
) -> None:
    count = f"SELECT count(*) FROM {churn.TABLE}"
    before = connection.execute(count).fetchone()
    found = traffic(server, tmp_path / "out.json", "--clients", "8", "--seconds", "1", "--rate", "200")
    after = connection.execute(count).fetchone()
    assert before is not None
    assert after is not None
    assert found["inserts"] == after[0] - before[0]
    assert (found["errors"], found["first_error"]) == (0, None)
    assert int(str(found["inserts"])) + int(str(found["missed"])) == 200
    assert set(found["latency_ms"]) == {"p50", "p95", "p99", "max"}  # type: ignore[call-overload]


def test_traffic_against_the_trigger_misses_what_it_cannot_insert(
    server: PostgresServer, tmp_path: Path
) -> None:
    options = ("--clients", "2", "--seconds", "1", "--rate", "300", "--table", churn.TRIGGER_TABLE)
    found = traffic(server, tmp_path / "out.json", *options)
    assert found["latency_ms"]["p50"] >= 65  # type: ignore[index]
    assert found["missed"] > 200  # type: ignore[operator]


def test_traffic_reports_what_the_database_refuses(server: PostgresServer, tmp_path: Path) -> None:
    found = traffic(
        server,
        tmp_path / "out.json",
        "--clients",
        "1",
        "--seconds",
        "0.1",
        "--rate",
        "20",
        "--table",
        "mltest.none",
    )
    assert found["inserts"] == 0
    assert "does not exist" in str(found["first_error"])


def test_traffic_without_a_database_says_so_in_one_line() -> None:
    words = [sys.executable, "-m", "worker.demo.traffic", "--url", "postgresql://127.0.0.1:1/x"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=python_path())
    assert done.returncode == 1
    assert done.stderr.startswith("cannot connect: ")
    assert "Traceback" not in done.stderr
