"""Every error rowscore raises on purpose: what happened, to what, and what to do; it catches and retries nothing."""

from __future__ import annotations

from enum import StrEnum


class FailureClass(StrEnum):
    """The five ways in which scoring fails; who is charged and what happens next follows from the class alone."""

    ROW_TEMPORARY = "row-temporary"
    ROW_PERMANENT = "row-permanent"
    SERVICE_TEMPORARY = "service-temporary"
    SERVICE_PERMANENT = "service-permanent"
    THROTTLED = "throttled"

    @property
    def charges_rows(self) -> bool:
        """Whether rows pay for it with an attempt; a service's fault and waiting are never a row's."""
        return self in (FailureClass.ROW_TEMPORARY, FailureClass.ROW_PERMANENT)


class RowscoreError(Exception):
    """Something went wrong in rowscore."""

    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class ConfigurationError(RowscoreError):
    """The configuration cannot be used."""

    exit_code = 2


class RefusedError(RowscoreError):
    """The change is refused because it would hurt a live table."""


class StaleDefinitionError(RowscoreError):
    """This process's configuration is not the one that was applied to the database."""


class NotAppliedError(RowscoreError):
    """The prediction has not been applied to this database; run `rowscore apply` first."""


class GenerationChangedError(RowscoreError):
    """A newer generation of this prediction began; answers of the old one are void."""


class LeaseLostError(RowscoreError):
    """The lease ended and another worker took the window over."""


class BrokerError(RowscoreError):
    """Celery's broker cannot be reached."""


class StoreError(RowscoreError):
    """The Redis in which workers share rates and remembered answers cannot be used."""


# --- the database -----------------------------------------------------------------------------------------


class FileError(RowscoreError):
    """A file cannot be written."""


class DatabaseError(RowscoreError):
    """The database refused a statement."""

    def __init__(self, message: str | None = None, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ConnectionFailedError(DatabaseError):
    """The database cannot be reached."""


class PrivilegeError(DatabaseError):
    """The database role lacks a privilege."""


class MissingObjectError(DatabaseError):
    """A table, column, function or type does not exist."""


class CopyNeededError(DatabaseError):
    """The table cannot be changed without copying it."""


class LockTimeoutError(DatabaseError):
    """A lock was not granted in time."""


class ConflictError(DatabaseError):
    """The transaction lost a race (deadlock or serialisation failure) and may be tried again."""


class StatementTimeoutError(DatabaseError):
    """The statement was cancelled because it ran for too long."""


class DataError(DatabaseError):
    """The database, or a function that it called, rejected a row's data."""


# --- models -----------------------------------------------------------------------------------------------


class ModelError(RowscoreError):
    """A call to the model failed.

    Attributes:
        sent: whether the service was asked at all. What was found wrong before is no call: it is neither counted nor
            paid, and draws on no rate.
    """

    failure = FailureClass.SERVICE_TEMPORARY

    def __init__(self, message: str | None = None, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class RowFaultError(ModelError):
    """The model failed on these rows, and it may be one row's fault: bisect to find it."""

    failure = FailureClass.ROW_TEMPORARY


class RowRejectedError(RowFaultError):
    """The model rejects these rows and will reject them again."""

    failure = FailureClass.ROW_PERMANENT


class ServiceUnavailableError(ModelError):
    """The model service does not answer now."""

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message, sent=sent)
        self.retry_after = retry_after


class ServiceTimeoutError(ServiceUnavailableError):
    """The model service took longer than the timeout; fewer rows a call may help."""


class ConnectionDroppedError(ServiceUnavailableError):
    """The model service closed the connection instead of answering, each time: a row may make it crash."""


class ServiceFailedError(ConnectionDroppedError):
    """The model service failed inside, each time: a row may make it fail."""


class PayloadTooLargeError(ModelError):
    """The model service takes fewer bytes or rows a call than these.

    Attributes:
        fitting: about so many rows would do, where that is known.
    """

    def __init__(self, message: str | None = None, *, sent: bool = True, fitting: int | None = None) -> None:
        super().__init__(message, sent=sent)
        self.fitting = fitting


class ServiceRefusedError(ModelError):
    """The model service cannot be used as it is configured."""

    failure = FailureClass.SERVICE_PERMANENT


class BudgetSpentError(ModelError):
    """The budget does not allow another call; nothing was sent."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, sent=False)


class ThrottledError(ModelError):
    """The model service asks to be called less often, or the configured rate does."""

    failure = FailureClass.THROTTLED

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message, sent=sent)
        self.retry_after = retry_after
