"""What rowscore costs an INSERT: the same single-row inserts into the plain table and into the applied one."""

from __future__ import annotations

import statistics
import time

from tests.benchmarks.subject import Subject
from worker.demo import churn

PLAIN = "mltest.plain"


def compare(subject: Subject, inserts: int) -> tuple[float, float]:
    """The median seconds of an insert into the plain table and into the applied one, row by row in turn."""
    churn.create(subject.connection, PLAIN)
    insert = {table: subject.inserter(table) for table in (PLAIN, churn.TABLE)}
    taken: dict[str, list[float]] = {PLAIN: [], churn.TABLE: []}
    for number, row in enumerate(churn.rows(inserts, seed=7)):
        order = (PLAIN, churn.TABLE) if number % 2 else (churn.TABLE, PLAIN)
        for table in order:
            started = time.perf_counter()
            insert[table](row)
            taken[table].append(time.perf_counter() - started)
    subject.connection.execute(f"DROP TABLE {PLAIN}")
    return statistics.median(taken[PLAIN]), statistics.median(taken[churn.TABLE])
