"""What a plan of MySQL or MariaDB does to one table, read from EXPLAIN's lines as plain data; it asks no database.

The lines of the traditional format are the same in both and in all versions, and Aurora writes into their column
Extra whether it calls a model in batches; the JSON differs from one server to the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from worker.plans import PlanFacts

Lines = Sequence[Mapping[str, Any]]

BATCHED = "Batched machine learning"
ALIAS = "c"  # of the user's table in every statement of rowscore's
_SHOWN = ("id", "select_type", "table", "type", "key", "key_len", "rows", "Extra")
_JOINED_WHOLE = re.compile(r"hash join|join buffer", re.IGNORECASE)


def analyse(lines: Lines, table: str, limit: int = 0) -> PlanFacts:
    """The facts of one plan about one table.

    Args:
        lines: what EXPLAIN FORMAT=TRADITIONAL answers.
        table: the table's name for messages; in the plan it goes by rowscore's alias.
        limit: rows at which the statement ends. Where a range is the whole of an index, MySQL walks the index in its
            order instead, and says how far.
    """
    ours = [line for line in lines if line["table"] == ALIAS]
    blocks = [list(block) for _, block in groupby(lines, key=lambda line: line["id"])]
    own = [block for block in blocks if any(line["table"] == ALIAS for line in block)]
    sorts = any("Using filesort" in _extra(line) for block in own for line in block)
    return PlanFacts(
        seq_scans=(table,) if any(_reads_all(line, limit) for line in ours) else (),
        hash_joins=(table,) if any(_JOINED_WHOLE.search(_extra(line)) for line in ours) else (),
        rows_scanned=None,
        index_names=tuple(dict.fromkeys(line["key"] for line in ours if line["key"])),
        estimated_rows=sum(map(_estimated, own)),
        sorts=(table,) if sorts else (),
    )


def is_batched(lines: Lines) -> bool:
    """Whether Aurora calls a model in batches."""
    return any(BATCHED in _extra(line) for line in lines)


def as_text(lines: Lines) -> tuple[str, ...]:
    """The lines for people: aligned, the columns that matter."""
    cells = [[str(name) for name in _SHOWN]]
    cells += [["" if line[name] is None else str(line[name]) for name in _SHOWN] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _reads_all(line: Mapping[str, Any], limit: int) -> bool:
    """Whether the table, or an index of it, is read from end to end."""
    return line["type"] == "ALL" or (line["type"] == "index" and int(line["rows"] or 0) > limit)


def _extra(line: Mapping[str, Any]) -> str:
    return line["Extra"] or ""


def _estimated(block: Lines) -> int:
    """The table's rows in one block; a nested loop's inner side runs once for each row of those before it."""
    total, outer = 0, 1
    for line in block:
        outer *= int(line["rows"] or 1)
        total += outer if line["table"] == ALIAS else 0
    return total
