"""Rates as they are written in the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.predictions import configuration
from worker.errors import ConfigurationError
from worker.kinds.base import CalledModel
from worker.kinds.rates import Rate, parse_rates


@pytest.mark.parametrize(
    ("text", "amount", "unit", "seconds"),
    [
        ("50 requests/s", 50, "requests", 1.0),
        ("1_000 rows / m", 1000, "rows", 60.0),
        ("1,000,000 tokens/h", 1_000_000, "tokens", 3600.0),
        (" 5 requests/d ", 5, "requests", 86_400.0),
    ],
)
def test_a_rate_is_an_amount_in_a_time(text: str, amount: int, unit: str, seconds: float) -> None:
    assert parse_rates(text) == (Rate(amount, unit, seconds, text.strip()),)


def test_several_hold_together_and_decide_no_value() -> None:
    model = {"openai": "m", "rate_limit": ["5 requests/s", "9 tokens/m"], "remember": "7d"}
    plain = {"openai": "m"}
    inputs: dict[str, Any] = {"inputs": ["note"], "outputs": {"p": "double precision[]"}}
    limited = configuration("postgresql:///x", model=model, **inputs).prediction()
    assert isinstance(limited.model, CalledModel)
    assert [str(rate) for rate in limited.model.rate_limit] == ["5 requests/s", "9 tokens/m"]
    without = configuration("postgresql:///x", model=plain, **inputs).prediction()
    assert limited.definition_hash == without.definition_hash


@pytest.mark.parametrize(
    "value", ["50", "requests/s", "0 rows/s", "5 calls/s", "5 rows/w", 5, ["5 rows/s", "x"]]
)
def test_what_is_no_rate_is_one_line(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r'expected requests, rows or tokens in a time, such as "50'
    ) as caught:
        configuration("postgresql:///x", model={"python": "tests:none", "rate_limit": value})
    assert "\n" not in str(caught.value)


def test_tokens_are_a_rate_only_where_they_are_counted() -> None:
    with pytest.raises(
        ConfigurationError, match=r"nobody counts tokens for this kind of model; limit .*9 tokens/m"
    ):
        configuration("postgresql:///x", model={"python": "tests:none", "rate_limit": "9 tokens/m"})
