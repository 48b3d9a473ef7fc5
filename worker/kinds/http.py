"""Models of kind http: model servers that the worker calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from worker.kinds.base import ServiceModel
from worker.sections import named_like
from worker.templates import Paths, Request, Template, is_of_rows, placeholders

Protocol = Literal["csv", "json", "instances", "jsonlines", "torchserve", "v2"]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip
TensorName = Annotated[str, named_like(r"\S+", "input-0")]


class HttpModel(ServiceModel):
    """An endpoint that takes rows and gives an answer for each, in one of the usual forms or in that of a template.

    Attributes:
        protocol: `csv` is SageMaker's container contract, `json` MLflow's, `instances` TensorFlow Serving's and
            Vertex AI's, `v2` the Open Inference Protocol.
        request: instead, the request's body: JSON with `{input}` in its texts.
        answer: the way to each row's answer in the reply, or one for each output; with `v2` the tensor's name.
        tensor: with `v2`, the name of the one tensor that holds all inputs; None: a tensor for each input.
        datatypes: with `v2`, those of tensors by name, where the values do not show them.
        ca: a PEM file of authorities, to be trusted in place of the usual ones.
    """

    UNDECIDING: ClassVar[frozenset[str]] = ServiceModel.UNDECIDING | {"headers", "ca"}

    kind: Literal["http"] = Field("http", exclude=True)
    http: str
    protocol: Protocol = "csv"
    request: Request | None = None
    answer: Paths | None = None
    tensor: TensorName | None = None
    datatypes: dict[str, Datatype] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    ca: str | None = None

    @field_validator("http")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return checked_url(value)

    @property
    def paths(self) -> tuple[str, ...]:
        """The ways of `answer`, in its order."""
        if self.answer is None:
            return ()
        return (self.answer,) if isinstance(self.answer, str) else tuple(self.answer.values())

    @property
    def is_of_many_rows(self) -> bool:
        """Whether a request of the template holds as many rows as there are."""
        return any(map(is_of_rows, self.paths))

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        super().check(inputs, outputs)
        if isinstance(self.answer, dict) and set(self.answer) != set(outputs):
            raise ValueError(f"model.answer: expected a way to each output: {', '.join(outputs)}")
        if self.request is not None:
            self._check_template(self.request, inputs)
        elif self.protocol == "csv" and self.answer is not None:
            raise ValueError(
                'model.answer: CSV has no names; it goes with another `protocol`, such as "json"'
            )
        elif self.protocol not in ("csv", "v2") and not all(map(is_of_rows, self.paths)):
            raise ValueError(
                'model.answer: expected a way with * for the list of rows, such as "predictions.*.label"'
            )
        self._check_tensors(inputs)
        self._check_encoding()

    def _check_template(self, request: str, inputs: Sequence[str]) -> None:
        if self.protocol != "csv":
            raise ValueError("model.protocol: `request` says how to ask; leave one of them out")
        if self.answer is None:
            raise ValueError(
                'model.answer: `request` needs it: the way to the answer, such as "predictions.*.label" (* for the '
                "list of rows)"
            )
        if len(set(map(is_of_rows, self.paths))) > 1:
            raise ValueError("model.answer: either each way has a * for the list of rows, or none has")
        document = json.loads(request)
        if unknown := placeholders(document) - set(inputs):
            raise ValueError(
                f"model.request: there is no input {sorted(unknown)[0]!r}; it has {', '.join(inputs)}"
            )
        try:
            template = Template(document, repeated=self.is_of_many_rows)
        except ValueError as error:
            raise ValueError(f"model.request: {error}") from None
        if not template.names:
            raise ValueError('model.request: it names no input; write "{name}" where a value belongs')

    def _check_tensors(self, inputs: Sequence[str]) -> None:
        if self.protocol != "v2":
            key = "tensor" if self.tensor is not None else "datatypes" if self.datatypes else None
            if key is not None:
                raise ValueError(f'model.{key}: tensors are of protocol = "v2"')
            return
        tensors = [self.tensor] if self.tensor is not None else list(inputs)
        if unknown := set(self.datatypes) - set(tensors):
            raise ValueError(
                f"model.datatypes: there is no tensor {sorted(unknown)[0]!r}; there is {', '.join(tensors)}"
            )

    def _check_encoding(self) -> None:
        if self.encoding.header and (self.protocol != "csv" or self.request is not None):
            raise ValueError('model.encoding.header: a line of names is of protocol = "csv"')


def checked_url(value: str) -> str:
    """An address or a variable that holds one; ValueError otherwise."""
    if not re.match(r"https?://[^/\s]+|\$\w+|\$\{\w+\}|file:.", value):
        raise ValueError(f"expected http:// or https://, not {value!r}")
    return value
