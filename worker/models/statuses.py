"""What a status of HTTP other than success means: whose fault it is, and how long to wait; it sends nothing."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn

import httpx

from worker.errors import (
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.models.client import Client, Reply

_REFUSALS = {
    401: "the credentials are missing or wrong",
    403: "access is denied",
    404: "there is nothing at this address",
    405: "POST is not allowed there",
    415: "this content type is not taken",
}
_UNAVAILABLE = (502, 503, 504)


def refuse(client: Client, reply: Reply) -> NoReturn:
    """Raise the error that the status of an answer stands for.

    Raises:
        ModelError: always.
    """
    status = reply.status
    message = described(client, reply)
    wait = retry_after(reply.headers)
    if status == 429 or (status == 400 and _is_throttling(reply.content)):
        raise ThrottledError(message, retry_after=wait)
    if status in (400, 422):
        raise RowRejectedError(message)
    if status == 413:
        raise PayloadTooLargeError(message)
    if _is_redirect(reply) or status in _REFUSALS:
        raise ServiceRefusedError(message)
    if status == 503 and wait is not None:
        raise ThrottledError(message, retry_after=wait)
    if status in _UNAVAILABLE:
        raise ServiceUnavailableError(message)
    raise RowFaultError(message)


def described(client: Client, reply: Reply, name: str | None = None) -> str:
    """One line: the address, the status, what it means, and what the service says."""
    said = client.line(reply.content)
    if _is_redirect(reply):
        said = f"it redirects to {_place(reply)}; put the final address in the configuration"
    meaning = _REFUSALS.get(reply.status)
    detail = ": ".join(text for text in (meaning, said) if text)
    message = f"{name or client.name} answered status {reply.status}"
    return f"{message}: {detail}" if detail else message


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds from now, from a number or an HTTP date; None where it is missing or neither."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _is_redirect(reply: Reply) -> bool:
    return reply.status // 100 == 3


def _is_throttling(content: bytes) -> bool:
    """SageMaker's way of throttling: status 400 and a message that is null."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "message" in body and body["message"] is None


def _place(reply: Reply) -> str:
    """Where a redirect leads, without what may be secret."""
    try:
        return str(httpx.URL(reply.headers["location"]).copy_with(username=None, password=None, query=None))
    except (KeyError, httpx.InvalidURL):
        return "an address that cannot be read"
