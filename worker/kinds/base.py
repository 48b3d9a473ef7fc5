"""What any kind of model may say in its section; it calls none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, field_validator

from worker.kinds.encoding import Encoding
from worker.kinds.rates import Rate, parse_rates
from worker.sections import Count, Duration, Section

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ModelSettings(Section):
    """What it costs, in whatever currency; `rowscore tune` adds it up.

    Attributes:
        UNDECIDING: the keys that decide no value: workers may disagree on them.
    """

    UNDECIDING: ClassVar[frozenset[str]] = frozenset({"cost_per_call", "cost_per_row"})

    cost_per_call: Cost | None = None
    cost_per_row: Cost | None = None

    @property
    def priced(self) -> bool:
        """Whether anybody knows what it costs."""
        return self.cost_per_call is not None or self.cost_per_row is not None

    @property
    def definition(self) -> dict[str, Any]:
        """What decides the answers: keys at their defaults are left out, so that new ones change no definition."""
        fields = type(self).model_fields
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name not in self.UNDECIDING
            and getattr(self, name) != fields[name].get_default(call_default_factory=True)
        }

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """That it can take these inputs and give these outputs, which are SQL types by name.

        Raises:
            ValueError: it cannot, and why; the message begins with the key.
        """

    def _is_default(self, name: str) -> bool:
        field = type(self).model_fields[name]
        return not field.is_required() and getattr(self, name) == field.get_default(call_default_factory=True)


class CalledModel(ModelSettings):
    """A model that the worker calls.

    Attributes:
        COUNTS_TOKENS: whether the kind knows how many tokens a call has.
        rate_limit: requests, rows or tokens in a time, by all workers together.
        remember: for how long answers are kept in Redis, to be given for equal inputs without a call.
        encoding: how values are written for it.
    """

    UNDECIDING: ClassVar[frozenset[str]] = ModelSettings.UNDECIDING | {"rate_limit", "remember"}
    COUNTS_TOKENS: ClassVar[bool] = False

    rate_limit: Annotated[tuple[Rate, ...], BeforeValidator(parse_rates)] = ()
    remember: Duration | None = None
    encoding: Encoding = Encoding()

    @field_validator("rate_limit")
    @classmethod
    def _is_counted(cls, value: tuple[Rate, ...]) -> tuple[Rate, ...]:
        if not cls.COUNTS_TOKENS and (wrong := [rate for rate in value if rate.unit == "tokens"]):
            raise ValueError(
                f'nobody counts tokens for this kind of model; limit "requests" or "rows", not "{wrong[0]}"'
            )
        return value


class ServiceModel(CalledModel):
    """A model behind an address: each call takes its time and may fail.

    Attributes:
        timeout: of one request, from connecting to the answer's last byte.
        attempts: how often a request that fails for a passing reason is sent.
        max_bytes: of a request's body.
    """

    UNDECIDING: ClassVar[frozenset[str]] = CalledModel.UNDECIDING | {"timeout", "attempts", "max_bytes"}

    timeout: Duration = timedelta(seconds=30)
    attempts: Count = 3
    max_bytes: Count = 6_000_000
