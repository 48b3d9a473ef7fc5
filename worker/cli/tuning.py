"""`rowscore tune`: which batch size a model is quickest with, as a table, a picture and a line for rowscore.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.figures import count, counted, duration, percent, rate
from worker.cli.output import Output
from worker.cli.progress import Course, Progress
from worker.cli.session import INTERRUPTED, RUN, Json, Name, session_of

if TYPE_CHECKING:
    from worker.config import Prediction
    from worker.engine import Engine
    from worker.knee import Point, Trial
    from worker.rehearsal import Paid
    from worker.tune import Tuning, Wishes

_CALLS = 100
_ROWS = 20_000
_MOST_AT_ONCE = 64  # as `concurrency` allows


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=RUN)(tune)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(part.replace("_", "")) for part in text.split(",")}))
    except ValueError as error:
        raise typer.BadParameter(f"expected numbers such as 100,1000,5000, not {text!r}") from error
    if found[0] < 1:
        raise typer.BadParameter("expected numbers from 1 on")
    return found


MaxCalls = Annotated[
    int, typer.Option("--max-calls", metavar="N", min=2, help=f"Calls at most; else {_CALLS}.")
]
Sizes = Annotated[
    Any,
    typer.Option(
        "--sizes",
        metavar="N,N",
        parser=_numbers,
        help="Try these rows a call, instead of 1 to max_rows_per_claim.",
    ),
]
Concurrency = Annotated[
    Any,
    typer.Option(
        "--concurrency",
        metavar="N,N",
        parser=_numbers,
        help="Try so many calls at once as well; else half and twice as many as configured.",
    ),
]
Rows = Annotated[
    int, typer.Option("--rows", metavar="N", min=1, help=f"Rows to read and to try with; else {_ROWS:,}.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE.svg", help="Draw rows a second and latency against the size."),
]
Save = Annotated[bool, typer.Option("--save", help="Keep the size in the database: drains begin with it.")]


def tune(
    context: typer.Context,
    *,
    name: Name = None,
    max_calls: MaxCalls = _CALLS,
    sizes: Sizes = None,
    concurrency: Concurrency = None,
    rows: Rows = _ROWS,
    plot: Plot = None,
    save: Save = False,
    as_json: Json = False,
) -> int:
    """Find the batch size that a model is quickest with, on real rows.

    It calls the model, which may cost money: --max-calls is a cap on all calls together. Predictions
    are not written, and no row is locked. The size that it names is the smallest one that reaches 97 %
    of the most rows a second, within timeout, payload limit and max_lock_time. Exit status 1 when
    nothing was answered.

    Example:
        rowscore tune churn --max-calls 60
        rowscore tune churn --sizes 100,500,2000 --plot churn.svg --save
    """
    from worker.tune import Wishes
    from worker.tune import save as keep

    _check(plot, concurrency)
    session = session_of(context)
    output = session.output(as_json)
    with session.engine(stoppable=True) as engine:
        tuning = _sweep(engine, name, Wishes(max_calls, sizes, concurrency, rows))
        if save and not session.interrupted:
            keep(engine, tuning)
        _report(output, engine, tuning, save=save)
        if plot is not None and tuning.points:
            _draw(output, plot, engine.prediction(name), tuning)
        _lines(output, engine, tuning)
    output.document({**_document(tuning), "interrupted": session.interrupted})
    if session.interrupted:
        return INTERRUPTED
    return int(tuning.choice is None)


def _sweep(engine: Engine, name: str | None, wishes: Wishes) -> Tuning:
    """Try the sizes, and show how far it is."""
    from worker.tune import tune as sweep

    prediction = engine.prediction(name)
    with Progress(prediction.name, Course()) as progress:
        return sweep(engine, prediction.name, wishes, _teller(progress))


def _check(plot: Path | None, concurrency: tuple[int, ...] | None) -> None:
    """Before anything is paid for."""
    if plot is not None and plot.suffix.lower() != ".svg":
        raise typer.BadParameter(f"--plot {plot}: only SVG is drawn; name a file that ends in .svg")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise typer.BadParameter(f"--plot {plot}: there is no folder {plot.absolute().parent}")
    if concurrency and concurrency[-1] > _MOST_AT_ONCE:
        raise typer.BadParameter(f"--concurrency: {_MOST_AT_ONCE} calls at once are the most")


def _teller(progress: Progress) -> Any:
    def tell(paid: Paid, trial: Trial) -> None:
        progress.batch(paid.rows, paid.failed_rows, trial.size)

    return tell


def _report(output: Output, engine: Engine, tuning: Tuning, *, save: bool) -> None:
    """The table, what it cost, and what else there is to know."""
    paid = tuning.paid
    if tuning.points:
        _table(output, tuning)
        output.say()
    cost = "" if tuning.money is None else f", {tuning.money:,.4g} by cost_per_call and cost_per_row"
    output.say(
        f"{tuning.prediction}: {counted(paid.calls, tuning.unit)} with {counted(paid.rows, 'row')} in all were made "
        f"in {duration(tuning.seconds)}{cost}; no prediction was written."
    )
    for finding in tuning.findings:
        output.say(f"- {finding}", "warn")
    if save:
        output.say(_kept(engine, tuning))
    if tuning.fault is not None:
        output.note(f"rowscore: error: {tuning.prediction}: {tuning.fault}", "bad")


def _table(output: Output, tuning: Tuning) -> None:
    chosen = tuning.choice.point if tuning.choice else None
    best = max((point.rate or 0.0 for point in tuning.points), default=0.0)
    headers = [f"rows a {tuning.unit}", "at once", "trials", "rows/s", "of the best", "median", "slowest", ""]
    lines = [
        [
            count(point.size),
            str(point.concurrency),
            str(point.trials),
            rate(point.rate, 1.0).removesuffix(" rows/s") if point.rate else "-",
            percent(point.rate, best) if point.rate else "-",
            duration(point.latency) if point.latency else "-",
            duration(max(point.latencies)) if point.latencies else "-",
            _remark(point, tuning, knee=point is chosen),
        ]
        for point in tuning.points
    ]
    columns = [place for place in range(len(headers)) if place != 1 or tuning.concurrency is not None]
    output.table(
        [headers[place] for place in columns],
        [[line[place] for place in columns] for line in lines],
        right=range(len(columns) - 1),
    )


def _remark(point: Point, tuning: Tuning, *, knee: bool) -> str:
    if knee:
        return "<- knee" if tuning.choice is not None and tuning.choice.within else "<- the smallest"
    if point.trouble is not None:
        return point.trouble.verdict.value
    return "" if point.fits(tuning.limits) else "beyond the limits"


def _kept(engine: Engine, tuning: Tuning) -> str:
    """What --save did."""
    from worker.batch import DEFAULT_ROWS_PER_CALL

    if tuning.choice is None:
        return "Nothing is saved: there is no size to keep."
    size = counted(tuning.choice.point.size, "row")
    if tuning.saved and tuning.setting == "max_rows_per_claim":
        return f"Saved: drains begin with {size} a claim, and go on by max_lock_time."
    limit = engine.prediction(tuning.prediction).max_rows_per_batch or DEFAULT_ROWS_PER_CALL
    if not tuning.saved and tuning.choice.point.size == limit:
        return "Not saved: the file says so already."
    if tuning.saved and tuning.choice.point.size >= limit:
        return f"Saved: drains go up to {size} a call while the file does not say max_rows_per_batch."
    if tuning.saved:
        return (
            f"Saved: drains begin with {size} a call. Without the line below they go back up to {limit:,}, "
            f"by a twentieth a batch."
        )
    bound = (
        f"a call has {limit:,} at most" if tuning.unit == "call" else "the function is told the file's number"
    )
    return f"Not saved: {bound}; the line below is what changes it."


def _lines(output: Output, engine: Engine, tuning: Tuning) -> None:
    """What belongs into the file, last of all."""
    if tuning.choice is None or output.as_json:
        return
    output.say()
    output.say(f"For [predictions.{tuning.prediction}] of {engine.configuration.path}:", "dim")
    for key, value in tuning.settings.items():
        output.say(f"{key} = {value}", "good")


def _draw(output: Output, path: Path, prediction: Prediction, tuning: Tuning) -> None:
    from worker.errors import RowscoreError
    from worker.knee import HEADROOM
    from worker.plot import Picture, draw

    if not any(point.rate for point in tuning.column):
        output.note(f"{path}: nothing was measured, so nothing is drawn", "warn")
        return
    limits, bound = tuning.limits, None
    if limits.lock is not None:
        bound = limits.lock, "max_lock_time"
    elif limits.timeout is not None:
        bound = HEADROOM * limits.timeout, f"{HEADROOM * 100:.0f} % of the timeout"
    paid = f"{counted(tuning.paid.calls, tuning.unit)}, {counted(tuning.paid.rows, 'row')}"
    sides = f", {tuning.concurrency} at once" if tuning.concurrency else ""
    picture = Picture(
        title=f"{prediction.name}: rows a second and latency by batch size",
        subtitle=f"{paid}{sides}; lines are medians, pale dots single trials and calls",
        axis=f"rows a {tuning.unit}",
        each=tuning.unit,
        points=tuning.column,
        choice=tuning.knee,
        bound=bound,
    )
    try:
        path.write_text(draw(picture), encoding="utf-8")
    except OSError as error:
        raise RowscoreError(f"{path}: cannot be written: {error.strerror}") from error
    output.say(f"Drawn: {path}")


def _document(tuning: Tuning) -> dict[str, Any]:
    choice = tuning.choice
    return {
        "prediction": tuning.prediction,
        "setting": tuning.setting,
        "present": tuning.present[0],
        "settings": tuning.settings,
        "knee": choice and {**_figures(choice.point), "within_limits": choice.within},
        "best": choice and _figures(choice.best),
        "saved": tuning.saved,
        "calls": tuning.paid.calls,
        "rows": tuning.paid.rows,
        "throttled": tuning.paid.throttled,
        "failed_rows": tuning.paid.failed_rows,
        "cost": tuning.money,
        "seconds": round(tuning.seconds, 3),
        "findings": tuning.findings,
        "fault": str(tuning.fault) if tuning.fault else None,
        "points": [
            {
                **_figures(point),
                "trials": point.trials,
                "calls": point.calls,
                "slowest_seconds": max(point.latencies, default=None),
                "trouble": point.trouble
                and {"kind": point.trouble.verdict.value, "reason": point.trouble.reason},
            }
            for point in tuning.points
        ],
    }


def _figures(point: Point) -> dict[str, Any]:
    return {
        "rows_per_call": point.size,
        "concurrency": point.concurrency,
        "rows_per_second": point.rate,
        "seconds_per_call": point.latency,
    }
