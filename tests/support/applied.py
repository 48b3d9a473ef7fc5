"""Tables to apply predictions to, and predictions on them."""

from __future__ import annotations

from typing import Any

from tests.support.databases import Session, dialect, is_postgresql, series
from worker.apply import LockPatience
from worker.config import Prediction, parse_configuration
from worker.database import Database
from worker.materialisation import Materialisation, resolve

HURRIED = LockPatience(lock_timeout="50ms", attempts=2, first_pause=0.001, longest_pause=0.002)
STEADY = LockPatience(lock_timeout="100ms", attempts=1000, first_pause=0.001, longest_pause=0.01)


def prediction(name: str = "churn", **overrides: Any) -> Prediction:
    """A prediction on the table items: inputs a and b, output p."""
    section: dict[str, Any] = {
        "table": "items",
        "inputs": ["a", "b"],
        "outputs": {"p": "double precision"},
        "model": {"python": "tests:never_called"},
    }
    section.update(overrides)
    content = {"database": "postgresql://nowhere", "predictions": {name: section}}
    return parse_configuration(content).predictions[name]


def resolved(database: Database, name: str = "churn", **overrides: Any) -> Materialisation:
    """That prediction looked up in the database."""
    with database.transaction() as transaction:
        return resolve(transaction, prediction(name, **overrides))


def make_items(connection: Session, rows: int = 0, columns: str = "") -> None:
    """The table items with so many rows, and further columns."""
    options = "" if is_postgresql(connection) else " DEFAULT CHARSET utf8mb4"
    connection.execute(
        "CREATE TABLE items (id bigint PRIMARY KEY, a double precision, b integer, note varchar(200) "
        f"{columns}){options}"
    )
    if rows:
        connection.execute(
            f"INSERT INTO items (id, a, b, note) SELECT i, i, 10, 'x' FROM {series(connection, 1, rows)}"
        )


_PARTITIONED = {
    "postgresql": """
        CREATE TABLE items (id bigint, a double precision, b integer, note text, PRIMARY KEY (id, b))
          PARTITION BY RANGE (id);
        CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (100);
        CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (100) TO (200) PARTITION BY LIST (b);
        CREATE TABLE items_2a PARTITION OF items_2 FOR VALUES IN (1, 2);
        CREATE TABLE "items 2b" PARTITION OF items_2 DEFAULT""",
    "mysql": """
        CREATE TABLE items (id bigint, a double precision, b integer, note text, PRIMARY KEY (id, b))
          PARTITION BY RANGE (id) SUBPARTITION BY HASH (b) SUBPARTITIONS 2 (
            PARTITION items_1 VALUES LESS THAN (100), PARTITION items_2 VALUES LESS THAN (200))""",
}


def partition_items(connection: Session) -> None:
    """The table items in partitions of two levels, up to id 199, with the rows 50 to 149."""
    connection.execute(_PARTITIONED[dialect(connection)])
    connection.execute(
        f"INSERT INTO items (id, a, b, note) SELECT i, i, i % 4, 'x' FROM {series(connection, 50, 149)}"
    )


def add_partition(connection: Session) -> None:
    """One more partition, for the ids from 200 to 299."""
    connection.execute(
        "CREATE TABLE items_3 PARTITION OF items FOR VALUES FROM (200) TO (300)"
        if is_postgresql(connection)
        else "ALTER TABLE items ADD PARTITION (PARTITION items_3 VALUES LESS THAN (300))"
    )
