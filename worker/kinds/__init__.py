"""The kinds of models that a section `model` may name, each with its settings; it opens and calls none."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from worker.kinds.http import HttpModel
from worker.kinds.python import PythonModel
from worker.kinds.sql import SqlModel

ModelKind = SqlModel | HttpModel | PythonModel
KINDS: dict[str, type[ModelKind]] = {"sql": SqlModel, "http": HttpModel, "python": PythonModel}
_PLANNED = ("sagemaker", "comprehend", "bedrock", "openai", "onnx")


def _model_of_kind(value: Any) -> Any:
    """The model section as the class of the one kind that it names."""
    if not isinstance(value, dict):
        return value
    named = [kind for kind in (*KINDS, *_PLANNED) if kind in value]
    if len(named) != 1:
        raise ValueError(f'expected one kind of model ({", ".join(KINDS)}), such as {{ sql = "predict" }}')
    if named[0] in _PLANNED:
        raise ValueError(f"models of kind {named[0]} are not available yet; use {', '.join(KINDS)}")
    return KINDS[named[0]].model_validate(value)


ModelSection = Annotated[ModelKind, BeforeValidator(_model_of_kind)]
