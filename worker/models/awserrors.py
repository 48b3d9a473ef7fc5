"""The errors of AWS's services as classes of `worker.errors`, which say who is at fault; it calls nothing.

From the services' API references (Common Errors, and the errors of each operation) and botocore's list of what is
throttling. A code that no table has is judged by its HTTP status.
"""

from __future__ import annotations

import re
from typing import Any

from botocore import exceptions as boto

from worker.errors import (
    ConnectionDroppedError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    ThrottledError,
)

_LONGEST_MESSAGE = 300
_THROTTLED = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "ServiceQuotaExceededException",  # of Bedrock: "You can resubmit your request later"
    "SlowDown",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequestsException",
    "TransactionInProgressException",
}
_EXPIRED = "the credentials have expired: renew them, or use a role, which boto3 renews itself"
_WRONG = "the credentials are missing or wrong"
_CLOCK = "the signature is not accepted; are the secret key and this machine's clock right?"
_DENIED = "allow it in the policy of the worker's role, which `rowscore apply --iam` prints"
_REFUSED: dict[str, str] = {  # and what may be done about it
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "IncompleteSignature": _WRONG,
    "InvalidClientTokenId": _WRONG,
    "InvalidSignatureException": _CLOCK,
    "MissingAuthenticationToken": _WRONG,
    "MissingAuthenticationTokenException": _WRONG,
    "NotAuthorized": _DENIED,
    "OptInRequired": "the account has not signed up for this service",
    "RequestExpired": _CLOCK,
    "ResourceNotFoundException": "is the name right, and is it in this region?",
    "SignatureDoesNotMatch": _CLOCK,
    "SubscriptionRequiredException": "the account has not signed up for this service",
    "UnknownOperationException": "is `endpoint` that of this service?",
    "UnrecognizedClientException": _WRONG,
    "UnsupportedLanguageException": "`language` is one that Comprehend does not read",
}
_FAULTS: dict[str, type[ModelError]] = {
    "BatchSizeLimitExceededException": PayloadTooLargeError,
    "InternalDependencyException": ServiceUnavailableError,
    "InternalFailure": ServiceFailedError,
    "InternalServerError": ServiceFailedError,
    "InternalServerException": ServiceFailedError,
    "InvalidRequestException": RowRejectedError,
    "ModelNotReadyException": ServiceUnavailableError,  # it is being loaded
    "ModelTimeoutException": ServiceTimeoutError,
    "RequestTimeout": ServiceTimeoutError,
    "RequestTimeoutException": ServiceTimeoutError,
    "ServiceUnavailable": ServiceUnavailableError,
    "ServiceUnavailableException": ServiceUnavailableError,
    "TextSizeLimitExceededException": RowRejectedError,
}
_MODEL_ERRORS = ("ModelError", "ModelErrorException")
_VALIDATIONS = ("ValidationError", "ValidationException")
_TOO_LARGE = re.compile(
    r"body.*(length|size)|size.*body|payload.*(length|size)|too large|exceed\w* .*size|maximum item count",
    re.IGNORECASE,
)
_NOT_YET = re.compile(r"not (yet )?(in ?service|ready)", re.IGNORECASE)
_MISNAMED = re.compile(
    r"languageCode|model id|throughput|inference profile|support the model|not recognized by the service|"
    r"tokens you requested exceeds|operation not allowed",
    re.IGNORECASE,
)


def one_line(text: object) -> str:
    """The beginning of a text on one line, without control characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return " ".join(printable.split())[:_LONGEST_MESSAGE]


def item_fault(code: str) -> type[ModelError]:
    """The class that stands for the code of one item of an answer.

    The API reference does not list them: they may be numbers, or written as TEXT_SIZE_LIMIT_EXCEEDED.
    """
    if code.isdecimal():
        return _by_status(int(code))
    return _BY_PLAIN_CODE.get(_plain(code), RowFaultError)


def translated(error: Exception, who: str, seconds: float) -> ModelError:
    """What boto3 raised, as the error that says who is at fault.

    Args:
        error: any exception of botocore.
        who: the service, and its model or endpoint.
        seconds: the request's timeout, for messages.
    """
    if isinstance(error, boto.ClientError):
        return _of_answer(error, who)
    if isinstance(error, boto.ReadTimeoutError):
        return ServiceTimeoutError(f"{who} did not answer within {seconds:g} s")
    if isinstance(error, boto.ConnectTimeoutError):
        return ServiceUnavailableError(f"{who}: no connection in time")
    message = f"{who}: {one_line(error)}"
    fault = next((fault for kinds, fault in _UNANSWERED if isinstance(error, kinds)), None)
    return fault(message) if fault is not None else ServiceRefusedError(message, sent=False)


_UNANSWERED: tuple[tuple[tuple[type[Exception], ...], type[ModelError]], ...] = (
    (
        (boto.ConnectionClosedError, boto.ResponseStreamingError, boto.IncompleteReadError),
        ConnectionDroppedError,
    ),
    ((boto.ConnectionError, boto.HTTPClientError), ServiceUnavailableError),
    ((boto.CredentialRetrievalError, boto.MetadataRetrievalError), ServiceUnavailableError),  # for now
    ((boto.ParamValidationError,), RowRejectedError),
)


def _of_answer(error: boto.ClientError, who: str) -> ModelError:
    details: dict[str, Any] = error.response.get("Error", {})
    metadata: dict[str, Any] = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code, said = str(details.get("Code") or status), details.get("Message")
    if error.operation_name == "AssumeRole":
        who = f"{who}: the role cannot be assumed"
    if code in _MODEL_ERRORS:
        return _of_model(error.response, who)
    message = f"{who}: {code}: {one_line(said)}" if said else f"{who}: {code}"
    fault: type[ModelError] = _FAULTS.get(code) or _by_status(status)
    if status == 400 and said is None:  # SageMaker's other way of throttling: {"message": null}
        fault, message = ThrottledError, f"{who} answered status 400 without a message: it is throttled"
    elif code in _THROTTLED:
        fault = ThrottledError
    elif code in _REFUSED:
        fault, message = ServiceRefusedError, f"{message} ({_REFUSED[code]})"
    elif code in _VALIDATIONS:
        fault = _of_validation(code, message)
        message += " (is the name right, and is it in this region?)" if fault is ServiceRefusedError else ""
    if issubclass(fault, (ThrottledError, ServiceUnavailableError)):
        return fault(message, retry_after=_seconds(metadata.get("HTTPHeaders", {}).get("retry-after")))
    return fault(message)


def _of_model(answer: dict[str, Any], who: str) -> ModelError:
    """The container, or the model, answered with an error of its own: `OriginalStatusCode` says which."""
    status = int(answer.get("OriginalStatusCode") or answer.get("originalStatusCode") or 0)
    said = answer.get("OriginalMessage") or answer.get("Error", {}).get("Message") or ""
    message = f"{who}: the model answered status {status}: {one_line(said)}"
    if status == 0 and "timed out" in str(said) + str(answer.get("Error", {}).get("Message")):
        return ServiceTimeoutError(f"{who}: {one_line(said)}")
    return _by_status(status)(message)


def _of_validation(code: str, message: str) -> type[ModelError]:
    """SageMaker looks at names and sizes alone, and not into the body; Bedrock and Comprehend at both."""
    if _TOO_LARGE.search(message):
        return PayloadTooLargeError
    if _NOT_YET.search(message):
        return ServiceUnavailableError
    return ServiceRefusedError if code == "ValidationError" or _MISNAMED.search(message) else RowRejectedError


def _by_status(status: int) -> type[ModelError]:
    """As an HTTP model's statuses are judged (`worker.models.http`)."""
    return {
        400: RowRejectedError,
        401: ServiceRefusedError,
        403: ServiceRefusedError,
        404: ServiceRefusedError,
        405: ServiceRefusedError,
        408: ServiceTimeoutError,
        413: PayloadTooLargeError,
        415: ServiceRefusedError,
        422: RowRejectedError,
        429: ThrottledError,
        502: ServiceUnavailableError,
        503: ServiceUnavailableError,
        504: ServiceUnavailableError,
        530: ServiceUnavailableError,
    }.get(status, RowFaultError)


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d+(\.\d+)?", text) else None


def _plain(code: str) -> str:
    return code.replace("_", "").lower().removesuffix("exception").removesuffix("error")


_BY_PLAIN_CODE: dict[str, type[ModelError]] = {
    _plain(code): fault
    for codes, fault in ((_THROTTLED, ThrottledError), (_REFUSED, ServiceRefusedError))
    for code in codes
} | {_plain(code): fault for code, fault in _FAULTS.items()}
