"""Keeps rows from a model that cannot take them: those with NULL in an input, where the encoding refuses NULL."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.columns import Column, Columns, Numbers
from worker.errors import FailureClass
from worker.models.protocol import Answer, Batch, RowFailure, Weight, Wrapped


class Screened(Wrapped):
    """A model that is never sent NULL: such a row's answer is a failure that names the input."""

    def weigh(self, batch: Batch) -> Weight:
        """What the rows that are sent weigh."""
        fit = _without(batch, _refused(batch))
        return self.model.weigh(fit) if len(fit) else Weight(0, 0)

    def call(self, batch: Batch) -> Sequence[Answer | RowFailure]:
        """The model's answers, and failures in the places of the rows that it was not sent."""
        refused = _refused(batch)
        if not refused:
            return self.model.call(batch)
        fit = _without(batch, refused)
        found = self.model.call(fit) if len(fit) else ()
        if len(found) != len(fit):  # too few or too many: whoever counts them shall say so
            return [*found, *refused.values()]
        answers = iter(found)
        return [refused[place] if place in refused else next(answers) for place in range(len(batch))]


def _refused(batch: Batch) -> dict[int, RowFailure]:
    """The rows with NULL by place, each with its failure."""
    found: dict[int, RowFailure] = {}
    for name, column in zip(batch.names, batch.turned(), strict=True):
        for place in _nulls(column):
            found.setdefault(place, _failure(name))
    return found


def _nulls(column: Column) -> list[int]:
    if isinstance(column, Numbers):
        found: list[int] = [] if column.nulls is None else np.flatnonzero(column.nulls).tolist()
        return found
    return [place for place, value in enumerate(column.values) if value is None]


def _failure(name: str) -> RowFailure:
    return RowFailure(
        FailureClass.ROW_PERMANENT,
        f"input {name} is NULL, which encoding.refuse_null keeps from the model; give the input a `default`, "
        "or leave such rows out by `where`",
    )


def _without(batch: Batch, refused: dict[int, RowFailure]) -> Batch:
    if not refused:
        return batch
    fit = [place for place in range(len(batch)) if place not in refused]
    data = batch.data
    return Batch(batch.names, data.pick(fit) if isinstance(data, Columns) else [data[place] for place in fit])
