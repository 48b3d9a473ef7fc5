"""Whether a function runs in Aurora's batch mode, and what is said where it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.batching import BatchSettings, judge_batching, rows_a_call, service_of
from worker.capabilities import capabilities_of
from worker.function import Function

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
AURORA = BatchSettings(True, "on", capabilities_of("postgresql").counsel)
ELSEWHERE = BatchSettings(False, None, capabilities_of("postgresql").counsel)
SERVICE = {"aws_sagemaker.invoke_endpoint"}


def test_on_aurora_a_wrapper_that_is_scanned_below_a_loop_is_batched() -> None:
    found = judge_batching(WRAPPER, AURORA, SERVICE, None)
    assert (found.batched, found.reason, found.remedy) == (True, "up to 1,500 rows a call", None)


def test_on_aurora_a_plan_without_that_scan_is_not_batched() -> None:
    found = judge_batching(WRAPPER, AURORA, set(), None)
    assert not found.batched
    assert found.remedy is not None
    assert "LANGUAGE SQL" in found.remedy


def test_the_setting_that_turns_it_off_is_named() -> None:
    found = judge_batching(WRAPPER, replace(AURORA, function_migration="off"), SERVICE, None)
    assert not found.batched
    assert "apg_enable_function_migration" in found.reason


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
