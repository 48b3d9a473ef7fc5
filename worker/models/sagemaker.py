"""An endpoint of Amazon SageMaker: one InvokeEndpoint a call, with CSV, JSON lines or JSON; no retries, no conversions.

Formats as in "Common data formats for inference" of SageMaker's developer guide: `text/csv` has one row a line and no
header, `application/jsonlines` one `{"features": [...]}` a line, `application/json` `{"instances": [...]}`, which is
answered by `{"predictions": [...]}`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.message import Message
from typing import Any

from worker.errors import PayloadTooLargeError, RowFaultError
from worker.kinds.sagemaker import SageMakerModel, paths_of
from worker.models import csvformat, jsonformat
from worker.models.aws import AwsClient
from worker.models.awserrors import one_line
from worker.models.protocol import Answer, Batch, Call, Model, RowFailure, check_size
from worker.models.shapes import Outputs
from worker.models.wires import CSV, NAMELESS, along
from worker.templates import Template

_LINES = {"application/jsonlines", "application/x-jsonlines", "application/jsonl", "application/x-ndjson"}


class SageMakerEndpoint(Model):
    """The endpoint that a `sagemaker` section of the configuration names.

    Args:
        settings: the section.
        outputs: the outputs' SQL types by name, in order.
        concurrency: the most requests in flight at once.
        where: the section's name in messages.
    """

    def __init__(
        self, settings: SageMakerModel, outputs: Mapping[str, str], *, concurrency: int, where: str = "model"
    ) -> None:
        self._settings = settings
        self._outputs = Outputs(outputs)
        self._paths = paths_of(settings.answer, outputs)
        self._template: Template | None = None
        content_type: str = settings.content_type
        if settings.template is not None:
            many = settings.template.is_of_many_rows
            self._template = Template(json.loads(settings.request or ""), repeated=many)
            self.most_rows = None if many else 1
            content_type = "application/json"
        self._client = AwsClient(
            settings,
            "sagemaker-runtime",
            f"the SageMaker endpoint {settings.sagemaker}",
            concurrency=concurrency,
            where=where,
        )
        named = {
            "InferenceComponentName": settings.component,
            "TargetVariant": settings.variant,
            "TargetModel": settings.target_model,
            "CustomAttributes": settings.attributes,
        }
        self._arguments = {
            "EndpointName": settings.sagemaker,
            "ContentType": content_type,
            "Accept": settings.accept or content_type,
            **{key: value for key, value in named.items() if value is not None},
        }

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """Send the rows; the answer of each as texts (CSV) or as what JSON has."""
        return self._ask(self._checked_body(batch), len(batch))

    def prepare(self, batch: Batch) -> Call:
        """Write the request's body."""
        body = self._checked_body(batch)
        return lambda: self._ask(body, len(batch))

    def _ask(self, body: bytes, rows: int) -> list[Answer | RowFailure]:
        answer, content = self._client.invoke("invoke_endpoint", "Body", Body=body, **self._arguments)
        try:
            return list(self._read(answer.get("ContentType") or "", content, rows))
        except RowFaultError as error:
            said = one_line(content[:1000].decode(errors="replace"))
            raise RowFaultError(f"{self._client.who}: {error}: {said}") from None

    def check(self) -> str:
        """Send an empty body: that its container refuses it shows that the endpoint is there and may be called."""
        started = time.perf_counter()
        try:
            self._client.invoke("invoke_endpoint", "Body", Body=b"", **self._arguments)
            said = "answered"
        except (RowFaultError, PayloadTooLargeError) as error:
            said = f"is there, and refuses an empty request as it should ({error})"
        return f"{self._client.who} {said}, in {(time.perf_counter() - started) * 1000:.0f} ms"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _checked_body(self, batch: Batch) -> bytes:
        body = self._body(batch)
        check_size(len(body), self._settings.max_bytes, len(batch))
        return body

    def _body(self, batch: Batch) -> bytes:
        if self._template is not None:
            columns = jsonformat.named_columns(batch, self._template.names, self._settings.encoding)
            return jsonformat.encoded(self._template.filled(columns, len(batch)))
        if self._settings.content_type == "text/csv":
            return csvformat.encode(batch, self._settings.encoding)
        rows = zip(*jsonformat.columns(batch, self._settings.encoding), strict=True)
        if self._settings.rows == "features":
            items = [f'{{"features":[{",".join(row)}]}}' for row in rows]
        else:
            names = [json.dumps(name, ensure_ascii=False) for name in batch.names]
            items = [f"{{{','.join(map(':'.join, zip(names, row, strict=True)))}}}" for row in rows]
        if self._settings.content_type == "application/json":
            return jsonformat.encoded(f'{{"instances":[{",".join(items)}]}}')
        return jsonformat.encoded("\n".join(items) + "\n")

    def _read(self, content_type: str, content: bytes, rows: int) -> list[Answer]:
        header = Message()
        header["content-type"] = content_type
        said, charset = header.get_content_type() if content_type else "", header.get_content_charset()
        kind = self._arguments["Accept"] if said in NAMELESS else said
        if kind in CSV:
            return list(csvformat.decode(content, rows, charset))
        document = self._document(kind, charset, content)
        if self._paths:
            columns = [along(document, path, rows) for path in self._paths]
            if len(columns) == 1:
                return [self._outputs.of_item(item) for item in columns[0]]
            return [self._outputs.of_values(values) for values in zip(*columns, strict=True)]
        if isinstance(document, dict) and "predictions" in document:
            document = document["predictions"]
        return self._outputs.of_rows(document, rows, "its answer")

    def _document(self, kind: str, charset: str | None, content: bytes) -> Any:
        """What was answered, parsed: JSON lines are a list."""
        if kind in _LINES:
            lines = [line for line in content.split(b"\n") if line.strip()]
            return [jsonformat.parse(line, charset, exact=self._outputs.exact) for line in lines]
        if kind == "application/json" or kind.endswith("+json"):
            return jsonformat.parse(content, charset, exact=self._outputs.exact)
        raise RowFaultError(f"it answered {kind} where {self._arguments['Accept']} belongs")
