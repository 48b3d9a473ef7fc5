"""Models of kind bedrock: foundation models of Amazon Bedrock, for embeddings and for texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from worker.kinds.aurora import ModelId
from worker.kinds.aws import AwsModel
from worker.kinds.http import HttpModel
from worker.sections import Count
from worker.templates import Paths, Request, TextTemplate, placeholders

INPUT = "input"  # how the usual requests call the one input


@dataclass(frozen=True, slots=True)
class Usual:
    """How a family of models is asked by InvokeModel, from Bedrock's "Inference request parameters".

    Attributes:
        models: a pattern of their ids, without the prefix of a profile such as `eu.`.
        most_rows: the most rows of one request; None: as many as are configured.
    """

    models: str
    request: str
    answer: str
    most_rows: int | None = 1


_USUAL = (
    Usual(r"amazon\.titan-embed-text-v\d.*", '{"inputText": "{input}"}', "embedding"),
    Usual(
        r"amazon\.nova-2-multimodal-embeddings-v1.*",
        '{"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": {"embeddingPurpose": "GENERIC_INDEX", '
        '"text": {"truncationMode": "END", "value": "{input}"}}}',
        "embeddings.0.embedding",
    ),
    Usual(
        r"cohere\.embed-v4.*",
        '{"texts": ["{input}"], "input_type": "search_document", "embedding_types": ["float"]}',
        "embeddings.float.*",
        96,
    ),
    Usual(r"cohere\.embed-.*", '{"texts": ["{input}"], "input_type": "search_document"}', "embeddings.*", 96),
)
_PROFILE = re.compile(r"^(global|us|us-gov|eu|apac|au|ca|jp|sa|me|af|il|mx|in|uk)\.")


class BedrockModel(AwsModel):
    """A model of Bedrock: asked by InvokeModel with a `request`, or by Converse with a `prompt`.

    Attributes:
        bedrock: the model's id, or the ARN of an inference profile or of a model of one's own.
        request: the body for InvokeModel: JSON with `{input}` in its texts. None: as models of that family take it.
        answer: the way to the answer in the reply, or one for each output; with * for each row of a list.
        prompt: what the model is told, with `{input}` in it; the answer is the text that it says.
        system: what it is told before that.
        max_tokens: the longest text; None: as the model has it.
        temperature: 0 is the most steady; None: as the model has it.
    """

    COUNTS_TOKENS: ClassVar[bool] = True

    kind: Literal["bedrock"] = Field("bedrock", exclude=True)
    bedrock: ModelId
    request: Request | None = None
    answer: Paths | None = None
    prompt: TextTemplate | None = None
    system: Annotated[str, Field(min_length=1)] | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None

    @property
    def foundation(self) -> str | None:
        """The id of the foundation model behind it; None where it is an ARN that does not tell."""
        name = self.bedrock.rpartition("foundation-model/")[2]
        return None if name.startswith("arn:") else _PROFILE.sub("", name, count=1)

    @property
    def usual(self) -> Usual | None:
        """How its family is asked, where Bedrock's documentation says so."""
        name = self.foundation or ""
        return next((usual for usual in _USUAL if re.fullmatch(usual.models, name)), None)

    def asked_with(self, inputs: Sequence[str]) -> HttpModel:
        """The request and the answer of InvokeModel, as the kind http has them."""
        usual = self.usual
        request = self.request
        if request is None and usual is not None:
            request = json.dumps(_renamed(json.loads(usual.request), inputs[0]), ensure_ascii=False)
        return HttpModel(
            http="https://bedrock",
            request=request,
            answer=self.answer or (usual.answer if usual is not None else None),
            encoding=self.encoding,
        )

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        if self.prompt is not None:
            self._check_prompt(self.prompt, inputs, outputs)
            return
        for key in ("system", "max_tokens", "temperature"):
            if getattr(self, key) is not None:
                raise ValueError(f"model.{key}: it goes with `prompt`; with `request`, write it there")
        if self.request is None and self.usual is None:
            raise ValueError(
                f"model.bedrock: how {self.bedrock} is asked is not known here; expected "
                'prompt = "Summarise: {note}" for a text, or `request` and `answer` for anything else'
            )
        if self.request is None and len(inputs) != 1:
            raise ValueError(
                f"model.request: without it the one input is embedded, and {len(inputs)} are configured"
            )
        self.asked_with(inputs).check(inputs, outputs)

    def _check_prompt(self, prompt: str, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        for key in ("request", "answer"):
            if getattr(self, key) is not None:
                raise ValueError(f"model.{key}: `prompt` says how to ask; leave one of them out")
        if len(outputs) != 1:
            raise ValueError(
                f"model.prompt: the model answers one text and {len(outputs)} outputs are configured"
            )
        if unknown := placeholders(prompt) - set(inputs):
            raise ValueError(
                f"model.prompt: there is no input {sorted(unknown)[0]!r}; it has {', '.join(inputs)}"
            )


def _renamed(document: object, name: str) -> object:
    """The document with the one input's own name in it."""
    if isinstance(document, dict):
        return {key: _renamed(value, name) for key, value in document.items()}
    if isinstance(document, list):
        return [_renamed(value, name) for value in document]
    return f"{{{name}}}" if document == f"{{{INPUT}}}" else document
