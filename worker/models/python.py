"""A model that is a Python callable in the worker's own process; it converts and checks no answers."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from worker.errors import ConfigurationError, ModelError, RowFaultError
from worker.kinds.python import PythonModel
from worker.models.protocol import Answer, Batch, Model, RowFailure


class PythonFunction(Model):
    """The callable that a `python` section of the configuration names.

    It takes a `worker.models.protocol.Batch` and returns an answer for each row: a list, tuple or numpy array
    of values (one output), of tuples or lists in the outputs' order, or of dictionaries by output name. A
    RowFailure in an answer's place fails that row alone. With `concurrency` above 1 several threads call it
    at once.

    Args:
        settings: the section.
        outputs: the outputs' names, in order.
        where: the section's name in messages.

    Raises:
        ConfigurationError: the module or the callable does not exist, or the module cannot be imported.
    """

    def __init__(self, settings: PythonModel, outputs: Sequence[str], *, where: str = "model") -> None:
        self._path = settings.python
        self._outputs = tuple(outputs)
        self._function = _load(settings.python, f"{where}.python")

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """Call it with the rows.

        Raises:
            RowFaultError: it raised, or its result is not an answer for each row.
            ModelError: it raised one itself, which stays as it is.
        """
        try:
            result = self._function(batch)
        except (ModelError, MemoryError):
            raise
        except Exception as error:
            raise RowFaultError(f"{self._path} raised {type(error).__name__}: {error}") from error
        items = result.tolist() if hasattr(result, "tolist") else result
        if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
            kind = type(result).__name__
            raise RowFaultError(f"{self._path} returned {kind} where an answer for each row belongs")
        if len(items) != len(batch):
            raise RowFaultError(f"{self._path} returned {len(items)} answers for {len(batch)} rows")
        if len(self._outputs) == 1 and getattr(result, "ndim", 0) == 1:
            return list(zip(items, strict=True))
        if len(self._outputs) == 1 and getattr(result, "shape", (0, 0))[1:] == (1,):
            return list(map(tuple, items))
        return [self._answer(item) for item in items]

    def check(self) -> str:
        """Say that it is loaded; it is not called."""
        return f"{self._path} is loaded"

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self, item: Any) -> Answer | RowFailure:
        """One item as a tuple in the outputs' order; a single output's value may be a list or dictionary."""
        if isinstance(item, (tuple, RowFailure)):
            return item
        if isinstance(item, dict):
            if all(name in item for name in self._outputs):
                return tuple(item[name] for name in self._outputs)
            if len(self._outputs) > 1:
                missing = next(name for name in self._outputs if name not in item)
                raise RowFaultError(
                    f"{self._path} returned a dictionary without {missing!r}: it has {list(item)}"
                )
        if len(self._outputs) == 1:
            return (item,)
        values = item.tolist() if hasattr(item, "tolist") else item
        return tuple(values) if isinstance(values, (list, tuple)) else (values,)


def _load(path: str, where: str) -> Callable[[Batch], Any]:
    module, _, name = path.partition(":")
    try:
        found = reduce(getattr, name.split("."), importlib.import_module(module))
    except ImportError as error:
        raise ConfigurationError(
            f"{where}: cannot import {module}: {error} (is its folder on PYTHONPATH?)"
        ) from error
    except AttributeError as error:
        raise ConfigurationError(f"{where}: {path}: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"{where}: {path} is not callable")
    function: Callable[[Batch], Any] = found
    return function
