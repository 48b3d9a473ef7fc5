"""A second model beside the live one, as a user tries it: from a section in the file to the switch and back."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.support.catalogue import catalogue
from tests.support.cli import Cli
from tests.support.databases import Session, columns_of, is_postgresql
from tests.support.predictions import add_items
from tests.support.routines import add_function

CONFORMANCE = True
VERSION = {"column": "model", "value": "1"}
SHADOW = {"model": {"sql": "predict_two"}, "version": "2", "concurrency": 2}
TURNED = {
    "model": {"sql": "predict_two"},
    "version": {**VERSION, "value": "2"},
    "shadow": {"model": {"sql": "predict"}, "version": "1", "concurrency": 4},
    "concurrency": 2,
}


@pytest.fixture
def tried(cli: Cli, rows: Session) -> Cli:
    """The file with a shadow, and its model."""
    add_function(rows, "predict_two", "a double precision, b int", "a * b")
    rows.execute("DELETE FROM items WHERE id > 20")
    cli.configure(version=VERSION, shadow=SHADOW)
    return cli


def test_the_whole_way_and_back(tried: Cli, rows: Session) -> None:
    out = tried.run("apply").out
    assert "churn is applied" in out
    assert "churn_shadow is applied" in out
    assert tried.call("apply", "churn").out.count("nothing to do") == 2
    tried.call("backfill")
    assert "churn_shadow: backfill finished: 20 rows scored" in tried.run("rescore", "--shadow").out
    diff = tried.run("diff", "churn", "--examples", "2").out
    assert "churn and churn_shadow: 20 rows compared." in diff
    assert "p against p_shadow: 20 changed, 100 %" in diff
    assert [line.split() for line in diff.splitlines()][-2:] == [["20", "30", "200"], ["19", "29", "190"]]
    plan = tried.run("rescore", "--promote", "--dry-run").out
    assert ("RENAME COLUMN" if is_postgresql(rows) else "CHANGE COLUMN") in plan
    before = columns_of(rows, "items_scored")
    promoted = tried.run("rescore", "--promote").out
    assert "churn_shadow is promoted" in promoted
    assert "[predictions.churn.shadow]" in promoted
    assert rows.execute("SELECT p, model FROM items_scored WHERE id = 3").fetchall() == [(30.0, "2")]
    assert columns_of(rows, "items_scored") == before
    refused = tried.error("run", status=1)
    assert "`rowscore rescore churn --promote` says what to change" in refused
    assert "nothing to do" in tried.call("rescore", "--promote").out
    tried.configure(**TURNED)
    assert "nothing to do" in tried.call("apply").out
    assert "nothing to score" in tried.call("run").out
    assert "churn is rolled back" in tried.run("rescore", "churn", "--rollback").out
    assert rows.execute("SELECT p, model FROM items_scored WHERE id = 3").fetchall() == [(13.0, "1")]
    tried.configure(version=VERSION, shadow=SHADOW)
    assert "nothing to do" in tried.call("apply").out
    assert "nothing is to be rolled back" in tried.error("rescore", "--rollback", status=1)


def test_what_it_prints_is_what_the_file_needs(tried: Cli, rows: Session) -> None:
    tried.call("apply")
    tried.call("rescore", "--shadow")
    tried.call("backfill")
    document = tried.call("rescore", "--promote", "--json").document
    assert (document["prediction"], document["shadow"], document["direction"]) == (
        "churn",
        "churn_shadow",
        "promote",
    )
    assert document["file_is_right"] is False
    lines = [line for line in document["file"] if not line.startswith("#")]
    head = ['database = "$DATABASE_URL"', lines[0], 'table = "items"', 'inputs = ["a", "b"]']
    file = [*head, 'outputs = { p = "double precision" }', *lines[1:]]
    (tried.folder / "rowscore.toml").write_text("\n".join(file))
    assert tried.call("apply").out.count("nothing to do") == 2
    assert rows.execute("SELECT count(*) FROM items WHERE p = a * b").fetchone() == (20,)


def test_the_script_of_a_dry_run_does_the_same(tried: Cli, rows: Session) -> None:
    tried.call("apply")
    tried.call("rescore", "--shadow")
    tried.call("backfill")
    script = tried.call("rescore", "--promote", "--dry-run").out
    if not is_postgresql(rows):
        rows.execute("\n".join(line for line in script.splitlines() if not line.startswith("-- ")))
    else:
        with psycopg.connect(rows.info.dsn, password="", autocommit=True) as client:  # type: ignore[union-attr]
            client.execute(script)
    tried.configure(**TURNED)
    assert tried.call("apply").out.count("nothing to do") == 2
    assert rows.execute("SELECT count(*) FROM items_scored WHERE p = a * b").fetchone() == (20,)


def test_remove_takes_the_shadow_along_or_alone(tried: Cli, rows: Session) -> None:
    before = catalogue(rows)
    tried.call("apply")
    assert "churn_shadow is removed" in tried.run("remove", "churn_shadow", "--drop-outputs", "--yes").out
    assert "p_shadow" not in columns_of(rows, "items")
    assert "p" in columns_of(rows, "items")
    assert "churn_shadow is applied" in tried.call("apply", "churn_shadow").out
    out = tried.call("remove", "--drop-outputs", "--yes").out
    assert out.index("churn_shadow is removed") < out.index("churn is removed")
    assert catalogue(rows) == before


def test_a_shadow_that_left_the_file_is_named_and_can_be_removed(tried: Cli, rows: Session) -> None:
    tried.call("apply")
    tried.configure(version=VERSION)
    told = "churn_shadow left the file and is still in the database"
    assert f"{told}: rowscore remove churn_shadow" in tried.call("status").out
    assert told in tried.call("doctor").out
    assert tried.call("apply").out.count("nothing to do") == 1, "the view does not show its columns"
    assert "churn_shadow is removed" in tried.call("remove", "churn_shadow", "--yes").out
    assert told not in tried.call("status").out
    tried.configure(version=VERSION, shadow=SHADOW)
    tried.call("apply")
    tried.configure(version=VERSION)
    assert "churn_shadow is removed" in tried.call("remove", "--yes").out
    names = "SELECT count(*) FROM information_schema.triggers WHERE trigger_name LIKE %s"
    assert rows.execute(names, ["zzz_rowscore_%"]).fetchone() == (0,)


def test_run_scores_new_rows_with_both(tried: Cli, rows: Session) -> None:
    tried.call("apply")
    tried.call("remove", "churn_shadow", "--drop-outputs", "--yes")
    add_items(rows, 10)
    done = tried.call("run")
    assert "churn: 10 rows scored" in done.out
    assert "churn_shadow: " not in done.out
    assert "rowscore: error: churn_shadow is not applied" in done.err, "which stops nobody else"
    tried.call("apply")
    add_items(rows, 5)
    document = tried.run("run", "--json").document
    assert (document["scored"], document["shadow"]["scored"]) == (5, 5)
    assert rows.execute("SELECT count(*) FROM items WHERE p = a + b AND p_shadow = a * b").fetchone() == (5,)
    assert "churn_shadow: nothing to score" in tried.run("run", "--for", "1s").out


def test_diff_for_machines(tried: Cli) -> None:
    tried.call("apply")
    tried.call("rescore", "--shadow")
    tried.call("backfill")
    document: Any = tried.call("diff", "--json", "--tolerance", "0.5").document
    (output,) = document["outputs"]
    assert (document["compared"], output["compared"]) == (20, 20)
    assert output["changed"] == sum(abs(i * 10 - (i + 10)) > 0.5 * max(i * 10, i + 10) for i in range(1, 21))
    assert output["old"]["max"] == 30.0
    assert output["examples"][0] == {"key": ["20"], "old": 30.0, "new": 200.0}
    assert json.dumps(document)


def test_options_that_do_not_go_together(tried: Cli) -> None:
    def told(*words: str) -> str:
        return tried.call(*words, status=2).err

    alone = "goes with --dry-run, --allow-missing and --allow-copy alone"
    assert alone in told("rescore", "--promote", "--rollback")
    assert alone in told("rescore", "--promote", "--max-rows", "5")
    assert "--older-than is for others" in told("rescore", "--shadow", "--older-than", "30d")
    assert "are for --promote and --rollback" in told("rescore", "--allow-missing")
    assert "'--sample'" in told("diff", "--sample", "0")
