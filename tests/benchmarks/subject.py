"""What a benchmark asks of a database: a server of its own, a fresh table for each run, the one UPDATE, a snapshot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from tests.benchmarks.contenders import Outcome, configuration
from worker.apply import apply
from worker.demo import churn
from worker.engine import Engine

SOURCE = "mltest.source"
FEATURES = ", ".join(churn.FEATURES)
CALL = f"predict_churn({FEATURES})"


class Subject(ABC):
    """One database; its server runs for as long as the `with` block lasts.

    Attributes:
        rows: how many are scored unless it is said otherwise.
        targets: contenders, and the share of the one UPDATE's speed that each should reach.
        flat: how much longer than the first the last tenth of the batches may take while a snapshot is held; None where
            that is not measured.
    """

    rows: ClassVar[int]
    targets: ClassVar[Mapping[str, float]]
    flat: ClassVar[float | None] = None

    url: str
    connection: Any

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @abstractmethod
    def _open(self, stack: ExitStack) -> None:
        """Start the server; sets `url` and `connection`."""

    def prepare(self, rows: int) -> None:
        """The rows once, in a table that every run copies."""
        churn.create(self.connection, SOURCE)
        churn.create_model(self.connection)
        churn.load(self.connection, rows, table=SOURCE)

    def reset(self, model: dict[str, str]) -> None:
        """A fresh applied table in which every row waits, its learned sizes forgotten."""
        self._drop()
        churn.create(self.connection, churn.TABLE)
        engine = Engine(configuration(self.url, model))
        prediction = engine.prediction()
        apply(engine.database(prediction), engine.materialisation(prediction))
        engine.dispose()
        self.connection.execute(
            f"INSERT INTO {churn.TABLE} ({FEATURES}) SELECT {FEATURES} FROM {SOURCE} ORDER BY id"
        )
        self._settle()

    @abstractmethod
    def _drop(self) -> None:
        """Remove the table and rowscore's own ones."""

    @abstractmethod
    def _settle(self) -> None:
        """Let the server do now what it would do during the run."""

    @abstractmethod
    def one_statement(self, rows: int) -> Outcome:
        """Everything in one UPDATE, with the same columns set."""

    def snapshot(self) -> AbstractContextManager[Any]:
        """Another connection's snapshot, which keeps the server from cleaning up behind the workers; for `flat`."""
        raise NotImplementedError

    @abstractmethod
    def inserter(self, table: str) -> Callable[[churn.Row], Any]:
        """What inserts one row, as quickly as the driver can."""
