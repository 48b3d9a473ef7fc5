"""Models of kind comprehend: what Amazon Comprehend finds in a text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from worker.kinds.aws import AwsModel
from worker.sections import named_like

Finding = Literal[
    "sentiment",
    "confidence",
    "positive",
    "negative",
    "neutral",
    "mixed",
    "key_phrases",
    "entities",
    "language",
    "pii",
]
OPERATIONS: dict[str, str] = {  # of Comprehend's API, and so of IAM's actions, by what they find
    **dict.fromkeys(
        ("sentiment", "confidence", "positive", "negative", "neutral", "mixed"), "BatchDetectSentiment"
    ),
    "key_phrases": "BatchDetectKeyPhrases",
    "entities": "BatchDetectEntities",
    "language": "BatchDetectDominantLanguage",
    "pii": "DetectPiiEntities",
}
SCORES = ("confidence", "positive", "negative", "neutral", "mixed")
LISTS = ("key_phrases", "entities", "pii")
_NUMBERS = re.compile(r"(real|float|double|numeric|decimal)\b", re.IGNORECASE)
_TEXTS = re.compile(r"(text|\w*char|character)\b", re.IGNORECASE)
_OTHERS = re.compile(
    r"(bool|tinyint|smallint|int|bigint|date|time|uuid|bytea|vector|interval)", re.IGNORECASE
)
_PII_LANGUAGES = ("en", "es")


class ComprehendModel(AwsModel):
    """Amazon Comprehend, which reads one text a row; each output is one of its findings, in the outputs' order.

    Attributes:
        comprehend: the findings.
        language: of all texts.
    """

    kind: Literal["comprehend"] = Field("comprehend", exclude=True)
    comprehend: tuple[Finding, ...] = Field(min_length=1)
    language: Annotated[str, named_like(r"[a-z]{2,3}(-[A-Z]{2})?", "en")] = "en"

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that the findings take, each once."""
        return tuple(dict.fromkeys(OPERATIONS[finding] for finding in self.comprehend))

    @field_validator("comprehend", mode="before")
    @classmethod
    def _one_finding(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        if len(inputs) != 1:
            raise ValueError(
                f"model.comprehend: it reads one text and {len(inputs)} inputs are configured; join them with "
                '{ name = "text", sql = "concat_ws(\' \', title, body)" }'
            )
        if len(outputs) != len(self.comprehend):
            raise ValueError(
                f"model.comprehend: it names {len(self.comprehend)} findings ({', '.join(self.comprehend)}) and "
                f"{len(outputs)} outputs are configured; name one for each"
            )
        if "pii" in self.comprehend and self.language not in _PII_LANGUAGES:
            raise ValueError(
                f"model.language: Comprehend finds pii in {' and '.join(_PII_LANGUAGES)} alone, "
                f"not in {self.language!r}"
            )
        for finding, (column, kind) in zip(self.comprehend, outputs.items(), strict=True):
            if problem := _misfit(finding, kind):
                raise ValueError(f"model.comprehend: {finding} is {problem}, and {column} is {kind}")


def _misfit(finding: str, kind: str) -> str | None:
    """What the finding is, if a column of that type cannot take it; types that are not known are let pass."""
    number, other, listed = _NUMBERS.match(kind), _OTHERS.match(kind), _is_list(kind)
    if finding in SCORES:
        return "a number from 0 to 1, a real" if other or listed or _TEXTS.match(kind) else None
    if finding in LISTS:
        return "a list, for json or text[]" if (number or other) and not listed else None
    return "a text" if number or other or listed else None


def _is_list(kind: str) -> bool:
    return kind.endswith("]") or kind.lower().startswith("json")
