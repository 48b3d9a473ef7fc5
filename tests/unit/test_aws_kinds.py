"""Sections of services of AWS: what cannot work is refused when the file is read, in one line that says what would."""

from __future__ import annotations

from typing import Any

import pytest

from worker.config import Prediction, parse_configuration
from worker.errors import ConfigurationError
from worker.kinds import KINDS

TITAN, NOVA = "amazon.titan-embed-text-v2:0", "amazon.nova-lite-v1:0"
JSON = "application/json"
ONE = {"inputs": ["note"], "outputs": {"p": "text"}}
TWO = {"inputs": ["a", "b"], "outputs": {"p": "real"}}


def parsed(**section: Any) -> Prediction:
    content = {"database": "postgresql://h/d", "predictions": {"churn": {"table": "items", **section}}}
    return parse_configuration(content).prediction()


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ({"comprehend": "anger"}, ONE, "model.comprehend.0: Input should be 'sentiment', 'confidence'"),
        ({"comprehend": []}, ONE, "model.comprehend: must not be empty"),
        ({"comprehend": "sentiment"}, TWO, 'it reads one text and 2 inputs are configured; join them with { name'),
        ({"comprehend": ["sentiment", "confidence"]}, ONE, "it names 2 findings (sentiment, confidence) and 1 outputs"),
        ({"comprehend": "confidence"}, ONE, "confidence is a number from 0 to 1, a real, and p is text"),
        ({"comprehend": "sentiment"}, {**ONE, "outputs": {"p": "double precision"}}, "is a text, and p is double"),
        ({"comprehend": "sentiment"}, {**ONE, "outputs": {"p": "text[]"}}, "sentiment is a text, and p is text[]"),
        ({"comprehend": "entities"}, {**ONE, "outputs": {"p": "integer"}}, "entities is a list, for json or text[]"),
        ({"comprehend": "pii", "language": "de"}, ONE, "Comprehend finds pii in en and es alone, not in 'de'"),
        ({"comprehend": "sentiment", "language": "German"}, ONE, "expected a name such as 'en', not 'German'"),
        ({"comprehend": "sentiment", "region": "Ireland"}, ONE, "expected a text such as 'eu-west-1', or $NAME"),
        ({"comprehend": "sentiment", "role": "scoring"}, ONE, "'arn:aws:iam::123456789012:role/scoring', or $NAME"),
        ({"comprehend": "sentiment", "endpoint": "vpce.example.com"}, ONE, "'https://vpce-1.example.com', or $NAME"),
        ({"comprehend": "sentiment", "endpoint": "https://me:secret@h"}, ONE, "'https://vpce-1.example.com', or $NAME"),
        ({"sagemaker": "churn_endpoint"}, TWO, "expected a name such as 'churn-endpoint', not 'churn_endpoint'"),
        ({"sagemaker": "e", "content_type": "text/xml"}, TWO, "Input should be 'text/csv', 'application/jsonlines'"),
        ({"sagemaker": "e", "rows": "objects"}, TWO, 'rows = "objects" needs content_type = "application/jsonlines"'),
        ({"sagemaker": "e", "answer": "*.score"}, TWO, "answer: CSV has no names"),
        ({"sagemaker": "e", "content_type": JSON, "answer": "score"}, TWO, "expected a way with *"),
        ({"sagemaker": "e", "content_type": JSON, "answer": {"q": "*.q"}}, TWO, "a way to each output: p"),
        ({"sagemaker": "e", "request": '{"inputs": ["{c}"]}', "answer": "*.label"}, TWO, "there is no input 'c'"),
        ({"sagemaker": "e", "request": '{"inputs": ["{a}"]}'}, TWO, "`request` needs it"),
        ({"sagemaker": "e", "request": '["{a}"]', "answer": "*", "rows": "objects"}, TWO, "leave out `rows`"),
        ({"bedrock": NOVA}, ONE, 'expected prompt = "Summarise: {note}" for a text'),
        ({"bedrock": TITAN}, TWO, "without it the one input is embedded, and 2 are configured"),
        ({"bedrock": TITAN, "temperature": 0.5}, ONE, "model.temperature: it goes with `prompt`"),
        ({"bedrock": NOVA, "prompt": "Hello"}, ONE, 'expected a text with {input} in it'),
        ({"bedrock": NOVA, "prompt": "{title}"}, ONE, "model.prompt: there is no input 'title'; it has note"),
        ({"bedrock": NOVA, "prompt": "{note}", "request": '{"x": "{note}"}'}, ONE, "`prompt` says how to ask"),
        ({"bedrock": NOVA, "prompt": "{note}", "temperature": 3}, ONE, "less than or equal to 2"),
        ({"bedrock": NOVA, "prompt": "{note}"}, {**ONE, "outputs": {"p": "text", "q": "text"}}, "one text and 2"),
        ({"bedrock": "a b"}, ONE, f"expected a name such as '{TITAN}', not 'a b'"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(model: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parsed(model=model, **more)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("rowscore.toml: predictions.churn")
    assert said in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ({"comprehend": "key_phrases"}, {**ONE, "outputs": {"p": "text[]"}}),
        ({"comprehend": "confidence"}, {**ONE, "outputs": {"p": "numeric(5, 4)"}}),
        ({"comprehend": "sentiment"}, {**ONE, "outputs": {"p": "mood"}}),  # an enum of the application's
        ({"sagemaker": "e", "region": "$REGION", "role": "$ROLE", "endpoint": "$ADDRESS"}, TWO),
        ({"sagemaker": "e", "region": "us-gov-west-1", "role": "arn:aws-us-gov:iam::123456789012:role/x/y"}, TWO),
        ({"bedrock": "arn:aws:bedrock:eu-west-1:1:inference-profile/x", "prompt": "{note}"}, ONE),
        ({"bedrock": "cohere.embed-v4:0"}, {**ONE, "outputs": {"p": "vector(1536)"}}),
    ],
)  # fmt: skip
def test_what_can_work_is_taken(model: dict[str, Any], more: dict[str, Any]) -> None:
    assert parsed(model=model, **more).model.definition.keys() >= {next(iter(model))}


def test_who_calls_and_by_which_way_changes_no_definition() -> None:
    plain = parsed(model={"sagemaker": "e"}, **TWO)
    other = {
        "profile": "scoring",
        "role": "$ROLE",
        "endpoint": "$ADDRESS",
        "timeout": "70s",
        "max_bytes": 4_000_000,
    }
    assert parsed(model={"sagemaker": "e", **other}, **TWO).definition_hash == plain.definition_hash
    for deciding in ({"region": "eu-west-1"}, {"variant": "blue"}, {"content_type": "application/jsonlines"}):
        changed = parsed(model={"sagemaker": "e", **deciding}, **TWO)
        assert changed.definition_hash != plain.definition_hash


def test_the_kinds_are_known() -> None:
    assert {"sagemaker", "comprehend", "bedrock"} <= set(KINDS)
