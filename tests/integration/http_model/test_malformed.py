"""Answers that are none, in every protocol: each ends in its class of failure, and no wrong value is written."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from tests.support.standin import (
    PROTOCOLS,
    Asked,
    Behaviour,
    StandIn,
    http,
    packed,
    sections,
    standing,
)
from worker.apply import apply
from worker.config import parse_configuration
from worker.demo.servers import PostgresServer
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.states import RowState

ROWS = 12
BAD = 7
"""The row whose requests are answered badly."""

ROW, REJECTED = "row-temporary", "row-permanent"
DOWN, REFUSED, THROTTLED = "service-temporary", "service-permanent", "throttled"
MANY = tuple(name for name in PROTOCOLS if name != "chat")  # several rows a request
AS_JSON = tuple(name for name in PROTOCOLS if name not in ("csv", "jsonlines"))
LISTED = ("csv", "json", "instances", "jsonlines", "torchserve", "template")
OBJECTS = tuple(name for name in AS_JSON if name != "torchserve")
ONE_NUMBER = tuple(name for name in PROTOCOLS if name != "embeddings")
ONE_OF_EACH = ("csv", "json", "v2", "chat")
"""Where what is wrong lies below the protocol."""


@dataclass(frozen=True)
class Case:
    """An answer that is none.

    Attributes:
        one: the class of the row, where the requests with it alone are answered so.
        all: the class of the service, where all are.
        words: of the message that is on record.
    """

    id: str
    protocols: tuple[str, ...]
    behave: Behaviour
    one: str = ROW
    all: str = DOWN
    words: str = ""
    behave_always: Behaviour | None = None

    def __str__(self) -> str:
        return self.id


def text(change: Callable[[Asked], str | bytes], **options: Any) -> Behaviour:
    """A whole answer with that body."""
    return lambda asked: asked.reply(change(asked), **options)


def each(bad: Any) -> Behaviour:
    """The same answer for each row."""
    return lambda asked: asked.reply(asked.text([bad] * len(asked.numbers)))


def document(change: Callable[[Any], Any]) -> Behaviour:
    """The right answer, changed before it is written."""

    def behave(asked: Asked) -> bytes:
        found = asked.document(asked.values)
        change(found)
        return asked.reply(json.dumps(found))

    return behave


def raw(content: bytes) -> Behaviour:
    """Bytes, and the connection closed."""
    return lambda _asked: iter([content])


def cut(asked: Asked, left: int) -> Iterator[bytes]:
    """The beginning of a right answer."""
    yield asked.reply()[:-left]


def chunked(asked: Asked, tail: bytes) -> Iterator[bytes]:
    yield f"HTTP/1.1 200 OK\r\nContent-Type: {asked.kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    half = asked.text().encode()[:4]
    yield f"{len(half):x}\r\n".encode() + half + b"\r\n" + tail


def wrong(id: str, protocols: tuple[str, ...], bad: Any, words: str) -> Case:
    """An answer that fits its protocol and not its column; where no answer fits, the section is at fault."""

    def behave(asked: Asked) -> bytes:
        right = [
            bad if number == BAD else value for number, value in zip(asked.numbers, asked.values, strict=True)
        ]
        return asked.reply(asked.text(right))

    def behave_always(asked: Asked) -> bytes:
        return asked.reply(asked.text([bad] * len(asked.numbers)))

    return Case(id, protocols, behave, REJECTED, REFUSED, words, behave_always)


def last_choice(changes: dict[str, Any]) -> Behaviour:
    """A chat's choice with other members."""
    return document(lambda found: found["choices"][0].update(changes))


def message(changes: dict[str, Any]) -> Behaviour:
    """A chat's message with other members."""
    return document(lambda found: found["choices"][0]["message"].update(changes))


def tensor(changes: dict[str, Any]) -> Behaviour:
    """The output tensor with other members."""
    return document(lambda found: found["outputs"][0].update(changes))


def _two_others(found: Any) -> None:
    """A tensor of another name is taken where it is the only one."""
    (output,) = found["outputs"]
    found["outputs"] = [{**output, "name": "q"}, {**output, "name": "r"}]


EVERY_NAME = '{"predictions": [], "outputs": [], "out": [], "data": [], "choices": []'
HTML = "<!doctype html>\n<title>Maintenance</title>\n" + "<br>\n" * 20
BOMB = gzip.compress(b"0" * 10_000_000)
GZIP = "Content-Encoding: gzip\r\n"

CASES = [
    # --- below the protocol ---
    Case("closed before an answer", ONE_OF_EACH, raw(b""), words="127.0.0.1"),
    Case("closed in the status line", ONE_OF_EACH, raw(b"HTTP/1."), words="127.0.0.1"),
    Case("closed in the headers", ONE_OF_EACH, raw(b"HTTP/1.1 200 OK\r\nConte"), words="127.0.0.1"),
    Case("closed in the body", PROTOCOLS, lambda asked: cut(asked, 2), words="127.0.0.1"),
    Case("no status line", ONE_OF_EACH, raw(b"SSH-2.0-OpenSSH_9.6\r\n"), words="127.0.0.1"),
    Case("a status that is no number", ONE_OF_EACH, raw(b"HTTP/1.1 OK fine\r\n\r\n"), words="127.0.0.1"),
    Case("100 Continue and no more", ONE_OF_EACH, raw(b"HTTP/1.1 100 Continue\r\n\r\n"), words="127.0.0.1"),
    Case("a length that is no number", ONE_OF_EACH, raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")),
    Case("chunks cut short", ONE_OF_EACH, lambda asked: chunked(asked, b""), words="127.0.0.1"),
    Case("a chunk of no size", ONE_OF_EACH, lambda asked: chunked(asked, b"zz\r\n1\r\n0\r\n\r\n"), words="127.0.0.1"),
    Case("no gzip", ONE_OF_EACH, text(lambda asked: asked.text(), head=GZIP), words="content encoding"),
    Case("gzip cut short", PROTOCOLS, text(lambda asked: gzip.compress(asked.text().encode())[:-9], head=GZIP),
         words="content encoding"),
    Case("a gzip bomb", ONE_OF_EACH, text(lambda _: BOMB, head=GZIP), words="more than 80000 bytes"),
    Case("an unknown encoding", ONE_OF_EACH, text(lambda asked: asked.text(), head="Content-Encoding: br\r\n"),
         words="content encoding br"),
    Case("huge", PROTOCOLS, text(lambda asked: asked.text() + " " * 100_000), words="more than 80000 bytes"),
    # --- statuses ---
    Case("redirected", ONE_OF_EACH, lambda _: http("", status="307 Here", head="Location: http://127.0.0.1:9/\r\n"),
         REFUSED, REFUSED, "redirects to http://127.0.0.1:9/"),
    Case("rejected", PROTOCOLS, lambda _: http("no such state", "text/plain", "400 Bad"), REJECTED, REFUSED,
         "no such state"),
    Case("a crash", PROTOCOLS, lambda _: http(HTML, "text/html", "500 Error"), words="Maintenance"),
    Case("a strange status", ONE_OF_EACH, lambda _: http("", status="299 Fine"), words="127.0.0.1"),
    Case("no content", PROTOCOLS, lambda _: http("", status="204 No Content")),
    Case("busy", ONE_OF_EACH, lambda _: http("", status="429 Slow", head="Retry-After: 30\r\n"), THROTTLED, THROTTLED),
    Case("no credit", ("embeddings", "chat"),
         lambda _: http('{"error": {"code": "insufficient_quota", "message": "pay"}}', status="429 Slow"),
         REFUSED, REFUSED, "pay"),
    # --- what is in the body ---
    Case("nothing", PROTOCOLS, text(lambda _: "")),
    Case("HTML", PROTOCOLS, lambda _: http(HTML, "text/html"), words="text/html where"),
    Case("HTML under a false name", PROTOCOLS, text(lambda _: HTML), words="Maintenance"),
    Case("another charset", PROTOCOLS, lambda asked: asked.reply(kind=f"{asked.kind}; charset=utf-16"),
         words="charset utf-16"),
    Case("not UTF-8", PROTOCOLS, text(lambda asked: asked.text().encode() + b"\xff"), words="not UTF-8"),
    Case("UTF-16", PROTOCOLS, text(lambda asked: asked.text().encode("utf-16"))),
    Case("an image", PROTOCOLS, lambda _: http(b"\x89PNG\r\n\x1a\n\0", "image/png"), words="image/png"),
    Case("cut short", AS_JSON, text(lambda asked: asked.text()[:-1]), words="not JSON"),
    Case("two documents", AS_JSON, text(lambda asked: asked.text() * 2), words="not JSON"),
    Case("one quote instead of two", AS_JSON, text(lambda asked: asked.text().replace('"', "'") + "'"),
         words="not JSON"),
    Case("a bare number", AS_JSON, text(lambda _: "0.25")),
    Case("null", AS_JSON, text(lambda _: "null")),
    Case("a list of nothing", AS_JSON, text(lambda _: "[]")),
    Case("an object of nothing", AS_JSON, text(lambda _: "{}")),
    Case("nested too deep", AS_JSON, text(lambda _: "[" * 30_000 + "]" * 30_000), words="nested too deep|not JSON"),
    Case("digits without end", AS_JSON, text(lambda _: f"[{'9' * 5000}]"), words="not JSON"),
    Case("a name twice", OBJECTS,
         text(lambda asked: f"{EVERY_NAME}, {asked.text()[1:]}"),
         words="twice in one object"),
    # --- rows ---
    Case("a row too few", MANY, text(lambda asked: asked.text(asked.values[:-1]))),
    Case("a row too many", MANY, text(lambda asked: asked.text([*asked.values, asked.values[0]]))),
    Case("all rows in one", ("json", "instances", "torchserve"), text(lambda asked: asked.text([asked.values * 2])),
         REJECTED, REFUSED, "expected a number"),
    Case("a header", ("csv",), text(lambda asked: "p\n" + asked.text()), words="answered"),
    # --- values ---
    wrong("a word", LISTED, "high", "expected a number, the model answered 'high'"),
    wrong("NaN", ONE_NUMBER, float("nan"), "not a finite number"),
    wrong("infinity", ONE_NUMBER, float("-inf"), "not a finite"),
    wrong("NaN in an embedding", ("embeddings",), [float("nan"), 1.0], "not a finite"),
    wrong("NaN in base64", ("embeddings",), packed([float("nan"), 1.0]), "not a finite"),
    wrong("a number beyond a double", ONE_NUMBER, 10**400, "fits a double|finite"),
    wrong("true", ("json", "torchserve", "template"), True, "expected a number"),
    wrong("a list", ("json", "torchserve", "template"), [0.25, 0.75], "expected a number"),
    wrong("an object", ("json", "torchserve", "template"), {"q": 0.25}, "expected a number"),
    Case("half a surrogate pair", ("json", "torchserve", "template", "v2"), each("\ud800"), words="surrogate"),
    wrong("two fields", ("csv",), "1,1", "expected 1 value"),
    # --- the template ---
    Case("another way", ("template",), text(lambda asked: asked.text().replace("score", "scored")),
         words="has no score"),
    Case("no list on the way", ("template",), text(lambda _: '{"out": {"0": {"score": 1}}}'), words="no list"),
    # --- tensors ---
    Case("another request's answer", ("v2",), document(lambda found: found.update(id="rowscore-0")),
         words="another request"),
    Case("no such tensor", ("v2",), document(_two_others), words="has no output p"),
    Case("a tensor twice", ("v2",), document(lambda found: found["outputs"].append(found["outputs"][0])),
         words="twice"),
    Case("a tensor without a name", ("v2",), tensor({"name": None}), words="no name"),
    Case("another datatype", ("v2",), tensor({"datatype": "INT64"}), words="of INT64 holds"),
    Case("a datatype that is none", ("v2",), tensor({"datatype": "FLOAT"}), words="datatype FLOAT"),
    Case("another shape", ("v2",), tensor({"shape": [1, 99]}), words="rows|of shape"),
    Case("no shape", ("v2",), tensor({"shape": "n"}), words="no shape"),
    Case("no data", ("v2",), tensor({"data": None}), words="no data"),
    Case("a word in a tensor of floats", ("v2",), each("high"), words="of FP64 holds 'high'"),
    # --- embeddings ---
    Case("an index twice", ("embeddings",), document(lambda found: found["data"].append(found["data"][0])),
         words="embeddings where"),
    Case("an index twice, and as many", ("embeddings",),
         document(lambda found: [item.update(index=1) for item in found["data"]]),
         words="index is 1, which"),
    Case("an index too large", ("embeddings",), document(lambda found: found["data"][0].update(index=99)),
         words="index is 99"),
    Case("no index", ("embeddings",), document(lambda found: found["data"][0].pop("index")), words="index is None"),
    Case("embeddings of two lengths", ("embeddings",), document(lambda found: found["data"][0]["embedding"].clear()),
         words="numbers where"),
    Case("no base64", ("embeddings",), each("?!"), words="not base64"),
    Case("base64 of half a float", ("embeddings",), each("AAAAAAA="), words="not base64"),
    wrong("a word in an embedding", ("embeddings",), [0.25, "x"], "expected a number"),
    # --- chats ---
    Case("no choice", ("chat",), document(lambda found: found["choices"].clear()), ROW, ROW, "no choice"),
    Case("a refusal", ("chat",), message({"refusal": "I would rather not", "content": None}), REJECTED, REJECTED,
         "refused: I would rather not"),
    Case("cut at the most tokens", ("chat",), last_choice({"finish_reason": "length"}), REJECTED, REJECTED,
         "cut short"),
    Case("filtered", ("chat",), last_choice({"finish_reason": "content_filter"}), REJECTED, REJECTED, "content filter"),
    Case("no message", ("chat",), last_choice({"message": None}), words="no message"),
    Case("no content", ("chat",), message({"content": None}), words="no text"),
    Case("content that is no JSON", ("chat",), message({"content": "0.25, I think"}), words="not JSON"),
    Case("content of another shape", ("chat",), message({"content": '{"q": 1}'}), words="json_schema"),
    Case("content with more", ("chat",), message({"content": '{"p": 1, "q": 1}'}), words="json_schema"),
    Case("content of another type", ("chat",), message({"content": '{"p": "1"}'}), words="json_schema"),
]  # fmt: skip


@dataclass
class Place:
    """A table for each protocol in one database, and an engine that scores them all."""

    engine: Engine
    server: StandIn
    connection: psycopg.Connection[Any]

    def score(self, protocol: str, behave: Behaviour) -> Summary:
        """Score fresh rows of a table, as if for the first time."""
        self.connection.execute(
            f"TRUNCATE items_{protocol}; TRUNCATE rowscore.failure; DELETE FROM rowscore.circuit"
        )
        self.connection.execute(
            f"INSERT INTO items_{protocol} (id, n, a) SELECT i, i, 0.5 FROM generate_series(1, {ROWS}) AS s(i)"
        )
        self.server.behave = behave
        return Drain(self.engine, protocol, seconds=30.0).run()

    def rows(self, protocol: str) -> dict[int, tuple[RowState, Any]]:
        """Each row's state and value."""
        found = self.connection.execute(f"SELECT n, {protocol}_state, p FROM items_{protocol} ORDER BY n")
        return {n: (RowState(state), value) for n, state, value in found}

    def breaker(self, protocol: str) -> str | None:
        """The class of the fault that the service is left alone for."""
        found = self.connection.execute(
            "SELECT failure_class FROM rowscore.circuit WHERE prediction = %s", [protocol]
        ).fetchone()
        return found[0] if found else None

    def failures(self) -> list[tuple[str, str]]:
        """Class and message of each row that failed."""
        return self.connection.execute("SELECT failure_class, message FROM rowscore.failure").fetchall()


@pytest.fixture(scope="module")
def place(postgres: PostgresServer, administrator: psycopg.Connection[Any]) -> Iterator[Place]:
    administrator.execute("CREATE DATABASE malformed STRATEGY file_copy")
    url = postgres.url("malformed")
    with standing() as server, psycopg.connect(url, autocommit=True) as connection:
        for name in PROTOCOLS:
            connection.execute(
                f"CREATE TABLE items_{name} (id bigint PRIMARY KEY, n integer, a double precision)"
            )
        engine = Engine(parse_configuration({"database": url, "predictions": sections(server.url)}))
        try:
            for name in PROTOCOLS:
                prediction = engine.prediction(name)
                apply(engine.database(prediction), engine.materialisation(prediction))
            yield Place(engine, server, connection)
        finally:
            server.over.set()
            engine.dispose()
    administrator.execute("DROP DATABASE malformed WITH (FORCE)")


def spread(most: int) -> list[Any]:
    """Each case in so many of its protocols, another choice for each: what they share is not run nine times."""
    chosen = []
    for number, case in enumerate(CASES):
        count = len(case.protocols)
        names = [case.protocols[(number * most + step) % count] for step in range(min(most, count))]
        chosen += [pytest.param(case, name, id=f"{case}: {name}") for name in names]
    return chosen


def right(protocol: str, number: int) -> Any:
    return [number / 4, 1.0] if protocol == "embeddings" else number / 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_are_scored_in_every_protocol(place: Place, protocol: str) -> None:
    summary = place.score(protocol, Asked.reply)
    assert (summary.scored, summary.fault) == (ROWS, None)
    assert summary.calls == (ROWS if protocol == "chat" else 1)
    assert place.rows(protocol) == {n: (RowState.SCORED, right(protocol, n)) for n in range(1, ROWS + 1)}


@pytest.mark.parametrize(("case", "protocol"), spread(2))
def test_one_row_is_answered_badly(place: Place, case: Case, protocol: str) -> None:
    def behave(asked: Asked) -> Any:
        return case.behave(asked) if BAD in asked.numbers else asked.reply()

    summary = place.score(protocol, behave)
    rows = place.rows(protocol)
    if case.one in (DOWN, REFUSED, THROTTLED):
        assert place.breaker(protocol) == case.one
        assert re.search(case.words, str(summary.fault))
        assert rows[BAD] == (RowState.PENDING, None)
    else:
        ((failure, message),) = place.failures()
        assert failure == case.one, message
        assert re.search(case.words, message)
        assert rows.pop(BAD) == (RowState.FAILED, None)
        assert {state for state, _ in rows.values()} == {RowState.SCORED}
    assert all(value == right(protocol, n) for n, (state, value) in rows.items() if state is RowState.SCORED)


@pytest.mark.parametrize(("case", "protocol"), spread(1))
def test_every_row_is_answered_badly(place: Place, case: Case, protocol: str) -> None:
    summary = place.score(protocol, case.behave_always or case.behave)
    failures = place.failures()
    if case.all in (ROW, REJECTED):
        assert {failure for failure, _ in failures} == {case.all}
        assert set(place.rows(protocol).values()) == {(RowState.FAILED, None)}
        return
    assert (failures, summary.scored) == ([], 0)
    assert set(place.rows(protocol).values()) == {(RowState.PENDING, None)}
    assert place.breaker(protocol) == case.all
    assert re.search(case.words, str(summary.fault))


def silence(server: StandIn) -> Behaviour:
    def behave(_asked: Asked) -> Iterator[bytes]:
        server.over.wait(3)
        yield b""

    return behave


def drip(server: StandIn, begun: int) -> Behaviour:
    """A right answer, after so many bytes of it a byte every 20 ms."""

    def behave(asked: Asked) -> Iterator[bytes]:
        answer = asked.reply()
        place = begun if begun >= 0 else answer.index(b"\r\n\r\n") + 4
        yield answer[:place]
        for byte in answer[place:]:
            server.over.wait(0.02)
            yield bytes([byte])

    return behave


@pytest.mark.parametrize(
    ("protocol", "slowly"),
    [("csv", silence), ("json", lambda server: drip(server, 20)), ("v2", lambda server: drip(server, -1))],
    ids=["silence", "the headers drip", "the body drips"],
)
def test_an_answer_that_takes_too_long_blames_no_row(place: Place, protocol: str, slowly: Any) -> None:
    hurried = sections(place.server.url)
    hurried[protocol]["model"]["timeout"] = "100ms"  # decides no value, so the definition is the same
    url = place.engine.configuration.database
    engine = Engine(parse_configuration({"database": url, "predictions": hurried}))
    try:
        summary = replace(place, engine=engine).score(protocol, slowly(place.server))
    finally:
        engine.dispose()
    assert (summary.scored, place.failures()) == (0, [])
    assert place.breaker(protocol) == DOWN
    assert "did not answer within 0.1 s" in str(summary.fault)
    assert set(place.rows(protocol).values()) == {(RowState.PENDING, None)}
