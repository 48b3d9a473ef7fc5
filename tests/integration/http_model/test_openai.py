"""OpenAI's API: what is asked, what is not, who is at fault, and answers that are checked against their schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.predictions import applied, configuration, drain, opened
from tests.support.standin import SCHEMA, Asked, StandIn, http, packed, standing
from worker.errors import (
    ConfigurationError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.kinds.openai import OpenAIModel
from worker.models.openai import open_openai
from worker.models.protocol import Batch, Model, Weight
from worker.models.schema import AnswerSchema, is_strict

KEY = "sesame-open-1234"
TEXTS = Batch(("n", "a"), [(4, 0.5), (8, 0.5)])
Opened = Callable[..., Model]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standing() as server:
        yield server


@pytest.fixture
def openai(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """Opens models of the stand-in; closed before it is."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    models: list[Model] = []

    def opened(outputs: dict[str, str] | None = None, **settings: Any) -> Model:
        settings = {
            "openai": "small",
            "url": f"{server.url}/v1",
            "text": "n is {n}",
            "timeout": "5s",
        } | settings
        section = OpenAIModel(**{key: value for key, value in settings.items() if value is not None})
        models.append(open_openai(section, outputs or {"p": "real[]"}, concurrency=2))
        return models[-1]

    yield opened
    for model in models:
        model.close()


def chat(opened: Opened, outputs: dict[str, str] | None = None, **settings: Any) -> Model:
    usual = {
        "text": None,
        "prompt": "n is {n}",
        "system": 'Say "{n}" / 4.',
        "json_schema": SCHEMA,
        "parameters": {"temperature": 0},
    }
    return opened(outputs or {"p": "double precision"}, **(usual | settings))


def test_embeddings_come_back_in_the_rows_order(server: StandIn, openai: Opened) -> None:
    model = openai()
    assert model.call(TEXTS) == [([1.0, 1.0],), ([2.0, 1.0],)]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    server.behave = lambda asked: asked.reply(asked.text([packed(value) for value in asked.values]))
    assert model.call(TEXTS) == [([1.0, 1.0],), ([2.0, 1.0],)]
    assert openai({"p": "text"}).call(TEXTS) == [("[1.0,1.0]",), ("[2.0,1.0]",)]


def test_blank_texts_are_answered_without_a_call(server: StandIn, openai: Opened) -> None:
    model = openai(text="n is {n}")
    blank = Batch(("n", "a"), [(None, 1.0), ("", 2.0), (" \n", 3.0)])
    assert model.weigh(blank) == Weight(0, 0)
    assert model.call(blank) == [(None,)] * 3
    assert not server.asked
    mixed = Batch(("n", "a"), [(None, 1.0), (8, 2.0)])
    assert model.call(mixed) == [(None,), ([2.0, 1.0],)]
    assert model.weigh(mixed) == Weight(1, 1, 2)  # "n is 8" and its quotes are eight bytes
    assert server.asked[0].numbers == [8]
    several = {"p": "integer", "q": "text"}
    schema = {"properties": {"p": {}, "q": {}}}
    assert chat(openai, several, json_schema=schema).call(blank) == [(None, None)] * 3


def test_weights_of_chats_count_the_answers_tokens(openai: Opened) -> None:
    model = chat(openai, parameters={"temperature": 0, "max_tokens": 100})
    assert model.most_rows == 1
    weight = model.weigh(Batch(("n", "a"), [(4, 0.5)]))
    assert (weight.requests, weight.rows) == (1, 1)
    assert 100 < weight.tokens < 130


def test_more_tokens_than_a_request_takes_are_never_sent(server: StandIn, openai: Opened) -> None:
    model = openai(max_bytes=10_000_000)
    long = Batch(("n", "a"), [("x" * 700_000, 1.0), ("y" * 700_000, 1.0)])
    with pytest.raises(PayloadTooLargeError, match="2 texts are about 350004 tokens") as refusal:
        model.call(long)
    assert (server.asked, refusal.value.sent) == ([], False)
    assert model.most_rows == 2048


ERROR = '{{"error": {{"message": "see {code}", "type": "{code}", "param": null, "code": {shown}}}}}'


def failing(status: str, code: str, head: str = "", shown: str | None = None) -> Callable[[Asked], bytes]:
    text = ERROR.format(code=code, shown=json.dumps(code) if shown is None else shown)
    return lambda _: http(text, status=status, head=head)


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (failing("429 Slow", "insufficient_quota"), ServiceRefusedError),
        (failing("429 Slow", "insufficient_quota", shown="null"), ServiceRefusedError),
        (failing("429 Slow", "rate_limit_exceeded"), ThrottledError),
        (failing("400 Bad", "context_length_exceeded"), RowRejectedError),
        (failing("400 Bad", "max_tokens_per_request"), PayloadTooLargeError),
        (failing("401 No", "invalid_api_key"), ServiceRefusedError),
        (failing("403 No", "unsupported_country"), ServiceRefusedError),
        (failing("404 No", "model_not_found"), ServiceRefusedError),
        (failing("413 Large", "too_large"), PayloadTooLargeError),
        (failing("500 Error", "server_error"), RowFaultError),
        (failing("503 Busy", "overloaded"), ServiceUnavailableError),
        (failing("503 Busy", "overloaded", "Retry-After: 3\r\n"), ThrottledError),
        (lambda _: http("[1]", status="429 Slow"), ThrottledError),
        (lambda _: http('{"error": "slow"}', status="429 Slow"), ThrottledError),
    ],
)
def test_who_is_at_fault(
    server: StandIn, openai: Opened, behave: Callable[[Asked], bytes], error: type[ModelError]
) -> None:
    server.behave = behave
    for model in (openai(), chat(openai)):
        with pytest.raises(error) as raised:
            model.call(Batch(TEXTS.names, TEXTS.rows[:1]))
        assert type(raised.value) is error


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s",
          "x-ratelimit-reset-requests": "9h"}, 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms",
          "x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": "1h"}, 0.02),
        ({"x-ratelimit-reset-tokens": "1m1.5s"}, 61.5),
        ({"x-ratelimit-reset-tokens": "tomorrow"}, None),
    ],
)  # fmt: skip
def test_how_long_to_wait(
    server: StandIn, openai: Opened, head: dict[str, str], seconds: float | None
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    server.behave = lambda _: http("{}", status="429 Slow", head=lines)
    with pytest.raises(ThrottledError) as raised:
        openai().call(TEXTS)
    assert raised.value.retry_after == (None if seconds is None else pytest.approx(seconds))


def test_an_answer_that_is_too_long_asks_for_fewer_rows(server: StandIn, openai: Opened) -> None:
    server.behave = lambda asked: asked.reply(asked.text() + " " * 5000)
    model = openai(max_bytes=1000)
    with pytest.raises(PayloadTooLargeError, match="answered more than 4000 bytes"):
        model.call(TEXTS)
    with pytest.raises(RowFaultError, match="answered more than 4000 bytes"):
        model.call(Batch(TEXTS.names, TEXTS.rows[:1]))


def test_the_key_is_never_shown(server: StandIn, openai: Opened) -> None:
    server.behave = lambda _: http(f"Incorrect API key: {KEY}", "text/plain", "401 No")
    with pytest.raises(ServiceRefusedError) as refusal:
        openai().call(TEXTS)
    assert "credentials are missing or wrong: Incorrect API key: ***" in str(refusal.value)


def test_without_a_key_none_is_sent(server: StandIn, openai: Opened) -> None:
    openai(api_key="", headers={"X-Tenant": "shop"}).call(TEXTS)
    assert "authorization" not in server.asked[0].headers
    assert server.asked[0].headers["x-tenant"] == "shop"


def test_a_missing_key_names_its_variable(openai: Opened) -> None:
    with pytest.raises(
        ConfigurationError, match=r"model\.api_key: the environment variable SHOP_KEY is not set"
    ):
        openai(api_key="$SHOP_KEY")


# --- structured answers -------------------------------------------------------------------------------------

TICKET = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["billing", "shipping"]},
        "urgent": {"type": "boolean"},
        "refund": {"type": ["number", "null"], "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
    },
    "required": ["topic", "urgent", "refund", "tags"],
    "additionalProperties": False,
}
OUTPUTS = {"urgent": "boolean", "topic": "text", "refund": "numeric(30, 20)", "tags": "text[]"}
ANSWER = '{"topic": "billing", "urgent": true, "refund": 12.34567890123456789012, "tags": ["a"]}'


def test_outputs_are_taken_by_their_names() -> None:
    schema = AnswerSchema(TICKET, OUTPUTS, Path(), "model.json_schema")
    assert schema.answer(ANSWER) == (True, "billing", Decimal("12.34567890123456789012"), ["a"])
    whole = AnswerSchema(TICKET, {"ticket": "jsonb"}, Path(), "model.json_schema")
    assert whole.answer(ANSWER) == (
        {"topic": "billing", "urgent": True, "refund": 12.345678901234567, "tags": ["a"]},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ANSWER.replace("billing", "chatter"), "topic: 'chatter' is not one of"),
        (ANSWER.replace("true", '"yes"'), "urgent: 'yes' is not of type 'boolean'"),
        (ANSWER.replace("12.3", "-12.3"), "refund: .* less than the minimum"),
        (ANSWER.replace('["a"]', '["a", 1]'), "tags.1: 1 is not of type"),
        (ANSWER.replace('["a"]', '["a", "b", "c"]'), "tags: .* too long|tags: "),
        (ANSWER.replace('"topic"', '"subject"'), "json_schema has it"),
        (ANSWER[:-1], "not JSON"),
        (ANSWER.replace("true", "true, \"urgent\": false"), "twice in one object"),
        ("Sure! " + ANSWER, "not JSON"),
        ("[]", "is not of type 'object'"),
        ("[" * 50_000, "nested too deep"),
    ],
)  # fmt: skip
def test_what_is_not_as_the_schema_has_it_is_refused(text: str, words: str) -> None:
    schema = AnswerSchema(TICKET, OUTPUTS, Path(), "model.json_schema")
    with pytest.raises(RowFaultError, match=words):
        schema.answer(text)


def test_a_schema_may_stand_in_a_file(tmp_path: Path) -> None:
    def opened(name: str) -> AnswerSchema:
        return AnswerSchema(f"file:{name}", OUTPUTS, tmp_path, "model.json_schema")

    (tmp_path / "ticket.json").write_text(json.dumps(TICKET))
    assert opened("ticket.json").answer(ANSWER)[1] == "billing"
    for name, content, words in (
        ("none.json", None, r"model\.json_schema: cannot read .*none\.json: No such file"),
        ("text.json", "x", r"text\.json is not JSON"),
        ("list.json", "[]", "is no object"),
        ("type.json", '{"type": "text", "properties": {"urgent": {}, "topic": {}, "refund": {}, "tags": {}}}',
         "is no JSON schema: 'text' is not valid"),
        ("less.json", '{"properties": {"urgent": {}}}', "no property 'topic', which is an output"),
    ):  # fmt: skip
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(ConfigurationError, match=words):
            opened(name)


def test_references_are_looked_for_in_the_schema_alone(server: StandIn) -> None:
    within = {"$defs": {"p": {"type": "integer"}}, "properties": {"p": {"$ref": "#/$defs/p"}}}
    assert AnswerSchema(within, {"p": "integer"}, Path(), "w").answer('{"p": 1}') == (1,)
    for reference in (f"{server.url}/p.json", "#/$defs/q"):
        with pytest.raises(
            ConfigurationError, match=r"w: .* is not in it; nothing is looked for on the network"
        ):
            AnswerSchema({"properties": {"p": {"$ref": reference}}}, {"p": "integer"}, Path(), "w")
    assert not server.asked


def test_strict_is_asked_for_where_the_schema_is() -> None:
    assert is_strict(TICKET)
    inner = {"properties": {"inner": TICKET}, "required": ["inner"], "additionalProperties": False}
    assert is_strict(inner)
    assert not is_strict({**inner, "properties": {"inner": {"type": "object"}}})
    assert not is_strict({**TICKET, "additionalProperties": True})
    assert not is_strict({**TICKET, "required": ["topic"]})
    assert not is_strict({"type": "array", "items": {"type": "object"}})


def test_a_chat_into_several_columns_of_a_table(
    server: StandIn, connect: Connect, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    connection = connect()
    connection.execute("CREATE TABLE items (id int PRIMARY KEY, n int, a float8)")
    model = {
        "openai": "small",
        "url": f"{server.url}/v1",
        "prompt": "n is {n}",
        "system": 'Say "{n}" / 4.',
        "json_schema": SCHEMA,
        "parameters": {"temperature": 0},
    }
    config = configuration(database_url, model=model, inputs=["n"], outputs={"p": "numeric"}, concurrency=4)
    with opened(config) as engine:
        applied(engine)
        connection.execute("INSERT INTO items SELECT i, nullif(i, 5) FROM generate_series(1, 9) AS s(i)")
        summary = drain(engine)
    assert (summary.scored, len(server.asked)) == (9, 8)
    found = connection.execute("SELECT id, p FROM items ORDER BY id").fetchall()
    assert found == [(n, None if n == 5 else Decimal(n) / 4) for n in range(1, 10)]
