"""Exports: the bytes that a model is sent, every row once, whole files or none, and the statements for Aurora."""

from __future__ import annotations

import csv
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.conftest import Connect
from tests.support.databases import Session, columns_of, dialect, is_postgresql, one, only, series
from tests.support.predictions import applied, configuration, drain, fail_at, make_items, opened
from worker import export as exporting
from worker.engine import Engine
from worker.errors import ConfigurationError, FileError, MissingObjectError, NotAppliedError, RowRejectedError
from worker.export import Exported, Wishes, export, export_statement

CONFORMANCE = True
PEOPLE = {
    "postgresql": """CREATE TABLE items (
        id bigint PRIMARY KEY, name text, amount numeric(12,3), ratio double precision, small real, active boolean,
        born date, seen timestamptz, noted timestamp, waited interval, label boolean, score int);
        INSERT INTO items SELECT i,
            (ARRAY['plain', 'a, b', 'say "hi"', E'two\\nlines', '', NULL, 'naïve 🎉'])[1 + i % 7],
            CASE WHEN i % 5 > 0 THEN i * 1000.125 END, i / 7.0, i / 3.0,
            CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, date '2026-01-01' + i,
            timestamptz '2026-03-29 00:30:00+00' + i * interval '1 h 0.5 s',
            timestamp '2026-01-01' + i * interval '1 s', i * interval '1 min', i % 2 = 0, i
        FROM generate_series(1, 40) AS s(i)""",
    "mysql": """CREATE TABLE items (
        id bigint PRIMARY KEY, name text, amount decimal(12,3), ratio double, small float, active boolean,
        born date, seen timestamp(6) NULL, noted datetime(6), waited time, label boolean, score int unsigned);
        INSERT INTO items SELECT i, ELT(1 + i % 7, 'plain', 'a, b', 'say "hi"', 'two\\nlines', '', NULL, 'naïve 🎉'),
            CASE WHEN i % 5 > 0 THEN i * 1000.125 END, i / 7e0, i / 3e0,
            CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, date '2026-01-01' + INTERVAL i DAY,
            timestamp'2026-03-29 00:30:00' + INTERVAL i * 3600500 * 1000 MICROSECOND,
            timestamp'2026-01-01 00:00:00' + INTERVAL i SECOND, SEC_TO_TIME(i * 60), i % 2 = 0, i FROM {series}""",
}
INPUTS: list[Any] = [
    "id", "name", {"column": "amount", "default": 1.5}, "ratio", "small", "active", "born", "seen", "noted", "waited",
    {"name": "half", "sql": "ratio / 2"},
]  # fmt: skip
NAMES = ["id", "name", "amount", "ratio", "small", "active", "born", "seen", "noted", "waited", "half"]


class Recorder:
    """A model behind HTTP that keeps the bytes of each request and answers 1 for each row."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recorder.bodies.append(body)
                rows = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
                rows = [row for row in rows if row[0] != "id"]
                answer = b"1\n" * len(rows)
                self.send_response(200)
                self.send_header("Content-Type", "text/csv")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/invocations"

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its address."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@pytest.fixture
def people(connect: Connect) -> Session:
    """The application's connection; items has 40 rows of every usual type."""
    connection: Session = connect()
    kind = dialect(connection)
    connection.execute(
        PEOPLE[kind].replace("{series}", "" if kind == "postgresql" else series(connection, 1, 40))
    )
    return connection


@contextmanager
def engine(url: str, **overrides: Any) -> Iterator[Engine]:
    """An engine over a prediction on items that was not applied."""
    usual = {"inputs": INPUTS, "model": {"http": "http://127.0.0.1:1/invocations"}}
    with opened(configuration(url, **{**usual, **overrides})) as made:
        yield made


def written(engine: Engine, path: Path, **wishes: Any) -> Exported:
    return export(engine, None, Wishes(str(path), **wishes))


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True))


# --- training and serving ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding",
    [{}, {"booleans": ["no", "yes"], "null": "N/A, or so"}, {"booleans": [-1, 1], "header": True}],
    ids=["usual", "words", "header"],
)
def test_the_bytes_of_the_file_are_those_that_the_model_is_sent(
    database_url: str, people: Session, tmp_path: Path, encoding: dict[str, Any]
) -> None:
    recorder = Recorder()
    where = "score % 4 <> 3"
    model = {"http": recorder.url, "encoding": encoding}
    with recorder.serving(), engine(database_url, model=model, where=where) as opened_engine:
        before = written(opened_engine, tmp_path / "before.csv")
        applied(opened_engine)
        people.execute("UPDATE items SET churn_state = 0")
        drain(opened_engine)
        after = written(opened_engine, tmp_path / "after.csv", scored_only=True)
    (body,) = recorder.bodies
    assert (tmp_path / "before.csv").read_bytes() == body
    assert (tmp_path / "after.csv").read_bytes() == body
    assert before.rows == after.rows == 30
    assert before.size == len(body)
    assert before.columns == NAMES


def test_rows_that_the_model_is_not_sent_for_a_null_are_left_out(
    database_url: str, people: Session, tmp_path: Path
) -> None:
    recorder = Recorder()
    model = {"http": recorder.url, "encoding": {"refuse_null": True}}
    people.execute("UPDATE items SET label = NULL WHERE id = 2")
    with recorder.serving(), engine(database_url, model=model) as opened_engine:
        applied(opened_engine)
        people.execute("UPDATE items SET churn_state = 0")
        assert drain(opened_engine).failed > 0
        found = written(opened_engine, tmp_path / "a.csv")
        labelled = written(opened_engine, tmp_path / "b.csv", labels=("label",))
    (body,) = recorder.bodies
    assert (tmp_path / "a.csv").read_bytes() == body
    assert (found.rows, found.refused) == (len(body.decode().splitlines()) - 4, 40 - found.rows)
    assert labelled.rows == found.rows, "a label may be NULL"


# --- what is in the file -----------------------------------------------------------------------------------


def test_labels_stand_before_the_inputs_or_behind_them(
    database_url: str, people: Session, tmp_path: Path
) -> None:
    assert people is not None
    with engine(database_url, inputs=["id", "ratio"]) as opened_engine:
        written(opened_engine, tmp_path / "plain.csv")
        first = written(opened_engine, tmp_path / "first.csv", labels=("label", "score"), header=True)
        last = written(opened_engine, tmp_path / "last.csv", labels=("label", "score"), labels_last=True)
    plain = read(tmp_path / "plain.csv")
    labels = [[str(1 - int(row[0]) % 2), row[0]] for row in plain]
    assert first.columns == ["label", "score", "id", "ratio"]
    assert read(tmp_path / "first.csv") == [first.columns, *(map(list.__add__, labels, plain))]
    assert last.columns == ["id", "ratio", "label", "score"]
    assert read(tmp_path / "last.csv") == list(map(list.__add__, plain, labels))


def test_conditions_add_up_and_the_limit_takes_the_first_by_the_key(
    database_url: str, people: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_PER_WINDOW", 7)
    assert people is not None
    with engine(database_url, inputs=["id"], where="score > 3") as opened_engine:
        every = written(opened_engine, tmp_path / "every.csv")
        some = written(opened_engine, tmp_path / "some.csv", where="score % 2 = 0", limit=9)
        none = written(opened_engine, tmp_path / "none.csv", where="score < 0", header=True)
    assert (every.rows, every.looked) == (37, 40)
    assert [row for (row,) in read(tmp_path / "some.csv")] == [str(n) for n in range(4, 22, 2)]
    assert (some.rows, some.complete) == (9, True)
    assert some.looked < 40, "it ends at the limit"
    assert read(tmp_path / "none.csv") == [["id"]]
    assert none.rows == 0


def test_every_row_is_there_once_in_the_order_of_a_key_of_several_columns(
    database_url: str, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_PER_WINDOW", 10)
    connection = connect()
    text = "text" if is_postgresql(connection) else "varchar(9)"
    connection.execute(f"CREATE TABLE items (region {text}, id int, a int, PRIMARY KEY (region, id))")
    connection.execute(
        f"INSERT INTO items SELECT CONCAT('r ', i % 3), i, i FROM {series(connection, 1, 137)}"
    )
    seen = []
    with engine(database_url, inputs=["region", "id"]) as opened_engine:
        path = tmp_path / "a.csv"
        export(
            opened_engine,
            None,
            Wishes(str(path)),
            progress=lambda found, rows: seen.append((found.rows, rows)),
        )
    keys = [(region, int(number)) for region, number in read(path)]
    assert keys == sorted((f"r {n % 3}", n) for n in range(1, 138))
    assert seen[:2] == [(10, 10), (20, 10)]
    assert seen[-1] == (137, 7)


def test_columns_of_parquet_are_typed_and_exact(database_url: str, people: Session, tmp_path: Path) -> None:
    inputs = [*INPUTS, {"name": "sum", "sql": "amount + 1"}]
    model = {"python": "tests:none", "encoding": {"booleans": ["no", "yes"], "null": "NA"}}
    with engine(database_url, inputs=inputs, model=model) as opened_engine:
        found = written(opened_engine, tmp_path / "a.parquet", labels=("score",), labels_last=True)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == found.columns == [*NAMES, "sum", "score"]
    exact = is_postgresql(people)
    assert [str(kind) for kind in table.schema.types] == [
        "int64", "string", "decimal128(12, 3)", "double", "float" if exact else "double", "bool", "date32[day]",
        "timestamp[us, tz=UTC]", "timestamp[us]", "duration[us]", "double", "decimal128(38, 18)",
        "int32" if exact else "uint32",
    ]  # fmt: skip
    rows = table.to_pylist()
    assert len(rows) == 40
    assert [row["name"] for row in rows[3:7]] == ["", None, "naïve 🎉", "plain"]
    assert [row["amount"] for row in rows[3:5]] == [Decimal("4000.500"), Decimal("1.500")]
    assert [row["sum"] for row in rows[3:5]] == [Decimal("4001.5"), None]
    assert [row["active"] for row in rows[:3]] == [False, None, True]
    first = rows[0]
    assert first["ratio"] == 1 / 7
    assert first["born"] == date(2026, 1, 2)
    assert first["seen"] == datetime(2026, 3, 29, 1, 30, 0, 500_000, UTC)
    assert first["noted"] == datetime(2026, 1, 1, 0, 0, 1)
    assert first["waited"] == timedelta(minutes=1)
    assert pyarrow.parquet.ParquetFile(tmp_path / "a.parquet").metadata.num_rows == found.rows


@only("postgresql")
def test_arrays_and_json_in_parquet(database_url: str, connect: Connect, tmp_path: Path) -> None:
    connect().execute(
        """CREATE TABLE items (
               id bigint PRIMARY KEY, vector float8[], words text[], doc jsonb, code uuid, free numeric);
        INSERT INTO items VALUES (1, '{1,2.5}', '{a,NULL}', '{"a": [1, null]}', gen_random_uuid(), 1.10),
                                 (2, NULL, '{}', 'null', NULL, NULL)"""
    )
    with engine(database_url, inputs=["vector", "words", "doc", "code", "free"]) as opened_engine:
        written(opened_engine, tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    types = ["list<element: double>", "list<element: string>", "string", "string", "decimal128(38, 18)"]
    assert [str(kind) for kind in table.schema.types] == types
    first, second = table.to_pylist()
    assert (first["vector"], first["words"], first["doc"]) == ([1.0, 2.5], ["a", None], '{"a": [1, null]}')
    assert (len(first["code"]), first["free"]) == (36, Decimal("1.1"))
    assert (second["vector"], second["words"], second["code"]) == (None, [], None)


# --- beside others, and when things go wrong ---------------------------------------------------------------


def test_it_waits_for_no_lock_and_holds_none(
    database_url: str, people: Session, connect: Connect, tmp_path: Path
) -> None:
    other = connect(autocommit=False)
    other.execute("UPDATE items SET score = 99")
    with engine(database_url, inputs=["id", "score"]) as opened_engine:
        written(opened_engine, tmp_path / "a.csv")
        people.execute(
            "SET statement_timeout = '10s'" if is_postgresql(people) else "SET lock_wait_timeout = 5"
        )
        other.rollback()
        people.execute("ALTER TABLE items ADD another int")
    assert [row[1] for row in read(tmp_path / "a.csv")] == [str(n) for n in range(1, 41)]


def test_rows_that_change_meanwhile_are_written_as_they_are_when_it_comes_by(
    database_url: str, people: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_PER_WINDOW", 10)

    def meanwhile(found: Exported, _rows: int) -> None:
        if found.rows == 20:
            people.execute("DELETE FROM items WHERE id IN (5, 25)")
            people.execute("UPDATE items SET score = 0 WHERE id IN (6, 26)")
            people.execute("INSERT INTO items (id, score) VALUES (-1, 1), (100, 100)")

    with engine(database_url, inputs=["id", "score"]) as opened_engine:
        export(opened_engine, None, Wishes(str(tmp_path / "a.csv")), progress=meanwhile)
    found = {int(key): int(score) for key, score in read(tmp_path / "a.csv")}
    assert found == {n: n for n in range(1, 41) if n != 25} | {26: 0, 100: 100}


def test_told_to_stop_it_leaves_nothing(
    database_url: str, people: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_PER_WINDOW", 10)
    assert people is not None
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).write_text("old")
        with engine(database_url) as opened_engine:
            found = export(
                opened_engine,
                None,
                Wishes(str(tmp_path / name), force=True),
                progress=lambda *_, engine=opened_engine: engine.stop.set(),
            )
        assert not found.complete
        assert (tmp_path / name).read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.parquet"]


def test_a_file_that_is_there_is_replaced_only_by_force(
    database_url: str, people: Session, tmp_path: Path
) -> None:
    assert people is not None
    path = tmp_path / "a.csv"
    path.write_text("precious")
    with engine(database_url, inputs=["id"]) as opened_engine:
        with pytest.raises(ConfigurationError, match=r"a\.csv is there already; --force replaces it"):
            written(opened_engine, path)
        assert path.read_text() == "precious"
        written(opened_engine, path, force=True)
    assert len(read(path)) == 40
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_value_that_has_no_place_in_the_file_is_named_and_leaves_none(
    database_url: str, connect: Connect, tmp_path: Path, suffix: str
) -> None:
    connection = connect()
    kind = "numeric" if is_postgresql(connection) else "decimal(65, 0)"
    many = "9" * 40 if is_postgresql(connection) else "9" * 60
    photo = "bytea" if is_postgresql(connection) else "blob"
    connection.execute(f"CREATE TABLE items (id int PRIMARY KEY, large {kind}, photo {photo})")
    connection.execute(f"INSERT INTO items VALUES (1, {many}, 'x')")
    with engine(database_url, inputs=["large", "photo"]) as opened_engine:
        if suffix == "csv":
            with pytest.raises(
                RowRejectedError, match=r"input photo: a value of type (bytes|memoryview|bytearray)"
            ):
                written(opened_engine, tmp_path / "a.csv")
        elif is_postgresql(connection):
            with pytest.raises(
                FileError, match=r"column large: a value does not fit into decimal128\(38, 18\)"
            ):
                written(opened_engine, tmp_path / "a.parquet")
        else:
            written(opened_engine, tmp_path / "a.parquet")
            (row,) = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
            assert row == {"large": Decimal(many), "photo": b"x"}
            (tmp_path / "a.parquet").unlink()
    assert list(tmp_path.iterdir()) == []


@only("postgresql")
def test_rows_on_which_an_expression_fails_are_left_out_and_told(
    database_url: str, people: Session, tmp_path: Path
) -> None:
    people.execute("UPDATE items SET score = 0 WHERE id IN (7, 8, 33)")
    inputs = ["id", {"name": "rest", "sql": "100 / score"}]
    with engine(database_url, inputs=inputs) as opened_engine:
        found = written(opened_engine, tmp_path / "a.csv")
    assert [int(row[0]) for row in read(tmp_path / "a.csv")] == [
        n for n in range(1, 41) if n not in (7, 8, 33)
    ]
    assert (found.rows, found.failing) == (37, 3)
    assert found.error is not None
    assert found.error.startswith("key 7: ")
    assert "division by zero" in found.error


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"to": "a.txt"}, r"--to: expected a file's name that ends in \.csv or \.parquet, not a\.txt"),
        ({"to": "s3://bucket"}, "--to: expected s3://bucket/key, not s3://bucket"),
        (
            {"to": "/nowhere/at/all/a.csv"},
            "--to: cannot write /nowhere/at/all/a.csv: No such file or directory",
        ),
        ({"labels": ("nothing",)}, "--labels.*nothing"),
        ({"labels": ("id",)}, "--labels: id is an input of churn already"),
        ({"where": "nothing > 1"}, "--where: the database refuses it: .*nothing"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    database_url: str, people: Session, tmp_path: Path, wishes: dict[str, Any], message: str
) -> None:
    assert people is not None
    with (
        engine(database_url) as opened_engine,
        pytest.raises((ConfigurationError, MissingObjectError), match=message),
    ):
        export(opened_engine, None, Wishes(**{"to": str(tmp_path / "a.csv"), **wishes}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "missing", [("a.parquet", "pyarrow", "parquet"), ("s3://bucket/a.csv", "boto3", "aws")]
)
@only("postgresql")
def test_what_is_not_installed_is_told_with_the_extra_that_has_it(
    database_url: str,
    people: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: tuple[str, str, str],
) -> None:
    assert people is not None
    to, module, extra = missing
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    told = rf"--to: {module} is not installed: pip install 'rowscore\[{extra}\]'"
    with engine(database_url) as opened_engine, pytest.raises(ConfigurationError, match=told):
        export(opened_engine, None, Wishes(to))
    assert list(tmp_path.iterdir()) == []


def test_a_table_without_rows_has_a_file(database_url: str, people: Session, tmp_path: Path) -> None:
    people.execute("DELETE FROM items")
    with engine(database_url) as opened_engine:
        assert written(opened_engine, tmp_path / "a.csv", header=True).rows == 0
        assert written(opened_engine, tmp_path / "a.parquet").complete
    assert read(tmp_path / "a.csv") == [NAMES]
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert (table.column_names, table.num_rows) == (NAMES, 0)


def test_scored_only_needs_a_state(database_url: str, people: Session, tmp_path: Path) -> None:
    assert people is not None
    with engine(database_url) as opened_engine, pytest.raises(NotAppliedError, match="churn is not applied"):
        written(opened_engine, tmp_path / "a.csv", scored_only=True)


def test_a_function_of_the_database_has_a_training_set_too(
    database_url: str, connect: Connect, tmp_path: Path
) -> None:
    connection = connect()
    make_items(connection, rows=3)
    fail_at(connection, 1, 2, 3)  # it is not called
    with opened(configuration(database_url)) as opened_engine:
        written(opened_engine, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "1.0,10\n2.0,10\n3.0,10\n"
    assert "churn_state" not in columns_of(connection, "items")


# --- Aurora's own ------------------------------------------------------------------------------------------


def test_the_query_that_aurora_would_run_gives_the_same_values(
    database_url: str, people: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    wishes = {"labels": ("label",), "where": "score > 2", "limit": 30}
    model = {"python": "tests:none", "encoding": {"booleans": ["no", "yes"], "null": "NA"}}
    with engine(database_url, model=model) as opened_engine:
        written(opened_engine, tmp_path / "a.csv", **wishes)
        text = export_statement(opened_engine, None, Wishes("s3://bucket/a.csv", **wishes))
    if is_postgresql(people):
        _, query, _ = text.split("$rowscore$")
        with people.cursor().copy(f"COPY ({query}) TO STDOUT (format csv, null 'NA')") as copy:
            content = b"".join(map(bytes, copy)).decode()
        found = list(csv.reader(io.StringIO(content, newline=""), strict=True))
    else:
        query = text.partition("INTO OUTFILE")[0]
        found = [list(row) for row in people.execute(query.replace("%", "%%"), {})]
    expected = read(tmp_path / "a.csv")
    assert len(found) == len(expected) == 30
    for ours, theirs in zip(expected, found, strict=True):
        assert list(map(_value, theirs)) == list(map(_value, ours))


def _value(text: str) -> Any:
    """What a reader of CSV sees: numbers by their value, moments by theirs."""
    try:
        return float(f"{float(text):.6g}")  # MySQL writes a FLOAT's digits as those of a DOUBLE
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if "T" in text else date.fromisoformat(text)


def test_refused_nulls_and_scored_rows_are_conditions_of_the_query(
    database_url: str, people: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    model = {"python": "tests:none", "encoding": {"refuse_null": True, "header": True}}
    with engine(database_url, inputs=["id", "name"], model=model) as opened_engine:
        applied(opened_engine)
        text = export_statement(
            opened_engine, None, Wishes("s3://bucket/a.csv", labels=("label",), scored_only=True)
        )
    assert text.count("IS NOT NULL") == 2
    assert "label IS NOT NULL" not in text.replace('"', "").replace("`", "")
    assert "HEADER" in text.upper()
    query = text.split("$rowscore$")[1] if is_postgresql(people) else text.partition("INTO OUTFILE")[0]
    query = query.replace("%", "%%")
    assert one(people, f"SELECT count(*) FROM ({query}) AS q") == 0
    people.execute("UPDATE items SET churn_state = 1 WHERE id <= 20")
    names = one(people, "SELECT count(*) FROM items WHERE id <= 20 AND name IS NOT NULL")
    assert one(people, f"SELECT count(*) FROM ({query}) AS q") == names


@pytest.mark.parametrize("to", ["a.csv", "s3://bucket/a.parquet"])
def test_aurora_writes_csv_to_s3_alone(database_url: str, people: Session, to: str) -> None:
    assert people is not None
    with (
        engine(database_url) as opened_engine,
        pytest.raises(ConfigurationError, match="writes CSV to S3 alone"),
    ):
        export_statement(opened_engine, None, Wishes(to))


def test_a_region_has_to_be_known(
    database_url: str, people: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert people is not None
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with engine(database_url) as opened_engine, pytest.raises(ConfigurationError, match="export AWS_REGION="):
        export_statement(opened_engine, None, Wishes("s3://bucket/a.csv"))
