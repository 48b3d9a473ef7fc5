"""`rowscore export`: the rows that a model is trained with, as scoring would send them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.figures import counted, duration
from worker.cli.output import Output
from worker.cli.progress import Course, Progress
from worker.cli.session import INTERRUPTED, RUN, Json, Name, session_of

if TYPE_CHECKING:
    from worker.export import Exported

_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="export", rich_help_panel=RUN)(export_rows)


def export_rows(
    context: typer.Context,
    *,
    name: Name = None,
    to: Annotated[
        str,
        typer.Option("--to", metavar="FILE", help="A path or s3://bucket/key, ending in .csv or .parquet."),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="COLUMN,...",
            help="Columns to put before the inputs, such as what the model shall learn.",
            show_default=False,
        ),
    ] = None,
    labels_last: Annotated[bool, typer.Option("--labels-last", help="Put them behind the inputs.")] = False,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", metavar="SQL", help="Only rows for which this holds, too.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="So many rows at most.", show_default=False)
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether CSV begins with the columns' names; else as requests do.",
            show_default=False,
        ),
    ] = None,
    scored_only: Annotated[
        bool, typer.Option("--scored-only", help="Only rows that have been scored.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_sql: Annotated[
        bool,
        typer.Option("--sql", help="Print the statement by which Aurora itself writes it to S3, as CSV."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Write the features of the rows to a file, to train a model with, by the expressions and encoding of scoring.

    What scoring would not send is left out. It locks nothing, calls no model and needs no `apply`. The file
    is there when it is whole. Rows that change meanwhile are written as they are when it comes by.

    Example:
        rowscore export churn --to churn.csv --labels churned --where "churned IS NOT NULL"
        rowscore export churn --to s3://models/churn/train.parquet --labels churned
    """
    from worker.export import Wishes, export, export_statement

    columns = tuple(column.strip() for column in labels.split(",")) if labels else ()
    wishes = Wishes(to, columns, labels_last, where, limit, header, scored_only, force)
    session = session_of(context)
    output = session.output(as_json)
    with session.engine(stoppable=not as_sql) as engine:
        if as_sql:
            statement = export_statement(engine, name, wishes)
            if not as_json:
                output.say(f"{statement};")
            output.document({"prediction": engine.prediction(name).name, "sql": statement})
            return 0
        prediction = engine.prediction(name)
        with Progress(prediction.name, Course(total=limit)) as progress:
            found = export(
                engine,
                prediction.name,
                wishes,
                progress=lambda found, rows: progress.batch(found.rows, 0, rows),
            )
    _report(output, found)
    document = found.as_dict() | {"interrupted": session.interrupted}
    output.document({key: value for key, value in document.items() if key != "position"})
    return 0 if found.complete else INTERRUPTED


def _report(output: Output, found: Exported) -> None:
    if not found.complete:
        output.say(f"{found.prediction}: stopped: nothing was written to {found.to}", "warn")
        return
    inputs = len(found.columns) - len(found.labels)
    beside = f" and {counted(len(found.labels), 'label')}" if found.labels else ""
    output.say(
        f"{found.prediction}: {counted(found.rows, 'row')} of {counted(inputs, 'input')}{beside} written to "
        f"{found.to} in {duration(found.seconds)} ({_size(found.size)}).",
        "good" if found.rows else "warn",
    )
    if found.refused:
        output.say(f"  {counted(found.refused, 'row')} left out: NULL in an input (encoding.refuse_null)")
    if found.failing:
        output.say(
            f"  {counted(found.failing, 'row')} left out, since an expression fails: {found.error}", "warn"
        )


def _size(size: int) -> str:
    return next((f"{size / unit:.3g} {name}" for unit, name in _UNITS if size >= unit), f"{size} bytes")
