"""How rows are asked about and answers are read, for each protocol of the kind http; it sends nothing.

`csv` is SageMaker's container contract, `json` that of MLflow's scoring server (dataframe_split), `instances` that of
TensorFlow Serving and Vertex AI, `jsonlines` one object a line, `torchserve` a list of objects; a template says the
rest.
The Open Inference Protocol has a module of its own, `worker.models.tensors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import httpx

from worker.errors import RowFaultError
from worker.kinds.encoding import Encoding
from worker.kinds.http import HttpModel
from worker.models import csvformat, jsonformat
from worker.models.client import Reply
from worker.models.protocol import Answer, Batch
from worker.models.shapes import Outputs, counted
from worker.models.tensors import Tensors
from worker.templates import EACH, Template, follow

Question = tuple[bytes, Callable[[Reply], list[Answer]]]
"""A request's body, and what reads its answer."""

_quoted = json.encoder.encode_basestring

NAMELESS = frozenset({"", "text/plain", "application/octet-stream"})
CSV = NAMELESS | {"text/csv", "application/csv"}
JSON = NAMELESS | {"application/json"}
LINES = JSON | {
    "application/jsonlines",
    "application/jsonl",
    "application/x-ndjson",
    "application/json-lines",
}


class Wire(Protocol):
    """One protocol.

    Attributes:
        content_type: of requests.
        accept: the content type that is asked for.
        taken: the content types that answers may have.
        most_rows: the most rows of one request; None: as many as are configured.
    """

    content_type: str
    accept: str
    taken: frozenset[str]
    most_rows: int | None = None

    def ask(self, batch: Batch) -> Question:
        """How to ask about these rows.

        Raises:
            RowFaultError: a value has no place in a request; nothing is sent.
        """

    def health(self, url: httpx.URL) -> httpx.URL:
        """Where the server says whether it is well: GET /ping beside the address, unless the protocol has another."""
        return url.copy_with(path=url.path.removesuffix("/").rpartition("/")[0] + "/ping", query=None)


def wire_of(settings: HttpModel, types: Mapping[str, str]) -> Wire:
    """The protocol of a section; `types` are the outputs' SQL types by name."""
    outputs = Outputs(types)
    if settings.request is not None:
        return _Templated(settings, outputs)
    if settings.protocol == "v2":
        return _Inference(settings, outputs)
    if settings.protocol == "csv":
        return _Csv(settings.encoding)
    return _OBJECTS[settings.protocol](settings, outputs)


class _Csv(Wire):
    content_type = csvformat.CONTENT_TYPE
    accept = "text/csv"
    taken = CSV

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    def ask(self, batch: Batch) -> Question:
        def read(reply: Reply) -> list[Answer]:
            return list(csvformat.decode(reply.content, len(batch), reply.charset))

        return csvformat.encode(batch, self._encoding), read


class _Json(Wire):
    """What all JSON protocols share: the way to the answers in a parsed reply."""

    content_type = jsonformat.CONTENT_TYPE
    accept = "application/json"
    taken = JSON
    usual: tuple[str, ...] = ("predictions",)  # where the answers are, unless `answer` says otherwise

    def __init__(self, settings: HttpModel, outputs: Outputs) -> None:
        self._encoding = settings.encoding
        self._outputs = outputs
        answer = settings.answer
        self._paths: list[str] = (
            [answer]
            if isinstance(answer, str)
            else [answer[name] for name in outputs.names]
            if answer
            else []
        )

    def ask(self, batch: Batch) -> Question:
        def read(reply: Reply) -> list[Answer]:
            return self._answers(self._document(reply), len(batch))

        return jsonformat.encoded(self._body(batch)), read

    def _body(self, batch: Batch) -> str:
        raise NotImplementedError

    def _columns(self, batch: Batch) -> list[list[str]]:
        return jsonformat.columns(batch, self._encoding)

    def _document(self, reply: Reply) -> Any:
        return jsonformat.parse(reply.content, reply.charset, exact=self._outputs.exact)

    def _answers(self, document: Any, rows: int) -> list[Answer]:
        if not self._paths:
            found = _found(document, self.usual)
            return self._outputs.of_rows(found, rows, ".".join(self.usual) or "the answer")
        columns = [along(document, path, rows) for path in self._paths]
        if len(columns) == 1:
            return [self._outputs.of_item(item) for item in columns[0]]
        return [self._outputs.of_values(values) for values in zip(*columns, strict=True)]


class _Split(_Json):
    """MLflow 2 and 3: {"dataframe_split": {"columns": [...], "data": [[...]]}}, answered by {"predictions": [...]}."""

    def _body(self, batch: Batch) -> str:
        rows = "],[".join(map(",".join, zip(*self._columns(batch), strict=True)))
        names = json.dumps(batch.names, ensure_ascii=False)
        return f'{{"dataframe_split":{{"columns":{names},"data":[[{rows}]]}}}}'


class _Instances(_Json):
    """TensorFlow Serving, Vertex AI: {"instances": [{...}]}, answered by {"predictions": [...]}."""

    def _body(self, batch: Batch) -> str:
        return f'{{"instances":[{",".join(self._objects(batch))}]}}'

    def _objects(self, batch: Batch) -> list[str]:
        heads = [f"{_quoted(name)}:" for name in batch.names]
        columns = zip(heads, self._columns(batch), strict=True)
        pairs = [[head + value for value in values] for head, values in columns]
        return [f"{{{','.join(row)}}}" for row in zip(*pairs, strict=True)]

    def health(self, url: httpx.URL) -> httpx.URL:
        """The model's own state: the address without its verb (`/v1/models/churn:predict`)."""
        path, verb, _ = url.path.rpartition(":")
        return url.copy_with(path=path, query=None) if verb else super().health(url)


class _TorchServe(_Instances):
    """A list of objects, answered by a list."""

    usual = ()

    def _body(self, batch: Batch) -> str:
        return f"[{','.join(self._objects(batch))}]"

    def health(self, url: httpx.URL) -> httpx.URL:
        """TorchServe has one for the whole server."""
        return url.copy_with(path="/ping", query=None)


class _Lines(_Instances):
    """An object a line, answered by a value a line."""

    content_type = "application/jsonlines"
    accept = "application/jsonlines"
    taken = LINES
    usual = ()

    def _body(self, batch: Batch) -> str:
        return "\n".join(self._objects(batch)) + "\n"

    def _document(self, reply: Reply) -> Any:
        lines = reply.content.split(b"\n")
        return [
            jsonformat.parse(line, reply.charset, exact=self._outputs.exact) for line in lines if line.strip()
        ]

    def health(self, url: httpx.URL) -> httpx.URL:
        """Beside the address."""
        return Wire.health(self, url)


class _Templated(_Json):
    """As the section's `request` and `answer` have it."""

    def __init__(self, settings: HttpModel, outputs: Outputs) -> None:
        super().__init__(settings, outputs)
        self._template = Template(json.loads(settings.request or ""), repeated=settings.is_of_many_rows)
        self.most_rows = None if settings.is_of_many_rows else 1

    def _body(self, batch: Batch) -> str:
        columns = jsonformat.named_columns(batch, self._template.names, self._encoding)
        return self._template.filled(columns, len(batch))


class _Inference(Wire):
    content_type = jsonformat.CONTENT_TYPE
    accept = "application/json"
    taken = JSON

    def __init__(self, settings: HttpModel, outputs: Outputs) -> None:
        self._tensors = Tensors(settings, outputs)

    def ask(self, batch: Batch) -> Question:
        return self._tensors.ask(batch)

    def health(self, url: httpx.URL) -> httpx.URL:
        """The model's own: /v2/models/churn/ready."""
        return url.copy_with(path=url.path.removesuffix("/").removesuffix("/infer") + "/ready", query=None)


_OBJECTS: dict[str, type[_Json]] = {
    "json": _Split,
    "instances": _Instances,
    "torchserve": _TorchServe,
    "jsonlines": _Lines,
}


def along(document: Any, path: str, rows: int) -> list[Any]:
    """Each row's value at the end of a path, whose * leads to the list of rows."""
    steps = path.split(".")
    if EACH not in steps:
        return [_found(document, steps)]
    place = steps.index(EACH)
    items = counted(_found(document, steps[:place]), rows, ".".join(steps[:place]) or "the answer")
    rest = steps[place + 1 :]
    return [_found(item, rest) for item in items] if rest else items


def _found(document: Any, steps: Sequence[str]) -> Any:
    try:
        return follow(document, steps)
    except LookupError:
        has = (
            f"it has {', '.join(map(repr, list(document)[:5]))}"
            if isinstance(document, dict)
            else "it is no object"
        )
        raise RowFaultError(f"the answer has no {'.'.join(steps)}: {has[:200]}") from None
