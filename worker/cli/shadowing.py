"""A model that is tried beside the live one: `rowscore diff`, and what `rescore` does with --promote and the like."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.applying import print_sql, teller
from worker.cli.figures import count, counted, duration, percent
from worker.cli.output import Output
from worker.cli.session import LOOK, Json, Name, Session, session_of
from worker.switches import Direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.comparison import Difference, Distribution, OutputDifference
    from worker.promotion import Course

_TOLERANCE = 1e-6
_EXAMPLES = 10
_LONGEST = 40  # characters of a value
_PLACES = ("min", "p5", "p25", "p50", "p75", "p95", "max", "mean")

Shadow = Annotated[
    bool, typer.Option("--shadow", help="Score all rows with the shadow's model, into its own columns.")
]
Promote = Annotated[
    bool, typer.Option("--promote", help="Let the shadow and the live prediction change places.")
]
Rollback = Annotated[bool, typer.Option("--rollback", help="Let them change back after --promote.")]
AllowMissing = Annotated[
    bool,
    typer.Option("--allow-missing", help="Change though rows lose their prediction that the other lacks."),
]
AllowCopy = Annotated[
    bool,
    typer.Option("--allow-copy", help="MySQL, MariaDB: copy the table where no column can be renamed else."),
]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a switch may cost: predictions of rows, a copy of the table."""

    missing: bool
    copy: bool


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=LOOK)(diff)


def diff(
    context: typer.Context,
    *,
    name: Name = None,
    tolerance: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0.0, help=f"Numbers count as equal up to it; else {_TOLERANCE:g}."),
    ] = _TOLERANCE,
    examples: Annotated[
        int, typer.Option(metavar="N", min=0, help=f"Rows to show for each output; else {_EXAMPLES}.")
    ] = _EXAMPLES,
    sample: Annotated[
        int | None, typer.Option(metavar="ROWS", min=1, help="Look at about so many rows, of a huge table.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the shadow's predictions with the live ones, over the rows that both have scored.

    It reads the table, and locks and changes nothing. Numbers differ beyond the tolerance, relative to
    the larger of the two; everything else where it is not equal. NULL is a value.

    Example:
        rowscore diff churn
        rowscore diff churn --tolerance 0.05 --sample 100000
    """
    from worker.comparison import compare

    session = session_of(context)
    output = session.output(as_json)
    with session.engine() as engine:
        found = compare(engine, name, tolerance=tolerance, examples=examples, sample=sample)
    _show(output, found)
    output.document(asdict(found))


def shadow_name(session: Session, name: str | None, older_than: str | None) -> str:
    """The name of the prediction's shadow."""
    if older_than is not None:
        raise typer.BadParameter(
            "--shadow scores the rows that the shadow has not scored yet; --older-than is for others"
        )
    _, shadow = session.configuration().pair(name)
    return shadow.name


def way_of(*, promote: bool, rollback: bool, alone: bool) -> Direction:
    """The one that was asked for."""
    way = Direction.PROMOTE if promote else Direction.ROLLBACK
    if (promote and rollback) or not alone:
        raise typer.BadParameter(f"--{way} goes with --dry-run, --allow-missing and --allow-copy alone")
    return way


def change_places(
    session: Session, output: Output, name: str | None, way: Direction, allowed: Allowed, *, dry_run: bool
) -> int:
    """Let the prediction and its shadow change places, or print the SQL; then what to change in the file."""
    from worker.apply import switch

    with session.engine() as engine:
        pair = engine.configuration.pair(name)
        database = engine.database(pair[0])
        started = time.monotonic()
        course = switch(
            database,
            pair,
            way,
            allow_missing=allowed.missing,
            allow_copy=allowed.copy,
            dry_run=dry_run,
            on_change=teller(output),
            on_wait=output.waiting,
        )
        command = f"rowscore rescore {pair[0].name} --{way}"
        if dry_run:
            print_sql(output, command, course.changes, database)
        else:
            _say(output, course, way, time.monotonic() - started)
        lines = _file(course)
        if not course.in_file:
            _tell_file(output, engine.configuration.path, lines, comment="-- " if dry_run else "")
    output.document(
        {
            "prediction": course.live.name,
            "shadow": course.shadow.name,
            "direction": way.value,
            "dry_run": dry_run,
            "changes": [asdict(change) for change in course.changes],
            "missing": {state.name.lower(): rows for state, rows in course.missing.items()},
            "file_is_right": course.in_file,
            "file": lines,
        }
    )
    return 0


def _say(output: Output, course: Course, way: Direction, seconds: float) -> None:
    live, shadow = course.live.name, course.shadow.name
    if not course.changes:
        output.say(f"{shadow} was promoted already: nothing to do.")
        return
    words = {
        Direction.PROMOTE: f"{shadow} is promoted: {live} has its model and its predictions now, and {shadow} those "
        f"of {live}",
        Direction.ROLLBACK: f"{live} is rolled back: it has its old model and predictions again, {shadow} the others",
    }
    output.say(f"{words[way]}. It took {duration(seconds)}.", "good")
    if way is Direction.PROMOTE:
        output.say(f"To go back: rowscore rescore {live} --rollback")


def _file(course: Course) -> list[str]:
    from worker.cli.settings import model_sections

    return model_sections(course.live, course.shadow)


def _tell_file(output: Output, path: str, lines: Sequence[str], comment: str) -> None:
    output.say(
        f"{comment}Now change {path}, and restart workers and beat; until then they refuse to work:", "warn"
    )
    for line in lines:
        output.say(f"{comment}  {line}")


# --- diff -------------------------------------------------------------------------------------------------


def _show(output: Output, found: Difference) -> None:
    part = "" if found.sample is None else f" of a sample ({percent(found.sample, 1)} of the table)"
    output.say(f"{found.live} and {found.shadow}: {counted(found.compared, 'row')} compared{part}.", "strong")
    if found.only_live or found.only_shadow:
        output.say(
            f"  scored by {found.live} alone: {count(found.only_live)}; by {found.shadow} alone: "
            f"{count(found.only_shadow)}"
        )
    for each in found.outputs:
        _show_output(output, each)


def _show_output(output: Output, each: OutputDifference) -> None:
    share = percent(each.changed, each.compared) if each.compared else "none"
    output.say()
    output.say(f"{each.output} against {each.shadow}: {count(each.changed)} changed, {share}", "strong")
    if each.old is not None and each.new is not None and each.change is not None:
        rows = [("old", each.old), ("new", each.new), ("change", each.change)]
        table = [[label, *_figures(distribution)] for label, distribution in rows]
        output.table(["", *_PLACES], table, right=range(1, len(_PLACES) + 1), indent=2)
        if each.old_nulls or each.new_nulls:
            output.say(f"  NULL: {count(each.old_nulls)} old, {count(each.new_nulls)} new")
    if each.classes:
        classes = [[_text(item.old), _text(item.new), count(item.rows)] for item in each.classes]
        output.table(["old", "new", "rows"], classes, right=[2], indent=2)
    if each.examples:
        numbers = each.old is not None
        output.say("  the largest moves:" if numbers else "  the first changes:")
        examples = [[", ".join(item.key), _text(item.old), _text(item.new)] for item in each.examples]
        output.table(["key", "old", "new"], examples, right=[1, 2] if numbers else [], indent=4)


def _figures(distribution: Distribution) -> list[str]:
    return [_text(getattr(distribution, place)) for place in _PLACES]


def _text(value: Any) -> str:
    """A value on one line; six digits of a number."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
