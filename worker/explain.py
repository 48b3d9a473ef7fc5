"""What `rowscore explain` shows: the plans of the statements that workers run, and rows a model call.

Everything happens in a read-only transaction with the workers' own plan settings; EXPLAIN runs nothing, so no
model is called and nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sql
from worker import accesses
from worker.batch import DEFAULT_ROWS_PER_CALL
from worker.batching import (
    Batching,
    BatchSettings,
    Caller,
    Leak,
    judge_batching,
    judge_caller,
    service_of,
)
from worker.database import Database, Transaction
from worker.errors import NotAppliedError
from worker.facts import MARK_PREFIX
from worker.function import address_of
from worker.kinds.base import ServiceModel
from worker.kinds.sql import SqlModel
from worker.leases import Window, bind_key
from worker.materialisation import Materialisation
from worker.names import index_name, literal
from worker.plans import PlanFacts, analyse, nested_functions
from worker.rows import unanswered
from worker.states import RowState
from worker.table import listed

_WORKER_SIDE = ("probe_window", "read_rows", "write_rows")
_IN_UPDATE = ("probe_window", "score_rows")
_IN_PLACE = (
    "probe_window",
    "claim_rows",
    "score_rows_in_place",
    "score_rows",
)  # the last where a row is held
_IN_SELECT = ("probe_window", "answer_rows", "write_rows")


@dataclass(frozen=True, slots=True)
class StatementPlan:
    """One statement's plan.

    Attributes:
        name: the statement's; `rowscore sql` prints it.
        purpose: what it is for.
        text: EXPLAIN's lines.
        facts: what it does to the table.
        functions: functions that it shows in batch mode.
        pending_index: whether it walks the pending index; None where another one will do.
    """

    name: str
    purpose: str
    text: tuple[str, ...]
    facts: PlanFacts
    functions: tuple[str, ...]
    pending_index: bool | None = None

    @property
    def well(self) -> bool:
        """Whether its cost follows the batch."""
        return self.facts.by_index and self.pending_index is not False

    def verdict(self, table: str) -> str:
        """The facts in one sentence."""
        facts = self.facts
        if facts.seq_scans:
            names = ", ".join(facts.seq_scans)
            return f"a sequential scan over {names}: its cost follows the table, not the batch"
        if facts.hash_joins:
            names = ", ".join(facts.hash_joins)
            return f"a hash or merge join over {names}: its cost follows the table, not the batch"
        if facts.sorts:
            names = ", ".join(facts.sorts)
            return f"a sort of rows of {names}, which an index could have given in order"
        if self.pending_index is False:
            way = ", ".join(facts.index_names) or "nothing"
            return f"by {way}, not by the pending index: it passes every row that does not wait"
        way = f"by {', '.join(facts.index_names)}" if facts.index_names else "without reading it"
        expected = f"the planner expects {facts.estimated_rows:,} rows"
        return f"no sequential scan or hash join over {table}; {way}; {expected}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that `rowscore explain` shows about one prediction.

    Attributes:
        waiting: rows that wait in the window that was planned for, at most one batch.
        rows: rows that the statements were planned for; 0 where the table is empty.
        batching: rows a model call.
        service_calls: calls of Aurora's machine learning as the server counted them.
        leaks: what else in the database calls the function, and not in batches.
        uncounted: why the server counts no calls; empty where it does, or there are none to count.
        plans_query: finds the statements that called the function outside batch mode, where query plan management
            recorded them; empty where there is no such thing, or no service is called.
    """

    prediction: str
    table: str
    waiting: int
    rows: int
    statements: tuple[StatementPlan, ...]
    batching: Batching
    service_calls: Mapping[str, int]
    leaks: tuple[Leak, ...] = ()
    uncounted: str = ""
    plans_query: str = ""

    @property
    def by_index(self) -> bool:
        """Whether every statement's cost follows the batch."""
        return all(statement.well for statement in self.statements)


def explain(database: Database, m: Materialisation) -> Explanation:
    """Plan the statements for the next batch as a worker would run them.

    Raises:
        NotAppliedError: `apply` has not been run.
        PrivilegeError: the role may not run one of them; `rowscore doctor` names the GRANT.
    """
    if m.prediction.state_column not in m.table.columns:
        raise NotAppliedError(f"{m.name} is not applied to this database; run `rowscore apply {m.name}`")
    settings = {**database.capabilities.plan_pins, "transaction_read_only": "on", "statement_timeout": "60s"}
    with database.transaction(**settings) as transaction:
        return _Explainer(transaction, m).run()


class _Explainer:
    """The statements of one prediction in one transaction."""

    def __init__(self, transaction: Transaction, materialisation: Materialisation) -> None:
        self._transaction = transaction
        self._m = materialisation
        self._statements = sql.load(materialisation.dialect)
        learned: Any = self._row("find_learned", prediction=materialisation.name)
        prediction = materialisation.prediction
        self._rows_per_claim = learned.rows_per_claim if learned else prediction.max_rows_per_claim
        self._rows_per_call = learned.rows_per_call if learned else None

    def run(self) -> Explanation:
        waiting = self._window(pending=True)
        window, rows = waiting or self._window(pending=False) or (None, 0)
        plans = () if window is None else tuple(self._plan(name, window) for name in self._names())
        calls = {
            str(name): int(count)
            for name, count in self._transaction.rows(self._statements["find_service_calls"].render())
        }
        settings: Any = self._row("find_batch_settings")
        service = self._m.function is not None and service_of(self._m.function) is not None
        counting = getattr(settings, "track_functions", "all")
        return Explanation(
            prediction=self._m.name,
            table=self._m.table.label,
            waiting=waiting[1] if waiting else 0,
            rows=rows,
            statements=plans,
            batching=self._batching(plans, settings),
            service_calls=calls,
            leaks=self._leaks() if service else (),
            uncounted=f"track_functions is {counting}" if service and counting != "all" else "",
            plans_query=self._plans_query() if service else "",
        )

    def _names(self) -> tuple[str, ...]:
        model = self._m.prediction.model
        if not isinstance(model, SqlModel):
            return _WORKER_SIDE
        if model.mode == "select":
            return _IN_SELECT
        return _IN_PLACE if self._m.function is not None and self._m.function.in_place else _IN_UPDATE

    def _window(self, *, pending: bool) -> tuple[Window, int] | None:
        """The first window of rows that wait, or of any rows; this one statement is run, as in any claim."""
        name = "probe_window" if pending or "sample_window" not in self._statements else "sample_window"
        claims = (
            RowState.PENDING if pending else RowState.EXISTING
        )  # any but pending: the walk is over the key
        text = self._m.render(name, claims=claims, start=None, cap=None, upper=False)
        row: Any = self._transaction.row(text, limit=self._rows_per_claim)
        if row is None or not row.rows:
            return None
        return Window(tuple(listed(row.lo)), tuple(listed(row.hi))), int(row.rows)

    def _plan(self, name: str, window: Window) -> StatementPlan:
        text, parameters = self._statement(name, window)

        facts, lines, functions = self._read(text, parameters)
        purpose = self._statements[name].purpose
        pending = self._is_pending(facts) if name == "probe_window" else None
        return StatementPlan(name, purpose, lines, facts, functions, pending)

    def _read(
        self, text: str, parameters: Mapping[str, Any]
    ) -> tuple[PlanFacts, tuple[str, ...], tuple[str, ...]]:
        """The plan's facts, its lines for people, and the functions that it shows to run in batches."""
        table = self._m.table
        if "explain_access" in self._statements:
            wrapped = self._statements["explain_access"].show(statement=text)
            access = self._transaction.fetch_named(wrapped, parameters)
            function = self._m.function if accesses.is_batched(access) else None
            shown = () if function is None else (service_of(function) or function.label,)
            facts = accesses.analyse(access, table.name, self._rows_per_claim)
            return facts, accesses.as_text(access), shown

        def explained(form: str) -> list[Any]:
            wrapped = self._statements[form].show(statement=text)
            return [row[0] for row in self._transaction.fetch_binary(wrapped, parameters)]

        (plan,) = explained("explain_plan")
        facts = analyse(plan, {table.name, *(partition.name for partition in table.partitions)})
        return facts, tuple(explained("explain_text")), nested_functions(plan)

    def _is_pending(self, facts: PlanFacts) -> bool:
        """Whether the plan reaches the rows by the pending index, or its partitions' parts of it."""
        parts = (f"{partition.schema}.{partition.name}" for partition in self._m.table.partitions)
        return set(facts.index_names) <= {
            index_name(self._m.name),
            *(index_name(self._m.name, part) for part in parts),
        }

    def _statement(self, name: str, window: Window) -> tuple[str, dict[str, Any]]:
        """The statement as a worker renders it, with values for this window."""
        m = self._m
        bounds = {**bind_key("lo", window.lo), **bind_key("hi", window.hi), "limit": self._rows_per_claim}
        version = {"version": m.prediction.version_value} if m.prediction.version else {}
        if name == "probe_window":
            text = m.render(name, claims=RowState.PENDING, start="at", cap=None, upper=False)
            return text, {**bind_key("start", window.lo), "limit": self._rows_per_claim}
        text = m.render(name, claims=RowState.PENDING)
        if name != "write_rows":
            return text, {**bounds, **version}
        keys = self._transaction.fetch_binary(m.render("sample_keys"), bounds)
        return text, unanswered(self._transaction, m, keys)

    def _called(self) -> tuple[str, str]:
        """Schema and name of the function."""
        model, function = self._m.prediction.model, self._m.function
        if function is None or function.trailing or not isinstance(model, SqlModel):
            return "", function.label if function is not None else ""
        return address_of(model.sql, self._m.table.schema)

    def _leaks(self) -> tuple[Leak, ...]:
        schema, name = self._called()
        function = self._m.function
        rows = self._transaction.rows(
            self._statements["find_callers"].render(),
            oid=function.oid if function is not None else 0,
            schema=schema,
            name=name,
            label=function.label if function is not None else "",
            call=rf"(^|[^a-z0-9_$])[\"`]?{re.escape(name.lower())}[\"`]?\s*\(",
            own=MARK_PREFIX,
        )
        callers = (Caller(row.kind, row.name, row.text or "") for row in rows)
        return tuple(filter(None, (judge_caller(caller, name) for caller in callers)))

    def _plans_query(self) -> str:
        if "find_unbatched_plans" not in self._statements:
            return ""
        name = literal(self._called()[1], self._m.dialect)
        return self._statements["find_unbatched_plans"].show(function_name=name)

    def _batching(self, plans: tuple[StatementPlan, ...], row: Any) -> Batching:
        prediction, function = self._m.prediction, self._m.function
        if function is not None:
            counsel = self._transaction.capabilities.counsel
            switches = {name: getattr(row, name) for name in row._fields if name.startswith("apg_")}
            settings = BatchSettings(bool(row.aurora), switches, counsel)
            nested = {name for plan in plans for name in plan.functions}
            return judge_batching(function, settings, nested, prediction.max_rows_per_batch)
        learned, limit = self._rows_per_call, prediction.max_rows_per_batch
        most = min(learned or limit, limit) if limit else learned or DEFAULT_ROWS_PER_CALL
        calls = min(prediction.concurrency, -(-self._rows_per_claim // most))
        text = f"up to {most:,} rows a call, {calls} at once, for {self._rows_per_claim:,} rows a batch"
        if isinstance(prediction.model, ServiceModel):
            text += f", at most {prediction.model.max_bytes:,} bytes a request"
        return Batching(most > 1, text + (" (learned)" if self._rows_per_call else ""))

    def _row(self, statement: str, **parameters: Any) -> Any:
        return self._transaction.row(self._statements[statement].render(), **parameters)
