"""The churn table of AWS's post on Aurora machine learning: its columns, made-up rows, and loading them.

It scores nothing. Rows are the same for the same seed: they come from uniform random numbers alone, whose
stream NumPy keeps from version to version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import sql
from worker.demo.connections import Connection, dialect_of

SCHEMA = "mltest"
TABLE = "mltest.churn_inserts"
TRIGGER_TABLE = "mltest.churn_inserts_trigger"
SEED = 20260101
CHUNK = 10_000  # rows made at once

Columns: TypeAlias = dict[str, NDArray[Any]]
Row: TypeAlias = tuple[str | int | float, ...]
Uniform: TypeAlias = NDArray[np.float64]

TYPES = {
    "state": "varchar(2)",
    "acc_length": "integer",
    "area_code": "integer",
    "phone": "varchar(10)",
    "int_plan": "varchar(3)",
    "vmail_plan": "varchar(3)",
    "vmail_msg": "integer",
    "day_mins": "double precision",
    "day_calls": "integer",
    "day_charge": "double precision",
    "eve_mins": "double precision",
    "eve_calls": "integer",
    "eve_charge": "double precision",
    "night_mins": "double precision",
    "night_calls": "integer",
    "night_charge": "double precision",
    "int_mins": "double precision",
    "int_calls": "integer",
    "int_charge": "double precision",
    "cust_service_calls": "integer",
}
FEATURES = tuple(TYPES)
"""The model's inputs, in the order in which the endpoint expects them."""

TEXTS = frozenset(name for name, kind in TYPES.items() if kind.startswith("varchar"))

STATES = tuple(
    re.findall(
        "..",
        "AKALARAZCACOCTDCDEFLGAHIIAIDILINKSKYLAMAMDMEMIMNMOMSMTNC"
        "NDNENHNJNMNVNYOHOKORPARISCSDTNTXUTVAVTWAWIWVWY",
    )
)

# Of a kind of call: mean and spread of the minutes a month, of the number of calls, and the price a minute.
CALLS = {
    "day": (180.0, 54.0, 100.0, 20.0, 0.17),
    "eve": (201.0, 51.0, 100.0, 20.0, 0.085),
    "night": (201.0, 51.0, 100.0, 19.5, 0.045),
    "int": (10.2, 2.8, 4.5, 2.4, 0.27),
}


def statement(name: str, dialect: str = "postgresql", **context: str) -> str:
    """A named statement of sql/demo, as it is sent: none of these binds a named value."""
    return sql.load(dialect, "demo")[name].show(**context)


def named(table: str) -> dict[str, str]:
    """A qualified table name as the statements' templates take it."""
    schema, _, name = table.rpartition(".")
    return {"schema": schema or SCHEMA, "table": name}


def _bell(rng: np.random.Generator, count: int, mean: float, spread: float) -> Uniform:
    """About normal: six uniform numbers added (variance one half)."""
    total: Uniform = rng.random((6, count)).sum(axis=0)
    return np.asarray(mean + spread * np.sqrt(2.0) * (total - 3.0))


def _rare(rng: np.random.Generator, count: int, mean: float, most: int) -> NDArray[np.int64]:
    """Poisson numbers, at most `most`, by inverting the distribution."""
    shares = [np.exp(-mean)]
    for step in range(1, most):
        shares.append(shares[-1] * mean / step)
    return np.searchsorted(np.cumsum(shares), rng.random(count)).astype(np.int64)


def columns(rng: np.random.Generator, count: int) -> Columns:
    """So many made-up customers, column by column."""
    made: Columns = {
        "state": np.array(STATES)[(rng.random(count) * len(STATES)).astype(int)],
        "acc_length": np.clip(_bell(rng, count, 100.0, 40.0), 1, 243).astype(int),
        "area_code": np.array([408, 415, 415, 510])[(rng.random(count) * 4).astype(int)],
    }
    exchange, line = 327 + (rng.random(count) * 96).astype(int), (rng.random(count) * 10_000).astype(int)
    made["phone"] = np.array([f"{a}-{b:04d}" for a, b in zip(exchange.tolist(), line.tolist(), strict=True)])
    made["int_plan"] = np.where(rng.random(count) < 0.1, "yes", "no")
    mailbox = rng.random(count) < 0.28
    made["vmail_plan"] = np.where(mailbox, "yes", "no")
    made["vmail_msg"] = np.where(mailbox, np.clip(_bell(rng, count, 29.0, 7.5), 4, 51), 0).astype(int)
    for kind, (mins, mins_spread, calls, calls_spread, price) in CALLS.items():
        minutes = np.round(np.clip(_bell(rng, count, mins, mins_spread), 0.0, None), 1)
        made[f"{kind}_mins"] = minutes
        made[f"{kind}_calls"] = np.clip(_bell(rng, count, calls, calls_spread), 0, None).astype(int)
        made[f"{kind}_charge"] = np.round(minutes * price, 2)
    made["cust_service_calls"] = _rare(rng, count, 1.56, 9)
    return made


def rows(count: int, *, seed: int = SEED) -> Iterator[Row]:
    """Made-up customers as rows in the order of FEATURES; of one seed, fewer are the beginning of more."""
    return islice((row for chunk in _chunks(seed) for row in zip(*chunk, strict=True)), count)


def _chunks(seed: int) -> Iterator[list[list[Any]]]:
    """Without end: CHUNK customers at a time, a list for each feature."""
    number = 0
    while True:
        made = columns(np.random.default_rng((seed, number)), CHUNK)
        yield [made[name].tolist() for name in FEATURES]
        number += 1


def create(connection: Connection, table: str = TABLE) -> None:
    """Creates the schema and the churn table, if they are not there."""
    _execute(connection, "create_schema", schema=named(table)["schema"])
    _execute(connection, "create_table", **named(table))


def create_model(connection: Connection) -> None:
    """Creates the function predict_churn(...): the shipped model, in SQL."""
    _execute(connection, "create_predict_churn")


def create_trigger(connection: Connection, table: str = TRIGGER_TABLE) -> None:
    """Creates the table whose trigger waits as long as a model call takes: what AWS measured, simulated."""
    create(connection, table)
    create_model(connection)
    for name in ("add_prediction", "create_trigger_function", "create_trigger"):
        _execute(connection, name, **named(table))


def analyze(connection: Connection, table: str = TABLE) -> None:
    """Gives the planner statistics of the table."""
    _execute(connection, "analyze", **named(table))


def load(connection: Connection, count: int, *, table: str = TABLE, seed: int = SEED) -> int:
    """Adds so many made-up customers in bulk and returns how many; with psycopg the caller commits."""
    dialect = dialect_of(connection)
    LOADERS[dialect](connection, statement("copy_rows", dialect, **named(table)), _shortened(count, seed))
    return count


def _execute(connection: Connection, name: str, **context: str) -> None:
    text: Any = statement(name, dialect_of(connection), **context)
    connection.execute(text)


def _shortened(count: int, seed: int) -> Iterator[list[list[Any]]]:
    """Chunks of `count` customers in all."""
    left = count
    for chunk in _chunks(seed):
        if left <= 0:
            return
        yield [values[:left] for values in chunk]
        left -= CHUNK


def _copy(connection: Any, head: str, chunks: Iterable[list[list[Any]]]) -> None:
    """One COPY; nothing in the texts needs its escapes."""
    with connection.cursor() as cursor, cursor.copy(head) as copy:
        for chunk in chunks:
            lines = map("\t".join, zip(*(map(str, values) for values in chunk), strict=True))
            copy.write("".join([f"{line}\n" for line in lines]))


def _insert(connection: Any, head: str, chunks: Iterable[list[list[Any]]]) -> None:
    """An INSERT a chunk, far below any server's limit of a packet, in one transaction; repr is SQL for these values."""
    connection.execute("START TRANSACTION")
    for chunk in chunks:
        lines = map(", ".join, zip(*(map(repr, values) for values in chunk), strict=True))
        connection.execute(head + ",".join([f"({line})" for line in lines]))
    connection.execute("COMMIT")


LOADERS: Mapping[str, Callable[[Any, str, Iterable[list[list[Any]]]], None]] = {
    "postgresql": _copy,
    "mysql": _insert,
}
