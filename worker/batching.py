"""Whether a SQL function runs in Aurora's batch mode, or why not; pure decisions over what was read before.

Only functions of aws_ml that a LANGUAGE SQL function calls can be batched, and only on Aurora: everywhere
else a function is called once for each row, inside the server.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from worker.function import Function

_SERVICE = re.compile(r"\b(aws_(?:sagemaker|comprehend|bedrock)\.\w+)", re.IGNORECASE)
_NAMED = re.compile(r"\bmax_rows_per_batch\s*(?:=>|:=)\s*(\d+|NULL)", re.IGNORECASE)
_BY_PLACE = (
    re.compile(r"\binvoke_endpoint\s*\(\s*'[^']*'(?:::[\w ]+)?\s*,\s*(\d+|NULL)\b", re.IGNORECASE),
    re.compile(
        r"\bdetect_sentiment\s*\(.*?,\s*'[\w-]+'(?:::[\w ]+)?\s*,\s*(\d+|NULL)\b", re.IGNORECASE | re.DOTALL
    ),
)
_LARGEST = "as many rows a call as Aurora thinks best"


@dataclass(frozen=True, slots=True)
class Batching:
    """Whether several rows go in one call.

    Attributes:
        batched: whether they do.
        reason: how many rows a call, or why it is one.
        remedy: what would make it more; None where nothing would, or nothing needs to.
    """

    batched: bool
    reason: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What the server says: Aurora or not, `apg_enable_function_migration` (None: it has no such setting)."""

    aurora: bool
    function_migration: str | None


def service_of(function: Function) -> str | None:
    """The function of aws_ml that it calls, or is."""
    match = _SERVICE.search(function.label) or _SERVICE.search(function.source)
    return match[1].lower() if match else None


def rows_a_call(function: Function, asked: int | None) -> str:
    """The rows that its call asks for, in words.

    Args:
        function: the function, which takes `max_rows_per_batch` or has it in its source.
        asked: the configured `max_rows_per_batch`.
    """
    if function.takes_batch_size:
        return f"up to {asked:,} rows a call" if asked else _LARGEST
    found = _NAMED.search(function.source) or next(
        filter(None, (p.search(function.source) for p in _BY_PLACE)), None
    )
    if found is None:
        return "as many rows a call as the service's default"
    return _LARGEST if found[1].upper() == "NULL" else f"up to {int(found[1]):,} rows a call"


def judge_batching(
    function: Function, settings: BatchSettings, nested: Collection[str], asked: int | None
) -> Batching:
    """Whether the function runs in batch mode.

    Args:
        function: what is called.
        settings: what the server says.
        nested: functions that the plan scans below a nested loop, by which Aurora shows batch mode.
        asked: the configured `max_rows_per_batch`.
    """
    service = service_of(function)
    if service is None:
        reason = f"{function.label} calls no service: it is computed in the server, once for each row"
        return Batching(False, reason)
    if function.language not in ("sql", "c"):
        reason = f"{function.language} functions are called once for each row, and {service} with them"
        return Batching(False, reason, f"make {function.label} LANGUAGE SQL with one SELECT")
    if service.startswith("aws_bedrock"):
        return Batching(False, f"{service} takes one row a call; concurrency comes from several workers")
    rows = rows_a_call(function, asked)
    if not settings.aurora:
        stand_in = f"{service} is a stand-in, called once for each row; on Aurora it would take {rows}"
        return Batching(False, f"this server is not Aurora: {stand_in}")
    return _judge_plan(function, service, settings, nested, rows)


def _judge_plan(
    function: Function, service: str, settings: BatchSettings, nested: Collection[str], rows: str
) -> Batching:
    """On Aurora the plan shows it."""
    if settings.function_migration == "off":
        remedy = "SET apg_enable_function_migration = on, for this role"
        return Batching(False, "apg_enable_function_migration is off", remedy)
    if any(service.endswith(name.lower()) for name in nested):
        return Batching(True, rows)
    return Batching(
        False,
        f"the plan has no scan of {service} below a nested loop, by which Aurora shows it",
        f"make {function.label} LANGUAGE SQL PARALLEL SAFE COST 5000, and its body one SELECT of the call",
    )
