"""What the engine asks of a model that the worker calls itself: rows in, answers out; no database, no retries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from worker.columns import Column, Columns, Row, Values
from worker.errors import FailureClass, PayloadTooLargeError


@dataclass(frozen=True)
class Batch:
    """The rows of one model call.

    Attributes:
        names: the inputs' names in the configuration's order.
        data: the rows as they were read: a sequence of tuples, `Columns` among them.
    """

    names: tuple[str, ...]
    data: Sequence[Row]

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def rows(self) -> Sequence[Row]:
        """One tuple a row, values in the order of `names`, typed as the database driver gives them."""
        return list(self.data) if isinstance(self.data, Columns) else self.data

    def part(self, start: int, stop: int) -> Batch:
        """The rows from one up to, not including, another."""
        return Batch(self.names, self.data[start:stop])

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by input name, for models that are written that way."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def columns(self) -> dict[str, list[Any]]:
        """The rows turned on their side: a list of values for each input name."""
        return {name: column.tolist() for name, column in zip(self.names, self.turned(), strict=True)}

    def matrix(
        self, names: Sequence[str] | None = None, dtype: DTypeLike = np.float64
    ) -> np.ndarray[Any, Any]:
        """A line a row and a column an input, NULL as NaN: 0.02 µs a row of 15 numbers, where tuples take 0.5.

        Args:
            names: the inputs, all of them numbers or booleans; None: all inputs.
            dtype: a floating-point type of numpy's.

        Raises:
            ValueError: there is no such input, or it has values that are no numbers; it names the input.
        """
        chosen = self.names if names is None else tuple(names)
        if unknown := set(chosen) - set(self.names):
            raise ValueError(
                f"there is no input {', '.join(sorted(unknown))}; there are {', '.join(self.names)}"
            )
        turned = dict(zip(self.names, self.turned(), strict=True))
        made = np.empty((len(self), len(chosen)), dtype)
        for place, name in enumerate(chosen):
            try:
                made[:, place] = turned[name].numbers(dtype)
            except ValueError as error:
                raise ValueError(f"the input {name} cannot be part of a matrix: {error}") from None
        return made

    def turned(self) -> Sequence[Column]:
        """A column for each input."""
        if isinstance(self.data, Columns):
            return self.data.columns
        return [Values([row[place] for row in self.data]) for place in range(len(self.names))]


@dataclass(frozen=True, slots=True)
class RowFailure:
    """One row's failure in place of its answer: its class (a row class) and a message for people."""

    failure: FailureClass
    message: str


Answer = tuple[Any, ...]
"""One row's answer: a value for each output, in the order of the configuration's outputs."""


Call = Callable[[], Sequence[Answer | RowFailure]]
"""A call whose rows are decided; it may be made again."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a call is going to ask of the service, which rates and budgets are counted in."""

    requests: int
    rows: int
    tokens: int = 0


_ROOM = 0.95  # of what rows of the same size would fill: not all are of one size


def check_size(size: int, most: int, rows: int) -> None:
    """To be called with a request's bytes before it is sent.

    Raises:
        PayloadTooLargeError: they are more than `max_bytes`; nothing was sent.
    """
    if size > most:
        message = f"{rows} rows are {size} bytes, more than max_bytes = {most}"
        raise PayloadTooLargeError(message, sent=False, fitting=int(_ROOM * rows * most / size))


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

    def prepare(self, batch: Batch) -> Call:
        """Do what can be done before the request is sent; what it returns is called once or more, and does as `call`.

        Scoring prepares the next calls while others are waited for: 2,048 rows of 20 columns take 11 ms to write.

        Raises:
            ModelError: nothing was sent, and its `sent` says so.
        """
        return lambda: self.call(batch)

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
    """What scoring one batch cost.

    Attributes:
        calls: requests that were sent; retries are among them.
        rows: that were sent in them, those of retries again.
        remembered: rows whose answers were remembered from earlier batches.
        equal: rows that have an equal one in the batch, which was sent for them.
        retries: calls to the model that were repeated.
        throttled: failures that asked for fewer calls.
        single: requests of a single row where the batch had more to send.
        seconds: of each request.
        sizes: rows of each request.
    """

    calls: int = 0
    rows: int = 0
    remembered: int = 0
    equal: int = 0
    retries: int = 0
    throttled: int = 0
    single: int = 0
    seconds: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
