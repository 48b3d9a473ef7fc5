"""The steps to a valid pending index on a table and all its partitions, from whatever is there; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.facts import PendingIndex, Relation
from worker.names import index_name


class StepKind(StrEnum):
    """What is done to one index."""

    BUILD = "build"  # concurrently: reads and writes go on
    DROP = "drop"  # concurrently, an INVALID or outdated one
    FRAME = "frame"  # the index of a partitioned table, which holds nothing itself
    DROP_FRAME = "drop frame"  # takes the attached parts along
    ATTACH = "attach"  # a part to the frame above it


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the relation and the index it is about, and for ATTACH the index above."""

    kind: StepKind
    relation: Relation
    schema: str
    index: str
    parent: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a relation's index is or will be: its oid where it is there already."""

    schema: str
    name: str
    oid: int | str | None


def plan_indexes(
    prediction: str, relations: Sequence[Relation], indexes: Sequence[PendingIndex]
) -> list[Step]:
    """What is missing, in order. Carrying any beginning of it out and planning again leads to the same end.

    Args:
        prediction: names the indexes.
        relations: the table and its partitions, parents before children.
        indexes: those found on them; others than ours and attached ones are ignored.
    """
    steps: list[Step] = []
    places: dict[int | str, _Place] = {}
    gone: set[int | str] = set()
    for relation in relations:
        above = places.get(relation.parent) if relation.parent is not None else None
        here = [item for item in indexes if item.relation == relation.oid and item.oid not in gone]
        attached = next(
            (i for i in here if above is not None and above.oid is not None and i.parent == above.oid), None
        )
        if attached is not None:
            places[relation.oid] = _Place(attached.schema, attached.name, attached.oid)
            continue
        name = index_name(prediction, relation.label if above else None)
        found = next((item for item in here if item.name == name), None)
        if found is not None and not (found.fits and (found.valid or relation.partitioned)):
            kind = StepKind.DROP_FRAME if relation.partitioned else StepKind.DROP
            steps.append(Step(kind, relation, found.schema, found.name))
            gone |= {found.oid} | _below(found.oid, indexes)
            found = None
        if found is None:
            kind = StepKind.FRAME if relation.partitioned else StepKind.BUILD
            steps.append(Step(kind, relation, relation.schema, name))
        places[relation.oid] = _Place(relation.schema, name, found.oid if found else None)
        if above is not None:
            steps.append(Step(StepKind.ATTACH, relation, relation.schema, name, (above.schema, above.name)))
    return steps


def _below(oid: int | str, indexes: Sequence[PendingIndex]) -> set[int | str]:
    """The indexes attached below one, at every level: they go with it."""
    parts = {item.oid for item in indexes if item.parent == oid}
    return parts.union(*(_below(part, indexes) for part in parts)) if parts else parts
