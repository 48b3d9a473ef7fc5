"""`rowscore export` as a user runs it: what it writes and says, its summary, and how it ends."""

from __future__ import annotations

import csv
import io
import signal

from tests.support.cli import Cli
from tests.support.databases import Session, is_postgresql
from tests.support.deadlines import eventually

CONFORMANCE = True


def test_it_writes_a_file_and_says_what_is_in_it(cli: Cli, rows: Session) -> None:
    rows.execute("UPDATE items SET note = CASE WHEN id % 2 = 0 THEN 'yes' ELSE 'no' END")
    done = cli.run("export", "--to", "train.csv", "--labels", "note", "--header", "--where", "a <= 10")
    assert done.out.startswith("churn: 10 rows of 2 inputs and 1 label written to train.csv in ")
    assert done.out.endswith("bytes).\n")
    lines = list(csv.reader(io.StringIO((cli.folder / "train.csv").read_text())))
    assert lines[0] == ["note", "a", "b"]
    assert lines[1:3] == [["no", "1.0", "10"], ["yes", "2.0", "10"]]
    assert len(lines) == 11


def test_json_is_one_document(cli: Cli) -> None:
    found = cli.call("export", "churn", "--to", "train.parquet", "--limit", "5", "--json").document
    seconds, definition = found.pop("seconds"), found.pop("definition")
    assert seconds > 0
    assert len(definition) == 12
    assert found == {
        "prediction": "churn", "to": "train.parquet", "columns": ["a", "b"], "labels": [], "rows": 5, "looked": 1000,
        "refused": 0, "failing": 0, "error": None, "size": (cli.folder / "train.parquet").stat().st_size,
        "complete": True, "interrupted": False,
    }  # fmt: skip


def test_what_was_left_out_is_told(cli: Cli, rows: Session) -> None:
    cli.configure(model={"python": "tests:none", "encoding": {"refuse_null": True}})
    rows.execute("UPDATE items SET a = NULL WHERE id <= 3")
    told = cli.call("export", "--to", "train.csv").out
    assert "997 rows of 2 inputs written to train.csv" in told
    assert "3 rows left out: NULL in an input (encoding.refuse_null)" in told


def test_errors_are_one_line(cli: Cli) -> None:
    (cli.folder / "train.csv").write_text("precious")
    for words, status, told in (
        (["--to", "train.txt"], 2, "ends in .csv or .parquet"),
        (["--to", "train.csv"], 2, "--force replaces it"),
        (["--to", "other.csv", "--scored-only"], 1, "--scored-only: churn is not applied"),
        (["--to", "s3://models/train.parquet", "--sql"], 2, "--sql: Aurora writes CSV to S3 alone"),
    ):
        result = cli.call("export", *words, status=status)
        assert result.out == ""
        assert len(result.err.splitlines()) == 1
        assert told in result.err
    assert (cli.folder / "train.csv").read_text() == "precious"


def test_ctrl_c_leaves_no_file(cli: Cli, rows: Session) -> None:
    taken, waits, released = (
        ("SELECT pg_advisory_lock(7)", "pg_advisory_lock_shared(7)", "SELECT pg_advisory_unlock(7)")
        if is_postgresql(rows)
        else ("SELECT GET_LOCK('gate', 9)", "GET_LOCK('gate', 60)", "SELECT RELEASE_LOCK('gate')")
    )
    cli.configure(
        model={"python": "tests:none"}, inputs=["a", {"name": "held", "sql": f"CONCAT('', {waits})"}]
    )
    rows.execute(taken)
    with cli.started("export", "--to", "train.csv") as running:
        eventually(lambda: list(cli.folder.glob(".train.csv.*.part")), "the export has begun")
        running.tell(signal.SIGINT)
        running.says("stopping")
        rows.execute(released)
        ended = running.end()
    assert ended.status == 130
    assert "churn: stopped: nothing was written to train.csv" in ended.out
    assert not list(cli.folder.glob("*train.csv*"))
    assert not list(cli.folder.glob(".train.csv*"))


def test_the_statement_for_aurora_is_printed(cli: Cli) -> None:
    cli.environment["AWS_REGION"] = "eu-west-1"
    told = cli.call("export", "--to", "s3://models/churn.csv", "--sql").out
    assert "s3" in told
    assert told.endswith(";\n")
    assert cli.call("export", "--to", "s3://models/churn.csv", "--sql", "--json").document["sql"] in told
