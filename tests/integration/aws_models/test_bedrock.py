"""Models of Bedrock: asked in their family's way or the section's, by InvokeModel or Converse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.aws_models.conftest import Opened
from tests.support.aws import Aws, RefusalError, embedding
from worker.errors import FailureClass, PayloadTooLargeError, RowFaultError, RowRejectedError
from worker.kinds.bedrock import BedrockModel
from worker.models.bedrock import Tokens
from worker.models.protocol import Batch, RowFailure, Weight

TITAN, COHERE, NOVA = "amazon.titan-embed-text-v2:0", "cohere.embed-multilingual-v3", "amazon.nova-lite-v1:0"


def batch(*texts: Any) -> Batch:
    return Batch(("note",), [(text,) for text in texts])


def test_titan_is_asked_for_one_text_at_a_time(aws: Aws, opened: Opened) -> None:
    model = opened("bedrock", TITAN, {"e": "vector(4)"})
    assert model.most_rows == 1
    assert model.call(batch('say "hi"\n')) == [(embedding('say "hi"\n'),)]
    (call,) = aws.calls
    assert json.loads(call.body) == {"inputText": 'say "hi"\n'}
    assert call.headers["content-type"] == call.headers["accept"] == "application/json"


def test_a_request_of_one_s_own_keeps_the_usual_answer(opened: Opened) -> None:
    request = '{"inputText": "{title}: {note}", "dimensions": 2}'
    model = opened("bedrock", TITAN, {"e": "real[]"}, ("title", "note"), request=request)
    rows = Batch(("title", "note"), [("aa", "ee")])
    assert model.call(rows) == [(embedding("aa: ee")[:2],)]


def test_cohere_takes_96_texts_a_request(aws: Aws, opened: Opened) -> None:
    model = opened("bedrock", COHERE, {"e": "vector(4)"})
    assert model.most_rows == 96
    texts = ["", *(f"text {number}" for number in range(94)), None]
    answers = model.call(batch(*texts))
    assert answers == [(embedding(text),) if text else (None,) for text in texts]
    assert len(json.loads(aws.calls[0].body)["texts"]) == 94
    assert model.weigh(batch(*texts)).rows == 94
    with pytest.raises(PayloadTooLargeError):
        model.call(batch(*map(str, range(97))))


def test_rows_without_a_text_are_answered_without_a_call(aws: Aws, opened: Opened) -> None:
    for named, more in ((TITAN, {}), (COHERE, {}), (NOVA, {"prompt": "Say: {note}"})):
        model = opened("bedrock", named, {"e": "text"}, **more)
        assert model.weigh(batch(None, " ")) == Weight(0, 0)
        assert model.call(batch(None, " ")) == [(None,), (None,)]
    assert aws.calls == []


def test_a_prompt_is_told_by_converse(aws: Aws, opened: Opened) -> None:
    told = {"prompt": 'Say "{note}" {n} times', "system": "Be loud.", "max_tokens": 50, "temperature": 0}
    model = opened("bedrock", NOVA, {"t": "text"}, ("note", "n"), **told)
    assert model.call(Batch(("note", "n"), [("hi", 3)])) == [('SAY "HI" 3 TIMES',)]
    assert json.loads(aws.calls[0].body) == {
        "messages": [{"role": "user", "content": [{"text": 'Say "hi" 3 times'}]}],
        "system": [{"text": "Be loud."}],
        "inferenceConfig": {"maxTokens": 50, "temperature": 0},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [("one two three four", "cut off at max_tokens"), ("guarded", "a guardrail intervened")],
)
def test_a_text_that_was_not_finished_is_no_answer(text: str, said: str, opened: Opened) -> None:
    (answer,) = opened("bedrock", NOVA, {"t": "text"}, prompt="{note}", max_tokens=3).call(batch(text))
    assert answer == RowFailure(FailureClass.ROW_PERMANENT, f"the Bedrock model {NOVA}: {_whole(said)}")


def _whole(said: str) -> str:
    return f"the answer was {said}" if said.startswith("cut") else said


@pytest.mark.parametrize(
    ("named", "content", "said"),
    [
        (TITAN, '{"embeddings": [1]}', "the answer has no embedding: it has 'embeddings'"),
        (TITAN, "[1, 2]", "the answer has no embedding"),
        (TITAN, '{"embedding": [1', "not JSON"),
        (COHERE, '{"embeddings": [[1], [2]]}', "embeddings has 2 answers where 1 rows were sent"),
        (COHERE, '{"embeddings": {"float": [[1]]}}', "embeddings has no list"),
    ],
)
def test_answers_that_are_not_where_they_should_be(
    named: str, content: str, said: str, aws: Aws, opened: Opened
) -> None:
    aws.next.append((200, {"Content-Type": "application/json"}, content.encode()))
    with pytest.raises(RowFaultError, match=said):
        opened("bedrock", named, {"e": "vector(4)"}).call(batch("text"))


def test_tokens_are_estimated_from_what_was_charged(opened: Opened) -> None:
    model = opened("bedrock", TITAN, {"e": "vector(4)"})
    text = "x" * 1000
    size = len(json.dumps({"inputText": text}, separators=(",", ":")))
    assert model.weigh(batch(text)) == Weight(1, 1, -(-size // 4))  # four bytes a token, rounded up
    model.call(batch(text))
    assert model.weigh(batch(text)) == Weight(1, 1, 333)  # as the stand-in charges them
    talk = opened("bedrock", NOVA, {"t": "text"}, prompt="{note}", max_tokens=70)
    assert talk.weigh(batch("x" * 40)) == Weight(1, 1, 10 + 70)


def test_a_charge_that_is_none_teaches_nothing() -> None:
    tokens = Tokens()
    tokens.learn(100, None)
    tokens.learn(100, "many")
    assert tokens.estimate(100) == 25


@pytest.mark.parametrize(
    ("named", "request_has", "answer"),
    [
        ("eu.amazon.titan-embed-text-v1", "inputText", "embedding"),
        (
            "arn:aws:bedrock:eu-west-1::foundation-model/amazon.titan-embed-text-v2:0",
            "inputText",
            "embedding",
        ),
        ("amazon.nova-2-multimodal-embeddings-v1:0", "singleEmbeddingParams", "embeddings.0.embedding"),
        ("cohere.embed-english-v3", "texts", "embeddings.*"),
        ("global.cohere.embed-v4:0", "embedding_types", "embeddings.float.*"),
    ],
)
def test_the_families_whose_requests_are_known(named: str, request_has: str, answer: str) -> None:
    asked = BedrockModel(bedrock=named).asked_with(["the note"])
    assert request_has in json.loads(asked.request or "")
    assert "{the note}" in str(asked.request)
    assert asked.answer == answer


def test_the_check_shows_that_the_model_may_be_called(aws: Aws, opened: Opened) -> None:
    assert f"the Bedrock model {TITAN} answered" in opened("bedrock", TITAN, {"e": "vector(4)"}).check()
    talk = opened("bedrock", NOVA, {"t": "text"}, prompt="{note}")
    assert f"the Bedrock model {NOVA} answered" in talk.check()
    aws.next.append(RefusalError(400, "ValidationException", "Malformed input request: too short"))
    assert "is there, and refuses a sample text" in talk.check()
    assert json.loads(aws.calls[-1].body)["inferenceConfig"] == {"maxTokens": 8}


def test_half_of_a_pair_is_rejected_before_it_is_sent(aws: Aws, opened: Opened) -> None:
    for named, more in ((TITAN, {}), (NOVA, {"prompt": "{note}"})):
        with pytest.raises(RowRejectedError) as caught:
            opened("bedrock", named, {"e": "text"}, **more).call(batch("half \ud800"))
        assert not caught.value.sent
    assert aws.calls == []
