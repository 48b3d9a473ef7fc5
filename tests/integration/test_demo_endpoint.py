"""The model endpoint as a process, asked over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from worker.demo import churn, model
from worker.demo.endpoint import MAX_BODY
from worker.demo.servers import EndpointServer

ROWS = list(churn.rows(300))
CSV = {"Content-Type": "text/csv"}


def body(rows: list[churn.Row]) -> str:
    """Rows as a call sends them."""
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointServer]:
    with EndpointServer(tmp_path_factory.mktemp("endpoint"), latency="0ms") as server:
        yield server


@pytest.fixture
def client(endpoint: EndpointServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{endpoint.address}", headers=CSV, timeout=20) as client:
        yield client


def test_it_answers_a_line_a_row_as_the_model_does(client: httpx.Client) -> None:
    answer = client.post("/invocations", content=body(ROWS))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert [float(line) for line in answer.text.splitlines()] == model.predict(ROWS)


def test_it_lives_and_counts(client: httpx.Client) -> None:
    assert client.get("/ping").status_code == 200
    before = client.get("/stats").json()
    client.post("/invocations", content=body(ROWS[:7]))
    client.post("/invocations", content="no,customer\n")
    after = client.get("/stats").json()
    assert {name: after[name] - before[name] for name in ("calls", "rows", "errors", "busy")} == {
        "calls": 1,
        "rows": 7,
        "errors": 1,
        "busy": 0,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (body(ROWS[:2]) + "NJ,12\n", "row 3: 2 columns where 20 belong"),
        (
            body(ROWS[:1]) + body(ROWS[1:2]).replace(f",{ROWS[1][1]},", ",old,", 1),
            "row 2, column acc_length: 'old'",
        ),
        (b"\xff\xfe", "not UTF-8"),
        ("", "no rows"),
    ],
)
def test_a_malformed_row_is_named(client: httpx.Client, content: str | bytes, said: str) -> None:
    answer = client.post("/invocations", content=content)
    assert answer.status_code == 400
    assert said in answer.text


def test_what_it_does_not_serve(client: httpx.Client) -> None:
    wrong = client.post("/invocations", content="{}", headers={"Content-Type": "application/json"})
    assert (wrong.status_code, wrong.text) == (415, "send text/csv, not application/json\n")
    assert client.post("/elsewhere", content="x").status_code == 404
    assert client.get("/elsewhere").status_code == 404
    assert client.post("/invocations", content=iter([b"chunked"])).status_code == 411
    assert client.post("/invocations", content=body(ROWS[:1])).status_code == 200


def test_a_body_above_the_limit_is_refused_whole(client: httpx.Client) -> None:
    answer = client.post("/invocations", content=b"x" * (MAX_BODY + 1))
    assert answer.status_code == 413
    assert str(MAX_BODY) in answer.text


def test_a_call_takes_its_latency_and_no_more_than_so_many_run_at_once(tmp_path: Path) -> None:
    with (
        EndpointServer(tmp_path, latency="50ms", concurrency=2) as server,
        httpx.Client(headers=CSV) as client,
        ThreadPoolExecutor(6) as pool,
    ):
        took = []
        for _ in range(5):
            began = time.monotonic()
            client.post(server.url, content=body(ROWS[:1])).raise_for_status()
            took.append(time.monotonic() - began)
        assert 0.05 <= min(took) < 0.08  # a delayed acknowledgement would add 0.04
        began = time.monotonic()
        answers = list(pool.map(lambda _: client.post(server.url, content=body(ROWS[:1])), range(6)))
        assert all(answer.status_code == 200 for answer in answers)
        assert time.monotonic() - began >= 0.15  # six calls, two at once


def test_sigterm_answers_the_call_under_way_and_ends_idle_connections(tmp_path: Path) -> None:
    with (
        EndpointServer(tmp_path, latency="300ms") as server,
        httpx.Client(headers=CSV) as client,
        httpx.Client(headers=CSV) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        stats = f"http://{server.address}/stats"
        call = pool.submit(client.post, server.url, content=body(ROWS[:1]))
        while other.get(stats).json()["busy"] == 0:
            assert not call.done()
        status = server.process.stop()
        assert status == 0
        assert call.result().status_code == 200
