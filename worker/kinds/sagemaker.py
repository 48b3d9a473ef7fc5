"""Models of kind sagemaker: real-time and serverless endpoints of Amazon SageMaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from worker.kinds.aurora import MediaType
from worker.kinds.aws import AwsModel
from worker.kinds.http import HttpModel
from worker.sections import named_like
from worker.templates import Paths, Request, is_of_rows

_Name = Annotated[
    str, named_like(r"[A-Za-z0-9](-*[A-Za-z0-9]){0,62}", "churn-endpoint")
]  # as SageMaker restricts it


class SageMakerModel(AwsModel):
    """An endpoint of SageMaker, called by InvokeEndpoint.

    Attributes:
        sagemaker: the endpoint's name.
        content_type: of the request: one row a line, or for application/json `{"instances": [...]}`.
        rows: how a row is written in JSON: `{"features": [...]}`, or an object by the inputs' names.
        request: instead, the request's body: JSON with `{input}` in its texts.
        answer: the way to each row's answer in a reply of JSON, or one for each output.
        accept: what is asked for; None: an answer of the request's type.
        component: the inference component that is called.
        variant: the production variant that is called.
        target_model: the model of a multi-model endpoint.
        attributes: custom attributes, handed to the container as they are.
    """

    kind: Literal["sagemaker"] = Field("sagemaker", exclude=True)
    sagemaker: _Name
    content_type: Literal["text/csv", "application/jsonlines", "application/json"] = "text/csv"
    rows: Literal["features", "objects"] = "features"
    request: Request | None = None
    answer: Paths | None = None
    accept: MediaType | None = None
    component: _Name | None = None
    variant: _Name | None = None
    target_model: Annotated[str, named_like(r"[!-~][ -~]{0,1023}", "model-1.tar.gz")] | None = None
    attributes: Annotated[str, named_like(r"[ -~]{1,1024}", "trace=on")] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.content_type == "text/csv" and self.request is None:
            if self.rows != "features":
                raise ValueError(
                    'rows = "objects" needs content_type = "application/jsonlines" or "application/json"'
                )
            if self.answer is not None and self.accept in (None, "text/csv"):
                raise ValueError("answer: CSV has no names; it goes with `accept` or `content_type` of JSON")
        return self

    @property
    def template(self) -> HttpModel | None:
        """What `request` and `answer` say, as the kind http has it."""
        if self.request is None:
            return None
        return HttpModel(
            http="https://sagemaker", request=self.request, answer=self.answer, encoding=self.encoding
        )

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        if self.template is not None:
            set_too = self.model_fields_set & {"content_type", "rows"}
            if set_too - {"content_type"} or self.content_type == "application/jsonlines":
                raise ValueError(
                    "model.request: it says how rows are written; leave out `rows` and `content_type`"
                )
            self.template.check(inputs, outputs)
            return
        if isinstance(self.answer, dict) and set(self.answer) != set(outputs):
            raise ValueError(f"model.answer: expected a way to each output: {', '.join(outputs)}")
        if not all(map(is_of_rows, paths_of(self.answer, outputs))):
            raise ValueError(
                'model.answer: expected a way with * for the list of rows, such as "predictions.*.score"'
            )


def paths_of(answer: str | Mapping[str, str] | None, outputs: Mapping[str, str]) -> list[str]:
    """The ways of an `answer`, in the outputs' order."""
    if answer is None:
        return []
    return [answer] if isinstance(answer, str) else [answer[name] for name in outputs]
