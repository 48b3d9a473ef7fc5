"""The Open Inference Protocol v2 over REST, as MLServer, KServe and Triton speak it: rows as tensors, and back.

A tensor for each input has the shape [rows, 1], which servers that batch take, too; one tensor for all has
[rows, inputs]. NULL in a tensor of floats is null, which MLServer and KServe read as NaN; `encoding.null = "NaN"`
writes NaN instead, as Triton reads it. No other tensor can hold NULL.

Source: the specification of the inference REST protocol, github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from worker.errors import RowFaultError, RowRejectedError
from worker.kinds.http import HttpModel
from worker.models import jsonformat
from worker.models.client import Reply
from worker.models.protocol import Answer, Batch
from worker.models.shapes import Outputs, counted

_FLOATS = {"FP16", "FP32", "FP64", "BF16"}
_INTEGERS = {
    f"{sign}INT{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}
_GUESSED: tuple[tuple[tuple[type, ...], str], ...] = (  # bool before int: it extends it
    ((bool,), "BOOL"),
    ((int,), "INT64"),
    ((float, Decimal, timedelta), "FP64"),
    ((str, datetime, date, time, UUID), "BYTES"),
)
_quoted = json.encoder.encode_basestring


class Tensors:
    """Requests and answers of one model.

    Args:
        settings: the model's section.
        outputs: what answers are for.
    """

    def __init__(self, settings: HttpModel, outputs: Outputs) -> None:
        self._settings = settings
        self._outputs = outputs
        self._datatypes: dict[str, str] = dict(settings.datatypes)  # and those that values have shown
        null = settings.encoding.null
        self._nan = "NaN" if null == "NaN" else "null"
        self._null = None if null == "NaN" else null
        self._numbers = itertools.count(1)

    def ask(self, batch: Batch) -> tuple[bytes, Callable[[Reply], list[Answer]]]:
        """A request's body, and what reads its answer.

        Raises:
            RowRejectedError: a value has no place in its tensor; it names the input.
        """
        number = f"rowscore-{next(self._numbers)}"
        turned = zip(*batch.rows, strict=True)
        columns = {
            name: list(map(self._encoded, values)) for name, values in zip(batch.names, turned, strict=True)
        }
        tensors = self._matrix(columns) if self._settings.tensor else self._each(columns)
        text = f'{{"id":"{number}","inputs":[{",".join(tensors)}]}}'
        return jsonformat.encoded(text), lambda reply: self._read(reply, number, len(batch))

    def _encoded(self, value: Any) -> Any:
        """A value as the encoding has it."""
        encoding = self._settings.encoding
        if value is None:
            return self._null
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool) and encoding.booleans is not None:
            return encoding.booleans[value]
        if isinstance(value, Decimal) and encoding.decimals == "text":
            return format(value, "f")
        return value

    def _each(self, columns: dict[str, list[Any]]) -> list[str]:
        for name, values in columns.items():  # before any value is refused
            self._learn(name, values)
        return [
            _tensor(
                name, [len(values), 1], self._datatype(name), self._data(name, self._datatype(name), values)
            )
            for name, values in columns.items()
        ]

    def _matrix(self, columns: dict[str, list[Any]]) -> list[str]:
        name = str(self._settings.tensor)
        datatype = self._datatypes.get(name, "FP64")
        written = [self._data(column, datatype, values) for column, values in columns.items()]
        data = list(itertools.chain.from_iterable(zip(*written, strict=True)))
        return [_tensor(name, [len(data) // len(columns), len(columns)], datatype, data)]

    def _learn(self, name: str, values: Sequence[Any]) -> None:
        """A column's values are of one type, or NULL: what one batch shows holds for those without any value."""
        if name not in self._datatypes and (shown := _shown(values)) is not None:
            self._datatypes[name] = shown

    def _datatype(self, name: str) -> str:
        if name not in self._datatypes:
            raise RowFaultError(
                f"input {name} is NULL, and no value has shown yet what its tensor holds; say "
                f'datatypes = {{ {name} = "FP64" }}, or give the input a `default`',
                sent=False,
            )
        return self._datatypes[name]

    def _data(self, name: str, datatype: str, values: Sequence[Any]) -> list[str]:
        try:
            if datatype in _FLOATS:
                return [_float(value, self._nan) for value in values]
            if datatype in _INTEGERS:
                return [_integer(value, datatype) for value in values]
            return [_BY_DATATYPE[datatype](value) for value in values]
        except ValueError as error:
            raise RowRejectedError(f"input {name}: {error}", sent=False) from None

    # --- answers ------------------------------------------------------------------------------------------

    def _read(self, reply: Reply, number: str, rows: int) -> list[Answer]:
        answer = jsonformat.parse(reply.content, reply.charset, exact=self._outputs.exact)
        if not isinstance(answer, dict) or not isinstance(answer.get("outputs"), list):
            raise RowFaultError("the answer has no list of outputs")
        if answer.get("id", number) != number:
            raise RowFaultError(
                f"the answer is another request's: its id is {str(answer['id'])[:60]!r}, not {number}"
            )
        tensors: dict[str, Any] = {}
        for tensor in answer["outputs"]:
            if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
                raise RowFaultError("an output of the answer has no name")
            if tensor["name"] in tensors:
                raise RowFaultError(f"the output {tensor['name']} is there twice")
            tensors[tensor["name"]] = tensor
        return self._answers(tensors, rows)

    def _answers(self, tensors: dict[str, Any], rows: int) -> list[Answer]:
        asked = self._asked(tensors)
        columns = [_rows_of(self._found(tensors, name), rows) for name in asked]
        if len(columns) == 1:
            return [self._outputs.of_item(item) for item in columns[0]]
        return [self._outputs.of_values(values) for values in zip(*columns, strict=True)]

    def _asked(self, tensors: dict[str, Any]) -> list[str]:
        """The tensors that hold the outputs: as configured, by the outputs' names, or the only one there is."""
        answer, names = self._settings.answer, list(self._outputs.names)
        if isinstance(answer, str):
            return [answer]
        if answer is not None:
            return [answer[name] for name in names]
        return list(tensors) if len(tensors) == 1 else names

    def _found(self, tensors: dict[str, Any], name: str) -> Any:
        if name not in tensors:
            raise RowFaultError(
                f"the answer has no output {name}: it has {', '.join(tensors) or 'none'}; `answer` names another"
            )
        return tensors[name]


def _tensor(name: str, shape: Sequence[int], datatype: str, data: Sequence[str]) -> str:
    return (
        f'{{"name":{_quoted(name)},"shape":[{",".join(map(str, shape))}],"datatype":"{datatype}",'
        f'"data":[{",".join(data)}]}}'
    )


def _shown(values: Sequence[Any]) -> str | None:
    kinds = set(map(type, values)) - {type(None)}
    if len(kinds) > 1 and kinds <= {int, float, Decimal}:
        return "FP64"
    for types, datatype in _GUESSED:
        if kinds and all(issubclass(kind, types) for kind in kinds):
            return datatype
    return "BYTES" if kinds else None  # where what is none is refused


def _float(value: Any, nan: str) -> str:
    if value is None or (isinstance(value, (float, Decimal)) and math.isnan(value)):
        return nan
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, (int, float, Decimal)):
        raise ValueError(f"a value of type {type(value).__name__} has no place in a tensor of floats")  # noqa: TRY004
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    return format(value, "f") if isinstance(value, Decimal) else repr(value)


def _integer(value: Any, datatype: str) -> str:
    if value is None:
        raise ValueError(_no_null(datatype))
    if not _is_whole(value):
        raise ValueError(f"a tensor of {datatype} holds no {type(value).__name__} such as {str(value)[:40]}")
    lowest, highest = _INTEGERS[datatype]
    if not lowest <= value <= highest:
        raise ValueError(f"{str(value)[:40]} does not fit {datatype}")
    return str(int(value))


def _is_whole(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value == value.to_integral_value()
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _boolean(value: Any) -> str:
    if value is None:
        raise ValueError(_no_null("BOOL"))
    if not isinstance(value, int) or value not in (0, 1):
        raise ValueError(f"a tensor of BOOL holds no {type(value).__name__} such as {str(value)[:40]}")
    return "true" if value else "false"


def _bytes(value: Any) -> str:
    if value is None:
        raise ValueError(_no_null("BYTES"))
    if isinstance(value, str):
        return str(_quoted(value))
    if isinstance(value, (datetime, date, time)):
        return f'"{value.isoformat()}"'
    if isinstance(value, Decimal):
        return f'"{value:f}"'
    if isinstance(value, bool):
        return f'"{str(value).lower()}"'
    if isinstance(value, (int, float, UUID)):
        return f'"{value}"'
    raise ValueError(f"a value of type {type(value).__name__} cannot be sent in a tensor")


def _no_null(datatype: str) -> str:
    return (
        f"NULL has no place in a tensor of {datatype}; give the input a `default`, or say what stands for it with "
        "encoding = { null = ... }"
    )


_BY_DATATYPE: dict[str, Callable[[Any], str]] = {"BOOL": _boolean, "BYTES": _bytes}


def _rows_of(tensor: dict[str, Any], rows: int) -> list[Any]:
    """A tensor's rows: a value for each, or a list of values; checked against what it says of itself."""
    name, shape, datatype = tensor["name"], tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size >= 0 for size in shape):
        raise RowFaultError(f"the output {name} has no shape")
    if shape[0] != rows:
        raise RowFaultError(f"the output {name} has {shape[0]} rows where {rows} rows were sent")
    data = _flat(tensor.get("data"), name)
    width = math.prod(shape[1:])
    counted(data, rows * width, f"the output {name} of shape {shape}")
    fits = _ANSWERED.get(str(datatype))
    if fits is None:
        raise RowFaultError(f"the output {name} has the datatype {str(datatype)[:40]}, which cannot be read")
    if not all(map(fits, data)):
        wrong = next(value for value in data if not fits(value))
        raise RowFaultError(f"the output {name} of {datatype} holds {repr(wrong)[:60]}")
    if width == 1:
        return data
    return [_folded(data[start : start + width], shape[1:]) for start in range(0, len(data), width or 1)]


def _flat(data: Any, name: str) -> list[Any]:
    """The values row by row, which servers may nest as the shape has it."""
    if not isinstance(data, list):
        raise RowFaultError(f"the output {name} has no data")
    values: list[Any] = data
    while values and all(isinstance(item, list) for item in values):
        values = list(itertools.chain.from_iterable(values))
    return values


def _folded(values: list[Any], shape: Sequence[int]) -> list[Any]:
    if len(shape) == 1:
        return values
    size = math.prod(shape[1:])
    return [_folded(values[start : start + size], shape[1:]) for start in range(0, len(values), size)]


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float, Decimal)) and not isinstance(value, bool))


def _fits_integer(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and lowest <= value <= highest


_ANSWERED: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_FLOATS, _is_number),
    **{name: _fits_integer(*limits) for name, limits in _INTEGERS.items()},
    "BOOL": lambda value: isinstance(value, bool) or (type(value) is int and value in (0, 1)),
    "BYTES": lambda value: isinstance(value, str),
}
