"""A batch that is really run and rolled back, so that the server can say whether it called the service in batches.

It costs what the calls cost, and writes nothing. The plan's own account is Aurora PostgreSQL's; its counters are those
of the transaction. Aurora MySQL has counters alone, of all sessions together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

import sql
from worker import rows
from worker.batching import Batching, judge_sample
from worker.database import Database, Transaction
from worker.errors import ConfigurationError, DatabaseError, RowscoreError
from worker.indatabase import STATEMENT_SHARE, model_error
from worker.kinds.sql import SqlModel
from worker.leases import Window, bind_key
from worker.materialisation import Materialisation
from worker.plans import nested_functions_in, parse_batches
from worker.states import RowState
from worker.writeback import LOCK_PATIENCE


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came of it.

    Attributes:
        statement: the one that was run, as `rowscore sql` names it.
        rows: that the function was asked about.
        batching: what the server says of its calls.
        calls: how often each function of the service's was called, as the server counts.
        functions: those that the plan shows in batch mode.
        text: the plan's lines with what happened; none where the server tells nothing by them.
    """

    statement: str
    rows: int
    seconds: float
    batching: Batching
    calls: Mapping[str, int]
    functions: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


class _RolledBackError(Exception):
    """Ends the transaction that shall leave nothing behind."""


def gather(database: Database, m: Materialisation, limit: int) -> Evidence:
    """Run the statement that workers run, over so many rows, and roll it back.

    Raises:
        ConfigurationError: the model is no function of the database.
        RowscoreError: there is no row to try with.
        ModelError: the function failed.
    """
    model = m.prediction.model
    if not isinstance(model, SqlModel):
        raise ConfigurationError(
            f"{m.name}: a sample shows how a function of the database calls its service, and the model is none; "
            f"`rowscore tune {m.name}` tries one that the worker calls"
        )
    name = "answer_rows" if model.mode == "select" else "score_rows"
    longest = f"{int(m.prediction.lease_time.total_seconds() * 1000 * STATEMENT_SHARE)}ms"
    settings = {
        **database.capabilities.plan_pins,
        "statement_timeout": longest,
        "lock_timeout": LOCK_PATIENCE,
    }
    try:
        with suppress(_RolledBackError), database.transaction(**settings) as transaction:
            found = _run(transaction, m, name, limit)
            raise _RolledBackError
    except DatabaseError as error:
        raise model_error(error) or error from error
    return found


def _run(transaction: Transaction, m: Materialisation, name: str, limit: int) -> Evidence:
    state, window, count = _window(transaction, m, limit)
    statements = sql.load(m.dialect)
    _count_all(transaction, statements)
    before = _calls(transaction, statements)
    version = {"version": m.prediction.version_value} if m.prediction.version else {}
    bounds = {**bind_key("lo", window.lo), **bind_key("hi", window.hi), "limit": count}
    text = m.render(name, claims=state)
    wrapped = statements["explain_analyze"].show(statement=text) if "explain_analyze" in statements else text
    started = time.perf_counter()
    lines: tuple[str, ...] = ()
    if "explain_analyze" in statements:
        lines = tuple(row[0] for row in transaction.fetch_binary(wrapped, {**bounds, **version}))
    else:
        transaction.execute(text, **bounds, **version)
    seconds = time.perf_counter() - started
    after = _calls(transaction, statements)
    calls = {name: number - before.get(name, 0) for name, number in after.items()}
    plan = "\n".join(lines)
    return Evidence(
        statement=name,
        rows=count,
        seconds=seconds,
        batching=judge_sample(count, parse_batches(plan), calls),
        calls=calls,
        functions=nested_functions_in(plan),
        text=lines,
    )


def _window(transaction: Transaction, m: Materialisation, limit: int) -> tuple[RowState, Window, int]:
    state, taken = rows.look(transaction, m, limit)
    if not len(taken):
        raise RowscoreError(
            f"{m.name}: there is no row to sample: {m.table.label} is empty, or held by others"
        )
    return state, taken.window(0, len(taken)), len(taken)


def _count_all(transaction: Transaction, statements: Mapping[str, sql.Statement]) -> None:
    """Have every call counted, where this role may."""
    if "count_all_functions" in statements:
        with suppress(DBAPIError), transaction.connection.begin_nested():
            transaction.execute(statements["count_all_functions"].render())


def _calls(transaction: Transaction, statements: Mapping[str, sql.Statement]) -> dict[str, int]:
    found: Any = transaction.rows(statements["count_service_calls"].render())
    return {str(name): int(number) for name, number in found}
