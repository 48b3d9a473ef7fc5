"""The stand-ins of `rowscore sql aws_ml`: made by the script that is printed, and calling a real endpoint over HTTP.

PL/Python is what calls it, so most of this runs on a server of its own that has the language.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.absent import absent
from tests.support.cli import Cli
from tests.support.endpoint import Request, Rows, Server, status
from tests.support.plpython import PythonServer
from tests.support.predictions import applied, configuration, drain, opened, states
from worker.demo.process import ProcessError
from worker.states import RowState

Owner = psycopg.Connection[Any]
SAGEMAKER = {"sql": "predict", "aurora": {"sagemaker": "churn-endpoint"}}
TITAN = {
    "sql": "embed",
    "aurora": {"embeddings": "amazon.titan-embed-text-v2:0", "request": '{"inputText": "{note}"}'},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonServer]:
    """A PostgreSQL that has PL/Python."""
    try:
        with PythonServer(tmp_path_factory.mktemp("plpython")) as running:
            yield running
    except ProcessError as exc:
        absent(f"no PostgreSQL with PL/Python can be had: {exc}")


@pytest.fixture
def python_url(server: PythonServer) -> Iterator[str]:
    """A fresh database of that server."""
    with psycopg.connect(server.url(), autocommit=True) as administrator:
        administrator.execute("CREATE DATABASE laptop")
        yield server.url("laptop")
        administrator.execute("DROP DATABASE laptop WITH (FORCE)")


@pytest.fixture
def owner(python_url: str, script: str, endpoint: Server) -> Iterator[Owner]:
    """The application's connection, the table items, the stand-ins, and the endpoint's address."""
    with psycopg.connect(python_url, autocommit=True) as connection:
        connection.execute(script)
        connection.execute("INSERT INTO aws_sagemaker.endpoint VALUES ('churn-endpoint', %s)", [endpoint.url])
        connection.execute("CREATE TABLE items (id bigint PRIMARY KEY, a float8, b int, note text)")
        yield connection


@pytest.fixture
def script(tmp_path: Path) -> str:
    """What `rowscore sql aws_ml` prints, where no database is and no file."""
    cli = Cli(tmp_path, "postgresql://127.0.0.1:1/none")
    (tmp_path / "rowscore.toml").unlink()
    return cli.call("sql", "aws_ml").out


@pytest.fixture
def endpoint() -> Iterator[Server]:
    """A strict endpoint of CSV that answers the first input times ten."""
    with Server() as listening:
        listening.behave = answer(lambda row: str(float(row[0]) * 10))
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.over.set()
        listening.shutdown()
        thread.join()


def answer(line: Callable[[list[str]], str]) -> Callable[[Request, Rows], None]:
    """Answers each row with a line."""
    return lambda request, rows: request.answer("".join(line(row) + "\n" for row in rows))


def add(owner: Owner, rows: int) -> None:
    owner.execute("INSERT INTO items SELECT i, i, 10, 'n' FROM generate_series(1, %s) AS i", [rows])


def test_a_wrapper_calls_the_endpoint_for_each_row(python_url: str, owner: Owner, endpoint: Server) -> None:
    with opened(configuration(python_url, model=SAGEMAKER, max_rows_per_batch=100)) as engine:
        applied(engine)
        add(owner, 3)
        assert drain(engine).scored == 3
    assert owner.execute("SELECT p FROM items ORDER BY id").fetchall() == [(10.0,), (20.0,), (30.0,)]
    assert endpoint.requests == [("POST", "/invocations")] * 3


def test_fields_are_quoted_null_is_empty_and_several_answers_are_one_record(
    python_url: str, owner: Owner, endpoint: Server
) -> None:
    seen: list[list[str]] = []

    def behave(request: Request, rows: Rows) -> None:
        seen.extend(rows)
        request.answer('0.25,"so, ""so"""\n')

    endpoint.behave = behave
    shape: dict[str, Any] = {"inputs": ["note", "b", "a"], "outputs": {"p": "real", "why": "text"}}
    with opened(configuration(python_url, model=SAGEMAKER, **shape)) as engine:
        applied(engine)
        owner.execute("INSERT INTO items VALUES (1, NULL, 7, %s)", ['say "hi",\r\nPeter %s é'])
        assert drain(engine).scored == 1
    assert seen == [['say "hi",\r\nPeter %s é', "7", ""]]
    assert owner.execute("SELECT p, why FROM items").fetchall() == [(0.25, 'so, "so"')]


def test_more_features_than_arguments_are_one_line(python_url: str, owner: Owner, endpoint: Server) -> None:
    endpoint.behave = answer(lambda row: f"{len(row)}{row[-1]}")
    inputs = ["a", *({"name": f"f{n}", "sql": f"b + {n}"} for n in range(2, 151))]
    with opened(configuration(python_url, model=SAGEMAKER, inputs=inputs, outputs={"p": "bigint"})) as engine:
        applied(engine)
        add(owner, 1)
        assert drain(engine).scored == 1
    assert owner.execute("SELECT p FROM items").fetchall() == [(150160,)]


def test_a_row_that_the_endpoint_rejects_is_found(python_url: str, owner: Owner, endpoint: Server) -> None:
    def behave(request: Request, rows: Rows) -> None:
        if rows[0][0] == "3":
            request.answer("no such customer", 400, "text/plain")
        else:
            request.answer("1\n")

    endpoint.behave = behave
    with opened(configuration(python_url, model=SAGEMAKER)) as engine:
        applied(engine)
        add(owner, 6)
        drain(engine)
    assert states(owner) == {RowState.SCORED.value: 5, RowState.FAILED.value: 1}
    (message,) = owner.execute("SELECT message FROM rowscore.failure").fetchone() or ("",)
    assert "answered 400 Bad Request: no such customer" in message


@pytest.mark.parametrize("code", [429, 503, 0])
def test_an_endpoint_that_is_busy_or_gone_charges_no_row(
    python_url: str, owner: Owner, endpoint: Server, code: int
) -> None:
    if code:
        endpoint.behave = status(code)
    else:
        owner.execute("UPDATE aws_sagemaker.endpoint SET url = 'http://127.0.0.1:1/invocations'")
    with opened(configuration(python_url, model=SAGEMAKER)) as engine:
        applied(engine)
        add(owner, 4)
        assert drain(engine).scored == 0
    assert states(owner) == {RowState.PENDING.value: 4}
    assert owner.execute("SELECT count(*) FROM rowscore.failure").fetchone() == (0,)


class _Titan(BaseHTTPRequestHandler):
    """An embeddings model of Bedrock's."""

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"embedding": [len(asked["inputText"]), 0.5]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_a_model_of_bedrocks_is_called_by_its_address(python_url: str, owner: Owner) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Titan) as titan:
        thread = threading.Thread(target=titan.serve_forever, args=(0.01,))
        thread.start()
        owner.execute(
            "INSERT INTO aws_bedrock.model VALUES ('amazon.titan-embed-text-v2:0', %s)",
            [f"http://127.0.0.1:{titan.server_port}/invoke"],
        )
        shape: dict[str, Any] = {"inputs": ["note"], "outputs": {"v": "real[]"}}
        with opened(configuration(python_url, model=TITAN, **shape)) as engine:
            applied(engine)
            owner.execute("INSERT INTO items (id, note) VALUES (1, 'four')")
            drain(engine)
        titan.shutdown()
        thread.join()
    assert owner.execute("SELECT v FROM items").fetchall() == [([4.0, 0.5],)]


# --- where the language is not ----------------------------------------------------------------------------


def test_without_the_language_the_script_runs_too_and_says_what_to_do(script: str, connect: Connect) -> None:
    connection = connect()
    connection.execute(script)
    call = "SELECT aws_sagemaker.invoke_endpoint('e', NULL, '1', '2')"
    with pytest.raises(
        psycopg.errors.UndefinedFunction, match=r"aws_sagemaker\.e\(text\[\]\) does not exist"
    ):
        connection.execute(call)
    connection.execute("INSERT INTO aws_sagemaker.endpoint VALUES ('e', 'http://127.0.0.1:1/')")
    with pytest.raises(psycopg.errors.RaiseException, match="lacks plpython3u: make a function instead"):
        connection.execute(call)
    connection.execute("DELETE FROM aws_sagemaker.endpoint")
    connection.execute(
        "CREATE FUNCTION aws_sagemaker.e(v text[]) RETURNS text LANGUAGE sql AS 'SELECT v[2] || v[1]'"
    )
    assert connection.execute(call).fetchall() == [("21",)]


def test_the_command_lists_and_prints_what_aurora_gets(tmp_path: Path, database_url: str) -> None:
    cli = Cli(tmp_path, database_url)
    listed = cli.call("sql", "--json").document
    assert listed["aws_ml"].startswith("Stand-ins for aws_ml")
    assert "-- rendered by `apply`" in cli.call("sql", "create_sagemaker").out
