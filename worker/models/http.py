"""A model behind an HTTP endpoint, in the protocol that its section names; it repeats and converts nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from worker.errors import RowFaultError, ServiceUnavailableError
from worker.kinds.http import HttpModel
from worker.models.client import Client, Reply
from worker.models.protocol import Answer, Batch, Call, Model, RowFailure, check_size
from worker.models.statuses import described, refuse
from worker.models.wires import Question, wire_of

_NO_HEALTH_CHECK = (404, 405, 501)


class HttpEndpoint(Model):
    """The model that an `http` section of the configuration describes.

    Args:
        settings: the section; `$NAME` and `file:` in its address and headers are resolved here.
        outputs: the outputs' SQL types by name, in order.
        concurrency: the most requests in flight at once.
        folder: where relative paths begin.
        where: the section's name in messages.

    Raises:
        ConfigurationError: it cannot be called as configured.
    """

    def __init__(
        self,
        settings: HttpModel,
        outputs: Mapping[str, str],
        *,
        concurrency: int,
        folder: Path = Path(),
        where: str = "model",
    ) -> None:
        self._wire = wire_of(settings, outputs)
        self._max_bytes = settings.max_bytes
        self.most_rows = self._wire.most_rows
        self._client = Client(
            settings.http,
            settings,
            headers=settings.headers,
            accept=self._wire.accept,
            ca=None if settings.ca is None else folder / settings.ca,
            concurrency=concurrency,
            where=where,
            key="http",
        )

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """POST the rows; each one's answer as it was read.

        A row with a value that has no place in a request fails alone, and is not sent.
        """
        return list(self.prepare(batch)())

    def prepare(self, batch: Batch) -> Call:
        """Write the request's body."""
        try:
            question = self._wire.ask(batch)
        except RowFaultError:
            return lambda: self._call_without_unfit(batch)
        check_size(len(question[0]), self._max_bytes, len(batch))
        return lambda: list(self._answers(question, batch))

    def check(self) -> str:
        """GET what the protocol has to tell whether the model is well, and say what answered."""
        url = self._wire.health(self._client.url)
        started = time.perf_counter()
        reply = self._client.get(url)
        milliseconds = (time.perf_counter() - started) * 1000
        if reply.status in _NO_HEALTH_CHECK:
            return (
                f"the server of {self._client.name} answers, but GET {url} gave status {reply.status}: "
                "it has no health check there, so the model itself was not tried"
            )
        if reply.status >= 500:
            raise ServiceUnavailableError(described(self._client, reply, f"{url}"))
        if not reply.succeeded:
            refuse(self._client, reply)
        return f"{url} answered {reply.status} in {milliseconds:.0f} ms"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answers(self, question: Question, batch: Batch) -> list[Answer]:
        body, read = question
        check_size(len(body), self._max_bytes, len(batch))
        reply = self._client.post(body, self._wire.content_type)
        if not reply.succeeded:
            refuse(self._client, reply)
        self._check_kind(reply)
        try:
            return read(reply)
        except RowFaultError as error:
            name, line = self._client.name, self._client.line(reply.content)
            raise RowFaultError(f"{name}: {error}: {line}" if line else f"{name}: {error}") from None

    def _check_kind(self, reply: Reply) -> None:
        if reply.kind not in self._wire.taken and not reply.kind.endswith("+json"):
            line = self._client.line(reply.content)
            raise RowFaultError(
                f"{self._client.name} answered {reply.kind} where {self._wire.accept} belongs: {line}"
            )

    def _call_without_unfit(self, batch: Batch) -> list[Answer | RowFailure]:
        """Ask about the rows that can be sent; where none can, nobody is told apart from a mistake in the section."""
        failures: dict[int, RowFailure] = {}
        unfit: RowFaultError | None = None
        for place, row in enumerate(batch.rows):
            try:
                self._wire.ask(Batch(batch.names, [row]))
            except RowFaultError as error:
                failures[place] = RowFailure(error.failure, str(error))
                unfit = error
        if unfit is not None and len(failures) == len(batch):
            raise unfit
        fit = Batch(batch.names, [row for place, row in enumerate(batch.rows) if place not in failures])
        answers = iter(self._answers(self._wire.ask(fit), fit))
        return [failures[place] if place in failures else next(answers) for place in range(len(batch))]
