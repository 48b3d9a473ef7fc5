"""`rowscore doctor` and `rowscore explain`: what is wrong and how to mend it, and what will run; thin."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli.figures import counted, duration
from worker.cli.session import LOOK, SET_UP, Json, Name, session_of
from worker.cli.starting import init

if TYPE_CHECKING:  # `rowscore --help` shall not load what these commands work with
    from worker.cli.output import Output
    from worker.doctor.findings import Finding
    from worker.evidence import Evidence
    from worker.explain import Explanation

_VERDICTS = {"ok": "ok", "warning": "warning", "error": "failed"}
_WIDEST = 140  # characters of a plan's line: expressions over 20 columns tell a reader nothing


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(rich_help_panel=SET_UP)(init)
    app.command(rich_help_panel=SET_UP)(doctor)
    app.command(rich_help_panel=LOOK)(explain)


def doctor(context: typer.Context, name: Name = None, as_json: Json = False) -> None:
    """Check everything that scoring needs, and say how to mend what is wrong.

    It looks at the configuration, the database, this role's privileges, the table, what `apply` made, the
    model, the broker and the workers, and changes nothing. Without a name it checks all predictions.

    Exit status 1 when anything failed; warnings alone are 0.

    Example:
        rowscore doctor
        rowscore doctor churn --json | jq '.findings[] | select(.level != "ok")'
    """
    from worker.doctor.examination import examine

    session = session_of(context)
    output = session.output(as_json)
    findings: list[Finding] = []
    with session.engine() as engine:
        several = name is None and len(engine.configuration.predictions) > 1
        chosen = engine.configuration.predictions.values() if several else [engine.prediction(name)]
        for finding in examine(engine, chosen):
            findings.append(finding)
            _show(output, finding, several=several)
    counts = {level: sum(finding.level == level for finding in findings) for level in _VERDICTS}
    failed, warned = counted(counts["error"], "failure"), counted(counts["warning"], "warning")
    output.say()
    output.say(f"{failed}, {warned}" if counts["error"] or counts["warning"] else "all is well")
    output.document(
        {
            "ok": not counts["error"],
            "errors": counts["error"],
            "warnings": counts["warning"],
            "findings": [asdict(finding) for finding in findings],
        }
    )
    if counts["error"]:
        raise typer.Exit(1)


def _show(output: Output, finding: Finding, *, several: bool) -> None:
    subject = (
        f"{finding.prediction}: {finding.subject}" if several and finding.prediction else finding.subject
    )
    output.verdict(
        _VERDICTS[finding.level], f"{subject.ljust(28 if several else 13)}  {finding.message}", finding.remedy
    )


def explain(
    context: typer.Context,
    name: Name = None,
    *,
    sample: Annotated[
        int,
        typer.Option(
            "--sample",
            metavar="ROWS",
            min=0,
            help="Run the function on so many rows, paid for and rolled back: were they asked about in batches?",
            show_default=False,
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Show the plans of the statements that workers run, and how many rows go in one model call.

    Nothing is run but the look for the next window: no model is called and nothing is written. For a SQL
    function it says whether Aurora runs it in batch mode, or why not, and what else in the database calls
    it for one row at a time. With --sample the workers' own statement is run and rolled back.

    Exit status 1 when a statement would read the whole table.

    Example:
        rowscore explain churn
        rowscore explain churn --sample 500
        rowscore explain churn --json | jq .batch_mode
    """
    from worker.evidence import gather
    from worker.explain import explain as look

    session = session_of(context)
    output = session.output(as_json)
    with session.engine() as engine:
        prediction = engine.prediction(name)
        database, materialisation = engine.database(prediction), engine.materialisation(prediction)
        found = look(database, materialisation)
        evidence = gather(database, materialisation, sample) if sample else None
    _describe(output, found)
    if evidence is not None:
        _describe_sample(output, evidence)
    output.document({**_document(found), "sample": None if evidence is None else asdict(evidence)})
    if not found.by_index:
        raise typer.Exit(1)


def _describe(output: Output, found: Explanation) -> None:
    if not found.rows:
        output.say(f"{found.table} is empty: there is nothing to plan for yet")
    elif not found.waiting:
        output.say(f"no row waits; planned as if {counted(found.rows, 'row')} of {found.table} did")
    else:
        output.say(f"planned for the next {counted(found.waiting, 'row')} of {found.table} that wait")
    for statement in found.statements:
        output.say()
        output.say(f"{statement.name}: {statement.purpose}", "strong")
        for line in statement.text:
            output.say("  " + (line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"), "dim")
        output.verdict("ok" if statement.well else "failed", statement.verdict(found.table))
    output.say()
    _describe_calls(output, found)


def _describe_calls(output: Output, found: Explanation) -> None:
    yes = "yes" if found.batching.batched else "no"
    output.say(f"batch mode: {yes}{', ' if found.batching.batched else ', because '}{found.batching.reason}")
    if found.batching.remedy:
        output.say(f"  {found.batching.remedy}", "dim")
    for leak in found.leaks:
        output.verdict("warning", f"{leak.caller} {leak.reason}", leak.remedy)
    for service, calls in found.service_calls.items():
        output.say(f"{service}: {counted(calls, 'call')} since the server's statistics began")
    if found.uncounted:
        output.say(
            f"{found.uncounted}: the server counts no calls of the service's functions, which `all` does"
        )
    if found.plans_query:
        output.say()
        output.say("statements that call it outside batch mode, where apg_plan_mgmt captures plans:")
        for line in f"{found.plans_query};".splitlines():
            output.say(f"  {line}", "dim")


def _describe_sample(output: Output, evidence: Evidence) -> None:
    output.say()
    asked = f"{counted(evidence.rows, 'row')} in {duration(evidence.seconds)}, rolled back"
    output.say(f"sample: {evidence.statement} asked about {asked}", "strong")
    for line in evidence.text:
        output.say("  " + (line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"), "dim")
    if evidence.functions:
        output.say(f"in batch mode: {', '.join(evidence.functions)}")
    level = "ok" if evidence.batching.batched else "warning" if evidence.calls else "unknown"
    output.verdict(level, evidence.batching.reason)


def _document(found: Explanation) -> dict[str, Any]:
    batching = found.batching
    return {
        "prediction": found.prediction,
        "table": found.table,
        "rows_waiting": found.waiting,
        "rows_planned_for": found.rows,
        "by_index": found.by_index,
        "batch_mode": {
            "batched": batching.batched,
            "reason": batching.reason,
            "remedy": batching.remedy,
            "leaks": [asdict(leak) for leak in found.leaks],
        },
        "unbatched_plans_query": found.plans_query or None,
        "service_calls": dict(found.service_calls),
        "statements": [
            {
                "name": statement.name,
                "by_index": statement.well,
                "seq_scans": statement.facts.seq_scans,
                "hash_joins": statement.facts.hash_joins,
                "indexes": statement.facts.index_names,
                "estimated_rows": statement.facts.estimated_rows,
                "plan": statement.text,
            }
            for statement in found.statements
        ],
    }
