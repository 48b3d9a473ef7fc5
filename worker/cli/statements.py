"""`rowscore sql`: the SQL that rowscore runs, by name, as it reads for a prediction; it runs none of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from worker.cli.output import Output
from worker.cli.session import OTHER, Json, Session, session_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="sql", rich_help_panel=OTHER)(show_sql)


def show_sql(
    context: typer.Context,
    *,
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="STATEMENT", help="Its name; without one, all are listed.", show_default=False
        ),
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option(
            "--prediction",
            "-p",
            metavar="NAME",
            help="For this prediction; needed when the file has several.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the SQL that rowscore runs: all statements by name, or one as it is for a prediction.

    Values are always bound and shown as :name. aws_ml is a script for psql: it makes stand-ins for Aurora's
    functions of that extension, so that a model with `aurora` can be tried on a laptop.

    Example:
        rowscore sql
        rowscore sql write_rows --prediction churn
        rowscore sql aws_ml | psql "$DATABASE_URL"
    """
    session = session_of(context)
    output = session.output(as_json)
    if statement is None:
        _list(session, output)
    elif statement in _aurora(session):
        _print_aurora(session, output, statement)
    else:
        _print_one(session, output, statement, prediction)


def _list(session: Session, output: Output) -> None:
    import sql

    known = {**sql.load(_dialect(session)), **_aurora(session)}
    if not output.as_json:
        width = max(map(len, known))
        for name in sorted(known):
            output.say(f"{name.ljust(width)}  {known[name].purpose}")
    output.document({name: known[name].purpose for name in sorted(known)})


def _dialect(session: Session) -> str:
    """The configured database's, as its URL has it; PostgreSQL's where there is no file yet, or no URL."""
    from worker.database import normalise_url
    from worker.errors import ConfigurationError

    try:
        configuration = session.configuration()
        first = next(iter(configuration.predictions.values()))
        return normalise_url(configuration.database_url(first)).get_backend_name()
    except ConfigurationError:
        return "postgresql"


def _aurora(session: Session) -> dict[str, Any]:
    """What is made for models that call a service of Aurora's, where the dialect has the name for nothing else."""
    import sql

    dialect = _dialect(session)
    return {name: item for name, item in sql.load(dialect, "aurora").items() if name not in sql.load(dialect)}


def _print_aurora(session: Session, output: Output, name: str) -> None:
    """One that needs no table; what `apply` renders for each function is left as its template."""
    statement = _aurora(session)[name]
    made = any(sign in statement.text for sign in ("{{", "{%"))
    text = _template(statement) if made else f"{statement.show()};"
    if not output.as_json:
        output.say(f"-- {name}: {statement.purpose}\n{text}")
    output.document({"statement": name, "purpose": statement.purpose, "prediction": None, "sql": text})


def _print_one(session: Session, output: Output, name: str, prediction: str | None) -> None:
    import sql
    from worker.errors import ConfigurationError

    with session.engine() as engine:
        chosen = engine.prediction(prediction)
        known = sql.load(engine.database(chosen).capabilities.dialect)
        if name not in known:
            near = [each for each in known if name in each or each in name]
            hint = f"; did you mean {', '.join(sorted(near))}?" if near else "; `rowscore sql` lists them"
            raise ConfigurationError(f"there is no statement {name!r}{hint}")
        materialisation = engine.materialisation(chosen)
    text = _rendered(known[name], materialisation)
    if not output.as_json:
        output.say(f"-- {name}: {known[name].purpose}\n{text}")
    output.document(
        {"statement": name, "purpose": known[name].purpose, "prediction": chosen.name, "sql": text}
    )


def _rendered(statement: Any, materialisation: Any) -> str:
    """With the choices that scoring makes most often; a template where only `apply` knows more."""
    from jinja2 import UndefinedError

    from worker.states import RowState

    usual = {
        "claims": RowState.PENDING,
        "start": "after",
        "anchor": False,
        "cap": None,
        "upper": False,
        "guarded": True,
        "unheld": False,
        "everything": False,
        "arrived_at": materialisation.prediction.arrived_at,
        "zoned": True,
        "one": RowState.EXISTING,
        "scored": False,
    }
    try:
        text: str = statement.show(**materialisation.context, **usual)
    except UndefinedError:
        text = _template(statement)
    return text


def _template(statement: Any) -> str:
    return f"-- rendered by `apply` for each object; see `rowscore apply --dry-run`\n{statement.text}"
