"""Scores one batch with a model that the worker calls: what is sent, again, and in what sizes; no database.

Equal rows are sent once, and not at all where their answers are remembered. Retries, throttling and sizes follow the
error's class (`worker.errors`); who is to blame for a failed call is `worker.bisection`'s to find, and whether an
answer fits its column `worker.answers`'.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field

from worker.answers import OutputType, check_answers
from worker.bisection import Search, Span
from worker.columns import Columns, Row
from worker.distinct import distinct
from worker.errors import (
    ConnectionDroppedError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceTimeoutError,
)
from worker.gates import Gate, enter_all
from worker.memory import Memory
from worker.models.protocol import Answer, Batch, Call, CallStatistics, Model, RowFailure, Weight
from worker.patience import DEFAULT_PATIENCE, Patience, StoppedError
from worker.pulse import Pulse

_Answers = list[Answer | RowFailure]
_PREPARED = 2  # calls beyond those in flight, whose rows are written meanwhile
_SWITCH_SECONDS, _USUAL_SWITCH_SECONDS = 0.0005, sys.getswitchinterval()
_TIMEOUT_HALVINGS = (
    2  # a range that still times out at a quarter of the rows asked for: the service is too slow
)


@dataclass(slots=True)
class Scores:
    """What became of a batch.

    Attributes:
        outcomes: for each row its answer, its failure, or None where it was not scored.
        fault: why the rest was not scored (service or throttling); what was paid for by then is in
            `outcomes`.
        statistics: what it cost.
        rows_per_call: the most rows a call that the service was found to take, at most what was asked for.
    """

    outcomes: list[Answer | RowFailure | None]
    fault: ModelError | None = None
    statistics: CallStatistics = field(default_factory=CallStatistics)
    rows_per_call: int = 1


def score(
    model: Model,
    batch: Batch,
    outputs: Mapping[str, OutputType],
    *,
    rows_per_call: int,
    concurrency: int = 1,
    before_call: Callable[[], object] | None = None,
    pulse: Pulse | None = None,
    stop: threading.Event | None = None,
    proven: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
    gates: Sequence[Gate] = (),
    memory: Memory | None = None,
    pool: CallPool | None = None,
    seconds: float = math.inf,
) -> Scores:
    """Score the batch's rows and convert the answers.

    With an in-process model it adds 1.7 ms for 5,000 distinct rows of 20 columns, 2.8 ms in ten calls
    by four threads (two shared cores); `worker.distinct` says what equal rows add.

    Args:
        model: the model.
        batch: the rows, equal ones among them.
        outputs: the outputs' types by name, in the model's order.
        rows_per_call: the most rows of one request; the model may take fewer.
        concurrency: requests in flight at once, each in a thread of its own; a single call is made in the
            calling thread, where a model may rely on what it keeps there.
        before_call: run in the calling thread before each call; what it raises leaves as it is, once the
            calls in flight have ended.
        pulse: runs `before_call` every few seconds as well, in a thread of its own, for a call may outlast a
            lease; never while it runs already.
        stop: once set, waits end at once and no further call is made.
        proven: the service answered lately, so a few rows of which none succeeds (fewer than
            `bisection.WITNESSES`) are at fault themselves; with more of them it is the service still.
        patience: the bounds of retries and waits.
        gates: what each call passes before it is sent, in this order.
        memory: of answers, which are looked up before anything is sent, and kept once they are converted.
        pool: where calls are made, those of batches that are scored beside this one as well.
        seconds: after which no further call is begun; the rest is then not scored.

    Returns:
        The scores; a model's errors are in them, never raised.
    """
    rows, positions = distinct(batch.data)
    rows_per_call = min(rows_per_call, model.most_rows or rows_per_call)
    beating = pulse.beating if pulse else nullcontext
    with beating(before_call or (lambda: None)) as before:
        recalled = _Recalled(memory, rows)
        run = _Run(
            model,
            Batch(batch.names, recalled.rows),
            rows_per_call=rows_per_call,
            before_call=before,
            stop=stop or threading.Event(),
            proven=proven,
            patience=patience,
            gates=gates,
            until=time.monotonic() + seconds,
        )
        if pool is not None:
            run.side_by_side(pool)
        elif concurrency == 1 or len(recalled.rows) <= rows_per_call:
            run.one_by_one()
        else:
            with closing(CallPool(concurrency)) as own:
                run.side_by_side(own)
        outcomes = recalled.complete(run.outcomes(outputs))
    statistics = run.statistics
    statistics.equal = len(batch) - len(rows)
    statistics.remembered = len(rows) - len(recalled.rows)
    if positions is not None:
        outcomes = [outcomes[position] for position in positions]
    return Scores(outcomes, run.fault, statistics, run.limit)


class CallPool:
    """Threads that make calls, `concurrency` at once; the others prepare the next ones meanwhile.

    A thread whose answer has come waits for one that writes rows, up to the interpreter's switch interval each time
    that it needs the interpreter: at 5 ms a quarter of a service's time was lost, at 0.5 ms a tenth. So it is short
    while there is a pool, for the whole process.

    Attributes:
        width: calls under way, those that are prepared among them.
    """

    def __init__(self, concurrency: int) -> None:
        self.width = concurrency + _PREPARED
        self._places = threading.BoundedSemaphore(concurrency)
        self._threads = ThreadPoolExecutor(self.width, thread_name_prefix="rowscore-call")
        sys.setswitchinterval(_SWITCH_SECONDS)

    def submit(
        self, request: Callable[[Span, AbstractContextManager[object]], _Answers], span: Span
    ) -> Future[_Answers]:
        """Make a call in one of the threads; it is handed the place that it has to take for as long as it is asked."""
        return self._threads.submit(request, span, self._places)

    def close(self) -> None:
        """Let the threads go, once their calls have ended."""
        self._threads.shutdown()
        sys.setswitchinterval(_USUAL_SWITCH_SECONDS)


class _Recalled:
    """A batch's distinct rows, less those whose answers are remembered.

    Attributes:
        rows: that are left to be sent.
    """

    def __init__(self, memory: Memory | None, rows: Sequence[Row]) -> None:
        self.rows = rows
        self._memory = memory
        self._keys: list[str | None] = []
        self._answers: list[Answer | None] = []
        if memory is not None:
            self._keys = memory.keys(rows)
            self._answers = memory.recall(self._keys)
            left = [place for place, answer in enumerate(self._answers) if answer is None]
            self.rows = rows.pick(left) if isinstance(rows, Columns) else [rows[place] for place in left]

    def complete(self, outcomes: list[Answer | RowFailure | None]) -> list[Answer | RowFailure | None]:
        """The outcomes of all rows, given those of the rows that were left; their answers are remembered."""
        if self._memory is None:
            return outcomes
        left = iter(outcomes)
        whole = [next(left) if answer is None else answer for answer in self._answers]
        new = [answer is None for answer in self._answers]
        kept = zip(self._keys, whole, new, strict=True)
        self._memory.keep({key: one for key, one, asked in kept if asked and key and isinstance(one, tuple)})
        return whole


class _Run:
    """One batch being scored. Only `_request` and `_call` run in several threads."""

    def __init__(
        self,
        model: Model,
        batch: Batch,
        *,
        rows_per_call: int,
        before_call: Callable[[], object],
        stop: threading.Event,
        proven: bool,
        patience: Patience,
        gates: Sequence[Gate],
        until: float,
    ) -> None:
        """See `score` for the arguments; `until` is by the monotonic clock."""
        self.fault: ModelError | None = None
        self.statistics = CallStatistics()
        self._model = model
        self._batch = batch
        self._asked = rows_per_call
        self._before_call = before_call
        self._stop = stop
        self._patience = patience
        self._gates = gates
        self._until = until
        self._lock = threading.Lock()
        self._search = Search(len(batch), presumed=proven)
        self._alone = len(batch) == 1 and not proven
        self._halted = False
        self._raw: list[Answer | RowFailure | None] = [None] * len(batch)
        self._largest_taken = 0
        self._refused: list[tuple[Span, int]] = []  # too large or too slow, and how many rows may do

    @property
    def limit(self) -> int:
        """Rows a call: as asked for, or what may do of what was refused, unless more was taken elsewhere.

        One giant row drives its range down to a single row; once it is found, those refusals count no more.
        """
        if not self._refused:
            return self._asked
        smallest = min(rows for _, rows in self._refused)
        return min(self._asked, max(self._largest_taken, smallest, 1))

    def one_by_one(self) -> None:
        """Make the calls in this thread."""
        while span := self._next():
            try:
                self._raw[span.start : span.stop] = self._request(span, before=self._before_call)
            except (ModelError, StoppedError) as error:
                self._settle(span, error)
            else:
                self._settle(span, None)

    def side_by_side(self, pool: CallPool) -> None:
        """Keep several requests in flight; answers, blame and sizes are settled in this thread."""
        calls: dict[Future[_Answers], Span] = {}
        try:
            while True:
                while len(calls) < pool.width and (span := self._next()):
                    self._before_call()
                    calls[pool.submit(self._request, span)] = span
                if not calls:
                    return
                done, _ = wait(calls, return_when=FIRST_COMPLETED)
                for call in done:
                    self._gather(calls.pop(call), call)
        finally:
            wait(calls)

    def outcomes(self, outputs: Mapping[str, OutputType]) -> list[Answer | RowFailure | None]:
        """Each distinct row's outcome; the answers are checked together, for all of them may be unusable."""
        outcomes = self._raw
        answered = [row for row, raw in enumerate(outcomes) if raw is not None] if None in outcomes else None
        try:
            if answered is None:
                outcomes = list(check_answers(outcomes, outputs)) if outcomes else []  # type: ignore[arg-type]
            else:
                checked = check_answers([outcomes[row] for row in answered], outputs)  # type: ignore[misc]
                for row, outcome in zip(answered, checked, strict=True):
                    outcomes[row] = outcome
        except ModelError as error:
            self.fault = error
            outcomes = [None] * len(outcomes)
        for row, poison in self._search.poison.items():
            outcomes[row] = RowFailure(poison.failure, str(poison))
        return outcomes

    def _next(self) -> Span | None:
        self._halted = self._halted or time.monotonic() >= self._until
        if self._halted or self._stop.is_set():
            return None
        span = self._search.next(self.limit)
        if span is None and self._search.idle:
            self._conclude()
        return span

    def _conclude(self) -> None:
        self._halted = True
        try:
            self._search.conclude()
        except ModelError as error:
            self.fault = error

    def _gather(self, span: Span, call: Future[_Answers]) -> None:
        error = call.exception()
        if error is None:
            self._raw[span.start : span.stop] = call.result()
        elif not isinstance(error, (ModelError, StoppedError)):
            raise error
        self._settle(span, error)

    def _settle(self, span: Span, error: BaseException | None) -> None:
        """Tell the search what became of a range, and learn how many rows a call the service takes."""
        if error is None:
            self._largest_taken = max(self._largest_taken, span.size)
            self._search.succeeded(span)
        elif isinstance(error, StoppedError):
            self._halted = True
        elif isinstance(error, PayloadTooLargeError):
            self._too_much(span, error)
        elif isinstance(error, ServiceTimeoutError):
            self._too_slow(span, error)
        elif isinstance(error, (RowFaultError, ConnectionDroppedError)):
            try:
                suspected = error if isinstance(error, RowFaultError) else RowFaultError(str(error))
                self._search.failed(span, suspected)
            except ModelError as fault:
                self._halt(fault)
        elif isinstance(error, ModelError):
            self._halt(error)

    def _halt(self, fault: ModelError) -> None:
        self._halted = True
        self.fault = self.fault or fault

    def _too_much(self, span: Span, error: PayloadTooLargeError) -> None:
        if span.size == 1:
            self._convict(span, RowRejectedError(f"this row alone is too large: {error}"))
            return
        fitting = span.size // 2 if error.fitting is None else min(error.fitting, span.size - 1)
        self._refused.append((span, fitting))
        if not error.sent and self.limit < span.size:
            self._search.put_back(span)
        else:
            self._search.divide(span)

    def _too_slow(self, span: Span, error: ServiceTimeoutError) -> None:
        """Fewer rows may be in time. A row that hangs where others do not is at fault, or all would stop."""
        if span.size == 1 and self._search.proven and not self._alone:
            self._convict(span, RowFaultError(f"this row alone is too slow: {error}"))
            return
        self._refused.append((span, span.size // 2))
        if span.size > max(1, self._asked >> _TIMEOUT_HALVINGS):
            self._search.divide(span)
        else:
            self._halt(error)

    def _convict(self, row: Span, error: RowFaultError) -> None:
        self._search.convict(row, error)
        self._refused = [kept for kept in self._refused if not kept[0].start <= row.start < kept[0].stop]

    def _request(
        self,
        span: Span,
        place: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it has no state
        before: Callable[[], object] = lambda: None,
    ) -> _Answers:
        """One range's answers, with the retries and waits that `patience` allows; called in any thread."""
        rows = self._batch.part(span.start, span.stop)
        asked = self._model.prepare(rows)

        def call() -> _Answers:
            with place:
                if self._stop.is_set():
                    raise StoppedError
                before()
                return self._call(asked, rows)

        return self._patience.call(call, self._stop, self._note)

    def _call(self, asked: Call, rows: Batch) -> _Answers:
        weight = self._model.weigh(rows)
        failed = enter_all(self._gates if weight.requests else (), weight, self._stop)
        started = time.perf_counter()
        try:
            answers = asked()
        except ModelError as error:
            failed(error)
            if error.sent:
                self._count(weight, started)
            raise
        self._count(weight, started)
        if len(answers) != len(rows):
            raise RowFaultError(f"the model answered {len(answers)} rows where {len(rows)} were sent")
        return list(answers)

    def _count(self, weight: Weight, started: float) -> None:
        seconds, requests = time.perf_counter() - started, weight.requests
        with self._lock:
            found = self.statistics
            found.calls += requests
            found.rows += weight.rows
            found.single += requests if weight.rows <= requests and len(self._batch) > 1 else 0
            found.seconds += [seconds / requests] * requests if requests else ()
            found.sizes += [-(-weight.rows // requests)] * requests if requests else ()

    def _note(self, throttled: bool, again: bool) -> None:
        with self._lock:
            self.statistics.throttled += throttled
            self.statistics.retries += again
