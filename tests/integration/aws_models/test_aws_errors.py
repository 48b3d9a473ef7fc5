"""Each way in which a service of AWS fails becomes the error that says who is at fault."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws_models.conftest import Opened
from tests.support.aws import ROLE, Aws, RefusalError
from worker.errors import (
    ConfigurationError,
    ConnectionDroppedError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.models.protocol import Batch, Model

BATCH = Batch(("note",), [("a good day",)])
MODELS: dict[str, Callable[[Opened], Model]] = {
    "sagemaker": lambda opened: opened("sagemaker", "churn-endpoint", {"p": "real"}),
    "comprehend": lambda opened: opened("comprehend", "sentiment", {"s": "text"}),
    "invoke": lambda opened: opened("bedrock", "amazon.titan-embed-text-v2:0", {"e": "vector(4)"}),
    "converse": lambda opened: opened("bedrock", "amazon.nova-lite-v1:0", {"t": "text"}, prompt="Say {note}"),
}
EVERY: list[tuple[int, str, str | None, type[ModelError], str]] = [
    (400, "ThrottlingException", "Rate exceeded", ThrottledError, "ThrottlingException: Rate exceeded"),
    (400, "Throttling", "Rate exceeded", ThrottledError, "Rate"),
    (429, "TooManyRequestsException", "slow down", ThrottledError, "slow down"),
    (429, "", "too many", ThrottledError, "too many"),
    (400, "", None, ThrottledError, "status 400 without a message: it is throttled"),
    (503, "ServiceUnavailable", "try again", ServiceUnavailableError, "try again"),
    (503, "ServiceUnavailableException", "try again", ServiceUnavailableError, "try again"),
    (502, "", "bad gateway", ServiceUnavailableError, "bad gateway"),
    (500, "InternalServerException", "oops", ServiceFailedError, "oops"),
    (500, "InternalFailure", "oops", ServiceFailedError, "oops"),
    (403, "AccessDeniedException", "User x is not authorized", ServiceRefusedError, "policy of the worker's role"),
    (403, "ExpiredTokenException", "The token has expired", ServiceRefusedError, "renew them, or use a role"),
    (403, "UnrecognizedClientException", "The token is invalid", ServiceRefusedError, "missing or wrong"),
    (403, "InvalidSignatureException", "expired", ServiceRefusedError, "machine's clock"),
    (403, "SomethingNew", "no", ServiceRefusedError, "SomethingNew: no"),
    (404, "UnknownOperationException", None, ServiceRefusedError, "`endpoint`"),
    (413, "RequestEntityTooLarge", "too large", PayloadTooLargeError, "too large"),
    (400, "SomethingNew", "no", RowRejectedError, "SomethingNew: no"),
]  # fmt: skip
OWN: list[tuple[str, RefusalError, type[ModelError], str]] = [
    ("sagemaker", RefusalError(400, "ValidationError", "Endpoint x of account 1 not found."), ServiceRefusedError,
     "in this region"),
    ("sagemaker", RefusalError(400, "ValidationError", "Value at 'body': length less than or equal to 6291456"),
     PayloadTooLargeError, "6291456"),
    ("sagemaker", RefusalError(429, "ModelNotReadyException", "it is loading"), ServiceUnavailableError, "loading"),
    ("sagemaker", RefusalError(530, "InternalDependencyException", "no"), ServiceUnavailableError, "no"),
    ("comprehend", RefusalError(400, "TextSizeLimitExceededException", "too long"), RowRejectedError, "too long"),
    ("comprehend", RefusalError(400, "BatchSizeLimitExceededException", "25"), PayloadTooLargeError, "25"),
    ("comprehend", RefusalError(400, "UnsupportedLanguageException", "xx"), ServiceRefusedError, "`language`"),
    ("comprehend", RefusalError(400, "InvalidRequestException", "not UTF-8"), RowRejectedError, "not UTF-8"),
    ("invoke", RefusalError(400, "ValidationException", "The provided model identifier is invalid."),
     ServiceRefusedError, "in this region"),
    ("invoke", RefusalError(400, "ValidationException", "Invocation of model ID x with on-demand throughput isn't "
                            "supported."), ServiceRefusedError, "on-demand"),
    ("invoke", RefusalError(400, "ValidationException", "Malformed input request: expected maxLength: 50000"),
     RowRejectedError, "maxLength"),
    ("invoke", RefusalError(400, "ServiceQuotaExceededException", "later"), ThrottledError, "later"),
    ("invoke", RefusalError(408, "ModelTimeoutException", "too long"), ServiceTimeoutError, "too long"),
    ("invoke", RefusalError(424, "ModelErrorException", "died", originalStatusCode=500), RowFaultError, "status 500"),
    ("invoke", RefusalError(424, "ModelErrorException", "no", originalStatusCode=400), RowRejectedError, "status 400"),
    ("converse", RefusalError(429, "ModelNotReadyException", "loading"), ServiceUnavailableError, "loading"),
    ("converse", RefusalError(404, "ResourceNotFoundException", "no model"), ServiceRefusedError, "in this region"),
]  # fmt: skip


def failure(model: Model) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model.call(BATCH)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", MODELS)
def test_what_every_service_answers(kind: str, aws: Aws, opened: Opened) -> None:
    model = MODELS[kind](opened)
    aws.next.extend(RefusalError(status, code, message) for status, code, message, _, _ in EVERY)
    errors = [failure(model) for _ in EVERY]
    assert [type(error) for error in errors] == [expected for *_, expected, _ in EVERY]
    for error, (*_, said) in zip(errors, EVERY, strict=True):
        assert said in str(error)
    assert len(aws.calls) == len(EVERY)  # botocore repeats nothing


@pytest.mark.parametrize(("kind", "refusal", "expected", "said"), OWN)
def test_what_one_service_answers(
    kind: str, refusal: RefusalError, expected: type[ModelError], said: str, aws: Aws, opened: Opened
) -> None:
    aws.next.append(refusal)
    error = failure(MODELS[kind](opened))
    assert type(error) is expected
    assert said in str(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, RowRejectedError), (413, PayloadTooLargeError), (415, ServiceRefusedError), (429, ThrottledError),
        (500, RowFaultError), (503, ServiceUnavailableError),
    ],
)  # fmt: skip
def test_what_the_container_of_an_endpoint_answers(
    status: int, expected: type[ModelError], aws: Aws, opened: Opened
) -> None:
    aws.container = lambda _body, _headers: (status, "text/plain", b"the container says no")
    error = failure(MODELS["sagemaker"](opened))
    assert type(error) is expected
    assert f"the model answered status {status}: the container says no" in str(error)


def test_a_container_that_does_not_answer_in_time(aws: Aws, opened: Opened) -> None:
    said = "Your invocation timed out while waiting for a response from container primary."
    aws.next.append(RefusalError(424, "ModelError", said, OriginalStatusCode=0, OriginalMessage=said))
    assert type(failure(MODELS["sagemaker"](opened))) is ServiceTimeoutError


def test_a_service_that_names_a_wait_is_given_it(aws: Aws, opened: Opened) -> None:
    body = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
    aws.next.append((400, {"Content-Type": "application/json", "Retry-After": "7"}, body))
    error = failure(MODELS["comprehend"](opened))
    assert isinstance(error, ThrottledError)
    assert error.retry_after == 7.0


@pytest.mark.parametrize("kind", MODELS)
def test_a_connection_that_is_closed(kind: str, aws: Aws, opened: Opened) -> None:
    aws.next.append(lambda handler: handler.drop())
    assert type(failure(MODELS[kind](opened))) is ConnectionDroppedError


def test_an_answer_that_ends_before_its_end(aws: Aws, opened: Opened) -> None:
    def cut(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"1\n")
        handler.drop()

    aws.next.append(cut)
    assert type(failure(MODELS["sagemaker"](opened))) is ConnectionDroppedError


@pytest.mark.parametrize("kind", ["sagemaker", "comprehend"])
def test_a_service_that_does_not_answer_in_time(kind: str, aws: Aws, opened: Opened) -> None:
    over = threading.Event()
    outputs = {"p": "text"}
    named = {"sagemaker": "churn-endpoint", "comprehend": "sentiment"}[kind]
    model = opened(kind, named, outputs, timeout="200ms")
    aws.next.append(lambda handler: (over.wait(30), handler.drop())[0])
    try:
        error = failure(model)
    finally:
        over.set()
    assert type(error) is ServiceTimeoutError
    assert "did not answer within 0.2 s" in str(error)


def test_an_answer_that_comes_too_slowly_or_is_too_large(aws: Aws, opened: Opened) -> None:
    def drip(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        over.wait(30)
        handler.drop()

    over = threading.Event()
    model = opened("sagemaker", "churn-endpoint", {"p": "text"}, timeout="200ms", max_bytes=1000)
    aws.next.append(drip)
    try:
        assert type(failure(model)) is ServiceTimeoutError
    finally:
        over.set()
    aws.container = lambda _body, _headers: (200, "text/csv", b"1" * 200_000)
    error = failure(model)
    assert type(error) is RowFaultError
    assert "more than 4000 bytes" in str(error)


@pytest.mark.parametrize("kind", MODELS)
def test_an_answer_that_is_none_is_never_taken_for_one(kind: str, aws: Aws, opened: Opened) -> None:
    model = MODELS[kind](opened)
    for body in (b"<html>a proxy</html>", b"", b'{"ResultList": [', b"[]", b"\xff", b"null", b"{}"):
        aws.next.append((200, {"Content-Type": "application/json"}, body))
        assert isinstance(failure(model), RowFaultError), body


def test_a_service_that_is_not_there(opened: Opened) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = failure(opened("sagemaker", "churn-endpoint", {"p": "real"}, endpoint=address))
    assert type(error) is ServiceUnavailableError
    assert address in str(error)


def test_a_request_that_is_too_large_is_not_sent(aws: Aws, opened: Opened) -> None:
    for kind, named, more in (
        ("sagemaker", "churn-endpoint", {}),
        ("comprehend", "sentiment", {}),
        ("bedrock", "cohere.embed-multilingual-v3", {}),
        ("bedrock", "amazon.nova-lite-v1:0", {"prompt": "{note}"}),
    ):
        error = failure(opened(kind, named, {"p": "text"}, max_bytes=5, **more))
        assert type(error) is PayloadTooLargeError
        assert not error.sent
    assert aws.calls == []


# --- who calls ----------------------------------------------------------------------------------------------


def test_a_role_is_assumed_once_and_signs_the_calls(
    aws: Aws, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORING_ROLE", ROLE)
    model = opened("sagemaker", "churn-endpoint", {"p": "real"}, role="$SCORING_ROLE")
    for _ in range(2):
        assert model.call(Batch(("note",), [(1,)])) == [("1",)]
    assert aws.operations() == ["AssumeRole", "InvokeEndpoint", "InvokeEndpoint"]
    assert {call.headers.get("x-amz-security-token") for call in aws.calls} == {None, "a passing token"}


def test_a_role_is_assumed_again_before_its_credentials_end(aws: Aws, opened: Opened) -> None:
    aws.assumed_for = timedelta(minutes=5)  # boto3 renews what has less than ten left
    model = opened("sagemaker", "churn-endpoint", {"p": "real"}, role=ROLE)
    for _ in range(2):
        model.call(Batch(("note",), [(1,)]))
    assert aws.operations() == ["AssumeRole", "InvokeEndpoint"] * 2


def test_a_role_that_may_not_be_assumed(opened: Opened) -> None:
    role = "arn:aws:iam::123456789012:role/other"
    error = failure(opened("sagemaker", "churn-endpoint", {"p": "real"}, role=role))
    assert type(error) is ServiceRefusedError
    assert "the role cannot be assumed: AccessDenied" in str(error)


def test_wrong_credentials(aws: Aws, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    error = failure(opened("comprehend", "sentiment", {"s": "text"}))
    assert type(error) is ServiceRefusedError
    assert "InvalidSignatureException" in str(error)
    assert aws.calls == []


def test_no_credentials(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for more in ({}, {"role": ROLE}):
        with pytest.raises(
            ConfigurationError, match="no credentials of AWS were found; set AWS_ACCESS_KEY_ID"
        ):
            opened("comprehend", "sentiment", {"s": "text"}, **more)


def test_a_region_comes_from_the_section_or_from_the_variable(
    aws: Aws, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"model\.region: no region is known; set it here, or AWS_REGION"
    ):
        opened("comprehend", "sentiment", {"s": "text"}, region=None)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    opened("comprehend", "sentiment", {"s": "text"}, region=None).call(BATCH)
    opened("comprehend", "sentiment", {"s": "text"}).call(BATCH)
    regions = [call.headers["authorization"].split("/")[2] for call in aws.calls]
    assert regions == ["us-east-1", "eu-west-1"]


def test_a_profile_has_the_credentials(
    aws: Aws, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = aws.environment["AWS_ACCESS_KEY_ID"], aws.environment["AWS_SECRET_ACCESS_KEY"]
    file = tmp_path / "config"
    file.write_text(f"[profile scoring]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    opened("comprehend", "sentiment", {"s": "text"}, profile="scoring").call(BATCH)
    assert aws.operations() == ["BatchDetectSentiment"]
    with pytest.raises(ConfigurationError, match=r"model: The config profile \(none\) could not be found"):
        opened("comprehend", "sentiment", {"s": "text"}, profile="none")


def test_a_machine_without_boto3_is_told_what_to_install(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rowscore\[aws\]'"):
        opened("comprehend", "sentiment", {"s": "text"})
