"""The sections of the kinds http and openai: each mistake is one line, and what is right reads back."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from worker.cli.settings import as_toml, effective
from worker.config import Prediction, parse_configuration
from worker.errors import ConfigurationError

HTTP: dict[str, Any] = {"http": "http://h/x"}
CHAT: dict[str, Any] = {"openai": "gpt", "prompt": "{a}"}
SCHEMA = {"type": "object", "properties": {"p": {"type": "number"}}}


def content(model: dict[str, Any], outputs: dict[str, str] | None = None) -> dict[str, Any]:
    section = {"table": "t", "inputs": ["a", "b"], "outputs": outputs or {"p": "real"}, "model": model}
    return {"database": "postgresql://h/d", "predictions": {"x": section}}


def parsed(model: dict[str, Any], outputs: dict[str, str] | None = None) -> Prediction:
    return parse_configuration(content(model, outputs)).predictions["x"]


ONE, TWO, VECTOR = {"p": "real"}, {"p": "real", "q": "text"}, {"p": "vector(3)"}


@pytest.mark.parametrize(
    ("model", "outputs", "words"),
    [
        ({**HTTP, "protocol": "grpc"}, ONE, "model.protocol: Input should be 'csv', 'json',"),
        ({**HTTP, "answer": "predictions.*"}, ONE,
         'model.answer: CSV has no names; it goes with another `protocol`, such as "json"'),
        ({**HTTP, "protocol": "json", "answer": "predictions"}, ONE,
         "model.answer: expected a way with * for the list of rows"),
        ({**HTTP, "protocol": "json", "answer": "a.*.b.*"}, ONE,
         'such as "predictions.*.label" (* for the list of rows), not \'a.*.b.*\''),
        ({**HTTP, "protocol": "json", "answer": "a..b"}, ONE, "expected the way to it"),
        ({**HTTP, "protocol": "json", "answer": {"q": "a.*"}}, ONE, "model.answer: expected a way to each output: p"),
        ({**HTTP, "protocol": "json", "answer": {"p": "a.*"}}, TWO,
         "model.answer: expected a way to each output: p, q"),
        ({**HTTP, "request": '["{a}"]', "answer": "*", "protocol": "json"}, ONE,
         "model.protocol: `request` says how to ask"),
        ({**HTTP, "request": '["{a}"]'}, ONE, "model.answer: `request` needs it"),
        ({**HTTP, "request": "[{a}]", "answer": "*"}, ONE, "model.request: expected JSON with {input} in its texts"),
        ({**HTTP, "request": '["{c}"]', "answer": "*"}, ONE, "model.request: there is no input 'c'; it has a, b"),
        ({**HTTP, "request": '["{a}", "{b}"]', "answer": "*"}, ONE,
         "model.request: it has no list of one element with {input} in it"),
        ({**HTTP, "request": '{"x": ["{a}"], "y": "{b}"}', "answer": "*"}, ONE,
         "model.request: {b} stands outside of the list"),
        ({**HTTP, "request": '{"x": 1}', "answer": "y"}, ONE, "model.request: it names no input"),
        ({**HTTP, "request": '["{a}"]', "answer": {"p": "*.p", "q": "q"}}, TWO,
         "model.answer: either each way has a *"),
        ({**HTTP, "tensor": "x"}, ONE, 'model.tensor: tensors are of protocol = "v2"'),
        ({**HTTP, "datatypes": {"a": "FP32"}}, ONE, 'model.datatypes: tensors are of protocol = "v2"'),
        ({**HTTP, "protocol": "v2", "datatypes": {"c": "FP32"}}, ONE,
         "model.datatypes: there is no tensor 'c'; there is a, b"),
        ({**HTTP, "protocol": "v2", "tensor": "x", "datatypes": {"a": "FP32"}}, ONE,
         "there is no tensor 'a'; there is x"),
        ({**HTTP, "protocol": "v2", "datatypes": {"a": "FLOAT"}}, ONE, "model.datatypes.a: Input should be 'BOOL'"),
        ({**HTTP, "protocol": "json", "encoding": {"header": True}}, ONE,
         "model.encoding.header: a line of names is of protocol"),
        ({"openai": ""}, VECTOR, "model.openai: expected a name such as 'text-embedding-3-small', not ''"),
        ({"openai": "e"}, VECTOR, 'model.text: there are 2 inputs; say what is embedded, such as "{a}"'),
        ({"openai": "e", "text": "a"}, VECTOR,
         'model.text: expected a text with {input} in it, such as "Summarise: {note}"'),
        ({"openai": "e", "text": "{c}"}, VECTOR, "model.text: there is no input 'c'; it has a, b"),
        ({"openai": "e", "text": "{a}"}, TWO, "model.openai: an embedding is one answer and 2 outputs are configured"),
        ({"openai": "e", "text": "{a}"}, ONE, "outputs.p: an embedding goes into vector(n), real[]"),
        ({"openai": "e", "text": "{a}", "system": "s"}, VECTOR, "model.system: it is of a chat: say `prompt`, too"),
        ({"openai": "e", "text": "{a}", "url": "ftp://h"}, VECTOR, "model.url: expected http:// or https://"),
        ({**CHAT, "text": "{a}"}, ONE, "model.text: it is of embeddings; a chat has `prompt`"),
        ({**CHAT, "dimensions": 3}, ONE, "model.dimensions: it is of embeddings"),
        (CHAT, TWO, "model.json_schema: 2 outputs are taken from an answer by their names; describe it"),
        ({**CHAT, "json_schema": SCHEMA}, TWO, "model.json_schema: it has no property 'q', which is an output"),
        ({**CHAT, "json_schema": "answer.json"}, ONE, "model.json_schema: expected a table, or a file such as"),
        ({**CHAT, "parameters": {"stream": True}}, ONE, "model.parameters: stream is set by rowscore, not here"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(model: dict[str, Any], outputs: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parsed(model, outputs)
    (line,) = str(refusal.value).splitlines()
    assert line.startswith("rowscore.toml: predictions.x")
    assert words in line


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        ({**HTTP, "protocol": "v2", "tensor": "x", "datatypes": {"x": "FP32"}, "answer": "y"}, ONE),
        ({**HTTP, "protocol": "v2", "encoding": {"null": "NaN"}}, ONE),
        ({**HTTP, "request": '{"x": [{"a": "{a}"}]}', "answer": {"p": "y.*.p", "q": "y.*.q"}}, TWO),
        ({**HTTP, "request": '{"x": ["{a}"]}', "answer": "y", "ca": "ca.pem"}, ONE),
        ({"openai": "e", "text": "{a}", "dimensions": 3, "encoding_format": "float"}, VECTOR),
        (
            {**CHAT, "json_schema": SCHEMA, "system": "s", "parameters": {"temperature": 0.5, "stop": ["x"]}},
            ONE,
        ),
        ({**CHAT, "json_schema": "file:x.json", "url": "$URL"}, TWO),
    ],
)
def test_what_is_in_effect_reads_back(model: dict[str, Any], outputs: dict[str, str]) -> None:
    configuration = parse_configuration(content(model, outputs))
    again = parse_configuration(tomllib.loads(as_toml(configuration))).predictions["x"]
    assert again.definition_hash == configuration.predictions["x"].definition_hash
    assert as_toml(configuration) == as_toml(parse_configuration(tomllib.loads(as_toml(configuration))))


def test_no_secret_is_shown() -> None:
    model = {
        "openai": "e",
        "text": "{a}",
        "url": "https://me:hush@h/v1?key=hush",
        "api_key": "hush",
        "headers": {"X": "hush", "Y": "$Y"},
    }
    shown = effective(parse_configuration(content(model, VECTOR)))["predictions"]["x"]["model"]
    assert "hush" not in str(shown)
    assert (shown["api_key"], shown["headers"]) == ("***", {"X": "***", "Y": "$Y"})
    usual = effective(parse_configuration(content({"openai": "e", "text": "{a}"}, VECTOR)))
    assert usual["predictions"]["x"]["model"]["api_key"] == "$OPENAI_API_KEY"


def test_what_decides_no_value_is_no_part_of_the_definition() -> None:
    plain = parsed({"openai": "e", "text": "{a}"}, VECTOR).model
    other = {
        "api_key": "$OTHER",
        "encoding_format": "float",
        "headers": {"X": "y"},
        "ca": "x",
        "timeout": "1s",
    }
    assert parsed({"openai": "e", "text": "{a}", **other}, VECTOR).model.definition == plain.definition
    assert plain.definition == {"openai": "e", "text": "{a}"}
