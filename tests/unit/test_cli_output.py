"""What the command line prints: figures, lines, documents, the configuration without its secrets."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli import figures, run
from worker.cli.output import Output
from worker.cli.progress import Course, Progress, describe
from worker.cli.settings import as_toml, effective, masked
from worker.cli.statustext import describe as describe_status
from worker.config import Configuration, parse_configuration
from worker.sections import duration_text, parse_duration
from worker.standing import (
    Activity,
    BackfillStatus,
    Circuit,
    Definition,
    Failures,
    Freshness,
    Learned,
    LeaseStatus,
    Rows,
    Spread,
    Status,
)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECTION: dict[str, Any] = {
    "table": "items",
    "inputs": ["a", {"column": "b", "default": 0.5}, {"name": "text", "sql": "a || 'x'"}],
    "outputs": {"p": "double precision", "My column": "text"},
    "model": {
        "http": "https://user:pa@ss@host/invoke?X-Api-Key=abc&zone=1",
        "headers": {"Authorization": "Bearer $TOKEN", "X-Key": "plain-key"},
    },
    "where": "length(note) > 0",
}


def configuration(**overrides: Any) -> Configuration:
    url = "postgresql://u:p:a@ss@db/x?sslpassword=hush"
    return parse_configuration({"database": url, "predictions": {"churn": {**SECTION, **overrides}}})


# --- figures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.065, "65 ms"),
        (0.9996, "1.0 s"),
        (1.34, "1.3 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (245, "4 min 5 s"),
        (7830, "2 h 10 min"),
        (3600, "1 h"),
        (273_600, "3 d 4 h"),
        (-2, "-2.0 s"),
        (None, "unknown"),
        (float("inf"), "unknown"),
    ],
)
def test_durations_are_in_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert figures.duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e9))
def test_every_duration_is_short_and_has_a_unit(seconds: float) -> None:
    text = figures.duration(seconds)
    assert len(text) <= 14
    assert text.split()[-1] in {"ms", "s", "min", "h", "d"}


@pytest.mark.parametrize(
    ("rows", "seconds", "text"),
    [
        (12_345, 1, "12,300 rows/s"),
        (9, 2, "4.5 rows/s"),
        (0, 1, "0 rows/s"),
        (5, 0, "unknown"),
        (5, None, "unknown"),
    ],
)
def test_rates_have_three_digits(rows: float, seconds: float | None, text: str) -> None:
    assert figures.rate(rows, seconds) == text


def test_counts_and_shares() -> None:
    assert figures.count(1_234_567) == "1,234,567"
    assert figures.count(None) == "unknown"
    assert figures.counted(1, "row") == "1 row"
    assert figures.counted(1200, "batch", "batches") == "1,200 batches"
    assert figures.percent(45_000, 200_000) == "22 %"
    assert figures.percent(999_999, 1_000_000) == "99.9 %", "not done is never 100"
    assert figures.percent(5, 5) == "100 %"
    assert figures.percent(5, 0) == "unknown"


def test_columns_are_aligned() -> None:
    lines = figures.aligned([("KEY", "TRIES", "WHY"), ("1", "10", "bad"), ("12345", "1", "")], right=(1,))
    assert lines == ["KEY    TRIES  WHY", "1         10  bad", "12345      1"]


# --- streams ----------------------------------------------------------------------------------------------


def test_results_go_to_stdout_and_notes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.say("result", "good")
    output.note("note")
    output.table(("A", "B"), [("1", "2")], indent=2)
    output.facts({"one": "1", "three": "3"})
    output.verdict("failed", "[bold]no index[/bold]", "make one")
    output.document({"never": "printed"})
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "result",
        "  A  B",
        "  1  2",
        "  one    1",
        "  three  3",
        "failed   [bold]no index[/bold]",
        "         make one",
    ]
    assert err == "note\n"


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=True)
    output.say("words")
    output.document({"when": NOON, "took": timedelta(seconds=1.5), "share": Decimal("0.5"), "text": "Grüße"})
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "when": "2026-11-01T12:00:00+00:00",
        "took": 1.5,
        "share": 0.5,
        "text": "Grüße",
    }
    assert err == "words\n"


# --- progress ---------------------------------------------------------------------------------------------


def test_progress_names_speed_and_time_to_go() -> None:
    course = Course(total=200_000, before=20_000, done=45_000, failed=3, batch=5000, seconds=2.0)
    assert describe(course) == "45,000 of 200,000 rows  12,500 rows/s  12 s left  batch 5,000  3 failed"


def test_rows_done_before_say_nothing_about_speed() -> None:
    assert describe(Course(total=10, before=10, done=10, seconds=5.0)) == "10 of 10 rows"


def test_a_reason_to_wait_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("churn", Course()) as progress:
        for _ in range(3):
            progress.wait("the model is away")
        progress.batch(10, 0, 10)
        progress.wait("the model is away")
    first, second = capsys.readouterr().err.splitlines()
    assert first == "churn: 0 rows  waiting: the model is away"
    assert second.endswith("batch 10  waiting: the model is away")


# --- the configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$DATABASE_URL", "$DATABASE_URL"),
        ("file:/run/secrets/url", "file:/run/secrets/url"),
        ("postgresql://u:pa:s@s/w@db/x", "postgresql://u:***@db/x"),
        (
            "postgresql://u@db/x?sslmode=require&password=p",
            "postgresql://u@db/x?sslmode=require&password=***",
        ),
        ("redis://:hush@host:6379/0", "redis://:***@host:6379/0"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://host/x?sig=abc&v=1#top", "https://host/x?sig=***&v=1#top"),
    ],
)
def test_secrets_are_masked_and_references_are_not(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_the_effective_configuration_has_every_default_and_no_secret() -> None:
    shown = effective(configuration())
    churn = shown["predictions"]["churn"]
    assert (churn["view"], churn["state"], churn["every"]) == ("items_scored", "churn_state", "30s")
    assert churn["model"]["headers"] == {"Authorization": "Bearer $TOKEN", "X-Key": "***"}
    text = json.dumps(shown) + as_toml(configuration())
    assert not [secret for secret in ("ss@", "hush", "abc", "plain-key") if secret in text]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {
            "view": False,
            "key": ["id"],
            "cron": "0 3 * * *",
            "version": {"column": "v", "value": '"quoted" \\ text'},
        },
        {"model": {"sql": "predict"}, "max_rows_per_batch": 10, "lease_time": "90s"},
    ],
)
def test_the_shown_file_reads_back_as_the_same_prediction(overrides: dict[str, Any]) -> None:
    given = configuration(**{"model": {"http": "http://host/x"}, **overrides})
    again = parse_configuration(tomllib.loads(as_toml(given, "churn")))
    shown = effective(given)["predictions"]["churn"]
    assert effective(again)["predictions"]["churn"] == shown
    assert again.predictions["churn"].definition_hash == given.predictions["churn"].definition_hash


@given(st.integers(min_value=1, max_value=10**9))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(duration_text(duration)) == duration


# --- status -----------------------------------------------------------------------------------------------


def status(**changes: Any) -> Status:
    values: dict[str, Any] = {
        "prediction": "churn",
        "table": "public.items",
        "arrived_at": "created_at",
        "definition": Definition(NOON, "a58a7561e7dd", "", ()),
        "rows": Rows(1_204_300, False, 1_000_000, 100_000, True, 12, 3, 0, 200_000),
        "oldest_waiting": 1.3,
        "freshness": Freshness(2100, 0.42, 1.3),
        "activity": Activity(
            24, 100_000, 3, 0, 7, 8.0, 12_500.0, 3.2, Spread(500, 4800.2, 5000),
            120, Spread(1, 1000, 1000), Spread(0.052, 0.065, 0.13), 3, 1, None,
            200_000, 102_000, 90_000, 8_000, 2,
        ),
        "failures": Failures(3, 1, 2),
        "learned": Learned(5000, 1000),
        "circuit": Circuit(False, None, 0, None, None),
    }  # fmt: skip
    return Status(**{**values, **changes})


def lines(found: Status) -> dict[str, str]:
    texts = [line.text for line in describe_status(found)]
    return {text[2:13].strip() or "more": text[15:] for text in texts[1:]}


def test_a_status_reads_well() -> None:
    assert lines(status()) == {
        "definition": "a58a7561e7dd, applied 2026-11-01 12:00 UTC",
        "rows": "~1,204,300: ~1,000,000 scored, ~200,000 existing, 0 skipped, 3 failed",
        "waiting": "100,000+, 12 of them with an old prediction, the oldest for 1.3 s",
        "freshness": "p50 420 ms, p99 1.3 s over the last 2,100 arrivals",
        "speed": "12,500 rows/s (100,000 rows; busy for 8.0 s of the last 5 min); last batch 3.2 s ago",
        "batches": "24; 500 / 4,800 / 5,000 rows; 7 lost to changes",
        "model calls": "120; 1 / 1,000 / 1,000 rows; 52 ms / 65 ms / 130 ms; 2 of a single row; 3 repeated; "
        "1 throttled",
        "not sent": "98,000 of 200,000 rows: 90,000 remembered, 8,000 equal to others",
        "learned": "5,000 rows a claim, 1,000 a model call",
        "failures": "3 rows, 1 due for another try, 2 not tried again by themselves; "
        "why: rowscore failures churn",
    }


def test_what_is_wrong_is_said() -> None:
    drift = ("the file's definition is x, the database's y",)
    found = lines(
        status(
            definition=Definition(NOON, "a58a7561e7dd", "v2", drift),
            rows=Rows(None, False, None, None, False, None, 0, None, None),
            freshness=None,
            circuit=Circuit(True, 12.0, 3, "service-temporary", "HTTP 503"),
            activity=None,
        )
    )
    assert found["more"] == f"{drift[0]}: rowscore apply churn, or update this file"
    assert found["rows"] == "unknown: scored unknown, existing unknown, skipped unknown, 0 failed"
    assert found["waiting"] == "unknown"
    assert found["freshness"].startswith("unknown: of the newest rows")
    assert found["circuit"] == "open for 12 s more: HTTP 503 (service-temporary, 3 in a row)"


def test_backfill_and_leases_are_shown() -> None:
    lease = LeaseStatus("backfill", "host:12", ("1",), ("500",), 2, 50.0)
    expired = LeaseStatus("drain", "host:13", ("a", "1"), ("b", "2"), 1, 0.0)
    found = [
        line.text[15:]
        for line in describe_status(
            status(
                backfill=BackfillStatus(7, 200_000, 45_000, 0, 0, 45_000, NOON, 12_500.0),
                leases=(lease, expired),
            )
        )
    ][-3:]
    assert found == [
        "45,000 of 200,000 (22 %), 12,500 rows/s, 12 s left",
        "backfill by host:12, 50 s left, attempt 2, keys 1 … 500",
        "drain by host:13, expired, free to be taken over, keys a, 1 … b, 2",
    ]


def test_a_rescore_is_named_as_one() -> None:
    run = BackfillStatus(7, 200_000, 45_000, 3, 0, 45_003, NOON, 12_500.0, options="--older-than 30d")
    found = lines(status(rescore=run))
    assert (
        found["rescore"] == "45,003 of 200,000 (23 %), 12,500 rows/s, 12 s left, 3 failed; --older-than 30d"
    )
    assert "backfill" not in found


def test_never_applied_is_said_first() -> None:
    found = Status("churn", "public.items", None, None)
    assert lines(found) == {"definition": "not applied yet: rowscore apply churn"}


# --- usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope"], "No such command 'nope'; see `rowscore --help`"),
        (["aply"], "No such command 'aply'. Did you mean 'apply'?; see `rowscore --help`"),
        (["run", "--fro", "60s"], "No such option: --fro"),
        (["run", "--for", "60"], "expected a duration such as"),
        (["status", "a", "b"], "unexpected extra argument"),
        (["-c"], "requires an argument"),
        (["failures", "--limit", "0"], "--limit"),
    ],
)
def test_bad_usage_is_one_line_and_exit_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert message.lower() in err.lower()
    assert (out, err.count("\n")) == ("", 1)
