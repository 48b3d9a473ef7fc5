"""Opens the model that a configuration section names; it knows the kinds and nothing about calling them."""

from __future__ import annotations

from collections.abc import Sequence

from worker.errors import ConfigurationError
from worker.kinds import ModelKind
from worker.kinds.http import HttpModel
from worker.kinds.python import PythonModel
from worker.models.protocol import Model


def open_model(
    settings: ModelKind, outputs: Sequence[str], concurrency: int, *, where: str = "model"
) -> Model:
    """The model of that section, ready to be called by `concurrency` threads at once; close it after use.

    Raises:
        ConfigurationError: it cannot be opened as configured, or it is one that the database calls (kind
            sql).
    """
    if isinstance(settings, HttpModel):
        from worker.models.http import HttpEndpoint

        return HttpEndpoint(settings, concurrency=concurrency, where=where)
    if isinstance(settings, PythonModel):
        from worker.models.python import PythonFunction

        return PythonFunction(settings, outputs, where=where)
    raise ConfigurationError(f"{where}: a model of kind sql is called by the database, not by the worker")
