"""A strict stand-in for model servers on a bare socket: it takes requests to the letter, and answers bytes.

A row is an `n`, and its right answer n / 4: a number, or for embeddings the list of it and 1.
"""

from __future__ import annotations

import base64
import json
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PROTOCOLS = ("csv", "json", "instances", "jsonlines", "torchserve", "v2", "template", "embeddings", "chat")
JSON = "application/json"
KINDS = {"csv": "text/csv", "jsonlines": "application/jsonlines"}
SCHEMA = {
    "type": "object",
    "properties": {"p": {"type": "number"}},
    "required": ["p"],
    "additionalProperties": False,
}
TEMPLATE = '{"task": "score", "rows": [{"key": "{n}", "text": "a={a}"}]}'


@dataclass(frozen=True)
class Asked:
    """One request, read and found to be right.

    Attributes:
        id: what an answer has to repeat, in protocols that have such a thing.
    """

    protocol: str
    path: str
    headers: dict[str, str]
    body: bytes
    numbers: list[int]
    id: str | None = None

    @property
    def kind(self) -> str:
        """The content type of a right answer."""
        return KINDS.get(self.protocol, JSON)

    @property
    def values(self) -> list[Any]:
        """The right answers."""
        if self.protocol == "embeddings":
            return [[number / 4, 1.0] for number in self.numbers]
        return [number / 4 for number in self.numbers]

    def document(self, values: list[Any]) -> Any:
        """The answer that holds these values, before it is JSON."""
        return _DOCUMENTS[self.protocol](self, values)

    def text(self, values: list[Any] | None = None) -> str:
        """The answer as text; the right one, unless values are given."""
        document = self.document(self.values if values is None else values)
        if self.protocol == "csv":
            return "".join(f"{value}\n" for value in document)
        if self.protocol == "jsonlines":
            return "".join(f"{json.dumps(value)}\n" for value in document)
        return json.dumps(document)

    def reply(self, body: str | bytes | None = None, kind: str | None = None, **options: Any) -> bytes:
        """A whole answer: the right one, or these bytes in its place."""
        content = self.text() if body is None else body
        return http(content, self.kind if kind is None else kind, **options)


def http(content: str | bytes, kind: str = JSON, status: str = "200 OK", head: str = "") -> bytes:
    """A whole answer; `head` has further lines, each with its line break."""
    body = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
        + body
    )


Behaviour = Callable[[Asked], bytes | Iterator[bytes]]
"""The bytes that answer a request; the connection is closed after them where they are not a whole answer."""


class StandIn(socketserver.ThreadingTCPServer):
    """A server; /PROTOCOL is each protocol's address, and /v1 that of OpenAI's API.

    Attributes:
        behave: answers requests.
        asked: the requests so far.
        faults: what was wrong with requests: a test fails on any.
        over: set at the end, for behaviours that wait.
    """

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behave: Behaviour = Asked.reply
        self.asked: list[Asked] = []
        self.faults: list[str] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error of the server."""


@contextmanager
def standing() -> Iterator[StandIn]:
    """A stand-in that runs while the block does; whatever calls it is to be closed within."""
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()
    assert not server.faults, server.faults


class _Handler(socketserver.StreamRequestHandler):
    server: StandIn
    disable_nagle_algorithm = True

    def handle(self) -> None:
        while asked := self._request():
            self.server.asked.append(asked)
            answer = self.server.behave(asked)
            try:
                for part in [answer] if isinstance(answer, bytes) else answer:
                    self.wfile.write(part)
            except OSError:
                return
            if not isinstance(answer, bytes) or not _is_whole(answer):
                return

    def _request(self) -> Asked | None:
        line = self.rfile.readline().decode("ascii")
        if not line:
            return None
        headers = {}
        while (text := self.rfile.readline().decode("ascii").rstrip("\r\n")) != "":
            name, _, value = text.partition(": ")
            headers[name.lower()] = value
        method, path, _ = line.split(" ")
        body = self.rfile.read(int(headers.get("content-length", "0")))
        try:
            assert method == "POST", method
            return _read(path, headers, body)
        except Exception as error:
            self.server.faults.append(f"{method} {path}: {type(error).__name__}: {error}: {body[:200]!r}")
            self.wfile.write(http(str(error), "text/plain", "418 Not as the protocol has it"))
            return None


def _is_whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    match = re.search(rb"Content-Length: (\d+)", head)
    return match is not None and int(match[1]) == len(body)


# --- requests, to the letter --------------------------------------------------------------------------------


def _read(path: str, headers: dict[str, str], body: bytes) -> Asked:
    protocol = {"/v1/embeddings": "embeddings", "/v1/chat/completions": "chat"}.get(path, path[1:])
    number = None
    if protocol == "csv":
        assert headers["content-type"] == "text/csv; charset=utf-8"
        rows = [line.split(",") for line in body.decode().removesuffix("\n").split("\n")]
        numbers = [int(n) for n, a in rows if float(a) == 0.5]
        assert len(numbers) == len(rows)
    else:
        assert headers["content-type"] == ("application/jsonlines" if protocol == "jsonlines" else JSON)
        numbers, number = _READERS[protocol](body)
    assert numbers
    return Asked(protocol, path, headers, body, numbers, number)


def _parsed(body: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def refused(constant: str) -> Any:
        raise AssertionError(constant)

    return json.loads(body, object_pairs_hook=unique, parse_constant=refused)


def _row(record: dict[str, Any]) -> int:
    assert set(record) == {"n", "a"}
    assert type(record["n"]) is int
    assert record["a"] == 0.5
    return record["n"]


def _json(body: bytes) -> tuple[list[int], None]:
    document = _parsed(body)
    split = document["dataframe_split"]
    assert (list(document), list(split)) == (["dataframe_split"], ["columns", "data"])
    return [_row(dict(zip(split["columns"], row, strict=True))) for row in split["data"]], None


def _instances(body: bytes) -> tuple[list[int], None]:
    document = _parsed(body)
    assert list(document) == ["instances"]
    return list(map(_row, document["instances"])), None


def _lines(body: bytes) -> tuple[list[int], None]:
    assert body.endswith(b"\n")
    return [_row(_parsed(line)) for line in body.splitlines()], None


def _torchserve(body: bytes) -> tuple[list[int], None]:
    return list(map(_row, _parsed(body))), None


def _v2(body: bytes) -> tuple[list[int], str]:
    document = _parsed(body)
    assert set(document) == {"id", "inputs"}
    n, a = document["inputs"]
    size = len(n["data"])
    assert n == {"name": "n", "shape": [size, 1], "datatype": "INT64", "data": n["data"]}
    assert a == {"name": "a", "shape": [size, 1], "datatype": "FP64", "data": [0.5] * size}
    return n["data"], document["id"]


def _template(body: bytes) -> tuple[list[int], None]:
    document = _parsed(body)
    assert set(document) == {"task", "rows"}
    assert document["task"] == "score"
    assert all(row == {"key": row["key"], "text": "a=0.5"} for row in document["rows"])
    return [row["key"] for row in document["rows"]], None


def _embeddings(body: bytes) -> tuple[list[int], None]:
    document = _parsed(body)
    assert set(document) == {"model", "encoding_format", "input"}
    assert document["model"] == "small"
    return [int(re.fullmatch(r"n is (\d+)", text)[1]) for text in document["input"]], None  # type: ignore[index]


def _chat(body: bytes) -> tuple[list[int], None]:
    document = _parsed(body)
    assert set(document) == {"model", "messages", "response_format", "temperature"}
    assert document["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": SCHEMA}
    system, user = document["messages"]
    assert system == {"role": "system", "content": 'Say "{n}" / 4.'}
    assert set(user) == {"role", "content"}
    return [int(re.fullmatch(r"n is (\d+)", user["content"])[1])], None  # type: ignore[index]


_READERS: dict[str, Callable[[bytes], tuple[list[int], str | None]]] = {
    "json": _json,
    "instances": _instances,
    "jsonlines": _lines,
    "torchserve": _torchserve,
    "v2": _v2,
    "template": _template,
    "embeddings": _embeddings,
    "chat": _chat,
}


# --- answers ------------------------------------------------------------------------------------------------


def packed(numbers: list[float]) -> str:
    """Numbers as OpenAI's API has them in base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _as_v2(asked: Asked, values: list[Any]) -> Any:
    output = {"name": "p", "shape": [len(values), 1], "datatype": "FP64", "data": values}
    return {"model_name": "m", "id": asked.id, "outputs": [output]}


def _as_chat(_asked: Asked, values: list[Any]) -> Any:
    message = {"role": "assistant", "content": json.dumps({"p": values[0]}), "refusal": None}
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


_DOCUMENTS: dict[str, Callable[[Asked, list[Any]], Any]] = {
    "csv": lambda _, values: values,
    "json": lambda _, values: {"predictions": values},
    "instances": lambda _, values: {"predictions": values},
    "jsonlines": lambda _, values: values,
    "torchserve": lambda _, values: values,
    "v2": _as_v2,
    "template": lambda _, values: {"out": [{"score": value, "more": [1]} for value in values]},
    "embeddings": lambda _, values: {
        "object": "list",
        "data": [{"index": index, "embedding": value} for index, value in reversed(list(enumerate(values)))],
    },
    "chat": _as_chat,
}


def sections(url: str) -> dict[str, dict[str, Any]]:
    """For each protocol a prediction on the table items_PROTOCOL, whose answers go into its p."""
    common: dict[str, Any] = {"timeout": "2s", "attempts": 1, "max_bytes": 20_000}
    openai = {**common, "url": f"{url}/v1", "api_key": "sesame-open-1234"}
    models: dict[str, dict[str, Any]] = {
        name: {"http": f"{url}/{name}", "protocol": name, **common}
        for name in ("csv", "json", "instances", "jsonlines", "torchserve", "v2")
    }
    models["template"] = {
        "http": f"{url}/template",
        "request": TEMPLATE,
        "answer": "out.*.score",
        **common,
    }
    models["embeddings"] = {**openai, "openai": "small", "text": "n is {n}"}
    models["chat"] = {
        **openai,
        "openai": "small",
        "prompt": "n is {n}",
        "system": 'Say "{n}" / 4.',
        "json_schema": SCHEMA,
        "parameters": {"temperature": 0},
    }
    return {
        name: {
            "table": f"items_{name}",
            "inputs": ["n", "a"],
            "outputs": {"p": "real[]" if name == "embeddings" else "double precision"},
            "model": model,
            "max_rows_per_batch": 12,
            "concurrency": 1,
        }
        for name, model in models.items()
    }
