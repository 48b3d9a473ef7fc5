"""The cookbook's examples: the TOML blocks of docs/models.md, and for each a recipe that starts what it needs.

A recipe is registered for the kind, which is the section's title, and the prediction's name in the block:

    @recipe("http", "churn")
    @contextmanager
    def _http_churn(place: Place) -> Iterator[Dish]:
        place.connection.execute("CREATE TABLE customers (...)")
        with server() as url:
            yield Dish({"CHURN_ENDPOINT": url}, insert, expected)

tests/acceptance/test_cookbook.py runs each block as it is; one without a recipe fails there.
"""

from __future__ import annotations

import json
import math
import os
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

import sql
from tests.docs.checks import MODELS
from tests.docs.documents import Code, Document, read
from tests.support import aws, modelservers, onnxmodels
from worker.demo import churn
from worker.demo.model import predict
from worker.demo.servers import EndpointServer
from worker.kinds import KINDS
from worker.models.splitting import average, split


@dataclass(frozen=True, slots=True)
class Example:
    """A configuration in the page.

    Attributes:
        beside: the section's other blocks by language, in the page's order: SQL, Python.
    """

    kind: str
    prediction: str
    text: str
    beside: Mapping[str, tuple[str, ...]]

    def __str__(self) -> str:
        return f"{self.kind}: {self.prediction}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an example runs.

    Attributes:
        connection: to the empty PostgreSQL database, autocommitting.
        folder: that of rowscore.toml, where commands are started.
    """

    connection: psycopg.Connection[Any]
    folder: Path
    example: Example


@dataclass(frozen=True, slots=True)
class Dish:
    """What an example needs while it runs, and what has to come out.

    Attributes:
        environment: what the block's `$VARIABLES` stand for.
        insert: adds rows; called once before `apply` and once after it.
        expected: from a whole row, by column, to the value of each output: compared (floats by pytest.approx), or
            asked where it is a function of the value.
    """

    environment: Mapping[str, str]
    insert: Callable[[], Any]
    expected: Callable[[dict[str, Any]], Mapping[str, Any]]


Recipe = Callable[[Place], AbstractContextManager[Dish]]
RECIPES: dict[tuple[str, str], Recipe] = {}


def recipe(kind: str, prediction: str) -> Callable[[Recipe], Recipe]:
    """Register the recipe of an example."""

    def register(function: Recipe) -> Recipe:
        RECIPES[kind, prediction] = function
        return function

    return register


@dataclass(slots=True)
class _Section:
    examples: list[str] = field(default_factory=list)
    beside: dict[str, list[str]] = field(default_factory=dict)


def examples() -> list[Example]:
    """The configurations of the page, in its order."""
    document = read(MODELS)
    found: dict[str, _Section] = {kind: _Section() for kind in KINDS}
    for block in document.blocks:
        section = found.get(_title(document, block))
        if section is None:
            continue
        if block.language == "toml":
            section.examples.append(block.text)
        else:
            section.beside.setdefault(block.language, []).append(block.text)
    return [
        Example(kind, _named(text), text, {name: tuple(texts) for name, texts in section.beside.items()})
        for kind, section in found.items()
        for text in section.examples
    ]


def _title(document: Document, block: Code) -> str:
    """The heading of the second level above a block."""
    lines = document.prose.splitlines()[: block.line - 1]
    return next((line.removeprefix("## ") for line in reversed(lines) if line.startswith("## ")), "")


def _named(text: str) -> str:
    """The name of the block's one prediction."""
    (name,) = tomllib.loads(text)["predictions"]
    return str(name)


# --- the database's, Python's, and SageMaker's contract ----------------------------------------------------


@recipe("sql", "fraud")
@contextmanager
def _sql_fraud(place: Place) -> Iterator[Dish]:
    place.connection.execute(place.example.beside["sql"][0])

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        (value,) = place.connection.execute(
            "SELECT predict_fraud(%s, %s, %s)", [row["amount"], row["country"], row["items"]]
        ).fetchone() or (None,)
        return {"fraud_probability": value}

    yield Dish({}, lambda: _add_orders(place.connection), expected)


@recipe("sql", "churn")
@contextmanager
def _sql_churn(place: Place) -> Iterator[Dish]:
    """No server that can be had is Aurora: stand-ins take its place, as the page says for a laptop."""
    place.connection.execute(sql.load("postgresql", "aurora")["aws_ml"].show())
    place.connection.execute(place.example.beside["sql"][1])
    place.connection.execute(
        "CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text, day_mins float8)"
    )

    def insert() -> None:
        place.connection.execute("INSERT INTO customers (state, day_mins) VALUES ('CA', 120), ('TX', NULL)")

    yield Dish({}, insert, lambda row: {"churn_probability": 2 + (row["day_mins"] or 0.0) / 100})


@recipe("python", "delivery")
@contextmanager
def _python_delivery(place: Place) -> Iterator[Dish]:
    _make_orders(place.connection)
    (module,) = place.example.beside["python"]
    (place.folder / "mymodel.py").write_text(module)

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "delivery_days": 2 + 0.5 * row["items"] + (0 if row["country"] == "DE" else 3),
            "delivery_carrier": "freight" if row["amount"] > 400 else "parcel",
        }

    paths = str(place.folder), os.environ.get("PYTHONPATH", "")
    yield Dish(
        {"PYTHONPATH": os.pathsep.join(filter(None, paths))}, lambda: _add_orders(place.connection), expected
    )


@recipe("onnx", "returns")
@contextmanager
def _onnx_returns(place: Place) -> Iterator[Dish]:
    weights = [0.002, -0.5]
    (place.folder / "models").mkdir()
    onnxmodels.classifier(place.folder / "models" / "returns.onnx", weights, zipmap=True)
    _make_orders(place.connection)

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        return {"return_probability": onnxmodels.probability(weights, [row["amount"], row["items"]])}

    yield Dish({}, lambda: _add_orders(place.connection), expected)


def _make_orders(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount double precision, "
        "country text, items int)"
    )


def _add_orders(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO orders (amount, country, items) SELECT 100 * i, (ARRAY['DE', 'FR'])[1 + i % 2], i % 4 "
        "FROM generate_series(1, 9) AS s(i)"
    )


@recipe("http", "churn")
@contextmanager
def _http_churn(place: Place) -> Iterator[Dish]:
    columns = ", ".join(f"{name} {kind}" for name, kind in churn.TYPES.items())
    place.connection.execute(
        f"CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {columns})"
    )
    rows = iter(list(churn.rows(40)))

    def insert() -> None:
        values = ", ".join(["%s"] * len(churn.FEATURES))
        with place.connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO customers ({', '.join(churn.FEATURES)}) VALUES ({values})",
                [next(rows) for _ in range(20)],
            )

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        return {"churn_probability": predict([[row[name] for name in churn.FEATURES]])[0]}

    with EndpointServer(place.folder / "endpoint", latency="1ms") as endpoint:
        yield Dish({"CHURN_ENDPOINT": endpoint.url}, insert, expected)


@recipe("http", "risk")
@contextmanager
def _http_risk(place: Place) -> Iterator[Dish]:
    _make_orders(place.connection)
    with modelservers.mlflow() as url:
        yield Dish({"MLFLOW_URL": url}, lambda: _add_orders(place.connection), _risk("score", "label"))


@recipe("http", "delay")
@contextmanager
def _http_delay(place: Place) -> Iterator[Dish]:
    _make_orders(place.connection)
    with modelservers.mlserver(place.folder) as url:
        expected = _risk("delay_score", "delay_label")
        yield Dish({"MLSERVER_URL": url}, lambda: _add_orders(place.connection), expected)


def _risk(score: str, label: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What the model in tests/servers answers."""

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        value = 1 / (1 + math.exp(row["items"] - row["amount"] / 100))
        return {score: value, label: "high" if value > 0.5 else "low"}

    return expected


@recipe("http", "topic")
@contextmanager
def _http_topic(place: Place) -> Iterator[Dish]:
    def answer(path: str, headers: Mapping[str, str], asked: Any) -> Any:
        assert (path, headers["Authorization"]) == ("/topics", "Bearer sesame")
        assert asked["task"] == "topics"
        return {
            "results": [
                {"labels": [labelled(item["text"]), {"name": "other"}]} for item in asked["documents"]
            ]
        }

    def labelled(text: str) -> dict[str, Any]:
        return {"name": text.partition(":")[0].upper(), "score": len(text) / 8192}

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        found = labelled(f"{row['title'] or ''}: {row['body'] or ''}")
        return {"topic": found["name"], "topic_score": found["score"]}

    insert = _add_reviews(place)
    with answering(answer) as url:
        yield Dish({"TOPIC_URL": f"{url}/topics", "TOPIC_TOKEN": "sesame"}, insert, expected)


# --- OpenAI's API -------------------------------------------------------------------------------------------


@recipe("openai", "similar")
@contextmanager
def _openai_similar(place: Place) -> Iterator[Dish]:
    place.connection.execute("CREATE EXTENSION vector")
    name = "text-embedding-3-small"
    key = {"Authorization": f"Bearer {modelservers.KEY}"}
    with modelservers.embeddings(name) as url:

        def expected(row: dict[str, Any]) -> dict[str, Any]:
            if row["title"] is None:
                return {"similar_embedding": None}
            asked = {"model": name, "input": [f"{row['title']}: {row['body']}"], "dimensions": 256}
            reply = httpx.post(f"{url}/embeddings", json=asked, headers=key, trust_env=False)
            numbers = pytest.approx(reply.json()["data"][0]["embedding"], abs=1e-6)
            return {"similar_embedding": lambda value: json.loads(value) == numbers}

        environment = {"EMBEDDING_URL": url, "OPENAI_API_KEY": modelservers.KEY}
        yield Dish(environment, _add_reviews(place), expected)


@recipe("openai", "ticket")
@contextmanager
def _openai_ticket(place: Place) -> Iterator[Dish]:
    place.connection.execute(
        "CREATE TABLE tickets (id bigint GENERATED ALWAYS AS IDENTITY, subject text, message text)"
    )
    place.connection.execute("ALTER TABLE tickets ADD PRIMARY KEY (id)")

    def answer(path: str, headers: Mapping[str, str], asked: Any) -> Any:
        assert headers["Authorization"] == "Bearer sesame"
        if asked is None:
            return {"id": path.rpartition("/")[2]}
        assert path == "/v1/chat/completions"
        assert asked["response_format"]["json_schema"]["strict"] is True
        system, user = asked["messages"]
        assert system == {"role": "system", "content": "You sort the tickets of a shop."}
        content = json.dumps(_sorted(user["content"]))
        return {"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": content}}]}

    def insert() -> None:
        for subject, message in (("Refund", "Now, please!"), (None, "Where is it?"), (None, None)):
            place.connection.execute(
                "INSERT INTO tickets (subject, message) VALUES (%s, %s)", [subject, message]
            )

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        if row["message"] is None:
            return {"ticket_topic": None, "ticket_urgent": None}
        return _sorted(f"{row['subject'] or ''}\n\n{row['message']}")

    with answering(answer) as url:
        yield Dish({"CHAT_URL": f"{url}/v1", "OPENAI_API_KEY": "sesame"}, insert, expected)


def _sorted(text: str) -> dict[str, Any]:
    subject, _, message = text.partition("\n\n")
    topic = "billing" if subject == "Refund" else "shipping"
    return {"ticket_topic": topic, "ticket_urgent": message.endswith("!")}


@contextmanager
def answering(answer: Callable[[str, Mapping[str, str], Any], Any]) -> Iterator[str]:
    """A server of JSON: its answer follows from the path, the headers and the document, which is None for a GET."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                self.reply(200, answer(self.path, self.headers, json.loads(body)))  # type: ignore[arg-type]
            except AssertionError as error:
                self.reply(400, {"error": str(error)})

        def do_GET(self) -> None:
            try:
                self.reply(200, answer(self.path, self.headers, None))  # type: ignore[arg-type]
            except AssertionError:
                self.reply(404, {})

        def reply(self, status: int, document: Any) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# --- services of AWS ----------------------------------------------------------------------------------------


@recipe("sagemaker", "churn")
@contextmanager
def _sagemaker_churn(place: Place) -> Iterator[Dish]:
    place.connection.execute(
        "CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state text, day_mins float8, "
        "cust_service_calls int)"
    )

    def container(body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        assert headers["content-type"] == "text/csv"
        if not body:
            return 400, "text/plain", b"there are no rows"
        fields = [line.split(",") for line in body.decode().splitlines()]
        lines = [f"{float(mins or 0) / 1000 + int(calls)},{state}!\n" for state, mins, calls in fields]
        return 200, "text/csv; charset=utf-8", "".join(lines).encode()

    def insert() -> None:
        place.connection.execute(
            "INSERT INTO customers (state, day_mins, cust_service_calls) VALUES ('CA', 120.5, 1), ('TX', NULL, NULL)"
        )

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        score = (row["day_mins"] or 0.0) / 1000 + (row["cust_service_calls"] or 0)
        return {"churn_probability": score, "churn_label": f"{row['state']}!"}

    with aws.serving() as services:
        services.container = container
        yield Dish(services.environment, insert, expected)


def _add_reviews(place: Place) -> Callable[[], Any]:
    place.connection.execute(
        "CREATE TABLE reviews (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text)"
    )
    long = (
        "It is good. " * 700 + "The end is bad, says the IBM man. " * 20
    )  # more than Comprehend takes at once

    def insert() -> None:
        for title, body in (("Good", "the café is good"), (None, None), ("Long", long)):
            place.connection.execute("INSERT INTO reviews (title, body) VALUES (%s, %s)", [title, body])

    return insert


@recipe("comprehend", "opinion")
@contextmanager
def _comprehend_opinion(place: Place) -> Iterator[Dish]:
    def expected(row: dict[str, Any]) -> dict[str, Any]:
        text = ". ".join(filter(None, (row["title"], row["body"])))
        if not text:
            return dict.fromkeys(("opinion", "opinion_confidence", "opinion_phrases", "opinion_entities"))
        parts = split(text, 4_999)
        scores = average(list(map(aws.sentiment, parts)), list(map(len, parts)))
        return {
            "opinion": aws.label(scores),
            "opinion_confidence": lambda value: value == pytest.approx(max(scores.values()), rel=1e-5),
            "opinion_phrases": [item["Text"] for item in aws.phrases(text)],
            "opinion_entities": aws.entities(text),
        }

    with aws.serving() as services:
        yield Dish(services.environment, _add_reviews(place), expected)


@recipe("bedrock", "similar")
@contextmanager
def _bedrock_similar(place: Place) -> Iterator[Dish]:
    def expected(row: dict[str, Any]) -> dict[str, Any]:
        return {"similar_embedding": None if row["body"] is None else aws.embedding(row["body"])}

    with aws.serving() as services:
        yield Dish(services.environment, _add_reviews(place), expected)


@recipe("bedrock", "summary")
@contextmanager
def _bedrock_summary(place: Place) -> Iterator[Dish]:
    place.connection.execute(
        "CREATE TABLE reviews (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text)"
    )

    def insert() -> None:
        place.connection.execute(
            "INSERT INTO reviews (title, body) VALUES ('Good', 'a café'), (NULL, ' '), ('Bad', NULL)"
        )

    def expected(row: dict[str, Any]) -> dict[str, Any]:
        told = f"In one line: {row['title'] or ''}\n\n{row['body'] or ''}"
        return {"summary": " ".join(told.upper().split()) if row["title"] else None}

    with aws.serving() as services:
        yield Dish(services.environment, insert, expected)
