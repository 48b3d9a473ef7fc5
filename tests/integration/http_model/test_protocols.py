"""The protocols with real values: requests to the letter, exact numbers, rows that cannot be sent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.certificates import Authority
from tests.support.predictions import applied, configuration, drain, opened
from worker.errors import ConfigurationError, PayloadTooLargeError, ServiceUnavailableError
from worker.kinds import ModelKind
from worker.kinds.http import HttpModel
from worker.models.http import HttpEndpoint
from worker.models.protocol import Batch, RowFailure

BATCH = Batch(
    ("amount", "kind", "good"), [(Decimal("1.10"), "a,b", True), (None, 'say "hi"', None), (7.5, "", False)]
)


class Recorder(ThreadingHTTPServer):
    """Answers with what the test says, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Any = None
        self.bodies: list[str] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Recorder

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.do_GET()

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers))
        answer = self.server.answer
        text = answer(json.loads(self.server.bodies[-1])) if callable(answer) else answer
        content = text.encode() if isinstance(text, str) else json.dumps(text).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def called(
    recorder: Recorder, batch: Batch = BATCH, outputs: dict[str, str] | None = None, **settings: Any
) -> Any:
    model = HttpEndpoint(
        HttpModel(http=recorder.url, **settings), outputs or {"p": "double precision"}, concurrency=1
    )
    try:
        return model.call(batch)
    finally:
        model.close()


VALUES = '[[1.10,"a,b",true],[null,"say \\"hi\\"",null],[7.5,"",false]]'
OBJECTS = (
    '{"amount":1.10,"kind":"a,b","good":true}',
    '{"amount":null,"kind":"say \\"hi\\"","good":null}',
    '{"amount":7.5,"kind":"","good":false}',
)


@pytest.mark.parametrize(
    ("settings", "body"),
    [
        (
            {"protocol": "json"},
            f'{{"dataframe_split":{{"columns":["amount", "kind", "good"],"data":{VALUES}}}}}',
        ),
        ({"protocol": "instances"}, f'{{"instances":[{",".join(OBJECTS)}]}}'),
        ({"protocol": "torchserve", "answer": "predictions.*"}, f"[{','.join(OBJECTS)}]"),
        (
            {"request": '{"rows": [{"a": "{amount}", "k": "<{kind}>"}], "v": 2}', "answer": "predictions.*"},
            '{"rows":[{"a":1.10,"k":"<a,b>"},{"a":null,"k":"<say \\"hi\\">"},{"a":7.5,"k":"<>"}],"v":2}',
        ),
        (
            {
                "protocol": "torchserve",
                "answer": "predictions.*",
                "encoding": {"null": -1, "booleans": ["n", "y"]},
            },
            f"[{','.join(OBJECTS)}]".replace("null", "-1").replace("true", '"y"').replace("false", '"n"'),
        ),
    ],
)
def test_requests_to_the_letter(recorder: Recorder, settings: Any, body: str) -> None:
    recorder.answer = {"predictions": [0.5, None, 1]}
    assert called(recorder, **settings) == [(0.5,), (None,), (1,)]
    assert recorder.bodies == [body]


@pytest.mark.parametrize(
    ("answer", "settings", "expected"),
    [
        ({"predictions": [{"q": 1, "p": 0.5, "x": 0}] * 3}, {}, (0.5, 1)),
        ({"predictions": [[0.5, 1]] * 3}, {}, (0.5, 1)),
        ({"predictions": {"p": [0.5] * 3, "q": [1] * 3}}, {}, (0.5, 1)),
        (
            {"out": [{"a": {"b": [7, 0.5]}, "q": 1}] * 3},
            {"answer": {"p": "out.*.a.b.1", "q": "out.*.q"}},
            (0.5, 1),
        ),
        ({"p": [0.5] * 3, "more": {"q": [1] * 3}}, {"answer": {"q": "more.q.*", "p": "p.*"}}, (0.5, 1)),
    ],
)
def test_several_outputs(recorder: Recorder, answer: Any, settings: Any, expected: Any) -> None:
    recorder.answer = answer
    outputs = {"p": "float8", "q": "integer"}
    assert called(recorder, outputs=outputs, protocol="instances", **settings) == [expected] * 3


def test_a_matrix_of_one_column_is_a_number_each_and_an_array_stays(recorder: Recorder) -> None:
    recorder.answer = {"predictions": [[0.5], [0.25], [1.0]]}
    assert called(recorder, protocol="instances") == [(0.5,), (0.25,), (1.0,)]
    assert called(recorder, outputs={"p": "real[]"}, protocol="instances")[0] == ([0.5],)
    recorder.answer = {"predictions": [{"p": 1}, {"p": 2, "q": 3}, [4]]}
    assert called(recorder, outputs={"p": "jsonb"}, protocol="json") == [(1,), ({"p": 2, "q": 3},), ([4],)]


def test_one_row_a_request_where_nothing_is_repeated(recorder: Recorder) -> None:
    recorder.answer = {"label": {"name": "high"}}
    settings = HttpModel(http=recorder.url, request='{"text": "{kind}"}', answer="label.name")
    model = HttpEndpoint(settings, {"p": "text"}, concurrency=1)
    assert model.most_rows == 1
    assert model.call(Batch(BATCH.names, BATCH.rows[:1])) == [("high",)]
    assert recorder.bodies == ['{"text":"a,b"}'], "inputs that the template does not name are not sent"
    model.close()


def test_rows_that_cannot_be_sent_fail_alone(recorder: Recorder) -> None:
    recorder.answer = lambda body: {"predictions": [row[0] for row in body["dataframe_split"]["data"]]}
    rows = [(1.0,), (float("nan"),), (3.0,), (float("-inf"),)]
    answers = called(recorder, Batch(("a",), rows), protocol="json")
    assert answers[0::2] == [(1.0,), (3.0,)]
    assert [type(answer) for answer in answers[1::2]] == [RowFailure] * 2
    assert "input a: nan is no number of JSON" in answers[1].message
    assert len(recorder.bodies) == 1, "they are told without a search"


def test_an_exact_number_stays_exact_into_the_table(
    recorder: Recorder, connect: Connect, database_url: str
) -> None:
    connection = connect()
    connection.execute(
        "CREATE TABLE items (id int PRIMARY KEY, a numeric(40, 30), p numeric(40, 30), q float8, j jsonb)"
    )
    recorder.answer = lambda _: recorder.bodies[-1].replace('{"rows":[', '{"out":[')
    model = {
        "http": recorder.url,
        "request": '{"rows": [{"p": "{a}", "q": "{a}", "j": {"k": ["{a}"]}}]}',
        "answer": "out.*",
    }
    outputs = {"p": "numeric(40, 30)", "q": "double precision", "j": "jsonb"}
    digits = "1234567890.123456789012345678901234567890"
    with opened(configuration(database_url, model=model, inputs=["a"], outputs=outputs)) as engine:
        applied(engine)
        connection.execute("INSERT INTO items VALUES (1, %s)", [digits])
        assert drain(engine).scored == 1
    row = connection.execute("SELECT p, q, j FROM items").fetchone()
    assert row == (Decimal(digits), float(digits), {"k": [float(digits)]})


@pytest.mark.parametrize(
    ("settings", "path", "health"),
    [
        ({}, "/models/churn/invocations", "/models/churn/ping"),
        ({"protocol": "json"}, "/invocations", "/ping"),
        ({"protocol": "instances"}, "/v1/models/churn:predict", "/v1/models/churn"),
        ({"protocol": "instances"}, "/predict", "/ping"),
        ({"protocol": "jsonlines"}, "/invocations", "/ping"),
        ({"protocol": "torchserve"}, "/predictions/churn/2", "/ping"),
        ({"protocol": "v2"}, "/v2/models/churn/versions/3/infer", "/v2/models/churn/versions/3/ready"),
        ({"request": '["{a}"]', "answer": "*"}, "/score?key=1", "/ping"),
    ],
)
def test_each_protocol_knows_where_it_is_told_of_health(
    recorder: Recorder, settings: Any, path: str, health: str
) -> None:
    recorder.answer = {}
    model = HttpEndpoint(HttpModel(http=recorder.url + path, **settings), {"p": "float8"}, concurrency=1)
    assert f"{recorder.url}{health} answered 200" in model.check()
    assert recorder.paths == [health]
    model.close()


def test_a_payload_that_is_too_large_is_never_sent(recorder: Recorder) -> None:
    with pytest.raises(
        PayloadTooLargeError, match=r"3 rows are .* bytes, more than max_bytes = 40"
    ) as refusal:
        called(recorder, protocol="json", max_bytes=40)
    assert (recorder.bodies, refusal.value.sent) == ([], False)


def test_a_private_authority_is_trusted_where_it_is_named(recorder: Recorder, tmp_path: Path) -> None:
    authority, other = (Authority(tmp_path / name, name) for name in ("own", "other"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("127.0.0.1"))
    recorder.socket = context.wrap_socket(recorder.socket, server_side=True)
    recorder.scheme = "https"
    recorder.answer = {"predictions": [1, 2, 3]}
    assert called(recorder, protocol="json", ca=str(authority.file)) == [(1,), (2,), (3,)]
    for ca in (None, str(other.file)):
        with pytest.raises(ServiceUnavailableError, match="certificate verify failed"):
            called(recorder, protocol="json", ca=ca)
    assert len(recorder.bodies) == 1
    (tmp_path / "key.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"model\.ca: .*key\.pem is no PEM file"):
        called(recorder, ca=str(tmp_path / "key.pem"))
    with pytest.raises(ConfigurationError, match=r"model\.ca: cannot read .*none\.pem: No such file"):
        called(recorder, ca=str(tmp_path / "none.pem"))


def test_settings_decide_what_they_decide() -> None:
    def definition(model: ModelKind) -> Any:
        return model.definition

    usual = HttpModel(http="http://h")
    assert definition(usual) == {"http": "http://h"}, "new keys change no definition that has none of them"
    assert definition(HttpModel(http="http://h", ca="x", headers={"a": "b"})) == {"http": "http://h"}
    assert definition(HttpModel(http="http://h", protocol="v2")) == {"http": "http://h", "protocol": "v2"}
