"""Whether a function runs in Aurora's batch mode, and what is said where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.batching import (
    Batching,
    BatchSettings,
    Caller,
    Leak,
    Tally,
    judge_batching,
    judge_caller,
    judge_sample,
    read_tally,
    rows_a_call,
    service_of,
)
from worker.capabilities import capabilities_of
from worker.function import Function
from worker.plans import BatchProcessing

SOURCE = """
SELECT cast(aws_sagemaker.invoke_endpoint('xgboost-churn', 1500,
  state, acc_length) AS double precision)
"""
WRAPPER = Function(
    oid=1,
    target='"public"."predict_churn"',
    label="public.predict_churn",
    returns="double precision",
    fields=(),
    batch_size_place=None,
    batch_mode=False,
    executable=True,
    volatility="v",
    parallel="s",
    cost=5000.0,
    language="sql",
    source=SOURCE,
)
SWITCHES = ("apg_enable_function_migration", "apg_enable_batch_mode_function_execution")
AURORA = BatchSettings(True, dict.fromkeys(SWITCHES, "on"), capabilities_of("postgresql").counsel)
ELSEWHERE = BatchSettings(False, dict.fromkeys(SWITCHES), capabilities_of("postgresql").counsel)
SERVICE = {"aws_sagemaker.invoke_endpoint"}


def test_on_aurora_a_wrapper_that_is_scanned_below_a_loop_is_batched() -> None:
    found = judge_batching(WRAPPER, AURORA, SERVICE, None)
    assert (found.batched, found.reason, found.remedy) == (True, "up to 1,500 rows a call", None)


def test_on_aurora_the_plan_may_name_the_wrapper_itself() -> None:
    """So it does in AWS's own example: a Function Scan on public.anomaly_score."""
    assert judge_batching(WRAPPER, AURORA, {"public.predict_churn"}, None).batched
    assert not judge_batching(WRAPPER, AURORA, {"public.other"}, None).batched


def test_comprehend_in_an_update_of_aurora_mysql_is_told_the_mode() -> None:
    label = "aws_comprehend_detect_sentiment"
    own = replace(WRAPPER, label=label, source="MAX_BATCH_SIZE 25", language="c", trailing=("'en'", "25"))
    mysql = BatchSettings(True, {}, capabilities_of("mysql").counsel)
    found = judge_batching(own, mysql, set(), 25)
    assert not found.batched
    assert found.remedy is not None
    assert found.remedy.startswith('mode = "select"')
    assert judge_batching(own, mysql, {label}, 25) == Batching(True, "up to 25 rows a call")


COUNTERS = {
    "Aurora_ml_logical_request_cnt": "12000", "Aurora_ml_logical_response_cnt": "12000",
    "Aurora_ml_actual_request_cnt": "3", "Aurora_ml_actual_response_cnt": "3", "Aurora_ml_cache_hit_cnt": "7",
    "Aurora_ml_retry_request_cnt": "1", "Aurora_ml_single_request_cnt": "0",
}  # fmt: skip


def test_auroras_counters_are_read_and_told() -> None:
    tally = read_tally(COUNTERS)
    assert tally == Tally(rows=12000, calls=3, single=0, retried=1, cached=7)
    assert str(tally) == (
        "12,000 rows asked about in 3 calls, 0 of them outside batch mode; calls sent again: 1, "
        "rows answered by the server's cache: 7"
    )
    assert read_tally({**COUNTERS, "AURORA_ML_SINGLE_REQUEST_CNT": "9"}) != tally
    assert read_tally({"Uptime": "3"}) is None


def test_on_aurora_a_plan_without_that_scan_is_not_batched() -> None:
    found = judge_batching(WRAPPER, AURORA, set(), None)
    assert not found.batched
    assert found.remedy is not None
    assert "LANGUAGE SQL" in found.remedy
    ours = judge_batching(replace(WRAPPER, made=True), AURORA, set(), None)
    assert ours.remedy is not None
    assert ours.remedy.startswith('try mode = "select"')


@pytest.mark.parametrize("name", SWITCHES)
def test_the_setting_that_turns_it_off_is_named(name: str) -> None:
    found = judge_batching(WRAPPER, replace(AURORA, switches={**AURORA.switches, name: "off"}), SERVICE, None)
    assert found == Batching(False, f"{name} is off", f"ALTER ROLE CURRENT_USER SET {name} = on;")


def test_elsewhere_the_truth_is_that_it_is_a_stand_in() -> None:
    found = judge_batching(WRAPPER, ELSEWHERE, set(), None)
    assert not found.batched
    assert "not Aurora" in found.reason
    assert "up to 1,500 rows a call" in found.reason


def test_a_procedural_function_is_called_once_a_row_anywhere() -> None:
    found = judge_batching(replace(WRAPPER, language="plpgsql"), AURORA, SERVICE, None)
    assert not found.batched
    assert found.reason.startswith("plpgsql functions are called once for each row")
    assert found.remedy == "make public.predict_churn LANGUAGE SQL with one SELECT"


def test_a_function_that_calls_no_service_needs_no_batches() -> None:
    found = judge_batching(replace(WRAPPER, source="SELECT a + b"), AURORA, set(), None)
    assert (found.batched, found.remedy) == (False, None)
    assert "calls no service" in found.reason


def test_bedrock_takes_one_row_a_call() -> None:
    source = "SELECT aws_bedrock.invoke_model('m', 'application/json', 'application/json', body)"
    assert "one row a call" in judge_batching(replace(WRAPPER, source=source), AURORA, set(), None).reason


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (SOURCE, "up to 1,500 rows a call"),
        (
            "SELECT aws_sagemaker.invoke_endpoint('e'::varchar, NULL, a)",
            "as many rows a call as Aurora thinks best",
        ),
        ("SELECT aws_sagemaker.invoke_endpoint('e', max_rows_per_batch => 7, a)", "up to 7 rows a call"),
        (
            "SELECT s.sentiment FROM aws_comprehend.detect_sentiment(message, 'en', 25) AS s",
            "up to 25 rows a call",
        ),
        (
            "SELECT aws_comprehend.detect_sentiment(message, 'en')",
            "as many rows a call as the service's default",
        ),
    ],
)
def test_the_batch_size_is_read_from_the_source(source: str, expected: str) -> None:
    assert rows_a_call(replace(WRAPPER, source=source), None) == expected


def test_a_function_that_takes_the_batch_size_is_given_the_configured_one() -> None:
    taking = replace(WRAPPER, batch_size_place=2)
    assert rows_a_call(taking, 2000) == "up to 2,000 rows a call"
    assert rows_a_call(taking, None) == "as many rows a call as Aurora thinks best"


def test_a_service_may_be_named_directly() -> None:
    direct = replace(WRAPPER, label="aws_comprehend.detect_sentiment", source="aws_comprehend", language="c")
    assert service_of(direct) == "aws_comprehend.detect_sentiment"
    assert judge_batching(direct, AURORA, {"aws_comprehend.detect_sentiment"}, None).batched


# --- what else calls it -------------------------------------------------------------------------------------


def leak(kind: str, text: str) -> Leak | None:
    return judge_caller(Caller(kind, "public.x", text), "predict_churn")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("trigger", "for each row that is written, and the application waits"),
        ("column", "for each row that is written"),
        ("plpgsql function", "for one row at a time"),
        ("plpython3u function", "for one row at a time"),
        ("function", "for one row at a time"),
    ],
)
def test_what_calls_it_row_by_row_is_told(kind: str, reason: str) -> None:
    found = leak(kind, "NEW.p := predict_churn(NEW.a);")
    assert found is not None
    assert found.caller == f"{kind} public.x"
    assert reason in found.reason


PLAIN = " SELECT a.id, public.predict_churn(a.state) AS p FROM a;"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN, None),
        (PLAIN.replace(";", "\n LIMIT 10;"), "ends after some rows"),
        (PLAIN.replace(";", "\n FETCH FIRST 10 ROWS ONLY;"), "ends after some rows"),
        (" SELECT 'LIMIT 3' AS limited, predict_churn(a.state) FROM a;", None),
        (" SELECT CASE predict_churn(a.s) WHEN 1 THEN 'x' ELSE 'y' END FROM a;", None),
        (" SELECT CASE a.s WHEN 'CA' THEN predict_churn(a.s) END FROM a;", None),
        (" SELECT CASE WHEN (predict_churn(a.s) > 0.5) THEN 'x' ELSE 'y' END FROM a;", None),
        (" SELECT CASE WHEN (a.s IS NULL) THEN 0 ELSE predict_churn(a.s) END FROM a;", "in a searched CASE"),
        (" SELECT CASE WHEN a.s = 'x' THEN 0 WHEN predict_churn(a.s) > 0 THEN 1 END", "in a searched CASE"),
        (' SELECT CASE WHEN a.s = 1 THEN "public"."predict_churn"(a.s) END', "in a searched CASE"),
        (" SELECT CASE WHEN (a.s IS NULL) THEN 0 END, predict_churn(a.s) FROM a;", None),
        (" SELECT CASE WHEN (a.s = 'predict_churn(') THEN 0 ELSE my_predict_churn(a.s) END FROM a;", None),
        (" SELECT CASE WHEN a THEN CASE b WHEN 1 THEN predict_churn(a.s) END END", "in a searched CASE"),
        (" SELECT CASE WHEN predict_churn(s) > 0 THEN predict_churn(s) ELSE 0 END FROM a;", None),
    ],
)
def test_a_view_is_judged_by_its_text(text: str, words: str | None) -> None:
    found = leak("view", text)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert words in found.reason


# --- what a sample shows ------------------------------------------------------------------------------------


def test_auroras_account_of_batches_is_the_proof() -> None:
    batches = [BatchProcessing(3, (1111.0, 333.0, 1500.0), (146.273, 90.0, 160.0))]
    found = judge_sample(3333, batches, {"aws_sagemaker.invoke_endpoint": 3})
    assert found == Batching(True, "3 batches of 1,111 rows on average (333 to 1,500), 146 ms each")


def test_without_one_the_calls_are_told() -> None:
    found = judge_sample(200, [], {"aws_sagemaker.invoke_endpoint": 200})
    assert found == Batching(
        False, "the plan tells of no batches; the server called aws_sagemaker.invoke_endpoint 200 times"
    )
    assert "counted no call" in judge_sample(200, [], {}).reason


def test_aurora_mysqls_counters_tell_by_the_calls_outside_batch_mode() -> None:
    moved = {name: int(count) for name, count in COUNTERS.items()}
    assert judge_sample(12000, [], moved) == Batching(True, str(read_tally(COUNTERS)))
    assert not judge_sample(9, [], {**moved, "Aurora_ml_single_request_cnt": 9}).batched
    assert not judge_sample(9, [], dict.fromkeys(COUNTERS, 0)).batched
