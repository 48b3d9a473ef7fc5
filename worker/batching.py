"""Whether a SQL function runs in Aurora's batch mode, or why not; pure decisions over what was read before.

Only functions of aws_ml that a LANGUAGE SQL function calls can be batched, and only on Aurora: everywhere
else a function is called once for each row, inside the server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from worker.capabilities.counsel import Counsel
from worker.function import Function
from worker.plans import BatchProcessing

_SERVICE = re.compile(
    r"\b(aws_(?:sagemaker|comprehend|bedrock)\.\w+|aws_sagemaker_invoke_endpoint"
    r"|aws_comprehend_detect_sentiment(?:_confidence)?|aws_bedrock_invoke_model\w*)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b(?:max_rows_per_batch\s*(?:=>|:=)|MAX_BATCH_SIZE)\s*(\d+|NULL)", re.IGNORECASE)
_BY_PLACE = (
    re.compile(r"\binvoke_endpoint\s*\(\s*'[^']*'(?:::[\w ]+)?\s*,\s*(\d+|NULL)\b", re.IGNORECASE),
    re.compile(
        r"\bdetect_sentiment\s*\(.*?,\s*'[\w-]+'(?:::[\w ]+)?\s*,\s*(\d+|NULL)\b", re.IGNORECASE | re.DOTALL
    ),
)
_COUNTERS = tuple(
    f"aurora_ml_{name}_cnt"
    for name in ("logical_request", "actual_request", "single_request", "retry_request", "cache_hit")
)
# Names in a view's text, each with the parenthesis of a call; what is quoted as a text is passed over.
_WORDS = re.compile(
    r"""'(?:[^']|'')*'|(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|[A-Za-z_][\w$]*)(?P<call>\s*\()?"""
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
    """What the server says.

    Attributes:
        aurora: whether it is Aurora.
        switches: its settings without which there are no batches, `on` or `off`; None: it has no such setting.
        counsel: the words for it.
    """

    aurora: bool
    switches: Mapping[str, str | None]
    counsel: Counsel


@dataclass(frozen=True, slots=True)
class Caller:
    """Something else in the database that calls the function.

    Attributes:
        kind: `view`, `materialized view`, `trigger`, `column`, or the language of a function, `plpgsql function`.
        name: for people.
        text: its definition.
    """

    kind: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A caller whose calls go out row by row, or for rows that nobody asked for; and what to do."""

    caller: str
    reason: str
    remedy: str


def service_of(function: Function) -> str | None:
    """The function of Aurora's machine learning that it calls, or is."""
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


@dataclass(frozen=True, slots=True)
class Tally:
    """What Aurora MySQL counted of its machine learning since it started, or since FLUSH STATUS.

    Attributes:
        rows: rows that were asked about, `Aurora_ml_logical_request_cnt`.
        calls: requests that were sent for them, `Aurora_ml_actual_request_cnt`.
        single: rows asked about outside batch mode, `Aurora_ml_single_request_cnt`.
        retried: requests that were sent again.
        cached: rows that the server's own cache answered.
    """

    rows: int
    calls: int
    single: int
    retried: int
    cached: int

    def __str__(self) -> str:
        told = f"{self.rows:,} rows asked about in {self.calls:,} calls, {self.single:,} of them outside batch mode"
        return f"{told}; calls sent again: {self.retried:,}, rows answered by the server's cache: {self.cached:,}"


def read_tally(status: Mapping[str, object]) -> Tally | None:
    """The counters among a server's status variables; None where it has none of them."""
    found = {name.lower(): int(str(value)) for name, value in status.items() if name.lower() in _COUNTERS}
    if not found:
        return None
    return Tally(*(found.get(name, 0) for name in _COUNTERS))


def judge_batching(
    function: Function, settings: BatchSettings, nested: Collection[str], asked: int | None
) -> Batching:
    """Whether the function runs in batch mode.

    Args:
        function: what is called.
        settings: what the server says.
        nested: functions that the plan shows in batch mode, by their service or their own label.
        asked: the configured `max_rows_per_batch`.
    """
    service = service_of(function)
    if service is None and function.label in nested:  # the server hides what it calls, and shows how
        return Batching(True, rows_a_call(function, asked))
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
    if off := next((name for name, value in settings.switches.items() if value == "off"), None):
        return Batching(False, f"{off} is off", f"ALTER ROLE CURRENT_USER SET {off} = on;")
    # The plan names the function that was moved: the service's own, or the one around it, as in AWS's example.
    if function.label in nested or any(service.endswith(name.lower()) for name in nested):
        return Batching(True, rows)
    sign = settings.counsel.batch_sign.format(service=service)
    remedy = settings.counsel.batch_remedy.format(function=function.label)
    if function.made:  # as AWS advises; what is left is where it is called
        remedy = 'try mode = "select" under `model`, which calls it in a SELECT of its own'
    if function.trailing:
        remedy = settings.counsel.built_in_remedy
    return Batching(False, f"the plan has no {sign}, by which Aurora shows it", remedy)


def judge_caller(caller: Caller, name: str) -> Leak | None:
    """Whether what else calls the function does so in a way that AWS documents no batches for.

    Args:
        caller: what calls it.
        name: the function's, without its schema.
    """
    label = f"{caller.kind} {caller.name}"
    if caller.kind == "trigger":
        reason = "calls it for each row that is written, and the application waits for each answer"
        return Leak(label, reason, "drop it: workers score what it would have")
    if caller.kind == "column":
        return Leak(
            label, "calls it for each row that is written", "drop its expression: workers write the answer"
        )
    if caller.kind.endswith(("function", "procedure")):
        return Leak(
            label, "calls it for one row at a time", "have it read the prediction's column or its view"
        )
    words = {match["name"].upper() for match in _WORDS.finditer(caller.text) if match["name"]}
    if "LIMIT" in words or "FETCH" in words:
        reason = (
            "ends after some rows: Aurora may have asked about more of them by then, and all are paid for"
        )
        return Leak(label, reason, "have it read the prediction's column or its view")
    if _in_searched_case(caller.text, name):
        reason = "calls it in a searched CASE, behind a condition that does not call it: one row a call"
        return Leak(label, reason, "have it read the prediction's column or its view")
    return None


@dataclass(slots=True)
class _Case:
    """A CASE around a word: whether it is searched, which its first WHEN tells, and what that condition has in it."""

    searched: bool = False
    past_first: bool = False
    called: bool = False


def _in_searched_case(text: str, name: str) -> bool:
    """Whether a call stands in a CASE WHEN whose first condition does not call it."""
    around: list[_Case] = []
    before = ""
    for match in _WORDS.finditer(text):
        word = (match["name"] or "").upper()
        if word == "CASE":
            around.append(_Case())
        elif around and word == "WHEN" and before == "CASE":
            around[-1].searched = True
        elif around and word == "THEN":
            around[-1].past_first = True
        elif around and word == "END":
            around.pop()
        elif match["call"] and match["name"].strip('"`').lower() == name.lower():
            if any(case.searched and case.past_first and not case.called for case in around):
                return True
            for case in around:
                case.called = case.called or not case.past_first
        before = word
    return False


def judge_sample(rows: int, batches: Collection[BatchProcessing], calls: Mapping[str, int]) -> Batching:
    """What a sample showed.

    Args:
        rows: rows that were answered.
        batches: Aurora's account of its batches; none where it gave none.
        calls: how often each of the services' functions was called meanwhile, as the server counts.
    """
    if batches:
        told = "; ".join(map(str, batches))
        return Batching(True, told)
    tally = read_tally(calls)
    if tally is not None:
        return Batching(tally.single == 0 and 0 < tally.calls < max(rows, 2), str(tally))
    counted = ", ".join(f"{name} {count:,} times" for name, count in calls.items() if count)
    if not counted:
        return Batching(False, "the plan tells of no batches, and the server counted no call of a service")
    return Batching(False, f"the plan tells of no batches; the server called {counted}")
