"""What rowscore costs an INSERT: the same single-row inserts into the plain table and into the applied one."""

from __future__ import annotations

import statistics
import time
from typing import Any

import psycopg

from worker.demo import churn

PLAIN = "mltest.plain"


def compare(connection: psycopg.Connection[Any], inserts: int) -> tuple[float, float]:
    """The median seconds of an insert into the plain table and into the applied one, row by row in turn."""
    churn.create(connection, PLAIN)
    rows = churn.rows(inserts, seed=7)
    columns = ", ".join(churn.FEATURES)
    marks = ", ".join(["%s"] * len(churn.FEATURES))
    taken: dict[str, list[float]] = {PLAIN: [], churn.TABLE: []}
    for number, row in enumerate(rows):
        order = (PLAIN, churn.TABLE) if number % 2 else (churn.TABLE, PLAIN)
        for table in order:
            started = time.perf_counter()
            connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", row, prepare=True)
            taken[table].append(time.perf_counter() - started)
    connection.execute(f"DROP TABLE {PLAIN}")
    return statistics.median(taken[PLAIN]), statistics.median(taken[churn.TABLE])
