"""Services of AWS that are strict about what they are sent: SageMaker's runtime, Comprehend, Bedrock's runtime, STS.

Paths, headers and errors are those of the wire formats (REST-JSON, JSON 1.1, Query), signatures are computed again, and
the services' limits hold. What they find in a text is computed by plain functions, which tests call as well.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "eu-west-1"
KEY, SECRET = "AKIDSTANDIN", "the secret of the stand-in"
ROLE = "arn:aws:iam::123456789012:role/scoring"
ASSUMED = Credentials("ASIASTANDIN", "a passing secret", "a passing token")
ENDPOINTS = ("churn-endpoint", "reviews-endpoint")
SERVICES = ("sagemaker", "comprehend", "bedrock", "sts")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was taken: the operation, its body, its headers in lower case, and whose connection it came by."""

    operation: str
    body: bytes
    headers: Mapping[str, str]
    client: Any


class RefusalError(Exception):
    """An error of the service, in its wire format."""

    def __init__(self, status: int, code: str, message: str | None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.body = {"message": message, **more}


# --- what the services find: plain functions of the text ----------------------------------------------------


def sentiment(text: str) -> dict[str, float]:
    """The more often it says good or bad, the surer."""
    good, bad = len(re.findall("good", text)), len(re.findall("bad", text))
    whole = 2 + good + bad
    return {"Positive": good / whole, "Negative": bad / whole, "Neutral": 1.5 / whole, "Mixed": 0.5 / whole}


def label(scores: Mapping[str, float]) -> str:
    """The sentiment of the highest score."""
    return max(scores, key=scores.__getitem__).upper()


def found(pattern: str, text: str, kind: str | None = None, *, shown: bool = True) -> list[dict[str, Any]]:
    """Every match with its offsets in code points."""
    return [
        {
            "Score": 0.75,
            **({"Type": kind} if kind else {}),
            **({"Text": match[0]} if shown else {}),
            "BeginOffset": match.start(),
            "EndOffset": match.end(),
        }
        for match in re.finditer(pattern, text)
    ]


def phrases(text: str) -> list[dict[str, Any]]:
    """Every `the ...`."""
    return found(r"the \w+", text)


def entities(text: str) -> list[dict[str, Any]]:
    """Every word in capitals."""
    return found(r"\b[A-Z]{3,}\b", text, "ORGANIZATION")


def pii(text: str) -> list[dict[str, Any]]:
    """Every address of mail."""
    return found(r"\w+@\w+\.\w+", text, "EMAIL", shown=False)


def languages(text: str) -> list[dict[str, Any]]:
    """German, as far as it has umlauts."""
    german = min(1.0, len(re.findall("[äöüß]", text)) / 2)
    return [{"LanguageCode": "de", "Score": german}, {"LanguageCode": "en", "Score": 1 - german}]


def embedding(text: str) -> list[float]:
    """Four numbers: its length, and how often three letters are in it."""
    return [float(len(text)), *(float(text.count(letter)) for letter in "aei")]


# --- the server ---------------------------------------------------------------------------------------------

_FINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "BatchDetectSentiment": ("SentimentScore", sentiment),
    "BatchDetectKeyPhrases": ("KeyPhrases", phrases),
    "BatchDetectEntities": ("Entities", entities),
    "BatchDetectDominantLanguage": ("Languages", languages),
    "DetectPiiEntities": ("Entities", pii),
}
_LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "ar", "hi", "ja", "ko", "zh", "zh-TW")
Reply = tuple[int, dict[str, str], bytes]
Container = Callable[[bytes, Mapping[str, str]], tuple[int, str, bytes]]


class Aws(ThreadingHTTPServer):
    """All of it at one address, as AWS_ENDPOINT_URL leads there.

    Attributes:
        calls: the requests that were taken, in the order in which they came.
        next: what is done instead of answering, one for each request to come: a refusal, a reply, or a function of the
            request.
        container: SageMaker's: from a body and its headers to a status, a content type and an answer.
        poison: texts with this in them get an error of their own from Comprehend, with this code.
        assumed_for: how long credentials of an assumed role hold.
    """

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[Call] = []
        self.next: deque[RefusalError | Reply | Callable[[_Handler], None]] = deque()
        self.container: Container = lambda body, _headers: (
            200,
            "text/csv",
            b"".join(b"%d\n" % line.count(b"1") for line in body.splitlines()),
        )
        self.poison: dict[str, str] = {}
        self.assumed_for = timedelta(hours=1)
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead boto3 there."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def operations(self) -> list[str]:
        """The operations that were called."""
        return [call.operation for call in self.calls]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error of the server."""


@contextmanager
def serving() -> Iterator[Aws]:
    """The server, while the block runs."""
    with Aws() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 5  # a connection that is kept alive is given up: the server waits for its threads
    server: Aws

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            operation, run = self._operation(body, headers)
            with self.server.lock:
                self.server.calls.append(Call(operation, body, headers, self.client_address))
                instead = (
                    self.server.next.popleft() if self.server.next and operation != "AssumeRole" else None
                )
            if isinstance(instead, RefusalError):
                raise instead
            if callable(instead):
                instead(self)
                return
            status, more, content = instead or run()
        except RefusalError as refusal:
            status, content = refusal.status, json.dumps(refusal.body).encode()
            more = {"Content-Type": "application/json"}
            if refusal.code:  # as REST-JSON and JSON 1.1 name it
                more["x-amzn-ErrorType"] = f"{refusal.code}:http://internal.amazon.com/coral/"
                content = json.dumps({"__type": f"com.amazonaws#{refusal.code}", **refusal.body}).encode()
        self.reply(status, more, content)

    def reply(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """Send it."""
        self.send_response(status)
        self.send_header("x-amzn-RequestId", "c000b4f9-df62-4c85-bf7c-7c525bc22f9a")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def drop(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _operation(self, body: bytes, headers: Mapping[str, str]) -> tuple[str, Callable[[], Reply]]:
        path = urlsplit(self.path).path
        if match := re.fullmatch(r"/endpoints/([\w-]+)/invocations", path):
            self._check_signature("sagemaker", body, headers)
            return "InvokeEndpoint", lambda: self._invoke_endpoint(match[1], body, headers)
        if match := re.fullmatch(r"/model/([^/]+)/(invoke|converse)", path):
            self._check_signature("bedrock", body, headers)
            name, verb = unquote(match[1]), match[2]
            if verb == "invoke":
                return "InvokeModel", lambda: _invoke_model(name, body, headers)
            return "Converse", lambda: _converse(name, body)
        if path == "/" and "x-amz-target" in headers:
            self._check_signature("comprehend", body, headers)
            service, _, operation = headers["x-amz-target"].partition(".")
            assert service == "Comprehend_20171127"
            assert headers["content-type"] == "application/x-amz-json-1.1"
            return operation, lambda: self._comprehend(operation, json.loads(body))
        if path == "/" and headers["content-type"].startswith("application/x-www-form-urlencoded"):
            self._check_signature("sts", body, headers)
            return "AssumeRole", lambda: _assume_role(parse_qs(body.decode()), self.server.assumed_for)
        raise RefusalError(404, "UnknownOperationException", None)

    def _check_signature(self, service: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Signature Version 4, computed again from what came."""
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/\d{8}/([\w-]+)/(\w+)/aws4_request, SignedHeaders=([\w;-]+), "
            r"Signature=([0-9a-f]{64})",
            headers.get("authorization", ""),
        )
        if match is None:
            raise RefusalError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        key, region, signed_for, names, signature = match.groups()
        known = {KEY: Credentials(KEY, SECRET), ASSUMED.access_key: ASSUMED}
        if key not in known or known[key].token != headers.get("x-amz-security-token"):
            raise RefusalError(
                403, "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        if signed_for != service or region not in (REGION, "us-east-1"):
            raise RefusalError(403, "InvalidSignatureException", f"Credential should be scoped to {service}.")
        assert {"host", "x-amz-date"} <= set(names.split(";"))
        signed = {name: headers[name] for name in names.split(";")}
        request = AWSRequest("POST", f"http://{headers['host']}{self.path}", data=body, headers=signed)
        request.context["timestamp"] = headers["x-amz-date"]
        auth = SigV4Auth(known[key], service, region)
        if (
            auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
            != signature
        ):
            raise RefusalError(403, "InvalidSignatureException", "The request signature does not match.")

    def _invoke_endpoint(self, name: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        if name not in ENDPOINTS:
            raise RefusalError(400, "ValidationError", f"Endpoint {name} of account 123456789012 not found.")
        if len(body) > 6_291_456:
            said = "1 validation error detected: Value at 'body' failed to satisfy constraint: Member must have length "
            raise RefusalError(400, "ValidationError", said + "less than or equal to 6291456")
        status, kind, content = self.server.container(body, headers)
        if status // 100 != 2:
            said = content.decode()
            side = "server" if status >= 500 else "client"
            message = f'Received {side} error ({status}) from primary with message "{said}".'
            raise RefusalError(424, "ModelError", message, OriginalStatusCode=status, OriginalMessage=said)
        return 200, {"Content-Type": kind, "x-Amzn-Invoked-Production-Variant": "AllTraffic"}, content

    def _comprehend(self, operation: str, asked: dict[str, Any]) -> Reply:
        if operation not in _FINDS:
            raise RefusalError(400, "UnknownOperationException", None)
        texts = asked.pop("TextList", None) if operation.startswith("Batch") else [asked.pop("Text", None)]
        language = "en" if operation == "BatchDetectDominantLanguage" else asked.pop("LanguageCode", None)
        if not texts or not all(texts) or asked:
            raise RefusalError(400, "InvalidRequestException", "1 validation error detected")
        if language not in (("en", "es") if operation == "DetectPiiEntities" else _LANGUAGES):
            raise RefusalError(400, "UnsupportedLanguageException", f"Language {language} is not supported")
        if len(texts) > 25:
            raise RefusalError(
                400, "BatchSizeLimitExceededException", "the limit of 25 documents is exceeded"
            )
        results, errors = self._read(operation, texts)
        if operation.startswith("Batch"):
            return _json({"ResultList": results, "ErrorList": errors}, "application/x-amz-json-1.1")
        if errors:
            code = (
                "TextSizeLimitExceededException"
                if "SIZE" in errors[0]["ErrorCode"]
                else errors[0]["ErrorCode"]
            )
            raise RefusalError(400, code, errors[0]["ErrorMessage"])
        return _json({"Entities": results[0]["Entities"]}, "application/x-amz-json-1.1")

    def _read(self, operation: str, texts: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        key, find = _FINDS[operation]
        for index, text in enumerate(texts):
            code = next((code for word, code in self.server.poison.items() if word in text), None)
            if len(text.encode()) >= (100_000 if operation == "DetectPiiEntities" else 5_000):
                code = "TEXT_SIZE_LIMIT_EXCEEDED"
            if code is not None:
                errors.append(
                    {"Index": index, "ErrorCode": code, "ErrorMessage": f"it cannot be read: {code}"}
                )
                continue
            results.append({"Index": index, key: find(text)})
            if key == "SentimentScore":
                results[-1]["Sentiment"] = label(results[-1][key])
        return results, errors


def _invoke_model(name: str, body: bytes, headers: Mapping[str, str]) -> Reply:
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "application/json"
    asked = json.loads(body)
    if name == "amazon.titan-embed-text-v2:0":
        if set(asked) - {"inputText", "dimensions", "normalize"} or not asked.get("inputText"):
            raise RefusalError(
                400, "ValidationException", "Malformed input request: #/inputText: expected minLength: 1"
            )
        numbers = embedding(asked["inputText"])[: asked.get("dimensions", 4)]
        return _json({"embedding": numbers, "inputTextTokenCount": 1}, **_charged(len(asked["inputText"])))
    if name == "cohere.embed-multilingual-v3":
        texts = asked["texts"]
        assert asked["input_type"] in ("search_document", "search_query", "classification", "clustering")
        if len(texts) > 96:
            said = f"Malformed input request: #/texts: expected maximum item count: 96, found: {len(texts)}"
            raise RefusalError(400, "ValidationException", said)
        answer = {"embeddings": [embedding(text) for text in texts], "response_type": "embeddings_floats"}
        return _json(answer, **_charged(sum(map(len, texts))))
    raise RefusalError(400, "ValidationException", "The provided model identifier is invalid.")


def _converse(name: str, body: bytes) -> Reply:
    if name != "amazon.nova-lite-v1:0":
        raise RefusalError(400, "ValidationException", "The provided model identifier is invalid.")
    asked = json.loads(body)
    assert set(asked) <= {"messages", "system", "inferenceConfig"}
    (message,) = asked["messages"]
    ((content,), role) = message["content"], message["role"]
    assert role == "user"
    if not content["text"].strip():
        raise RefusalError(400, "ValidationException", "The text field in the ContentBlock object is blank.")
    words = content["text"].upper().split()
    most = asked.get("inferenceConfig", {}).get("maxTokens", 100)
    reason = "end_turn" if len(words) <= most else "max_tokens"
    if "GUARDED" in words:
        reason = "guardrail_intervened"
    said = {"message": {"role": "assistant", "content": [{"text": " ".join(words[:most])}]}}
    usage = {"inputTokens": len(words), "outputTokens": len(words[:most]), "totalTokens": len(words) * 2}
    return _json({"output": said, "stopReason": reason, "usage": usage, "metrics": {"latencyMs": 1}})


def _assume_role(asked: Mapping[str, list[str]], lasting: timedelta) -> Reply:
    assert asked["Action"] == ["AssumeRole"]
    if asked["RoleArn"] != [ROLE]:
        said = f"User is not authorized to perform: sts:AssumeRole on resource: {asked['RoleArn'][0]}"
        error = f"<Error><Type>Sender</Type><Code>AccessDenied</Code><Message>{said}</Message></Error>"
        return 403, {"Content-Type": "text/xml"}, f"<ErrorResponse>{error}</ErrorResponse>".encode()
    ends_at = datetime.now(UTC) + lasting
    keys = (
        f"<AccessKeyId>{ASSUMED.access_key}</AccessKeyId><SecretAccessKey>{ASSUMED.secret_key}</SecretAccessKey>"
        f"<SessionToken>{ASSUMED.token}</SessionToken><Expiration>{ends_at:%Y-%m-%dT%H:%M:%SZ}</Expiration>"
    )
    user = f"<AssumedRoleUser><Arn>{ROLE}/rowscore</Arn><AssumedRoleId>A:rowscore</AssumedRoleId></AssumedRoleUser>"
    result = f"<AssumeRoleResult><Credentials>{keys}</Credentials>{user}</AssumeRoleResult>"
    return 200, {"Content-Type": "text/xml"}, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode()


def _json(value: Any, kind: str = "application/json", **headers: str) -> Reply:
    return 200, {"Content-Type": kind, **headers}, json.dumps(value).encode()


def _charged(characters: int) -> dict[str, str]:
    return {"X-Amzn-Bedrock-Input-Token-Count": str(max(1, characters // 3))}
