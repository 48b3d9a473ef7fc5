"""`rowscore run`: scores in this process, without Celery, and says what was done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.figures import count, counted, duration, rate
from worker.cli.output import Output
from worker.cli.progress import Course, Progress
from worker.cli.session import INTERRUPTED, RUN, Json, Name, session_of

if TYPE_CHECKING:
    from worker.batch import BatchResult
    from worker.config import Prediction
    from worker.drain import Summary
    from worker.engine import Engine

_POLL = 1.0  # seconds between looks at an empty queue, with --for
_FRUITLESS = 3  # drains in a row that find only rows of other sessions; then it ends, unless --for is given


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=RUN)(run)


def duration_option(text: str) -> timedelta:
    """An option's duration; a bad one is bad usage."""
    from worker.sections import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def run(
    context: typer.Context,
    *,
    name: Name = None,
    for_: Annotated[
        timedelta | None,
        typer.Option(
            "--for",
            metavar="TIME",
            parser=duration_option,
            help='Keep looking for new rows so long, such as "60s".',
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Score the rows that wait now, in this process, without Celery.

    Ends when nothing waits, or when --for is over. Exit status 1 when the model is at fault: the rows
    then still wait. Ctrl-C finishes the batch in flight or hands it back. A shadow is scored beside it.

    Example:
        rowscore run churn
        rowscore run churn --for 60s --json
    """
    from worker.upkeep import prune

    session = session_of(context)
    output = session.output(as_json)
    with session.engine(stoppable=True) as engine:
        prediction = engine.prediction(name)
        until = math.inf if for_ is None else time.monotonic() + for_.total_seconds()
        with (
            _shadow_beside(engine, prediction, until) as beside,
            Progress(prediction.name, Course()) as progress,
        ):
            summary, throttled = _drain(engine, prediction.name, until, progress)
        prune(engine, prediction.name)
    _report(output, summary)
    shadow = _report_shadow(output, beside)
    more = {} if shadow is None else {"shadow": shadow.as_dict()}
    output.document({**summary.as_dict(), **more, "interrupted": session.interrupted})
    if session.interrupted:
        return INTERRUPTED
    return int(summary.fault is not None and not throttled)


@contextmanager
def _shadow_beside(engine: Engine, prediction: Prediction, until: float) -> Iterator[Future[Summary] | None]:
    """The prediction's shadow, if it has one, is drained in a thread of its own while the block runs."""
    if prediction.shadow is None:
        yield None
        return
    _, shadow = engine.configuration.pair(prediction.name)
    with ThreadPoolExecutor(1, "rowscore-shadow") as pool:
        running = pool.submit(_unseen, engine, shadow.name, until)
        try:
            yield running
        except BaseException:
            engine.stop.set()
            raise


def _unseen(engine: Engine, name: str, until: float) -> Summary:
    """Drains with nobody looking on."""
    from worker.upkeep import prune

    summary, _ = _drain(engine, name, until, _Unseen())
    prune(engine, name)
    return summary


class _Unseen:
    """Progress that nobody is shown: the live prediction's is."""

    def batch(self, *_: int) -> None:
        """After a batch."""

    def wait(self, reason: str) -> None:
        """While nothing can be done."""


def _report_shadow(output: Output, beside: Future[Summary] | None) -> Summary | None:
    """How the shadow fared; what stops it stops nobody else."""
    from worker.errors import RowscoreError

    if beside is None:
        return None
    try:
        summary = beside.result()
    except RowscoreError as error:
        output.note(f"rowscore: error: {error}", "bad")
        return None
    _report(output, summary)
    return summary


def _drain(engine: Engine, name: str, until: float, progress: Progress | _Unseen) -> tuple[Summary, bool]:
    """Drain after drain until there is a reason to end; whether the last fault was only throttling."""
    from worker.drain import Drain, Summary
    from worker.upkeep import retry_failures

    total, throttled, fruitless = Summary(name), False, 0
    started = time.monotonic()

    def added(_: Summary, result: BatchResult) -> None:
        total.add(result)
        progress.batch(total.scored + total.failed + total.skipped, total.failed, result.taken)

    while not engine.stop.is_set() and (left := until - time.monotonic()) > 0:
        retry_failures(engine, name)  # Celery's beat does it elsewhere: those that are due wait again
        part = Drain(engine, name, seconds=left, progress=added).run()
        for field in (
            "ended",
            "fault",
            "permanent",
            "throttled",
            "empty",
            "retry_after",
            "rows_per_claim",
            "rows_per_call",
        ):
            setattr(total, field, getattr(part, field))
        throttled = part.throttled or (part.fault is not None and _is_throttled(engine, name))
        fruitless = 0 if part.scored + part.failed + part.skipped or throttled else fruitless + 1
        if part.permanent or (math.isinf(until) and (_is_over(part, throttled) or fruitless >= _FRUITLESS)):
            break
        if not part.empty:
            progress.wait(part.fault or part.ended)
        engine.stop.wait(min(part.retry_after or _POLL, max(until - time.monotonic(), 0)))
    total.seconds = time.monotonic() - started
    return total, throttled


def _is_over(part: Summary, throttled: bool) -> bool:
    """Without --for: when nothing waits, or the model is at fault; throttling is waited for."""
    return part.empty or (part.fault is not None and not throttled)


def _is_throttled(engine: Engine, name: str) -> bool:
    """Whether the open circuit is one of throttling: waiting is not failing."""
    from worker.errors import FailureClass
    from worker.status import read_circuit

    circuit = read_circuit(engine, engine.prediction(name))
    return circuit is not None and circuit.failure_class == FailureClass.THROTTLED


def _report(output: Output, summary: Summary) -> None:
    """The summary in a line or two."""
    output.say(f"{summary.prediction}: {tally(summary)}; {summary.ended or 'it was told to stop'}.")
    if summary.failed:
        output.say(f"Why they failed: rowscore failures {summary.prediction}", "warn")
    if summary.fault is not None:
        output.note(f"rowscore: error: {summary.prediction}: {summary.fault}", "bad")


def tally(summary: Summary) -> str:
    """`20,000 rows scored in 1.3 s (15,400 rows/s, 4 calls), 3 failed`."""
    if not (summary.scored or summary.failed or summary.skipped):
        return "nothing to score" if summary.empty else "no row scored"
    calls = f", {counted(summary.calls, 'call')}" if summary.calls else ""
    speed = f" ({rate(summary.scored, summary.seconds)}{calls})" if summary.scored else ""
    text = f"{counted(summary.scored, 'row')} scored in {duration(summary.seconds)}{speed}"
    others = {
        "remembered": summary.remembered,
        "failed": summary.failed,
        "skipped": summary.skipped,
        "lost to changes": summary.lost,
    }
    return ", ".join([text, *(f"{count(number)} {word}" for word, number in others.items() if number)])
