"""The kinds of models that a section `model` may name, each with its settings; it opens and calls none."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from worker.kinds.bedrock import BedrockModel
from worker.kinds.comprehend import ComprehendModel
from worker.kinds.http import HttpModel
from worker.kinds.onnx import OnnxModel
from worker.kinds.openai import OpenAIModel
from worker.kinds.python import PythonModel
from worker.kinds.sagemaker import SageMakerModel
from worker.kinds.sql import SqlModel

ModelKind = (
    SqlModel
    | HttpModel
    | OpenAIModel
    | OnnxModel
    | PythonModel
    | SageMakerModel
    | ComprehendModel
    | BedrockModel
)
KINDS: dict[str, type[ModelKind]] = {
    "sql": SqlModel,
    "http": HttpModel,
    "openai": OpenAIModel,
    "onnx": OnnxModel,
    "python": PythonModel,
    "sagemaker": SageMakerModel,
    "comprehend": ComprehendModel,
    "bedrock": BedrockModel,
}


def _model_of_kind(value: Any) -> Any:
    """The model section as the class of the one kind that it names."""
    if not isinstance(value, dict):
        return value
    named = [kind for kind in KINDS if kind in value]
    if len(named) != 1:
        raise ValueError(f'expected one kind of model ({", ".join(KINDS)}), such as {{ sql = "predict" }}')
    return KINDS[named[0]].model_validate(value)


ModelSection = Annotated[ModelKind, BeforeValidator(_model_of_kind)]
