"""Where a file is written: a path, or an object in S3; whole or not at all, and with little memory."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.errors import ConfigurationError, FileError

PART = 8 << 20  # bytes of a part; S3 takes 5 MiB and more, but for the last
_LARGER_AFTER = 1000  # parts, of which S3 takes 10,000: so 440 GB fit
_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.+)")


@dataclass(frozen=True, slots=True)
class S3Address:
    """A bucket and a key in it."""

    bucket: str
    key: str


def parse_address(text: str) -> S3Address | Path:
    """`s3://bucket/key`, or a path.

    Raises:
        ConfigurationError: it begins with s3: and is no such address.
    """
    if not text.startswith("s3:"):
        return Path(text)
    found = _BUCKET.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"--to: expected s3://bucket/key, not {text}")
    return S3Address(found[1], found[2])


class Destination:
    """What is written to, as a file of bytes; nobody sees it before `commit`, and without that nobody ever does.

    Attributes:
        size: bytes written by now.
    """

    closed = False

    def __init__(self) -> None:
        self.size = 0
        self._abandoned = False

    def write(self, content: bytes) -> int:
        """Add bytes; returns how many they were. A format that ends itself after it was abandoned does no harm.

        Raises:
            FileError: they cannot be written.
        """
        if not self._abandoned:
            self._write(content)
            self.size += len(content)
        return len(content)

    def tell(self) -> int:
        """Where the next byte goes."""
        return self.size

    def flush(self) -> None:
        """Nothing: `commit` does."""

    def close(self) -> None:
        """Nothing, for writers that close what they are given: `commit` does."""

    def commit(self) -> None:
        """Let it be seen, in the place of what was there.

        Raises:
            FileError: it cannot be.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """Leave nothing behind."""
        raise NotImplementedError

    def _write(self, content: bytes) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandoned = True
        self.abandon()


class LocalFile(Destination):
    """A file that is written under another name beside its own, and renamed at the end.

    Raises:
        ConfigurationError: it is there already and may not be replaced, or its folder is not there.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        super().__init__()
        self.path = path
        if not replace and path.exists():
            raise ConfigurationError(f"--to: {path} is there already; --force replaces it")
        self._partial: Path | None = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise ConfigurationError(f"--to: cannot write {path}: {error.strerror}") from error

    def commit(self) -> None:
        """See `Destination.commit`; it is on the disk then."""
        if self._partial is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror}") from error
        self._partial = None

    def abandon(self) -> None:
        """See `Destination.abandon`."""
        if self._partial is not None:
            with suppress(OSError):
                self._file.close()
            self._partial.unlink(missing_ok=True)
            self._partial = None

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise FileError(f"cannot write {self.path}: {error.strerror}") from error


class S3Object(Destination):
    """An object in S3, uploaded part by part; boto3 finds credentials and region as the AWS CLI does.

    Raises:
        ConfigurationError: boto3 is not installed, or there are no credentials, or no such bucket.
    """

    def __init__(self, address: S3Address) -> None:
        super().__init__()
        self._address = address
        self._client, self._failures = _client()
        self._buffer = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._upload: str | None = None
        try:
            self._upload = str(self._client.create_multipart_upload(**self._names)["UploadId"])
        except self._failures as error:
            raise ConfigurationError(f"--to: cannot write {self}: {_line(error)}") from error

    def __str__(self) -> str:
        return f"s3://{self._address.bucket}/{self._address.key}"

    def commit(self) -> None:
        """See `Destination.commit`."""
        if self._buffer or not self._parts:
            self._send()
        try:
            self._client.complete_multipart_upload(
                **self._names, UploadId=self._upload, MultipartUpload={"Parts": self._parts}
            )
        except self._failures as error:
            raise FileError(f"cannot write {self}: {_line(error)}") from error
        self._upload = None

    def abandon(self) -> None:
        """See `Destination.abandon`; parts that S3 cannot be told of now are the bucket's lifecycle rule's."""
        if self._upload is not None:
            with suppress(*self._failures):
                self._client.abort_multipart_upload(**self._names, UploadId=self._upload)
            self._upload = None

    @property
    def _names(self) -> dict[str, str]:
        return {"Bucket": self._address.bucket, "Key": self._address.key}

    def _write(self, content: bytes) -> None:
        self._buffer += content
        if len(self._buffer) >= PART * (1 + len(self._parts) // _LARGER_AFTER):
            self._send()

    def _send(self) -> None:
        number = len(self._parts) + 1
        try:
            answer = self._client.upload_part(
                **self._names, UploadId=self._upload, PartNumber=number, Body=bytes(self._buffer)
            )
        except self._failures as error:
            raise FileError(f"cannot write {self}: {_line(error)}") from error
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})
        self._buffer.clear()


def open_destination(address: S3Address | Path, *, replace: bool) -> Destination:
    """What is at that address, to be written.

    Raises:
        ConfigurationError: it cannot be.
    """
    return S3Object(address) if isinstance(address, S3Address) else LocalFile(address, replace=replace)


def _client() -> tuple[Any, tuple[type[Exception], ...]]:
    """boto3's client, and the errors that its calls raise."""
    try:
        import boto3  # noqa: PLC0415  an extra that only addresses in S3 need
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError("--to: boto3 is not installed: pip install 'rowscore[aws]'") from error
    region = os.environ.get("AWS_REGION")  # boto3 reads AWS_DEFAULT_REGION alone
    failures = (BotoCoreError, ClientError)
    try:
        return boto3.client("s3", region_name=region), failures
    except failures as error:
        raise ConfigurationError(f"--to: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
