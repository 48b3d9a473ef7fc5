"""What models that are services of AWS have in common: where they are, and as whom they are called."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from worker.kinds.base import ServiceModel
from worker.sections import named_like


def reference_or(pattern: str, example: str, *, shown: bool = True) -> AfterValidator:
    """Texts that match a pattern, or `$NAME` and `file:` that stand for one.

    Args:
        pattern: of the whole text.
        example: what the error shows.
        shown: whether the error shows the text, too: it may have a password in it.
    """

    def checked(text: str) -> str:
        if not re.fullmatch(rf"{pattern}|\$\w+|\$\{{\w+\}}|file:.+", text):
            found = f", not {text!r}" if shown else ""
            raise ValueError(f"expected a text such as {example!r}, or $NAME{found}")
        return text

    return AfterValidator(checked)


class AwsModel(ServiceModel):
    """A service of AWS, called through boto3 with the credentials that boto3 finds.

    Attributes:
        region: such as eu-west-1; None: as AWS's variables and files have it.
        profile: a profile of ~/.aws/config; None: the usual chain of credentials.
        role: the ARN of a role to assume before calling.
        endpoint: another address than the region's, such as that of a VPC endpoint.
    """

    UNDECIDING: ClassVar[frozenset[str]] = ServiceModel.UNDECIDING | {"profile", "role", "endpoint"}

    region: Annotated[str, reference_or(r"[a-z]{2,}(-[a-z]+)+-\d", "eu-west-1")] | None = None
    profile: Annotated[str, named_like(r"\S(.*\S)?", "scoring")] | None = None
    role: (
        Annotated[
            str, reference_or(r"arn:aws[\w-]*:iam::\d{12}:role/\S+", "arn:aws:iam::123456789012:role/scoring")
        ]
        | None
    ) = None
    endpoint: (
        Annotated[str, reference_or(r"https?://[^\s@]+", "https://vpce-1.example.com", shown=False)] | None
    ) = None
