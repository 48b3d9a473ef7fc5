"""The demo's figures as the lines that a person reads at the end; it measures and prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.demo.measure import Calls, Figures, Freshness, Latency

BARS = " ▁▂▃▄▅▆▇█"
NOTE = """
The trigger is a simulation: {sleep} stands for the model call, and any number may sleep at once. A real
model has a limit: with 100 clients on such a trigger AWS measured 70 to 75 inserts a second, about 70 ms
each, and without its model such a trigger fails every INSERT.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the summary; `style` is one of strong, good, bad and dim, or empty."""

    text: str
    style: str = ""


def summary(figures: Figures) -> list[Line]:
    """The whole summary: what was scored, what inserts and predictions waited, and what must hold."""
    sections = [
        _scored(figures),
        _inserts(figures),
        _freshness(figures),
        _seconds(figures),
        [Line(text, "dim") for text in NOTE.format(sleep=figures.sleep).strip().splitlines()],
        _facts(figures),
    ]
    return [line for section in sections if section for line in [*section, Line("")]][:-1]


def duration(value: float) -> str:
    """A duration as people read it: `0.8 ms`, `65 ms`, `1.2 s`, `12 s`."""
    if value != value:  # noqa: PLR0124  not a number: nothing was measured
        return "-"
    if value < 0.9995:
        return f"{value * 1000:.{1 if value < 0.00995 else 0}f} ms"
    return f"{value:.{1 if value < 9.95 else 0}f} s"


def rate(count: float, took: float) -> str:
    """Rows a second."""
    return f"{count / took:,.0f} rows/s" if took > 0 else "-"


def _scored(figures: Figures) -> list[Line]:
    arrived = figures.inserts.inserts
    calls = sum(item.calls for item in figures.calls.values())
    rows = sum(item.rows for item in figures.calls.values())
    lines = [
        Line(f"Rows scored: {figures.existing + arrived:,}", "strong"),
        Line(
            f"  {figures.existing:,} were there before: {duration(figures.backfill_seconds)}, "
            f"{rate(figures.existing, figures.backfill_seconds)}"
        ),
        Line(f"  {arrived:,} arrived while the workers kept up"),
        Line(f"  {calls:,} model calls, {rows / max(calls, 1):,.0f} rows a call{_failed(figures)}"),
    ]
    for kind, name in (("backfill", "before "), ("drain", "arrived")):
        if kind in figures.calls:
            lines += _batches(name, figures.calls[kind])
    return lines


def _failed(figures: Figures) -> str:
    failed = sum(item.failed for item in figures.calls.values())
    return f"; {failed:,} more met the dead model" if failed else ""


def _batches(name: str, calls: Calls) -> list[Line]:
    """As EXPLAIN ANALYZE prints it on Aurora; call times are milliseconds."""
    size = "/".join(f"{value:.3f}" for value in (calls.size.average, calls.size.least, calls.size.most))
    took = (calls.seconds.average, calls.seconds.least, calls.seconds.most)
    times = "/".join(f"{value * 1000:.3f}" for value in took)
    first = f"  {name}  Batch Processing: num batches={calls.calls} avg/min/max batch size={size}"
    return [Line(first, "dim"), Line(f"  {' ' * len(name)}  avg/min/max batch call time={times}", "dim")]


def _inserts(figures: Figures) -> list[Line]:
    table = [("", "inserts/s", "p50", "p99"), ("rowscore", *_latency(figures.inserts))]
    if figures.outage.inserts is not None:
        table.append(("  its slowest second without the model", *_latency(figures.outage.inserts)))
    table.append((f"trigger, simulated: {figures.sleep}(65 ms)", *_latency(figures.trigger)))
    lines = [
        Line(f"Insert latency, {figures.clients} clients, {figures.database}", "strong"),
        *_aligned(table),
    ]
    late = [
        f"{name} {item.missed:,}"
        for name, item in (("rowscore", figures.inserts), ("the trigger", figures.trigger))
        if item.missed
    ]
    if late:
        lines.append(Line(f"  inserts that were due and found no time: {', '.join(late)}", "bad"))
    return lines


def _latency(item: Latency) -> tuple[str, str, str]:
    return f"{item.rate:,.0f}", duration(item.p50 / 1000), duration(item.p99 / 1000)


def _freshness(figures: Figures) -> list[Line]:
    outage = figures.outage
    down = f"model dead for {duration(outage.seconds)}, and {duration(outage.catching_up)} until caught up"
    table = [("", "p50", "p99", "max")]
    for name, item in (("with the model", figures.freshness), (down, outage.freshness)):
        if item is not None:
            table.append((name, *_waits(item)))
    return [Line("Freshness: from insert to prediction", "strong"), *_aligned(table)]


def _waits(item: Freshness) -> tuple[str, str, str]:
    return duration(item.p50), duration(item.p99), duration(item.most)


def _aligned(table: Sequence[Sequence[str]]) -> list[Line]:
    """The first column begins, the others end, together; the first row is a heading."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for number, row in enumerate(table):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(Line("  " + "  ".join(cells).rstrip(), "" if number else "dim"))
    return lines


def _seconds(figures: Figures) -> list[Line]:
    """Arrivals, and scoring, second by second: the model's absence shows in the one and not in the other."""
    if len(figures.by_second) < 2:
        return []
    last = max(item.second for item in figures.by_second)
    arrived, scored = [0] * (last + 1), [0] * (last + 1)
    for item in figures.by_second:
        arrived[item.second], scored[item.second] = item.arrived, item.scored
    began, ended = figures.down
    model = "".join("x" if began <= second + 0.5 < ended else "-" for second in range(last + 1))
    return [
        Line("Second by second", "strong"),
        Line(f"  inserted  {bars(arrived)}  {max(arrived):,} rows at most"),
        Line(f"  scored    {bars(scored)}  {max(scored):,} rows at most"),
        Line(f"  model     {model}  x: down", "dim"),
    ]


def bars(values: Sequence[float]) -> str:
    """One bar for each value; the highest is full, and nothing but zero is empty."""
    most = max(values, default=0) or 1
    steps = len(BARS) - 1
    return "".join(BARS[max(round(value / most * steps), 1) if value else 0] for value in values)


def _facts(figures: Figures) -> list[Line]:
    lines = [Line("Checked", "strong")]
    for fact in figures.facts:
        verdict, style = ("ok    ", "good") if fact.holds else ("FAILED", "bad")
        lines.append(Line(f"  {verdict}  {fact.claim}: {fact.shown}", style))
    return lines
