"""Exports the rows that a model is trained with: the features that scoring would send, and labels beside them.

Inputs are read by the expressions, defaults and `where` of the prediction, and written by the encoding that
requests are written by, so training and serving cannot differ. The walk is over the key, in windows that lock
nothing, each in a short transaction of its own: vacuum is not held back and memory stays flat, and the file is not
the table at one moment. A row that is changed meanwhile is written as it is when the walk comes by, and none twice
unless its key is changed.

What scoring would not send is left out: rows for which `where` does not hold or an expression fails, and rows with NULL
where `encoding.refuse_null` keeps them from the model. It calls no model and writes nothing to the database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from worker import errors, rows
from worker.bisection import isolate
from worker.columns import Row
from worker.config import Input
from worker.destination import Destination, S3Address, open_destination, parse_address
from worker.engine import Engine
from worker.fileformat import CsvFile, FileFormat, ParquetFile
from worker.kinds.base import CalledModel
from worker.kinds.encoding import Encoding
from worker.leases import Key, Window, bind_key
from worker.log import logger
from worker.materialisation import Materialisation, check_condition, reading
from worker.models import csvformat
from worker.names import literal
from worker.table import listed

ROWS_PER_WINDOW = 5000
LOCK_TIMEOUT = (
    "60s"  # a DDL of somebody's may hold the table for a while; who waits to read it holds nobody up
)
SUFFIXES = (".csv", ".parquet")
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is exported, and how.

    Attributes:
        to: a path or s3://bucket/key, ending in .csv or .parquet.
        labels: columns of the table that are exported beside the inputs.
        labels_last: they stand behind the inputs and not before them.
        where: only rows for which this holds, too.
        limit: so many rows at most, the first by the key.
        header: whether CSV begins with the columns' names; None: as requests do.
        scored_only: only rows that have been scored.
        force: a file that is there is replaced.
    """

    to: str
    labels: tuple[str, ...] = ()
    labels_last: bool = False
    where: str | None = None
    limit: int | None = None
    header: bool | None = None
    scored_only: bool = False
    force: bool = False


@dataclass(slots=True)
class Exported:
    """What was written.

    Attributes:
        columns: in their order, labels among them.
        rows: rows that were written.
        looked: rows looked at.
        refused: rows left out for a NULL.
        failing: rows left out since an expression of the configuration fails on them.
        error: why, for the first of them.
        size: bytes.
        complete: it was not told to stop; else nothing was written.
    """

    prediction: str
    definition: str
    to: str
    columns: list[str]
    labels: list[str]
    rows: int = 0
    looked: int = 0
    refused: int = 0
    failing: int = 0
    error: str | None = None
    size: int = 0
    seconds: float = 0.0
    complete: bool = False
    position: Key | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


Progress = Callable[[Exported, int], None]


def export(engine: Engine, name: str | None, wishes: Wishes, *, progress: Progress | None = None) -> Exported:
    """Write the file, until its end or until `engine.stop` is set, which leaves none.

    Args:
        progress: told after each window, with the rows that it wrote.

    Raises:
        ConfigurationError: it cannot be written there, or a column or condition is none.
        FileError: a value has no place in it, or it could not be written to the end.
        RowRejectedError: the same of a value in CSV.
    """
    address = _address(wishes.to)
    plan = _planned(engine, name, wishes)
    with open_destination(address, replace=wishes.force) as destination:
        return _Walk(engine, plan, destination).run(progress)


def export_statement(engine: Engine, name: str | None, wishes: Wishes) -> str:
    """The statement by which Aurora itself writes the same to S3, as CSV.

    Raises:
        ConfigurationError: the address is not in S3, or not CSV, or no region is known.
    """
    address = _address(wishes.to)
    if not isinstance(address, S3Address) or not address.key.endswith(".csv"):
        raise errors.ConfigurationError("--sql: Aurora writes CSV to S3 alone: --to s3://bucket/key.csv")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:
        raise errors.ConfigurationError(
            "--sql: the bucket's region is not known: export AWS_REGION=eu-central-1"
        )
    return aurora_statement(_planned(engine, name, wishes), address, region)


def aurora_statement(plan: Plan, address: S3Address, region: str) -> str:
    """The same of a plan, rendered."""
    m, encoding, wishes = plan.m, plan.encoding, plan.wishes

    def quoted(text: str) -> str:
        return literal(text, m.dialect)

    no, yes = map(csvformat.word, encoding.booleans or (0, 1))
    null = "" if encoding.null is None else csvformat.word(encoding.null)
    of_model = [read for read, label in zip(m.read_inputs, plan.is_label, strict=True) if not label]
    query = m.show(
        "export_query",
        fields=plan.fields,
        no=quoted(no),
        yes=quoted(yes),
        null=quoted(null),
        never_null=of_model if encoding.refuse_null else [],
        scored=wishes.scored_only,
        most=wishes.limit,
    )
    options = ["format csv", *(["header true"] if plan.header else [])]
    options += [f"null {quoted(null)}"] if null else []
    return m.show(
        "export_to_s3",
        query=_quoted(query) if m.dialect == "postgresql" else query,
        bucket=quoted(address.bucket),
        key=quoted(address.key),
        region=quoted(region),
        uri=quoted(f"s3-{region}://{address.bucket}/{address.key}"),
        options=quoted(", ".join(options)),
        header=plan.header,
        force=wishes.force,
    )


def _quoted(text: str) -> str:
    """A text of several lines as people read it, in dollars."""
    mark = "$rowscore$"
    return literal(text) if mark in text else f"{mark}\n{text}\n{mark}"


@dataclass(frozen=True, slots=True)
class Plan:
    """An export, resolved against the table.

    Attributes:
        m: reads the file's columns, labels among them.
        encoding: how values are written.
        is_label: of each column whether it is one.
        header: whether CSV begins with the columns' names.
    """

    m: Materialisation
    encoding: Encoding
    is_label: tuple[bool, ...]
    header: bool
    wishes: Wishes

    @property
    def names(self) -> list[str]:
        """The columns'."""
        return [name for name, _ in self.m.inputs]

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The columns as `export_query` takes them; `named` are numbers that stand for booleans with words."""
        columns = zip(self.m.inputs, self.m.read_inputs, self.types, strict=True)
        return [
            {"name": name, "read": read, "type": sql_type, "named": place in self.m.boolean_inputs}
            for place, ((name, _), read, sql_type) in enumerate(columns)
        ]

    @property
    def types(self) -> list[str]:
        """SQL types, with precision where they are a column's."""
        known = self.m.table.columns
        inputs = zip(self.m.prediction.inputs, self.m.input_types, strict=True)
        return [known[item.column].type if item.column is not None else sql_type for item, sql_type in inputs]


def _address(text: str) -> S3Address | Path:
    address = parse_address(text)
    if not text.endswith(SUFFIXES):
        raise errors.ConfigurationError(
            f"--to: expected a file's name that ends in .csv or .parquet, not {text}"
        )
    return address


def _planned(engine: Engine, name: str | None, wishes: Wishes) -> Plan:
    prediction = engine.prediction(name)
    database, m = engine.database(prediction), engine.materialisation(prediction)
    for label in wishes.labels:
        m.table.column(label, "--labels")
        if label in {item.name for item in prediction.inputs}:
            raise errors.ConfigurationError(f"--labels: {label} is an input of {prediction.name} already")
    if wishes.scored_only and prediction.state_column not in m.table.columns:
        raise errors.NotAppliedError(
            f"--scored-only: {prediction.name} is not applied, so no row of {m.table.name} is scored"
        )
    labels = [Input(name=label, column=label) for label in wishes.labels]
    columns = [*prediction.inputs, *labels] if wishes.labels_last else [*labels, *prediction.inputs]
    with database.transaction() as transaction:
        if wishes.where is not None:
            check_condition(transaction, m, wishes.where, "--where")
        wide = replace(reading(transaction, m, columns), only=wishes.where)
    encoding = prediction.model.encoding if isinstance(prediction.model, CalledModel) else Encoding()
    header = encoding.header if wishes.header is None else wishes.header
    return Plan(wide, encoding, tuple(item in labels for item in columns), header, wishes)


class _Walk:
    """One walk of one process."""

    def __init__(self, engine: Engine, plan: Plan, destination: Destination) -> None:
        self._stop = engine.stop
        self._database = engine.database(plan.m.prediction)
        self._plan = plan
        self._m = plan.m
        self._destination = destination
        names, wishes = plan.names, plan.wishes
        self._format: FileFormat
        if wishes.to.endswith(".csv"):
            self._format = CsvFile(destination, names, plan.encoding, header=plan.header)
        else:
            self._format = ParquetFile(destination, list(zip(names, self._file_types(), strict=True)))
        prediction = self._m.prediction
        definition = engine.prediction(prediction.name).definition_hash
        self._exported = Exported(prediction.name, definition, wishes.to, names, list(wishes.labels))

    def _file_types(self) -> list[str]:
        file_type = self._database.capabilities.file_type
        return [
            "bool" if place in self._m.boolean_inputs else file_type(sql_type)
            for place, sql_type in enumerate(self._plan.types)
        ]

    def run(self, progress: Progress | None) -> Exported:
        """See `export`."""
        exported, started = self._exported, time.monotonic()
        while not self._stop.is_set():
            window, count = self._next()
            written = exported.rows
            for part in self._read(window, count) if window is not None else ():
                self._write(part)
            exported.looked += count
            exported.position = window.hi if window is not None else exported.position
            exported.seconds = time.monotonic() - started
            exported.size = self._destination.size
            if progress is not None and window is not None:
                progress(exported, exported.rows - written)
            if count < ROWS_PER_WINDOW or exported.rows == self._plan.wishes.limit:
                exported.complete = not self._stop.is_set()
                break
        if exported.complete:
            self._format.close()
            self._destination.commit()
            exported.size = self._destination.size
        exported.seconds = time.monotonic() - started
        _log.info("rows exported", **exported.as_dict())
        return exported

    def _write(self, found: Sequence[Row]) -> None:
        """Add the rows that the model would be sent."""
        limit = self._plan.wishes.limit
        if self._plan.encoding.refuse_null:
            fit = [row for row in found if not self._has_null(row)]
            self._exported.refused += len(found) - len(fit)
            found = fit
        if limit is not None:
            found = found[: limit - self._exported.rows]
        if found:
            self._format.write(found)
            self._exported.rows += len(found)

    def _has_null(self, row: Row) -> bool:
        return any(value is None and not label for value, label in zip(row, self._plan.is_label, strict=True))

    def _next(self) -> tuple[Window | None, int]:
        """The next keys, and how many they are."""
        position = self._exported.position
        bounds = bind_key("start", position) if position is not None else {}
        statement = self._m.render("walk_keys", start=position is not None)
        with self._open() as transaction:
            row: Any = transaction.row(statement, limit=ROWS_PER_WINDOW, **bounds)
        if not row.rows:
            return None, 0
        return Window(tuple(listed(row.lo)), tuple(listed(row.hi))), int(row.rows)

    def _read(self, window: Window, count: int) -> list[Sequence[Row]]:
        """The window's rows, in parts where an expression fails on some of them."""
        limit = 2 * count + ROWS_PER_WINDOW  # more than rows that come meanwhile make it
        try:
            return [self._fetch(window, limit)]
        except errors.DataError:
            return self._around(window, limit)

    def _fetch(self, window: Window, limit: int) -> Sequence[Row]:
        with self._open() as transaction:
            return list(
                rows.export(transaction, self._m, window, limit, scored=self._plan.wishes.scored_only)
            )

    def _around(self, window: Window, limit: int) -> list[Sequence[Row]]:
        """An expression fails on some row, as a division by zero does: read the others."""
        with self._open() as transaction:
            known = rows.list_exported(transaction, self._m, window, limit)
        parts: dict[int, Sequence[Row]] = {}

        def attempt(start: int, stop: int) -> None:
            try:
                parts[start] = self._fetch(known.window(start, stop), limit)
            except errors.DataError as error:
                raise errors.RowRejectedError(str(error)) from error

        def convict(place: int, error: errors.RowFaultError) -> None:
            self._exported.failing += 1
            self._exported.error = self._exported.error or f"key {', '.join(known.key(place))}: {error}"

        isolate(len(known), attempt, convict, proven=True, stop=self._stop.is_set)
        return [parts[start] for start in sorted(parts)]

    def _open(self) -> Any:
        pins = self._database.capabilities.plan_pins
        return self._database.transaction(**pins, lock_timeout=LOCK_TIMEOUT)
