"""What a PostgreSQL plan does to one table, read from EXPLAIN's output as plain data; it asks no database.

The claimed rows of a batch must never be joined to their table by reading all of it: a batch of 10,000 was
then a hash join over the whole table, 42k rows/s instead of 195k. `explain` and the tests look for that with
`analyse`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_SCANS = re.compile(r"Scan$")
_NUMBERS = r"([\d.]+)/([\d.]+)/([\d.]+)"
_BATCHES = re.compile(
    rf"Batch Processing:\s*num batches=(\d+)\s+avg/min/max batch size={_NUMBERS}"
    rf"(?:\s+avg/min/max batch call time={_NUMBERS})?"
)
_NODE = re.compile(r"(\s*->\s+)(.+)")  # every node but the topmost
_FUNCTION = re.compile(r"Function Scan on ([^\s(]+)")


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a plan does to one table.

    Attributes:
        seq_scans: relations of the table that are read from end to end.
        hash_joins: relations of the table below a hash or merge join, which reads its whole side.
        rows_scanned: rows read from the table, those that a filter dropped included; None without ANALYZE.
        index_names: the indexes that lead to the table's rows.
        estimated_rows: the planner's estimate of the rows read from the table, each scan as often as it runs.
        sorts: relations of the table whose rows are sorted first; looked for where an index can save it.
    """

    seq_scans: tuple[str, ...]
    hash_joins: tuple[str, ...]
    rows_scanned: int | None
    index_names: tuple[str, ...]
    estimated_rows: int
    sorts: tuple[str, ...] = ()

    @property
    def by_index(self) -> bool:
        """Whether the table is reached by its indexes alone, so that the cost follows the batch."""
        return not self.seq_scans and not self.hash_joins and not self.sorts


@dataclass(frozen=True, slots=True)
class BatchProcessing:
    """Aurora's account of a function in batch mode: batches; average, least, most rows and milliseconds."""

    batches: int
    rows: tuple[float, float, float]
    milliseconds: tuple[float, float, float] | None

    def __str__(self) -> str:
        mean, least, most = self.rows
        told = f"{self.batches:,} {'batch' if self.batches == 1 else 'batches'} of {mean:,g} rows on average"
        told += f" ({least:,g} to {most:,g})" if least != most else ""
        return told + (f", {self.milliseconds[0]:,.0f} ms each" if self.milliseconds else "")


def analyse(plan_json: Any, table: str | Collection[str]) -> PlanFacts:
    """The facts of one plan about one table.

    Args:
        plan_json: what EXPLAIN (FORMAT JSON) answers, as text or parsed; with ANALYZE rows are counted.
        table: the table's name without its schema, or the names of its partitions.

    Raises:
        ValueError: it is not a plan.
    """
    names = {table} if isinstance(table, str) else set(table)
    nodes = [path for path in _paths(root(plan_json)) if path[-1].get("Relation Name") in names]
    scans = [path for path in nodes if _SCANS.search(path[-1]["Node Type"])]
    counted = [_rows_read(path[-1]) for path in scans]
    measured = [rows for rows in counted if rows is not None]
    return PlanFacts(
        seq_scans=_named(path for path in scans if path[-1]["Node Type"] == "Seq Scan"),
        hash_joins=_named(path for path in scans if _joins_whole(path)),
        rows_scanned=sum(measured) if len(measured) == len(counted) else None,
        index_names=_unique(name for path in scans for name in _indexes(path[-1])),
        estimated_rows=sum(_estimated(path) for path in scans),
    )


def root(plan_json: Any) -> Mapping[str, Any]:
    """The topmost node of what EXPLAIN (FORMAT JSON) answers.

    Raises:
        ValueError: it is not a plan.
    """
    parsed = json.loads(plan_json) if isinstance(plan_json, str) else plan_json
    try:
        node: Mapping[str, Any] = (parsed[0] if isinstance(parsed, list) else parsed)["Plan"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("expected the answer of EXPLAIN (FORMAT JSON)") from None
    return node


def nested_functions(plan_json: Any) -> tuple[str, ...]:
    """Functions that a Function Scan below a nested loop calls: so Aurora shows a function in batch mode."""
    found = []
    for path in _paths(root(plan_json)):
        node = path[-1]
        below_loop = any(above["Node Type"] == "Nested Loop" for above in path[:-1])
        if node["Node Type"] == "Function Scan" and below_loop and "Function Name" in node:
            schema = node.get("Schema")
            found.append(f"{schema}.{node['Function Name']}" if schema else node["Function Name"])
    return _unique(found)


def nested_functions_in(text: str) -> tuple[str, ...]:
    """The same of a plan in EXPLAIN's text format, in which Aurora tells of its batches."""
    lines = text.splitlines()
    found = []
    above = [(-1, lines[0].strip())] if lines else []  # the nodes above a line, each with its indent
    for match in filter(None, map(_NODE.match, lines)):
        indent = len(match[1])
        above = [node for node in above if node[0] < indent]
        scan = _FUNCTION.match(match[2])
        if scan is not None and any(node.startswith("Nested Loop") for _, node in above):
            found.append(scan[1].replace('"', ""))
        above.append((indent, match[2]))
    return _unique(found)


def parse_batches(text: str) -> tuple[BatchProcessing, ...]:
    """Each `Batch Processing` of an EXPLAIN ANALYZE that Aurora answered in its text format."""
    return tuple(
        BatchProcessing(
            int(match[1]),
            (float(match[2]), float(match[3]), float(match[4])),
            (float(match[5]), float(match[6]), float(match[7])) if match[5] else None,
        )
        for match in _BATCHES.finditer(text)
    )


def _paths(node: Mapping[str, Any], above: tuple[Mapping[str, Any], ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each node of the tree with all nodes above it, the topmost first."""
    path = (*above, node)
    yield path
    for child in node.get("Plans", ()):
        yield from _paths(child, path)


def _joins_whole(path: tuple[Mapping[str, Any], ...]) -> bool:
    return any(node["Node Type"] in ("Hash Join", "Merge Join") for node in path[:-1])


def _indexes(scan: Mapping[str, Any]) -> Iterator[str]:
    """The scan's own index, or those of the bitmap below it."""
    if "Index Name" in scan:
        yield scan["Index Name"]
    for child in scan.get("Plans", ()):
        if child["Node Type"].startswith("Bitmap"):
            yield from _indexes(child)


def _rows_read(scan: Mapping[str, Any]) -> int | None:
    if "Actual Rows" not in scan:
        return None
    dropped = scan.get("Rows Removed by Filter", 0) + scan.get("Rows Removed by Index Recheck", 0)
    rows: float = (scan["Actual Rows"] + dropped) * scan.get("Actual Loops", 1)
    return round(rows)


def _estimated(path: tuple[Mapping[str, Any], ...]) -> int:
    """A scan's rows; the inner side of a nested loop runs once for each row of the outer one."""
    rows = float(path[-1].get("Plan Rows", 0))
    for above, node in pairwise(path):
        if above["Node Type"] == "Nested Loop" and node.get("Parent Relationship") == "Inner":
            rows *= float(above["Plans"][0].get("Plan Rows", 1))
    return round(rows)


def _named(paths: Iterator[tuple[Mapping[str, Any], ...]]) -> tuple[str, ...]:
    return _unique(path[-1]["Relation Name"] for path in paths)


def _unique(names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
