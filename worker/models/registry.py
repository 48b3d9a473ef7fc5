"""Opens the model that a configuration section names; it knows the kinds and nothing about calling them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from worker.errors import ConfigurationError
from worker.kinds import ModelKind
from worker.kinds.aws import AwsModel
from worker.kinds.base import CalledModel
from worker.kinds.bedrock import BedrockModel
from worker.kinds.comprehend import ComprehendModel
from worker.kinds.http import HttpModel
from worker.kinds.onnx import OnnxModel
from worker.kinds.openai import OpenAIModel
from worker.kinds.python import PythonModel
from worker.kinds.sagemaker import SageMakerModel
from worker.models.protocol import Model
from worker.models.screening import Screened


def open_model(
    settings: ModelKind,
    outputs: Mapping[str, str],
    concurrency: int,
    *,
    inputs: Sequence[str] = (),
    folder: Path = Path(),
    where: str = "model",
) -> Model:
    """The model of that section, ready to be called by `concurrency` threads at once; close it after use.

    Args:
        settings: the section.
        outputs: SQL types by name, in the configuration's order.
        concurrency: the most calls at once.
        inputs: their names, for kinds that look at them when they are opened.
        folder: where relative paths of files begin.
        where: the section's name in messages.

    Raises:
        ConfigurationError: it cannot be opened as configured, or it is one that the database calls (kind
            sql).
    """
    if isinstance(settings, OnnxModel):
        from worker.models.onnx import OnnxFile

        model: Model = OnnxFile(settings, inputs, list(outputs), folder=folder, where=where)
    elif isinstance(settings, (HttpModel, OpenAIModel)):
        model = _open_http(settings, outputs, concurrency, folder, where)
    elif isinstance(settings, AwsModel):
        model = _open_aws(settings, inputs, outputs, concurrency, where)
    else:
        model = _open(settings, outputs, where)
    return Screened(model) if isinstance(settings, CalledModel) and settings.encoding.refuse_null else model


def _open_http(
    settings: HttpModel | OpenAIModel, outputs: Mapping[str, str], concurrency: int, folder: Path, where: str
) -> Model:
    if isinstance(settings, HttpModel):
        from worker.models.http import HttpEndpoint

        return HttpEndpoint(settings, outputs, concurrency=concurrency, folder=folder, where=where)
    from worker.models.openai import open_openai

    return open_openai(settings, outputs, concurrency=concurrency, folder=folder, where=where)


def _open(settings: ModelKind, outputs: Mapping[str, str], where: str) -> Model:
    if isinstance(settings, PythonModel):
        from worker.models.python import PythonFunction

        return PythonFunction(settings, list(outputs), where=where)
    raise ConfigurationError(f"{where}: a model of kind sql is called by the database, not by the worker")


def _open_aws(
    settings: AwsModel, inputs: Sequence[str], outputs: Mapping[str, str], concurrency: int, where: str
) -> Model:
    try:
        import boto3  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"{where}: services of AWS are called through boto3, which is not installed; pip install 'rowscore[aws]'"
        ) from None
    if isinstance(settings, ComprehendModel):
        from worker.models.comprehend import Comprehend

        return Comprehend(settings, outputs, concurrency=concurrency, where=where)
    if isinstance(settings, BedrockModel):
        from worker.models.bedrock import BedrockConversation, BedrockInvocation

        if settings.prompt is not None:
            return BedrockConversation(settings, concurrency=concurrency, where=where)
        return BedrockInvocation(settings, inputs, outputs, concurrency=concurrency, where=where)
    assert isinstance(settings, SageMakerModel)  # noqa: S101 - for mypy: there are no others
    from worker.models.sagemaker import SageMakerEndpoint

    return SageMakerEndpoint(settings, outputs, concurrency=concurrency, where=where)
