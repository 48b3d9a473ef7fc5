"""What `rowscore backfill` and `rowscore rescore` share: a run is begun, worked on, paused, cancelled, and reported."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.figures import count, counted, duration
from worker.cli.output import Output
from worker.cli.progress import Course, Progress
from worker.cli.running import tally
from worker.cli.session import INTERRUPTED, Session
from worker.states import RunKind, RunStatus

if TYPE_CHECKING:
    from worker.backfill import BackfillRun
    from worker.batch import BatchResult
    from worker.config import Prediction
    from worker.drain import Summary
    from worker.engine import Engine
    from worker.options import Options

_LOOK = 0.5  # seconds between looks at what Celery's workers did
_SEND_EVERY = 5.0  # seconds between looks whether there is room for more tasks
_REREAD = 1.0  # seconds between looks at the run's own totals, which other processes move as well

FromKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="The first key; of several columns `eu,17`.")
]
ToKey = Annotated[str | None, typer.Option(metavar="KEY", help="The last key.")]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help="Only rows for which it holds; others stay as they are.")
]
MaxRows = Annotated[int | None, typer.Option(metavar="ROWS", help="So many rows at most.")]
Rate = Annotated[
    str | None, typer.Option(metavar="ROWS", help='So fast at most, all workers together: "5000/s".')
]
Between = Annotated[
    str | None,
    typer.Option(metavar="HOURS", help='Only at this time: "22:00-06:00", "22:00-06:00 Europe/Berlin".'),
]
Budget = Annotated[
    str | None,
    typer.Option(metavar="SUM", help='A hard cap: "1000 calls", "50000 rows", or money: "20.00".'),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="So many processes here; else this one works.")
]
Celery = Annotated[
    bool, typer.Option("--celery", help="Let Celery's workers do it, and show here how far they are.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what it would cost: rows, model calls, time, money.")
]
Sample = Annotated[
    int | None,
    typer.Option(metavar="ROWS", min=1, help="With --dry-run: call the model on so many, for its time."),
]
Pause = Annotated[bool, typer.Option("--pause", help="Hold the one that is under way.")]
Resume = Annotated[bool, typer.Option("--resume", help="Let the one that is paused go on.")]
Cancel = Annotated[bool, typer.Option("--cancel", help="End the one that is under way.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command was asked to do with its run.

    Attributes:
        options: which rows, and how fast.
        workers: processes here; None: this one.
        sample: rows to try the model on, with `dry_run`.
        words: those of pause, resume and cancel that were given.
    """

    kind: RunKind
    options: Options
    workers: int | None
    dry_run: bool
    sample: int | None
    words: tuple[str, ...]


def words_of(*, pause: bool, resume: bool, cancel: bool) -> tuple[str, ...]:
    """The words that were given."""
    given = {"pause": pause, "resume": resume, "cancel": cancel}
    return tuple(word for word, is_given in given.items() if is_given)


def carry_out(session: Session, output: Output, name: str | None, asked: Asked) -> int:
    """Do it; returns the command's exit status.

    Raises:
        BadParameter: options that do not go together.
        RowscoreError: see `worker.backfill`.
    """
    words = asked.words
    if len(words) > 1 or (words and (asked.options or asked.dry_run or asked.workers is not None)):
        raise typer.BadParameter(f"--{words[0]} stands alone")
    if asked.options.celery and asked.workers is not None:
        raise typer.BadParameter("--workers is for processes here; Celery's are bounded by backfill_workers")
    if asked.sample is not None and not asked.dry_run:
        raise typer.BadParameter("--sample is for --dry-run: it calls the model and keeps no answer")
    with session.engine(stoppable=not words) as engine:
        prediction = engine.prediction(name)
        if words:
            return _change(output, engine, prediction.name, asked.kind, words[0])
        _check_workers(prediction, asked.workers)
        if asked.dry_run:
            return _estimate(output, engine, prediction.name, asked)
        return _work(output, session, engine, prediction.name, asked)


def _check_workers(prediction: Prediction, workers: int | None) -> None:
    if workers is not None and workers > prediction.backfill_workers:
        raise typer.BadParameter(
            f"--workers {workers} is more than backfill_workers of {prediction.name}, which is "
            f"{prediction.backfill_workers}: raise it in the file"
        )


def _change(output: Output, engine: Engine, name: str, kind: RunKind, word: str) -> int:
    """Pause, resume or cancel."""
    from worker import backfill as work

    after = {"pause": RunStatus.PAUSED, "resume": RunStatus.RUNNING, "cancel": RunStatus.CANCELLED}[word]
    run = work.change(engine, name, after, kind)
    command = f"rowscore {kind.value} {name}"
    said = {
        RunStatus.PAUSED: f"is paused; `{command} --resume` lets it go on",
        RunStatus.RUNNING: f"may go on; `{command}` works on it if nobody does",
        RunStatus.CANCELLED: "is cancelled",
    }[after]
    output.say(f"{name}: the {kind.value} {said}: {_done(run)}.", "good")
    output.document({"prediction": name, **_figures(run)})
    return 0


def _estimate(output: Output, engine: Engine, name: str, asked: Asked) -> int:
    """What it would cost, and that nothing was begun."""
    from dataclasses import asdict

    from worker.estimate import estimate

    found = estimate(engine, name, asked.options, asked.sample or 0, asked.kind)
    of_calls = f"{count(found.calls)} model calls of up to {count(found.rows_per_call)} rows"
    output.say(f"{name}: {count(found.rows)} rows, {of_calls}; nothing was begun.", "strong")
    if found.seconds is not None:
        output.say(f"  about {duration(found.seconds)} with one worker, the model alone")
    elif found.sample is None:
        output.say("  the time is not known: --sample 500 calls the model on so many rows to measure it")
    if found.money is not None:
        output.say(f"  about {found.money:,.2f} by the model's cost_per_call and cost_per_row")
    if found.sample is not None:
        tried = found.sample
        paid = "" if tried.money is None else f", {tried.money:,.2f}"
        output.say(
            f"  sample: {counted(tried.rows, 'row')}, {counted(tried.calls, 'call')}, {duration(tried.seconds)}{paid}"
        )
    output.document({"kind": asked.kind.value, **asdict(found), "options": asked.options.as_dict()})
    return 0


def _work(output: Output, session: Session, engine: Engine, name: str, asked: Asked) -> int:
    from worker import backfill as work
    from worker.errors import RefusedError, RowscoreError

    workers, what = asked.workers, asked.kind.value
    run = work.begin(engine, name, asked.options, asked.kind)
    if run.options.celery and workers is not None:
        raise RefusedError(f"the {what} of {name} that is under way is Celery's; call it without --workers")
    if run.resumed:
        how = f", with {run.options}" if run.options else ""
        output.note(f"{name}: resuming: {_done(run)}{how}")
    course = Course(total=run.total, before=run.done, done=run.done, failed=run.failed)
    try:
        with Progress(name, course) as progress:
            if run.options.celery:
                summary = _with_celery(engine, name, run, progress)
            elif workers is None:
                counter = _Counter(engine, name, run, progress)
                summary = work.work(engine, name, run, counter.add, progress.wait)
            else:
                summary = _with_crew(session, engine, name, run, workers, progress)
    except RowscoreError:
        output.note(f"{name}: stopped; `rowscore {what} {name}` goes on from there")
        raise
    run = work.read(engine, name, run)
    return _report(output, session, run, summary)


def _with_crew(
    session: Session, engine: Engine, name: str, run: BackfillRun, workers: int, progress: Progress
) -> Summary:
    from worker.crew import Crew

    counter = _Counter(engine, name, run, progress)
    crew = Crew(
        engine.configuration,
        name,
        run,
        workers,
        stop=engine.stop,
        tell=counter.look,
        waits=progress.wait,
        level="INFO" if session.verbose else "ERROR",
    )
    return crew.work()


def _with_celery(engine: Engine, name: str, run: BackfillRun, progress: Progress) -> Summary:
    """Send tasks where there is room for some, and show what becomes of them; Ctrl-C ends only the showing."""
    from tasks import backfills
    from worker import backfill as work
    from worker.app import BACKFILL_QUEUE, create_app
    from worker.broker import broker_errors
    from worker.drain import Summary
    from worker.outlook import look_at_backfill

    app = create_app(engine.configuration)
    app.set_default()
    sent_at = moved_at = time.monotonic() - _SEND_EVERY
    known = run
    spent = False
    while not engine.stop.is_set() and known.status in (RunStatus.RUNNING, RunStatus.PAUSED) and not spent:
        if time.monotonic() - sent_at >= _SEND_EVERY:
            found = look_at_backfill(engine, name)
            sent_at = time.monotonic()
            spent = known.spent and not found.live
            if found.reason is not None:
                progress.wait(found.reason)
            elif found.free and not found.live and time.monotonic() - moved_at >= _SEND_EVERY:
                with broker_errors(app.conf.broker_url):
                    backfills.start(engine, name, _SEND_EVERY)
                progress.wait(f"no Celery worker has begun yet: celery -A worker worker -Q {BACKFILL_QUEUE}")
            elif found.free:
                with broker_errors(app.conf.broker_url):
                    backfills.start(engine, name, _SEND_EVERY)
        engine.stop.wait(_LOOK)
        before, known = known.done, work.read(engine, name, run)
        if known.done != before:
            moved_at = time.monotonic()
        progress.batch(known.done, known.failed, 0)
    return Summary(
        name,
        scored=known.scored - run.scored,
        failed=known.failed - run.failed,
        skipped=known.skipped - run.skipped,
        seconds=known.seconds - run.seconds,
        ended=f"the budget of {run.options.budget} is spent" if spent else "Celery's workers go on",
        spent=spent,
        empty=known.status is RunStatus.FINISHED,
    )


class _Counter:
    """Moves the progress on, with what other processes did looked up now and then."""

    def __init__(self, engine: Engine, name: str, run: BackfillRun, progress: Progress) -> None:
        self._engine, self._name, self._run = engine, name, run
        self._progress = progress
        self._done, self._failed, self._rows = run.done, run.failed, 0
        self._read_at = time.monotonic()

    def add(self, _: Summary, result: BatchResult) -> None:
        """After a batch of this process."""
        self._done += result.scored + result.failed + result.skipped
        self._failed += result.failed
        self.look(result.taken)

    def look(self, rows: int | None) -> None:
        """After a batch of so many rows somewhere, or just so."""
        from worker import backfill as work

        self._rows = self._rows if rows is None else rows
        if time.monotonic() - self._read_at >= _REREAD:
            known = work.read(self._engine, self._name, self._run)
            self._done, self._failed, self._read_at = known.done, known.failed, time.monotonic()
        self._progress.batch(self._done, self._failed, self._rows)


def _done(run: BackfillRun) -> str:
    whole = f"{count(run.done)} of {count(run.total)}" if run.total is not None else count(run.done)
    return f"{whole} done"


def _report(output: Output, session: Session, run: BackfillRun, summary: Summary) -> int:
    name, what = summary.prediction, run.kind.value
    if run.status is RunStatus.FINISHED:
        output.say(f"{name}: {what} finished: {tally(summary)}.", "good")
    elif run.status is RunStatus.CANCELLED:
        output.say(f"{name}: the {what} was cancelled: {_done(run)}.", "warn")
    elif session.interrupted and run.options.celery:
        output.say(
            f"{name}: {_done(run)}; Celery's workers go on: `rowscore {what} {name}` shows it, --pause holds it.",
            "warn",
        )
    elif session.interrupted:
        output.say(f"{name}: stopped: {_done(run)}; `rowscore {what} {name}` goes on from there.", "warn")
    elif summary.spent:
        where = "" if run.at is None else f", at key {', '.join(run.at)}"
        output.say(
            f"{name}: {_done(run)}{where}; {summary.ended}: a larger --budget goes on from there.", "warn"
        )
    else:
        output.say(f"{name}: {_done(run)}; {summary.ended}.", "warn")
    if run.failed:
        output.say(f"{counted(run.failed, 'row')} failed; why: rowscore failures {name}", "warn")
    output.document(
        {
            "prediction": name,
            **_figures(run),
            "interrupted": session.interrupted,
            "this_process": summary.as_dict(),
        }
    )
    return 0 if run.status is RunStatus.FINISHED else INTERRUPTED if session.interrupted else 1


def _figures(run: BackfillRun) -> dict[str, Any]:
    return {
        "run": run.id,
        "kind": run.kind.value,
        "status": run.status.value,
        "options": run.options.as_dict(),
        "resumed": run.resumed,
        "finished": run.status is RunStatus.FINISHED,
        "spent": {"calls": run.calls, "rows": run.paid_rows, "money": run.money} if run.options.cap else None,
        "key": run.at,
        "rows_total": run.total,
        "rows_done": run.done,
        "rows_scored": run.scored,
        "rows_failed": run.failed,
        "rows_skipped": run.skipped,
    }
