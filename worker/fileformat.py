"""Rows as files that models are trained with: CSV with the bytes that a model is sent, Parquet with typed columns."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from worker.columns import Row
from worker.destination import Destination
from worker.errors import ConfigurationError, FileError
from worker.kinds.encoding import Encoding
from worker.models import csvformat
from worker.models.protocol import Batch

_DECIMAL = re.compile(r"decimal(128|256)\((\d+), (\d+)\)")
_ZONED = re.compile(r"timestamp\[us, tz=(\w+)\]")
_LIST = re.compile(r"list<(.+)>")


class FileFormat(Protocol):
    """Writes rows, some at a time."""

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows.

        Raises:
            FileError: a value has no place in the file; it names the column.
        """

    def close(self) -> None:
        """Add what the format has at its end."""


class CsvFile(FileFormat):
    """RFC 4180 in UTF-8 as `csvformat` writes requests; lines end in a line feed."""

    def __init__(
        self, destination: Destination, names: Sequence[str], encoding: Encoding, *, header: bool
    ) -> None:
        self._destination = destination
        self._names = tuple(names)
        self._encoding = encoding.model_copy(update={"header": False})
        if header:
            destination.write(csvformat.header(names))

    def write(self, rows: Sequence[Row]) -> None:
        """See `FileFormat.write`."""
        self._destination.write(csvformat.encode(Batch(self._names, rows), self._encoding))

    def close(self) -> None:
        """Nothing: CSV has no end of its own."""


class ParquetFile(FileFormat):
    """Apache Parquet; each column has the type that the database's has.

    Args:
        destination: what is written to.
        columns: names, and types as Arrow names them (`Capabilities.file_type`).

    Raises:
        ConfigurationError: pyarrow is not installed.
    """

    def __init__(self, destination: Destination, columns: Sequence[tuple[str, str]]) -> None:
        try:
            import pyarrow  # noqa: PLC0415  an extra that only Parquet needs
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "--to: pyarrow is not installed: pip install 'rowscore[parquet]'"
            ) from error
        self._arrow = pyarrow
        self._schema = pyarrow.schema([(name, _arrow_type(pyarrow, kind)) for name, kind in columns])
        self._writer = parquet.ParquetWriter(pyarrow.PythonFile(destination, mode="w"), self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        """See `FileFormat.write`; each call makes a row group."""
        columns = zip(self._schema, zip(*rows, strict=True), strict=True)
        arrays = [self._array(field, values) for field, values in columns]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """See `FileFormat.close`."""
        self._writer.close()

    def _array(self, field: Any, values: Sequence[Any]) -> Any:
        plain = list(map(_text, values)) if self._arrow.types.is_string(field.type) else values
        try:
            return self._arrow.array(plain, type=field.type)
        except (self._arrow.ArrowException, OverflowError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise FileError(
                f"column {field.name}: a value does not fit into {field.type}: {reason}; cast the column's expression, "
                "or write CSV"
            ) from error


def _text(value: Any) -> str | None:
    """What Arrow has no type for: JSON as its text, anything else as it goes into CSV."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    text = csvformat.plain_text(value)
    return str(value) if text is None else text


def _arrow_type(arrow: Any, name: str) -> Any:
    if found := _DECIMAL.fullmatch(name):
        make = arrow.decimal128 if found[1] == "128" else arrow.decimal256
        return make(int(found[2]), int(found[3]))
    if found := _ZONED.fullmatch(name):
        return arrow.timestamp("us", tz=found[1])
    if found := _LIST.fullmatch(name):
        return arrow.list_(_arrow_type(arrow, found[1]))
    return arrow.type_for_alias(name)
