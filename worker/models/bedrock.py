"""A foundation model of Amazon Bedrock: one InvokeModel or Converse a call; no retries, no conversions.

Most models take one row a request, so `concurrency` stands in for batches; Cohere's embeddings take 96. Tokens are
estimated before a call, from what earlier calls were charged for each byte, and the longest answer is added: so does
Bedrock when it counts them against its quotas.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from worker.errors import FailureClass, RowFaultError
from worker.kinds.bedrock import BedrockModel
from worker.kinds.sagemaker import paths_of
from worker.models import jsonformat
from worker.models.aws import AwsClient
from worker.models.awserrors import one_line
from worker.models.protocol import Answer, Batch, Model, RowFailure, Weight, check_size
from worker.models.shapes import Outputs
from worker.models.wires import along
from worker.templates import Template

_TOKENS_A_BYTE = 0.25  # of English, until a first call has said
_SAMPLE = '"rowscore asks whether this model answers."'  # as JSON
_SAMPLE_TOKENS = 8
_WHOLE = ("end_turn", "stop_sequence")  # why a text ends that is not cut short
_STOPPED = {
    "max_tokens": "the answer was cut off at max_tokens",
    "model_context_window_exceeded": "the answer was cut off: the model holds no longer texts",
    "guardrail_intervened": "a guardrail intervened",
    "content_filtered": "the answer was filtered",
    "tool_use": "the model asks for a tool",
}


class BedrockInvocation(Model):
    """A model that is asked by InvokeModel, in its family's way or in the section's.

    Args:
        settings: the section.
        inputs: the inputs' names, in order.
        outputs: the outputs' SQL types by name, in order.
        concurrency: the most requests in flight at once.
        where: the section's name in messages.
    """

    def __init__(
        self,
        settings: BedrockModel,
        inputs: Sequence[str],
        outputs: Mapping[str, str],
        *,
        concurrency: int,
        where: str = "model",
    ) -> None:
        self._settings = settings
        asked = settings.asked_with(inputs)
        self._many = asked.is_of_many_rows
        self._template = Template(json.loads(asked.request or ""), repeated=self._many)
        self._paths = paths_of(asked.answer, outputs)
        self._outputs = Outputs(outputs)
        self._empty: Answer = (None,) * len(outputs)
        self._tokens = Tokens()
        usual = settings.usual
        self.most_rows = usual.most_rows if usual is not None and self._many else None if self._many else 1
        self._client = _client(settings, concurrency, where)

    def weigh(self, batch: Batch) -> Weight:
        """One request for the rows that have a text, and its tokens as far as they can be told."""
        filled = _filled(batch, self._template)
        return Weight(int(bool(filled)), len(filled), self._tokens.estimate(len(self._body(batch, filled))))

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """Send the rows that have a text; the others' answers are NULL."""
        filled = _filled(batch, self._template)
        if not filled:
            return [self._empty] * len(batch)
        body = self._body(batch, filled)
        check_size(len(body), self._settings.max_bytes, len(filled))
        answers = dict(zip(filled, self._ask(body, len(filled)), strict=True))
        return [answers.get(place, self._empty) for place in range(len(batch))]

    def check(self) -> str:
        """Send one request with the same text for every input."""
        started = time.perf_counter()
        body = self._template.filled({name: [_SAMPLE] for name in self._template.names}, 1).encode()
        said = _said(lambda: self._invoke(body))
        return f"{self._client.who} {said}, in {(time.perf_counter() - started) * 1000:.0f} ms"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _body(self, batch: Batch, places: Sequence[int]) -> bytes:
        if not places:
            return b""
        rows = Batch(batch.names, [batch.rows[place] for place in places])
        columns = jsonformat.named_columns(rows, self._template.names, self._settings.encoding)
        return jsonformat.encoded(self._template.filled(columns, len(rows)))

    def _ask(self, body: bytes, rows: int) -> list[Answer]:
        content = self._invoke(body)
        try:
            document = jsonformat.parse(content, exact=self._outputs.exact)
            columns = [along(document, path, rows) for path in self._paths]
        except RowFaultError as error:
            said = one_line(content[:1000].decode(errors="replace"))
            raise RowFaultError(f"{self._client.who}: {error}: {said}") from None
        if len(columns) == 1:
            return [self._outputs.of_values([value]) for value in columns[0]]
        return [self._outputs.of_values(values) for values in zip(*columns, strict=True)]

    def _invoke(self, body: bytes) -> bytes:
        answer, content = self._client.invoke(
            "invoke_model",
            "body",
            modelId=self._settings.bedrock,
            body=body,
            contentType="application/json",
            accept="application/json",
        )
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self._tokens.learn(len(body), headers.get("x-amzn-bedrock-input-token-count"))
        return content


class BedrockConversation(Model):
    """A model that is told a prompt by Converse, and answers a text.

    Args:
        settings: the section, with a `prompt`.
        concurrency: the most requests in flight at once.
        where: the section's name in messages.
    """

    most_rows = 1

    def __init__(self, settings: BedrockModel, *, concurrency: int, where: str = "model") -> None:
        self._settings = settings
        self._prompt = Template(settings.prompt)
        limits = {"maxTokens": settings.max_tokens, "temperature": settings.temperature}
        self._limits = {key: value for key, value in limits.items() if value is not None}
        self._tokens = Tokens()
        self._client = _client(settings, concurrency, where)

    def weigh(self, batch: Batch) -> Weight:
        """A request for each row that has a text; its tokens and those of the longest answer."""
        filled = _filled(batch, self._prompt)
        system = len((self._settings.system or "").encode())
        tokens = [self._tokens.estimate(len(self._text(batch, place).encode()) + system) for place in filled]
        return Weight(len(filled), len(filled), sum(tokens) + len(filled) * (self._settings.max_tokens or 0))

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """Tell the model about each row; one whose inputs are NULL or blank is answered with NULL."""
        filled = set(_filled(batch, self._prompt))
        return [
            self._answer(self._text(batch, place)) if place in filled else (None,)
            for place in range(len(batch))
        ]

    def check(self) -> str:
        """Have the model say a few words."""
        started = time.perf_counter()
        limits = {
            **self._limits,
            "maxTokens": min(self._settings.max_tokens or _SAMPLE_TOKENS, _SAMPLE_TOKENS),
        }
        said = _said(lambda: self._converse(json.loads(_SAMPLE), limits))
        return f"{self._client.who} {said}, in {(time.perf_counter() - started) * 1000:.0f} ms"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _text(self, batch: Batch, place: int) -> str:
        row = Batch(batch.names, [batch.rows[place]])
        columns = jsonformat.named_columns(row, self._prompt.names, self._settings.encoding)
        return str(json.loads(self._prompt.filled(columns, 1)))

    def _answer(self, text: str) -> Answer | RowFailure:
        size = len(jsonformat.encoded(text))
        check_size(size, self._settings.max_bytes, 1)
        answer = self._converse(text, self._limits)
        self._tokens.learn(
            size + len((self._settings.system or "").encode()), (answer.get("usage") or {}).get("inputTokens")
        )
        reason, message = answer.get("stopReason"), (answer.get("output") or {}).get("message")
        if not reason or message is None:
            raise RowFaultError(f"{self._client.who} answered what is no message: {one_line(answer)}")
        if reason not in _WHOLE:
            why = _STOPPED.get(str(reason), f"it stopped because of {reason}")
            return RowFailure(FailureClass.ROW_PERMANENT, f"{self._client.who}: {why}")
        parts = [part["text"] for part in message.get("content", []) if "text" in part]
        if not parts:
            raise RowFaultError(f"{self._client.who} answered no text: {one_line(message)}")
        return ("".join(parts),)

    def _converse(self, text: str, limits: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": text}]}]}
        if self._settings.system is not None:
            told["system"] = [{"text": self._settings.system}]
        if limits:
            told["inferenceConfig"] = dict(limits)
        return self._client.call("converse", modelId=self._settings.bedrock, **told)


class Tokens:
    """How many tokens a byte of a request costs, learned from what was charged; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._charged = 0

    def estimate(self, size: int) -> int:
        """The tokens of a request of so many bytes, rounded up."""
        with self._lock:
            rate = self._charged / self._bytes if self._charged else _TOKENS_A_BYTE
        return math.ceil(size * rate)

    def learn(self, size: int, charged: Any) -> None:
        """What a request of so many bytes was charged, if the service said so."""
        if not str(charged).isdecimal():
            return
        with self._lock:
            self._bytes += size
            self._charged += int(charged)


def _client(settings: BedrockModel, concurrency: int, where: str) -> AwsClient:
    who = f"the Bedrock model {settings.bedrock}"
    return AwsClient(settings, "bedrock-runtime", who, concurrency=concurrency, where=where)


def _filled(batch: Batch, template: Template) -> list[int]:
    """The rows in which an input that the template names is neither NULL nor blank."""
    places = [place for place, name in enumerate(batch.names) if name in template.names]
    return [
        number
        for number, row in enumerate(batch.rows)
        if any(
            not (row[place] is None or (isinstance(row[place], str) and not row[place].strip()))
            for place in places
        )
    ]


def _said(ask: Any) -> str:
    try:
        ask()
    except RowFaultError as error:
        return f"is there, and refuses a sample text ({error})"
    return "answered"
