"""Checks of the SQL function that a model of kind sql calls; it is described, never called."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError

import sql
from worker.batching import read_tally, service_of
from worker.capabilities import capabilities_of
from worker.database import Transaction, one_line
from worker.doctor.findings import Findings, error, ok, warning
from worker.doctor.server import Server
from worker.function import Function
from worker.kinds.sql import SqlModel
from worker.materialisation import Materialisation
from worker.survey import read_models

VOLATILITY = {"v": "volatile", "s": "stable", "i": "immutable"}
PARALLEL = {"s": "parallel safe", "r": "parallel restricted", "u": "parallel unsafe"}
_CHEAP = 1000.0  # AWS advises COST 5000: a function that looks cheap may be called for rows that nobody needs


def check_function(transaction: Transaction, m: Materialisation) -> Findings:
    """That the function takes the inputs and answers what the outputs can hold."""
    function = m.function
    if function is None:
        return
    if function.made and not _is_there(transaction, m, function):
        yield warning("function", f"{function.label} is not there yet", f"rowscore apply {m.name}")
        return
    try:
        with transaction.connection.begin_nested():
            answers = transaction.describe(m.render("describe_answers"))
    except (DBAPIError, transaction.capabilities.driver_error) as refusal:
        origin = getattr(refusal, "orig", None) or refusal
        yield error(
            "function",
            one_line(transaction.capabilities.message(origin)),
            "mend the order or the types of `inputs`, or the function",
        )
        return
    statements = sql.load(m.dialect)
    takes = f"{function.label} takes the inputs and returns {function.returns}"
    if "find_unassignable" not in statements:  # whatever it answers is converted when it is stored
        yield ok("function", f"{takes} ({'' if function.free else 'not '}deterministic)")
        return
    statement = statements["find_unassignable"].render()
    wrong = transaction.rows(statement, answers=answers, outputs=[output.cast_type for output in m.outputs])
    for row in wrong:
        output = m.outputs[row.place - 1]
        message = (
            f"{function.label} answers {row.answer}, which cannot be stored in {output.name} ({output.type})"
        )
        yield error("function", message, "cast it in the function, or change the type under `outputs`")
    if not wrong:
        kind = f"{function.language}, {VOLATILITY[function.volatility]}, {PARALLEL[function.parallel]}"
        yield ok("function", f"{takes} ({kind}, cost {function.cost:g})")


def _is_there(transaction: Transaction, m: Materialisation, function: Function) -> bool:
    wanted = read_models(transaction, m.prediction, m)
    return any(item.kind == "function" and item.label == function.label for item in wanted)


def check_batching(transaction: Transaction, m: Materialisation, server: Server) -> Findings:
    """What AWS advises for a function that calls one of its services, for the sake of batch mode."""
    function = m.function
    service = service_of(function) if function is not None else None
    yield from _check_counters(transaction, m)
    yield from _check_mode(m)
    if function is None or service is None:
        return
    if function.made and not _is_there(transaction, m, function):
        return
    if "find_extension" not in sql.load(m.dialect):
        if not server.aurora:
            yield ok("batch mode", f"{server.label} has no {service}: what bears the name is a stand-in here")
        return
    yield from _check_extension(transaction, m, server)
    if function.label.startswith("aws_"):  # called as it is: nothing of it is the user's to alter
        return
    signature = f"{function.target}({', '.join(_argument_types(transaction, function, m))})"
    if function.language != "sql":
        message = f"{function.label} is a {function.language} function: {service} is called once for each row"
        yield warning("batch mode", message, "make it LANGUAGE SQL with one SELECT")
        return
    if function.parallel != "s":
        message = f"{function.label} is {PARALLEL[function.parallel]}: SELECTs that call it use one process"
        yield warning("batch mode", message, f"ALTER FUNCTION {signature} PARALLEL SAFE;")
    if function.cost < _CHEAP:
        message = f"{function.label} has cost {function.cost:g}: the planner takes the model for cheap"
        yield warning("batch mode", message, f"ALTER FUNCTION {signature} COST 5000;")


def _check_counters(transaction: Transaction, m: Materialisation) -> Findings:
    """Calls that Aurora made outside batch mode, each of which is paid for and waited for by itself."""
    statements = sql.load(m.dialect)
    if "find_model_counters" not in statements:
        return
    tally = read_tally(dict(map(tuple, transaction.rows(statements["find_model_counters"].render()))))
    if tally is None:
        return
    if tally.single:
        advice = "see whether Aurora_ml_single_request_cnt still grows while rowscore runs"
        yield warning("batch mode", str(tally), advice)
    else:
        yield ok("batch mode", str(tally))


def _check_mode(m: Materialisation) -> Findings:
    """Aurora batches a function of its own in some places alone."""
    model = m.prediction.model
    advice = capabilities_of(m.dialect).counsel.built_in_remedy
    if (
        m.function is not None
        and m.function.trailing
        and isinstance(model, SqlModel)
        and model.mode == "update"
    ):
        message = f"{m.function.label} is called inside the UPDATE, where AWS documents no batches for it"
        yield warning("batch mode", message, advice)


def _check_extension(transaction: Transaction, m: Materialisation, server: Server) -> Findings:
    row: Any = transaction.row(sql.load(m.dialect)["find_extension"].render(), name="aws_ml")
    if row.version is not None:
        yield ok("aws_ml", f"extension aws_ml {row.version}")
    elif server.aurora or row.available:
        remedy = "CREATE EXTENSION IF NOT EXISTS aws_ml CASCADE;"
        yield error("aws_ml", "the extension aws_ml is not installed in this database", remedy)
    else:
        yield ok("aws_ml", f"{server.label} has no extension aws_ml: its functions are stand-ins here")


def _argument_types(transaction: Transaction, function: Function, m: Materialisation) -> list[str]:
    statement = sql.load(m.dialect)["find_argument_types"].render()
    return [str(row.type) for row in transaction.rows(statement, oid=function.oid)]
