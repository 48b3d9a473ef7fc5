"""JSON templates of requests: documents whose texts hold `{input}`, as Python's format strings do."""

from __future__ import annotations

import json
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator


def _checked_request(text: str) -> str:
    """A JSON document whose texts may hold `{input}`, as Python's format strings do; `{{` stands for a brace."""
    try:
        document = json.loads(text)
        placeholders(document)
    except ValueError as error:
        raise ValueError(
            f'expected JSON with {{input}} in its texts, such as \'{{"inputText": "{{text}}"}}\': {error}'
        ) from error
    return text


def placeholders(document: Any) -> set[str]:
    """The inputs that the texts of a JSON document name.

    Raises:
        ValueError: a brace stands alone, or holds more than a name.
    """
    if isinstance(document, dict):
        return set().union(*map(placeholders, document.values()))
    if isinstance(document, list):
        return set().union(*map(placeholders, document))
    if not isinstance(document, str):
        return set()
    found = [part[1:] for part in Formatter().parse(document) if part[1] is not None]
    if any(not name or form or conversion for name, form, conversion in found):
        raise ValueError(f"{document!r} has braces with more or less in them than an input's name")
    return {str(name) for name, _, _ in found}


Request = Annotated[str, AfterValidator(_checked_request)]
