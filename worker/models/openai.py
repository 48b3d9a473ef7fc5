"""Embeddings and chats of OpenAI's API, at OpenAI or at any server that speaks it; it repeats and converts nothing.

It is called through `worker.models.client` and not through OpenAI's own package, which repeats calls by itself, follows
redirects, and would add a second HTTP client.

A row whose text is NULL or blank is answered with NULLs and not sent: the API takes no empty text.

Source: OpenAI's API reference (embeddings: at most 2,048 texts and 300,000 tokens a request), and its guides to rate
limits and structured outputs.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx
import numpy as np

from worker.errors import (
    FailureClass,
    PayloadTooLargeError,
    RowFaultError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.kinds.openai import OpenAIModel, takes_numbers
from worker.models import jsonformat
from worker.models.client import AnswerTooLongError, Client, Reply
from worker.models.protocol import Answer, Batch, Model, RowFailure, Weight, check_size
from worker.models.schema import AnswerSchema
from worker.models.statuses import described, refuse, retry_after
from worker.secret import resolve_secret
from worker.templates import Template, quoted

_MOST_TEXTS = 2048
_MOST_TOKENS = 300_000
_TOKEN_BYTES = 4  # OpenAI's rule of thumb for English
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_TOO_LARGE = {"max_tokens_per_request"}
_NO_MODELS = (404, 405, 501)
_LONGEST_SHOWN = 120


def open_openai(
    settings: OpenAIModel,
    outputs: Mapping[str, str],
    *,
    concurrency: int,
    folder: Path = Path(),
    where: str = "model",
) -> Model:
    """The model that an `openai` section describes.

    Args:
        settings: the section; `$NAME` and `file:` in its address, key and headers are resolved here.
        outputs: the outputs' SQL types by name, in order.
        concurrency: the most requests in flight at once.
        folder: where relative paths begin.
        where: the section's name in messages.

    Raises:
        ConfigurationError: it cannot be called as configured.
    """
    kind = _Embeddings if settings.prompt is None else _Chat
    return kind(settings, outputs, concurrency=concurrency, folder=folder, where=where)


class _Service(Model):
    """What embeddings and chats share: the text of a row, the calls, and what their failures mean."""

    path: str

    def __init__(
        self, settings: OpenAIModel, outputs: Mapping[str, str], *, concurrency: int, folder: Path, where: str
    ) -> None:
        key = resolve_secret(settings.api_key, f"{where}.api_key")
        self._settings = settings
        self._nulls = (None,) * len(outputs)
        text = settings.prompt or settings.text
        self._template = Template(text) if text is not None else None
        self._client = Client(
            _beneath(resolve_secret(settings.url, f"{where}.url"), self.path),
            settings,
            headers={**({"Authorization": f"Bearer {key}"} if key else {}), **settings.headers},
            accept=jsonformat.CONTENT_TYPE,
            ca=None if settings.ca is None else folder / settings.ca,
            concurrency=concurrency,
            where=where,
            key="url",
        )

    def weigh(self, batch: Batch) -> Weight:
        """One request, unless every text is blank; tokens at four bytes each."""
        _, texts = self._texts(batch)
        return Weight(1, len(texts), sum(map(_tokens, texts))) if texts else Weight(0, 0)

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """One request for the rows that have a text; NULLs for the others."""
        places, texts = self._texts(batch)
        answers: list[Answer | RowFailure] = [self._nulls] * len(batch)
        if places:
            for place, answer in zip(places, self._ask(texts), strict=True):
                answers[place] = answer
        return answers

    def check(self) -> str:
        """GET what the API says of the model, and say what answered."""
        url = self._client.url
        models = f"{url.path.removesuffix(self.path)}/models/{self._settings.openai}"
        asked = url.copy_with(path=models)
        name = str(asked.copy_with(query=None))
        started = time.perf_counter()
        reply = self._client.get(asked)
        milliseconds = (time.perf_counter() - started) * 1000
        if reply.succeeded:
            return f"{name} answered {reply.status} in {milliseconds:.0f} ms"
        if reply.status in _NO_MODELS and _code(reply) != "model_not_found":
            return f"{name} gave status {reply.status}: a server answers there, but the model itself was not tried"
        if reply.status >= 500:
            raise ServiceUnavailableError(described(self._client, reply, name))
        self._refuse(reply)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, texts: Sequence[str]) -> Sequence[Answer | RowFailure]:
        """An answer to each text, which is JSON text."""
        raise NotImplementedError

    def _texts(self, batch: Batch) -> tuple[list[int], list[str]]:
        """The rows that have a text, and their texts as JSON has them."""
        names = batch.names if self._template is None else tuple(self._template.names)
        columns = [batch.names.index(name) for name in names]
        rows = [tuple(row[column] for column in columns) for row in batch.rows]
        places = [place for place, row in enumerate(rows) if not all(map(_is_blank, row))]
        told = Batch(names, [rows[place] for place in places])
        values = dict(zip(names, jsonformat.columns(told, self._settings.encoding), strict=True))
        texts = values[names[0]] if self._template is None else self._template.each(values, len(told))
        return places, list(map(quoted, texts))

    def _post(self, body: str, rows: int) -> Reply:
        content = jsonformat.encoded(body)
        check_size(len(content), self._settings.max_bytes, rows)
        reply = self._client.post(content, jsonformat.CONTENT_TYPE)
        if not reply.succeeded:
            self._refuse(reply)
        if reply.kind not in ("", "application/json"):
            said = self._client.line(reply.content)
            raise RowFaultError(
                f"{self._client.name} answered {reply.kind} where application/json belongs: {said}"
            )
        return reply

    def _parsed(self, reply: Reply, read: Callable[[Any], Sequence[Answer | RowFailure]]) -> Any:
        """What `read` makes of the parsed answer; its errors say where they come from."""
        try:
            return read(jsonformat.parse(reply.content, reply.charset))
        except RowFaultError as error:
            line = self._client.line(reply.content)
            raise RowFaultError(f"{self._client.name}: {error}: {line}") from None

    def _refuse(self, reply: Reply) -> NoReturn:
        """Raise what a status stands for, where OpenAI's code says more than HTTP does."""
        code = _code(reply)
        message = described(self._client, reply)
        if code in _NO_CREDIT:
            raise ServiceRefusedError(message)
        if code in _TOO_LARGE:
            raise PayloadTooLargeError(message)
        if reply.status == 429:
            raise ThrottledError(message, retry_after=_wait(reply.headers))
        refuse(self._client, reply)


class _Embeddings(_Service):
    """POST /embeddings: many texts, a list of numbers for each."""

    path = "/embeddings"
    most_rows = _MOST_TEXTS

    def __init__(
        self, settings: OpenAIModel, outputs: Mapping[str, str], *, concurrency: int, folder: Path, where: str
    ) -> None:
        super().__init__(settings, outputs, concurrency=concurrency, folder=folder, where=where)
        self._as_text = not takes_numbers(next(iter(outputs.values())))
        fixed = {"model": settings.openai, "encoding_format": settings.encoding_format}
        if settings.dimensions is not None:
            fixed["dimensions"] = settings.dimensions  # type: ignore[assignment]
        self._fixed = _dumped({**fixed, **settings.parameters})

    def _ask(self, texts: Sequence[str]) -> Sequence[Answer | RowFailure]:
        tokens = sum(map(_tokens, texts))
        if tokens > _MOST_TOKENS and len(texts) > 1:
            raise PayloadTooLargeError(
                f"{len(texts)} texts are about {tokens} tokens, and a request takes {_MOST_TOKENS}",
                sent=False,
            )
        try:
            reply = self._post(f'{self._fixed[:-1]},"input":[{",".join(texts)}]}}', len(texts))
        except AnswerTooLongError as error:
            if len(texts) == 1:
                raise
            raise PayloadTooLargeError(str(error)) from None
        answers: list[Answer] = self._parsed(reply, lambda value: self._read(value, len(texts)))
        return answers

    def _read(self, value: Any, expected: int) -> list[Answer]:
        items = value.get("data") if isinstance(value, dict) else None
        if not isinstance(items, list):
            raise RowFaultError("the answer has no list named data")
        if len(items) != expected:
            raise RowFaultError(f"the answer has {len(items)} embeddings where {expected} texts were sent")
        found: dict[int, list[Any]] = {}
        for item in items:
            index = item.get("index") if isinstance(item, dict) else None
            if type(index) is not int or not 0 <= index < expected or index in found:
                raise RowFaultError(f"an embedding's index is {str(index)[:40]}, which no text has left")
            found[index] = _numbers(item.get("embedding"))
        self._check_sizes(found)
        return [(self._written(found[index]),) for index in range(expected)]

    def _check_sizes(self, found: Mapping[int, list[Any]]) -> None:
        sizes = set(map(len, found.values()))
        asked = self._settings.dimensions
        if len(sizes) != 1 or 0 in sizes or (asked is not None and sizes != {asked}):
            shown = " and ".join(map(str, sorted(sizes)[:2]))
            raise RowFaultError(f"the embeddings have {shown} numbers where {asked or 'as many each'} belong")

    def _written(self, numbers: list[Any]) -> Any:
        if not self._as_text:
            return numbers
        try:
            return json.dumps(numbers, separators=(",", ":"), allow_nan=False)
        except ValueError:  # as it is: it is refused as no text
            return numbers


class _Chat(_Service):
    """POST /chat/completions: one message a request, and one choice in the reply."""

    path = "/chat/completions"
    most_rows = 1

    def __init__(
        self, settings: OpenAIModel, outputs: Mapping[str, str], *, concurrency: int, folder: Path, where: str
    ) -> None:
        super().__init__(settings, outputs, concurrency=concurrency, folder=folder, where=where)
        self._schema: AnswerSchema | None = None
        fixed: dict[str, Any] = {"model": settings.openai, **settings.parameters}
        if settings.json_schema is not None:
            self._schema = AnswerSchema(settings.json_schema, outputs, folder, f"{where}.json_schema")
            fixed["response_format"] = self._schema.response_format
        self._fixed = _dumped(fixed)
        system = settings.system
        self._before = "" if system is None else _dumped({"role": "system", "content": system}) + ","
        self._answer_tokens = next(
            (
                settings.parameters[key]
                for key in ("max_completion_tokens", "max_tokens")
                if isinstance(settings.parameters.get(key), int)
            ),
            0,
        )

    def weigh(self, batch: Batch) -> Weight:
        """One request a row that has a text; the answer's tokens count as far as they are limited."""
        weight = super().weigh(batch)
        more = (_tokens(self._before) + self._answer_tokens) * weight.rows
        return Weight(weight.rows, weight.rows, weight.tokens + more)

    def _ask(self, texts: Sequence[str]) -> Sequence[Answer | RowFailure]:
        return [self._reply_to(text) for text in texts]

    def _reply_to(self, text: str) -> Answer | RowFailure:
        messages = f'{self._before}{{"role":"user","content":{text}}}'
        reply = self._post(f'{self._fixed[:-1]},"messages":[{messages}]}}', 1)
        (answer,) = self._parsed(reply, lambda value: [self._read(value)])
        return answer  # type: ignore[no-any-return]

    def _read(self, value: Any) -> Answer | RowFailure:
        choices = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(choices, list):
            raise RowFaultError("the answer has no list named choices")
        if not choices:
            return RowFailure(FailureClass.ROW_TEMPORARY, "the model answered with no choice")
        choice = choices[0] if isinstance(choices[0], dict) else {}
        message = choice.get("message")
        if not isinstance(message, dict):
            raise RowFaultError("the answer's choice has no message")
        if failure := self._failure(choice, message):
            return RowFailure(FailureClass.ROW_PERMANENT, failure)
        content = message.get("content")
        if not isinstance(content, str):
            raise RowFaultError("the answer's message has no text as its content")
        return (content,) if self._schema is None else self._schema.answer(content)

    def _failure(self, choice: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
        """Why the model gave no whole answer to this row, if it did not."""
        if message.get("refusal"):
            return f"the model refused: {self._client.line(str(message['refusal']))}"
        if choice.get("finish_reason") == "content_filter":
            return "the model's answer was kept back by a content filter"
        if choice.get("finish_reason") == "length":
            said = self._client.line(str(message.get("content") or ""))[:_LONGEST_SHOWN]
            return f"the model's answer was cut short at the most tokens that it may have: {said}"
        return None


def _beneath(address: str, path: str) -> str:
    """An address of the API's, its query kept."""
    base, mark, query = address.partition("?")
    return f"{base.rstrip('/')}{path}{mark}{query}"


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _tokens(text: str) -> int:
    return -(-len(text.encode(errors="replace")) // _TOKEN_BYTES)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _numbers(value: Any) -> list[Any]:
    """An embedding's numbers: a list, or in base64 floats of four bytes, the lowest byte first."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise RowFaultError("an embedding is neither a list nor base64")
    try:
        content = binascii.a2b_base64(value, strict_mode=True)
        numbers: list[Any] = np.frombuffer(content, "<f4").tolist()
    except (binascii.Error, ValueError):
        raise RowFaultError("an embedding is not base64 of floats") from None
    return numbers


def _code(reply: Reply) -> str | None:
    """What OpenAI calls an error: its code, or its type where it has none."""
    try:
        error = json.loads(reply.content)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return code if isinstance(code, str) else None


def _wait(headers: httpx.Headers) -> float | None:
    """Seconds until the next call: as asked for, or until a limit that is used up is whole again."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    asked = retry_after(headers)
    if asked is not None:
        return asked
    resets = {unit: _seconds(headers.get(f"x-ratelimit-reset-{unit}", "")) for unit in ("requests", "tokens")}
    used = [unit for unit in resets if headers.get(f"x-ratelimit-remaining-{unit}", "").strip() == "0"]
    waits = [seconds for unit in used or resets if (seconds := resets[unit]) is not None]
    return max(waits, default=None)


def _seconds(text: str) -> float | None:
    """`6m0s`, `1.5s`, `20ms` as seconds."""
    parts = _SPAN.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
