"""Models of kind openai: embeddings and chats of OpenAI, and of the many servers that speak its API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from worker.kinds.base import ServiceModel
from worker.kinds.http import checked_url
from worker.sections import Count, named_like
from worker.templates import TextTemplate, placeholders

_OWN = {"model", "input", "messages", "stream", "n", "response_format", "dimensions", "encoding_format"}
_TEXTS = re.compile(
    r"(text|(tiny|medium|long)text|character varying|varchar|character|char|citext)\b", re.IGNORECASE
)
_NUMBERS = re.compile(
    r"(vector|halfvec)\b|(real|float4|float8|double precision|numeric)\s*\[\d*\]", re.IGNORECASE
)
_JSON = re.compile(r"jsonb?\b", re.IGNORECASE)


class OpenAIModel(ServiceModel):
    """Embeddings, unless there is a prompt; with one a chat of one message for each row.

    Attributes:
        openai: the model's name.
        url: where the API is, with its version: `/embeddings` and `/chat/completions` are beneath it.
        text: what is embedded, with `{input}` in it; None: the one input.
        dimensions: of embeddings that the model shortens.
        encoding_format: how numbers come back; base64 is a third of the bytes, and the floats themselves.
        prompt: the message, with `{input}` in it.
        system: what comes before it.
        json_schema: of the answers, as a table or as `file:` and a path; the service is asked to keep to it.
        parameters: more of what the API takes, such as `temperature`.
        ca: a PEM file of authorities, to be trusted in place of the usual ones.
    """

    COUNTS_TOKENS: ClassVar[bool] = True
    UNDECIDING: ClassVar[frozenset[str]] = ServiceModel.UNDECIDING | {
        "api_key", "headers", "ca", "encoding_format"
    }  # fmt: skip

    kind: Literal["openai"] = Field("openai", exclude=True)
    openai: Annotated[str, named_like(r"\S.{0,199}", "text-embedding-3-small")]
    url: str = "https://api.openai.com/v1"
    api_key: str = "$OPENAI_API_KEY"
    text: TextTemplate | None = None
    dimensions: Count | None = None
    encoding_format: Literal["base64", "float"] = "base64"
    prompt: TextTemplate | None = None
    system: str | None = None
    json_schema: dict[str, Any] | str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    ca: str | None = None

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return checked_url(value)

    @field_validator("json_schema", mode="before")
    @classmethod
    def _is_schema(cls, value: Any) -> Any:
        if not isinstance(value, (dict, type(None))) and not str(value).startswith("file:"):
            raise ValueError(f'expected a table, or a file such as "file:answer.schema.json", not {value!r}')
        return value

    @field_validator("parameters")
    @classmethod
    def _are_free(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := _OWN & set(value):
            raise ValueError(f"{sorted(taken)[0]} is set by rowscore, not here")
        return value

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        super().check(inputs, outputs)
        self._check_use()
        template = self.prompt or self.text
        if template is None and len(inputs) != 1:
            raise ValueError(
                f'model.text: there are {len(inputs)} inputs; say what is embedded, such as "{{{inputs[0]}}}"'
            )
        if template is not None and (unknown := placeholders(template) - set(inputs)):
            key = "prompt" if self.prompt else "text"
            raise ValueError(
                f"model.{key}: there is no input {sorted(unknown)[0]!r}; it has {', '.join(inputs)}"
            )
        if self.prompt is None:
            _check_embedding(outputs)
        elif self.json_schema is None:
            _check_reply(outputs)
        elif isinstance(self.json_schema, dict):
            check_properties(self.json_schema, outputs)
        if self.encoding.header:
            raise ValueError("model.encoding.header: a line of names is of CSV")

    def _check_use(self) -> None:
        embedding = {"text": self.text, "dimensions": self.dimensions}
        chat = {"system": self.system, "json_schema": self.json_schema}
        wrong = embedding if self.prompt is not None else chat
        for key, value in wrong.items():
            if value is not None:
                other = (
                    "embeddings; a chat has `prompt`" if wrong is embedding else "a chat: say `prompt`, too"
                )
                raise ValueError(f"model.{key}: it is of {other}")


def check_properties(schema: Mapping[str, Any], outputs: Mapping[str, str]) -> None:
    """That answers of a schema have a property for each output, or that the only output takes them whole.

    Raises:
        ValueError: they have not.
    """
    if takes_whole(outputs):
        return
    properties = schema.get("properties")
    missing = [name for name in outputs if not isinstance(properties, dict) or name not in properties]
    if missing:
        raise ValueError(f"model.json_schema: it has no property {missing[0]!r}, which is an output")


def takes_whole(outputs: Mapping[str, str]) -> bool:
    """Whether the only output is a JSON column."""
    return len(outputs) == 1 and all(map(_JSON.match, outputs.values()))


def takes_numbers(sql_type: str) -> bool:
    """Whether a column of that type takes an embedding as a list of numbers; others take its text."""
    return bool(_NUMBERS.match(sql_type) or _JSON.match(sql_type))


def _check_embedding(outputs: Mapping[str, str]) -> None:
    if len(outputs) != 1:
        raise ValueError(
            f"model.openai: an embedding is one answer and {len(outputs)} outputs are configured"
        )
    ((name, kind),) = outputs.items()
    if not (takes_numbers(kind) or _TEXTS.match(kind)):
        raise ValueError(
            f"outputs.{name}: an embedding goes into vector(n), real[], double precision[], json or text, "
            f"not {kind}; for a chat say `prompt`"
        )


def _check_reply(outputs: Mapping[str, str]) -> None:
    if len(outputs) != 1:
        raise ValueError(
            f"model.json_schema: {len(outputs)} outputs are taken from an answer by their names; describe it"
        )
