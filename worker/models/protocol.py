"""What the engine asks of a model that the worker calls itself: rows in, answers out; no database, no retries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.errors import FailureClass


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one model call.

    Attributes:
        names: the inputs' names in the configuration's order.
        rows: one tuple a row, values in the order of `names`, typed as the database driver gives them.
    """

    names: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by input name, for models that are written that way."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def columns(self) -> dict[str, list[Any]]:
        """The rows turned on their side: a list of values for each input name."""
        turned = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.names)
        return {name: list(values) for name, values in zip(self.names, turned, strict=True)}


@dataclass(frozen=True, slots=True)
class RowFailure:
    """One row's failure in place of its answer: its class (a row class) and a message for people."""

    failure: FailureClass
    message: str


Answer = tuple[Any, ...]
"""One row's answer: a value for each output, in the order of the configuration's outputs."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a call is going to ask of the service, which rates and budgets are counted in."""

    requests: int
    rows: int
    tokens: int = 0


class Model(Protocol):
    """A model that the worker calls. One instance serves one process and may be called by several threads at once.

    Attributes:
        most_rows: the most rows that it takes in one call; None: as many as are configured.
    """

    most_rows: int | None = None

    def weigh(self, batch: Batch) -> Weight:
        """What `call` is going to ask of the service for these rows."""
        return Weight(1, len(batch))

    def call(self, batch: Batch) -> Sequence[Answer | RowFailure]:
        """Send one request and return an answer or a failure for each row, in the rows' order.

        Values are raw (a CSV field is text); `worker.answers` checks and converts them to the outputs' types.

        Raises:
            ModelError: the request failed as a whole; its class says how.
        """

    def check(self) -> str:
        """One cheap request that shows that the model can be reached, for `doctor`; returns what it found.

        Raises:
            ModelError: it cannot be reached, and why.
        """

    def close(self) -> None:
        """Release connections; the model is not called afterwards."""


class Wrapped(Model):
    """A model around another one, for whoever counts, limits or pays: all that is not overridden is the other's."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.most_rows = model.most_rows

    def weigh(self, batch: Batch) -> Weight:
        """The model's own."""
        return self.model.weigh(batch)

    def call(self, batch: Batch) -> Sequence[Answer | RowFailure]:
        """The model's own."""
        return self.model.call(batch)

    def check(self) -> str:
        """The model's own."""
        return self.model.check()

    def close(self) -> None:
        """The model's own."""
        self.model.close()


@dataclass(slots=True)
class CallStatistics:
    """What scoring one batch cost: requests sent, rows in them, retries, and each call's seconds and rows."""

    calls: int = 0
    rows: int = 0
    retries: int = 0
    throttled: int = 0
    seconds: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
