"""`rowscore tune` as a user meets it: what it prints, draws and keeps, what it pays for, and how it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import psycopg
import pytest

from tests.support.cli import Cli
from tests.support.predictions import states
from tests.support.service import Service
from worker.states import RowState


@pytest.fixture
def service() -> Iterator[Service]:
    """A model behind HTTP, of which a call takes so long that its rows do not matter."""
    with Service() as server:
        server.delay = 0.02
        yield server


@pytest.fixture
def tuned(cli: Cli, service: Service) -> Cli:
    """A prediction over HTTP that is applied, on a thousand rows that were there before."""
    over_http(cli, service)
    cli.call("apply")
    return cli


def over_http(cli: Cli, service: Service, **model: Any) -> None:
    """One call at a time, so that the service may count."""
    cli.configure(inputs=["id", "a", "b"], model={"http": service.url, **model}, concurrency=1)


def test_a_table_a_picture_and_the_line_for_the_file(
    tuned: Cli, service: Service, rows: psycopg.Connection[Any]
) -> None:
    service.most = 300
    over_http(tuned, service, cost_per_call=0.25, cost_per_row=0.01)
    done = tuned.run("tune", "churn", "--max-calls", "30", "--sizes", "5,50,250,900", "--concurrency", "1",
                     "--plot", "churn.svg")  # fmt: skip
    lines = done.out.splitlines()
    assert lines[0].split() == ["rows", "a", "call", "at", "once", "trials", "rows/s", "of", "the", "best", "median",
                                "slowest"]  # fmt: skip
    assert [line.split()[0] for line in lines[1:5]] == ["5", "50", "250", "900"]
    assert [line for line in lines if "<- knee" in line] == [lines[3]]
    assert lines[4].endswith("too large")
    paid = f"{0.25 * len(service.sizes) + 0.01 * sum(service.sizes):,.4g}"
    assert f"churn: {len(service.sizes)} calls with {sum(service.sizes):,} rows in all were made" in done.out
    assert f", {paid} by cost_per_call and cost_per_row; no prediction was written." in done.out
    assert "- 900 rows are too large: " in done.out
    assert lines[-2:] == ["For [predictions.churn] of rowscore.toml:", "max_rows_per_batch = 250"]
    assert len(service.sizes) <= 30
    picture = ElementTree.parse(tuned.folder / "churn.svg").getroot()
    assert any("knee: 250 rows a call" in (each.text or "") for each in picture.iter())
    assert states(rows) == {RowState.EXISTING: 1000}


def test_json_is_one_document(tuned: Cli, service: Service) -> None:
    found = tuned.call("tune", "--max-calls", "20", "--sizes", "10,1000", "--save", "--json").document
    assert (found["prediction"], found["setting"], found["present"]) == ("churn", "max_rows_per_batch", 1000)
    assert found["settings"] == {"max_rows_per_batch": 1000}
    assert found["knee"]["rows_per_call"] == 1000
    assert found["knee"]["within_limits"] is True
    assert (found["calls"], found["rows"]) == (len(service.sizes), sum(service.sizes))
    assert (found["cost"], found["fault"], found["saved"], found["interrupted"]) == (None, None, True, False)
    assert [point["rows_per_call"] for point in found["points"]] == [10, 1000]
    assert all(point["calls"] >= 2 for point in found["points"])


def test_a_function_of_the_database(cli: Cli, rows: psycopg.Connection[Any]) -> None:
    cli.call("apply")
    done = cli.call("tune", "--max-calls", "20", "--sizes", "50,1000", "--save")
    lines = done.out.splitlines()
    assert lines[0].startswith("rows a statement  trials")
    assert lines[-1] in ("max_rows_per_claim = 50", "max_rows_per_claim = 1000")
    assert "Saved: drains begin with" in done.out
    learned = f"learned      {int(lines[-1].rsplit(maxsplit=1)[-1]):,} rows a claim"
    assert learned in cli.call("status").out
    assert states(rows) == {RowState.EXISTING: 1000}


def test_what_is_saved_is_shown_and_what_is_not_is_said(tuned: Cli, service: Service) -> None:
    service.most = 100
    done = tuned.call("tune", "--sizes", "20,100", "--max-calls", "20", "--save").out
    assert "Saved: drains begin with 100 rows a call. Without the line below they go back up to 1,000" in done
    assert "100 a model call" in tuned.call("status").out
    tuned.configure(
        inputs=["id", "a", "b"], model={"http": service.url}, concurrency=1, max_rows_per_batch=20
    )
    done = tuned.call("tune", "--sizes", "20,100", "--max-calls", "20", "--save").out
    assert "Not saved: a call has 20 at most; the line below is what changes it." in done


def test_a_model_at_fault(tuned: Cli, service: Service) -> None:
    service.status = 401
    done = tuned.run("tune", "--plot", "none.svg", status=1)
    assert done.err.startswith("rowscore: error: churn: ")
    assert "401" in done.err
    assert "max_rows_per_batch =" not in done.out
    assert len(service.sizes) == 1
    assert not (tuned.folder / "none.svg").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--max-calls", "1"], "2"),
        (["--sizes", "a,b"], "expected numbers such as 100,1000,5000, not 'a,b'"),
        (["--sizes", "0,5"], "expected numbers from 1 on"),
        (["--sizes", "5000"], "1,000 different rows to try with, so a call has 1,000 at most"),
        (["--concurrency", "100"], "64 calls at once are the most"),
        (["--plot", "churn.png"], "name a file that ends in .svg"),
        (["--plot", "nowhere/churn.svg"], "there is no folder"),
        (["other"], "has no prediction 'other'"),
    ],
)
def test_bad_usage_costs_nothing(tuned: Cli, service: Service, words: list[str], expected: str) -> None:
    assert expected in tuned.call("tune", *words, status=2).err
    assert service.sizes == []


def test_before_apply_it_says_so(cli: Cli, service: Service) -> None:
    over_http(cli, service)
    assert "run `rowscore apply churn`" in cli.error("tune", status=1)
    assert service.sizes == []


def test_ctrl_c_ends_it_after_the_call_in_flight(
    tuned: Cli, service: Service, rows: psycopg.Connection[Any]
) -> None:
    service.hold()
    with tuned.started("tune", "--max-calls", "50") as running:
        assert service.entered.wait(60)
        running.tell(signal.SIGINT)
        running.says("stopping")
        service.release()
        ended = running.end()
    assert ended.status == 130
    assert len(service.sizes) == 1
    assert states(rows) == {RowState.EXISTING: 1000}
