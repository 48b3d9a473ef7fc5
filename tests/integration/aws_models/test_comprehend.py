"""What Comprehend finds in texts: in as few requests as the outputs and the texts need, each paid once."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.integration.aws_models.conftest import Opened
from tests.support.aws import (
    Aws,
    RefusalError,
    embedding,
    entities,
    label,
    languages,
    phrases,
    pii,
    sentiment,
)
from worker.answers import OutputKind, OutputType
from worker.errors import FailureClass, RowFaultError, ServiceRefusedError, ThrottledError
from worker.models.protocol import Batch, Model, RowFailure, Weight
from worker.models.splitting import average, split
from worker.patience import Patience
from worker.scoring import score

ALL = {
    "s": ("sentiment", "text"), "c": ("confidence", "real"), "p": ("positive", "real"), "n": ("negative", "real"),
    "u": ("neutral", "real"), "m": ("mixed", "real"), "k": ("key_phrases", "jsonb"), "e": ("entities", "json"),
    "l": ("language", "text"), "i": ("pii", "jsonb"),
}  # fmt: skip
TEXT = "The IBM café is good, good and bad; write to me@mail.com about the café."


def batch(*texts: Any) -> Batch:
    return Batch(("note",), [(text,) for text in texts])


def everything(opened: Opened) -> Model:
    named = [finding for finding, _ in ALL.values()]
    return opened("comprehend", named, {name: kind for name, (_, kind) in ALL.items()})


def test_every_finding_becomes_an_output(aws: Aws, opened: Opened) -> None:
    model = everything(opened)
    (answer,) = model.call(batch(TEXT))
    scores = sentiment(TEXT)
    assert isinstance(answer, tuple)
    assert answer[:6] == (
        label(scores), max(scores.values()), scores["Positive"], scores["Negative"], scores["Neutral"], scores["Mixed"]
    )  # fmt: skip
    assert [json.loads(answer[place]) for place in (6, 7, 9)] == [phrases(TEXT), entities(TEXT), pii(TEXT)]
    assert answer[8] == "en"
    assert aws.operations() == [
        "BatchDetectSentiment", "BatchDetectKeyPhrases", "BatchDetectEntities", "BatchDetectDominantLanguage",
        "DetectPiiEntities",
    ]  # fmt: skip


def test_arrays_of_texts_get_texts_alone(opened: Opened) -> None:
    outputs = {"k": "text[]", "e": "text[]", "i": "varchar(40)[]"}
    (answer,) = opened("comprehend", ["key_phrases", "entities", "pii"], outputs).call(batch(TEXT))
    assert answer == (["the café"], ["IBM"], ["EMAIL"])


def test_only_what_the_outputs_need_is_asked_for_in_25s(aws: Aws, opened: Opened) -> None:
    model = opened("comprehend", ["positive", "negative"], {"p": "real", "n": "real"}, language="de")
    assert model.most_rows == 25
    rows = batch(*(f"text {number} is good" for number in range(25)))
    assert model.weigh(rows) == Weight(1, 25)
    assert len(model.call(rows)) == 25
    assert aws.operations() == ["BatchDetectSentiment"]
    assert json.loads(aws.calls[0].body)["LanguageCode"] == "de"


def test_a_text_that_is_none_is_not_sent(aws: Aws, opened: Opened) -> None:
    model = everything(opened)
    rows = batch(None, "", " \n\t ")
    assert model.weigh(rows) == Weight(0, 0)
    assert model.call(rows) == [(None,) * 10] * 3
    failures = model.call(batch(5, "half \ud800 of a pair"))
    assert [isinstance(item, RowFailure) and item.failure for item in failures] == [
        FailureClass.ROW_PERMANENT
    ] * 2
    assert "input note: expected a text for Comprehend, not a value of type int" in str(failures[0])
    assert aws.calls == []


def test_a_long_text_is_sent_in_parts_and_answered_as_one(aws: Aws, opened: Opened) -> None:
    long = "Alles ist good hier, café für café. " * 200 + "Now the IBM end is bad; ask me@mail.com. " * 400
    model = everything(opened)
    parts = split(long, 4_999)
    assert len(parts) > 4
    rows = batch("short and good", long)
    assert model.weigh(rows) == Weight(
        4 + 2, 2
    )  # each list takes one request, and PII one a text: it takes 100 KB
    answer = model.call(rows)[1]
    assert isinstance(answer, tuple)
    scores = average([sentiment(part) for part in parts], list(map(len, parts)))
    assert answer[:2] == (label(scores), pytest.approx(max(scores.values())))
    assert answer[2] == pytest.approx(scores["Positive"])
    assert answer[1] != pytest.approx(max(sentiment(long).values()))
    assert [json.loads(answer[place]) for place in (6, 7, 9)] == [phrases(long), entities(long), pii(long)]
    german = average([{each["LanguageCode"]: each["Score"] for each in languages(part)} for part in parts],
                     list(map(len, parts)))  # fmt: skip
    assert answer[8] == max(german, key=german.__getitem__)
    assert len(aws.calls) == 6


def test_parts_beyond_25_take_another_request(aws: Aws, opened: Opened) -> None:
    model = opened("comprehend", "sentiment", {"s": "text"})
    rows = batch(
        *(f"row {number} " + f"{number} is good. " * 1000 for number in range(10))
    )  # three parts each
    assert model.weigh(rows) == Weight(2, 10)
    assert model.call(rows) == [("POSITIVE",)] * 10
    assert [len(json.loads(call.body)["TextList"]) for call in aws.calls] == [25, 5]


def test_a_text_of_blanks_in_the_middle_is_not_sent_there(aws: Aws, opened: Opened) -> None:
    text = "good " + " " * 12_000 + "the end"
    model = opened("comprehend", ["positive", "key_phrases"], {"p": "real", "k": "json"})
    (answer,) = model.call(batch(text))
    assert isinstance(answer, tuple)
    assert json.loads(answer[1]) == phrases(text)
    assert [len(json.loads(call.body)["TextList"]) for call in aws.calls] == [2, 2]


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("TEXT_SIZE_LIMIT_EXCEEDED", FailureClass.ROW_PERMANENT),
        ("InvalidRequestException", FailureClass.ROW_PERMANENT),
        ("400", FailureClass.ROW_PERMANENT),
        ("INTERNAL_SERVER_ERROR", FailureClass.ROW_TEMPORARY),
        ("InternalServerException", FailureClass.ROW_TEMPORARY),
        ("500", FailureClass.ROW_TEMPORARY),
        ("SOMETHING_NEW", FailureClass.ROW_TEMPORARY),
    ],
)
def test_a_document_with_an_error_fails_alone(
    code: str, failure: FailureClass, aws: Aws, opened: Opened
) -> None:
    aws.poison["poison"] = code
    model = opened("comprehend", "sentiment", {"s": "text"})
    first, second, third = model.call(batch("good good", "poison", "bad bad"))
    assert (first, third) == (("POSITIVE",), ("NEGATIVE",))
    assert second == RowFailure(failure, f"Comprehend: {code}: it cannot be read: {code}")


@pytest.mark.parametrize(
    ("code", "error"),
    [("ThrottlingException", ThrottledError), ("UnsupportedLanguageException", ServiceRefusedError)],
)
def test_an_error_that_is_no_document_s_fault_is_the_call_s(
    code: str, error: type[Exception], aws: Aws, opened: Opened
) -> None:
    aws.poison["poison"] = code
    with pytest.raises(error):
        opened("comprehend", "sentiment", {"s": "text"}).call(batch("good", "poison"))


def test_what_was_paid_for_before_an_error_is_not_asked_again(aws: Aws, opened: Opened) -> None:
    model = opened("comprehend", ["sentiment", "pii"], {"s": "text", "i": "jsonb"})
    rows = batch("one is good", "two is bad", "three at a@b.de")
    aws.next.extend([None, None, RefusalError(400, "ThrottlingException", "Rate exceeded")])
    with pytest.raises(ThrottledError):
        model.call(rows)
    assert model.weigh(rows) == Weight(2, 3)
    assert len(model.call(rows)) == 3
    assert aws.operations() == ["BatchDetectSentiment", *["DetectPiiEntities"] * 4]
    assert [json.loads(call.body).get("Text") for call in aws.calls[1:]] == [
        "one is good", "two is bad", "two is bad", "three at a@b.de",
    ]  # fmt: skip
    model.call(rows)  # what was kept was given once
    assert len(aws.calls) == 9


def test_a_text_on_which_the_service_fails_is_found_and_no_other_is_paid_for_twice(
    aws: Aws, opened: Opened
) -> None:
    aws.poison["poison"] = "InternalServerException"
    texts = ["poison" if number == 5 else f"text {number}" for number in range(16)]
    model = opened("comprehend", "pii", {"i": "jsonb"})
    scores = score(
        model,
        batch(*texts),
        {"i": OutputType(OutputKind.JSON)},
        rows_per_call=25,
        patience=Patience(attempts=1),
    )
    assert scores.fault is None
    failed = [number for number, outcome in enumerate(scores.outcomes) if isinstance(outcome, RowFailure)]
    assert failed == [5]
    assert scores.outcomes[5].failure is FailureClass.ROW_TEMPORARY  # type: ignore[union-attr]
    asked = Counter(json.loads(call.body)["Text"] for call in aws.calls)
    assert {text: times for text, times in asked.items() if times > 1}.keys() == {"poison"}
    assert asked.keys() == set(texts)


@pytest.mark.parametrize(
    "results",
    [
        [{"Index": 0, "Sentiment": "POSITIVE", "SentimentScore": sentiment("")}],
        [{"Index": 0, "Sentiment": "POSITIVE", "SentimentScore": sentiment("")}] * 2,
        [{"Index": 1, "Sentiment": "POSITIVE", "SentimentScore": sentiment("")}] * 3,
        [{"Index": 0, "Sentiment": "POSITIVE"}, {"Index": 1, "Sentiment": "POSITIVE"}],
        [{"Index": 0, "KeyPhrases": embedding("")}, {"Index": 2}],
        [{"Index": 0, "SentimentScore": {}}, {"Index": 1, "SentimentScore": {}}],
    ],
)
def test_answers_that_are_not_one_for_each_document(results: list[Any], aws: Aws, opened: Opened) -> None:
    content = json.dumps({"ResultList": results, "ErrorList": []}).encode()
    aws.next.append((200, {"Content-Type": "application/x-amz-json-1.1"}, content))
    with pytest.raises(RowFaultError):
        opened("comprehend", "sentiment", {"s": "text"}).call(batch("good", "bad"))


def test_the_check_asks_in_each_way_that_the_outputs_need(aws: Aws, opened: Opened) -> None:
    model = opened("comprehend", ["sentiment", "confidence", "pii"], {"s": "text", "c": "real", "i": "json"})
    assert model.check().startswith("Comprehend answered 2 requests in ")
    assert aws.operations() == ["BatchDetectSentiment", "DetectPiiEntities"]
