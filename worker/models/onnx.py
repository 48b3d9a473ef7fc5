"""A model file computed in this process by ONNX Runtime: rows become tensors, tensors answers; no requests, no retries.

How inputs reach the model is read from its own signature. With several tensors each takes the input of its name, as
skl2onnx makes them ([n, 1] or [n]); with one tensor it takes all inputs as a matrix in the configuration's order, and
`tensor` names it where there are others beside it. What an answer is made of is `output`: a model's output by its name,
or a part of it, which is a column of a matrix or a class of a ZipMap.

The runtime's session is loaded once a process and may be run by several threads at once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.columns import Column
from worker.errors import ConfigurationError, FailureClass, RowFaultError, ServiceRefusedError
from worker.kinds.encoding import Encoding
from worker.kinds.onnx import OnnxModel
from worker.models.protocol import Answer, Batch, Model, RowFailure
from worker.models.typed import Array, Faults, Type, column
from worker.secret import resolve_secret

_TYPES: dict[str, Type] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(string)": np.dtype(np.object_),
}
_LONGEST_MESSAGE = 300
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed: ?|/\S+\.(?:h|cc):\d+ [^)]*\) "
)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output of the model as it declares it; `shape` has None where a length is free."""

    name: str
    type: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        shape = ", ".join("?" if length is None else str(length) for length in self.shape)
        return f"{self.name} {self.type.removeprefix('tensor')}[{shape}]"


Take = Callable[[Any], Sequence[Any]]


class OnnxFile(Model):
    """The model that an `onnx` section of the configuration describes.

    Args:
        settings: the section.
        inputs: the prediction's, by name.
        outputs: the prediction's.
        folder: where a relative path begins.
        where: the section's name in messages.

    Raises:
        ConfigurationError: onnxruntime is not installed, the file is no model that it takes, or the model does not go
            with the inputs and outputs.
    """

    def __init__(
        self,
        settings: OnnxModel,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        folder: Path = Path(),
        where: str = "model",
    ) -> None:
        self._path = folder / resolve_secret(settings.onnx, f"{where}.onnx")
        self._session, self._digest = _load(self._path, settings.threads, f"{where}.onnx")
        tensors = [_described(item) for item in self._session.get_inputs()]
        answers = [_described(item) for item in self._session.get_outputs()]
        self._signature = f"{', '.join(map(str, tensors))} -> {', '.join(map(str, answers))}"
        self._feed = _Feed(tensors, inputs, settings, where)
        self._asked, self._take = _answers(answers, settings.output, outputs, where)
        self.most_rows = _fixed_rows(tensors, f"{where}.onnx")

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """Compute the rows; those whose values have no place in the tensors fail, the others are answered.

        Raises:
            RowFaultError: the runtime failed on the rows, or answered another number of rows.
            ServiceRefusedError: an input is a list where the model takes single values.
        """
        tensors, faults = self._feed.tensors(batch)
        fit = [place for place in range(len(batch)) if place not in faults]
        answers = iter(self._run(tensors, fit) if fit else ())
        return [
            RowFailure(FailureClass.ROW_PERMANENT, faults[place]) if place in faults else next(answers)
            for place in range(len(batch))
        ]

    def check(self) -> str:
        """Say what is loaded; nothing is computed. A file that was changed since is loaded by a restart."""
        return f"{self._path} is loaded: {self._signature}; SHA-256 {self._digest}"

    def close(self) -> None:
        """Nothing is held but memory."""

    def _run(self, tensors: Mapping[str, Array], fit: Sequence[int]) -> list[Answer]:
        """The answers to the rows at those places."""
        whole = self.most_rows or len(fit)  # a model of a fixed number of rows gets the last one again
        places = [*fit, *[fit[-1]] * (whole - len(fit))]
        fed = {name: values[places] for name, values in tensors.items()}
        try:
            found = self._session.run(self._asked, fed)
        except MemoryError:
            raise
        except Exception as error:  # the runtime's errors have no base of their own
            raise RowFaultError(f"{self._path.name}: {_line(error)}") from error
        for name, values in zip(self._asked, found, strict=True):
            rows = len(values) if np.ndim(values) else 0
            if rows != whole:
                raise RowFaultError(
                    f"{self._path.name}: its output {name} has {rows} rows where {whole} were given"
                )
        return list(zip(*(part[: len(fit)] for part in self._take(found)), strict=True))


class _Feed:
    """How the prediction's inputs become the model's tensors."""

    def __init__(
        self, tensors: Sequence[_Tensor], names: Sequence[str], settings: OnnxModel, where: str
    ) -> None:
        self._encoding: Encoding = settings.encoding
        self._where = f"{where}.onnx"
        _check_tensors(tensors, settings.tensor, where)
        matrix = settings.tensor
        if matrix is None and len(tensors) == 1:
            matrix = tensors[0].name
        self._alone = [item for item in tensors if item.name != matrix]
        self._matrix = next((item for item in tensors if item.name == matrix), None)
        if missing := [item.name for item in self._alone if item.name not in names]:
            more = "; or name the one that takes all inputs as a matrix by `tensor`" if matrix is None else ""
            raise ConfigurationError(
                f"{self._where}: the model asks for {', '.join(missing)}, and the prediction's inputs are "
                f"{', '.join(names)}: give inputs these names by `name`{more}"
            )
        self._rest = [name for name in names if name not in {item.name for item in self._alone}]
        if self._rest and self._matrix is None:
            raise ConfigurationError(
                f"{self._where}: the model has no input {', '.join(self._rest)}; it takes "
                f"{', '.join(map(str, tensors))}"
            )
        self._check_width()

    def _check_width(self) -> None:
        item = self._matrix
        if item is None:
            return
        width = item.shape[1] if len(item.shape) == 2 else 1
        # One input may be a list of them all.
        if not self._rest or (width is not None and len(self._rest) not in (1, width)):
            raise ConfigurationError(
                f"{self._where}: {item} takes {width or 'some'} inputs, and {len(self._rest)} are configured"
                f"{': ' + ', '.join(self._rest) if self._rest else ' beside those with tensors of their own'}"
            )

    def tensors(self, batch: Batch) -> tuple[dict[str, Array], Faults]:
        """The tensors by name, with a row for each of the batch's, and what is wrong with which row."""
        columns = dict(zip(batch.names, batch.turned(), strict=True))
        faults: Faults = {}
        found = {item.name: self._one(item, item.name, columns, faults) for item in self._alone}
        item = self._matrix
        if item is not None and len(self._rest) == 1:
            found[item.name] = self._one(item, self._rest[0], columns, faults)
        elif item is not None:
            parts = [self._column(item, name, columns, faults, 1) for name in self._rest]
            if any(part.ndim > 1 for part in parts):
                raise ServiceRefusedError(f"{self._where}: an input that is a list has no place in {item}")
            found[item.name] = np.stack(parts, axis=1)
        return found, faults

    def _one(self, item: _Tensor, name: str, columns: Mapping[str, Column], faults: Faults) -> Array:
        """An input in a tensor of its own."""
        width = item.shape[1] if len(item.shape) == 2 else None
        values = self._column(item, name, columns, faults, width)
        if len(item.shape) == 2 and values.ndim == 1:
            return values.reshape(-1, 1)
        return values

    def _column(
        self, item: _Tensor, name: str, columns: Mapping[str, Column], faults: Faults, width: int | None
    ) -> Array:
        found = column(name, columns[name], _TYPES[item.type], self._encoding, width)
        for place, fault in found.faults.items():
            faults.setdefault(place, fault)
        return found.values


def _check_tensors(tensors: Sequence[_Tensor], matrix: str | None, where: str) -> None:
    for item in tensors:
        if item.type not in _TYPES or len(item.shape) not in (1, 2):
            raise ConfigurationError(
                f"{where}.onnx: the input {item} is neither a vector nor a matrix of numbers, booleans or texts"
            )
    names = [item.name for item in tensors]
    if matrix is not None and matrix not in names:
        raise ConfigurationError(
            f"{where}.tensor: the model has no input {matrix!r}; it has {', '.join(names)}"
        )


def _fixed_rows(tensors: Sequence[_Tensor], where: str) -> int | None:
    """How many rows the model takes at a time, exactly; None where that is free."""
    rows = {item.shape[0] for item in tensors if item.shape[0] is not None}
    if len(rows) > 1:
        raise ConfigurationError(
            f"{where}: its inputs are of different numbers of rows: {', '.join(map(str, tensors))}"
        )
    return next(iter(rows), None)


def _load(path: Path, threads: int, where: str) -> tuple[Any, str]:
    """The session, and the file's SHA-256."""
    # Since 1.29 it tells Microsoft about the machine and its models unless it is told not to before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime  # noqa: PLC0415  an extra that only this kind needs
    except ImportError as error:
        raise ConfigurationError(
            f"{where}: onnxruntime is not installed: pip install 'rowscore[onnx]'"
        ) from error
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationError(
            f"{where}: cannot read {path.absolute()}: {error.strerror}; "
            "a relative path begins at rowscore.toml's folder"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong comes as an error
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), digest
    except Exception as error:  # the runtime's errors have no base of their own
        raise ConfigurationError(f"{where}: {path} cannot be loaded as a model: {_line(error)}") from error


def _described(item: Any) -> _Tensor:
    """A part of the signature; names in place of lengths are free lengths."""
    return _Tensor(
        item.name,
        item.type,
        tuple(length if isinstance(length, int) and length > 0 else None for length in item.shape or ()),
    )


def _answers(
    tensors: Sequence[_Tensor], asked: Sequence[str] | None, outputs: Sequence[str], where: str
) -> tuple[list[str], Take]:
    """The model's outputs that are computed, and what makes columns of answers out of them."""
    named = {item.name: item for item in tensors}
    if asked is None:
        asked = _usual(tensors, outputs, where)
    if not asked:  # one matrix, a column for each output
        return [tensors[0].name], lambda found: list(np.asarray(found[0]).T.tolist())
    parts = [_part(text, named, where) for text in asked]
    names = list(dict.fromkeys(name for name, _ in parts))

    def take(found: Sequence[Any]) -> list[Sequence[Any]]:
        by_name = dict(zip(names, found, strict=True))
        return [_values(by_name[name], part, text) for (name, part), text in zip(parts, asked, strict=True)]

    return names, take


def _usual(tensors: Sequence[_Tensor], outputs: Sequence[str], where: str) -> list[str]:
    """Where `output` is not said: by name, or one after the other; nothing for the columns of the one matrix."""
    names = [item.name for item in tensors]
    if set(outputs) <= set(names):
        return list(outputs)
    if len(outputs) == len(names):
        return names
    if len(tensors) == 1 and tensors[0].shape[1:] == (len(outputs),):
        return []
    raise ConfigurationError(
        f"{where}.output: the model answers {', '.join(map(str, tensors))}, and the prediction has "
        f"{len(outputs)} {'output' if len(outputs) == 1 else 'outputs'}: say which is meant, such as "
        f'output = "{names[-1]}", or a column or class of it, output = "{names[-1]}.1"'
    )


def _part(text: str, named: Mapping[str, _Tensor], where: str) -> tuple[str, str | None]:
    """`probabilities.1` as the output's name and the part; names may have dots themselves."""
    if text in named:
        return text, None
    for name, item in sorted(named.items(), key=lambda pair: -len(pair[0])):
        part = text.removeprefix(f"{name}.")
        if part == text:
            continue
        width = item.shape[1] if len(item.shape) == 2 else None
        if item.type.startswith("tensor") and (
            not part.isdecimal() or len(item.shape) < 2 or (width is not None and int(part) >= width)
        ):
            raise ConfigurationError(f"{where}.output: {item} has no column {part!r}; columns count from 0")
        return name, part
    raise ConfigurationError(f"{where}.output: the model has no output {text!r}; it has {', '.join(named)}")


def _values(found: Any, part: str | None, text: str) -> Sequence[Any]:
    """One output's values, a value for each row: of a matrix its rows as lists, of a ZipMap its dictionaries."""
    if isinstance(found, np.ndarray):
        if part is not None:
            return _column_of(found, int(part), text)
        plain: list[Any] = (found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found).tolist()
        return plain
    if part is None:
        return list(found)
    return [_of_class(row, part, text) for row in found]


def _column_of(found: Array, place: int, text: str) -> list[Any]:
    if found.ndim < 2 or place >= found.shape[1]:
        raise RowFaultError(f"the model's answer has no column {text!r}: it is of shape {list(found.shape)}")
    values: list[Any] = found[:, place].tolist()
    return values


def _of_class(row: Mapping[Any, Any], part: str, text: str) -> Any:
    """A class of a ZipMap by its label, which is a text or a whole number."""
    if part in row:
        return row[part]
    try:
        return row[int(part)]
    except (ValueError, KeyError):
        raise RowFaultError(
            f"the model's answer has no class for {text!r}; it has {', '.join(map(repr, row))}"
        ) from None


def _line(error: Exception) -> str:
    """What the runtime says, on one line, without codes and places in its own source."""
    text = _NOISE.sub("", " ".join(str(error).split()))
    return text[:_LONGEST_MESSAGE]
