"""The section `aurora`: a service of AWS that Aurora itself calls, through a function that `apply` makes."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from worker.sections import Duration, Section, named_like
from worker.templates import Request, placeholders

ModelId = Annotated[str, named_like(r"[\w.:/-]{1,2048}", "amazon.titan-embed-text-v2:0")]
MediaType = Annotated[str, named_like(r"[\w.+-]+/[\w.+-]+", "application/json")]


class SageMakerEndpoint(Section):
    """An endpoint of Amazon SageMaker that takes and gives text/csv, called by Aurora itself in batches."""

    sagemaker: Annotated[
        str, named_like(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,62}", "churn-endpoint")
    ]  # as SageMaker restricts it


class ComprehendSentiment(Section):
    """Amazon Comprehend's sentiment of a text, its confidence, or both; called by Aurora itself in batches."""

    comprehend: tuple[Literal["sentiment", "confidence"], ...] = Field(min_length=1, max_length=2)
    language: Annotated[str, named_like(r"[a-z]{2,3}(-[A-Z]{2})?", "en")] = "en"

    @field_validator("comprehend", mode="before")
    @classmethod
    def _one_answer(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("comprehend")
    @classmethod
    def _in_its_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) == 2 and value != ("sentiment", "confidence"):
            raise ValueError('expected "sentiment", "confidence", or ["sentiment", "confidence"], its order')
        return value


class BedrockInvocation(Section):
    """A foundation model of Amazon Bedrock, called by Aurora itself for one row at a time.

    Without `request` the one input is the request's body; without `answer` the reply's body is the answer.
    """

    bedrock: ModelId
    request: Request | None = None
    answer: str | None = None
    content_type: MediaType = "application/json"
    accept: MediaType = "application/json"
    timeout: Duration | None = None

    @field_validator("answer")
    @classmethod
    def _is_path(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\w+(\.\w+)*", value):
            raise ValueError(f'expected the way to it, such as "content.0.text", not {value!r}')
        return value


class BedrockEmbeddings(Section):
    """An embeddings model of Amazon Bedrock, called by Aurora PostgreSQL itself; `answer` is the key of the numbers."""

    embeddings: ModelId
    request: Request | None = None
    answer: Annotated[str, named_like(r"\w+", "embedding")] = "embedding"
    content_type: MediaType = "application/json"


AuroraService = SageMakerEndpoint | ComprehendSentiment | BedrockInvocation | BedrockEmbeddings
SERVICES: dict[str, type[AuroraService]] = {
    "sagemaker": SageMakerEndpoint,
    "comprehend": ComprehendSentiment,
    "bedrock": BedrockInvocation,
    "embeddings": BedrockEmbeddings,
}


def service_of_kind(value: Any) -> Any:
    """The section `aurora` as the class of the one service that it names."""
    named = [service for service in SERVICES if service in value] if isinstance(value, dict) else []
    if isinstance(value, BaseModel):
        return value
    if len(named) != 1:
        raise ValueError(f'expected one of {", ".join(SERVICES)}, such as {{ sagemaker = "churn-endpoint" }}')
    return SERVICES[named[0]].model_validate(value)


def check_service(service: AuroraService, inputs: list[str], outputs: int) -> None:
    """That the service can take these inputs and give so many outputs."""
    where = "model.aurora"
    if isinstance(service, SageMakerEndpoint):
        if "max_rows_per_batch" in inputs:
            raise ValueError(
                f"{where}: the function has an argument max_rows_per_batch; name that input otherwise"
            )
        return
    if isinstance(service, ComprehendSentiment):
        if len(inputs) != 1:
            raise ValueError(f"{where}: Comprehend reads one text and {len(inputs)} inputs are configured")
        if outputs != len(service.comprehend):
            named = " and ".join(service.comprehend)
            raise ValueError(f"{where}: comprehend gives {named}, and {outputs} outputs are configured")
        return
    if outputs != 1:
        raise ValueError(f"{where}: Bedrock gives one answer and {outputs} outputs are configured")
    if service.request is None and len(inputs) != 1:
        raise ValueError(
            f"{where}: without `request` the one input is the request, and {len(inputs)} are configured"
        )
    if service.request is not None and (unknown := placeholders(json.loads(service.request)) - set(inputs)):
        raise ValueError(
            f"{where}.request: there is no input {sorted(unknown)[0]!r}; it has {', '.join(inputs)}"
        )
