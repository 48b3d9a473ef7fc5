"""Exports into S3, which moto's server stands for: whole objects or none, parts for what is large."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet
import pytest

from tests.conftest import Connect
from tests.support import moto
from tests.support.databases import Session
from tests.support.predictions import configuration, opened
from worker.errors import ConfigurationError, FileError
from worker.export import Exported, Wishes, export

BUCKET = "models"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Moto's server."""
    with moto.serving(tmp_path_factory.mktemp("moto")) as found:
        yield found


@pytest.fixture
def s3(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of S3 with an empty bucket; what is exported goes there, too."""
    for name, value in {**moto.environment(address), "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=item["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def rows(connect: Connect) -> Session:
    """The application's connection; items has 7,000 rows of some 2 kB."""
    connection: Session = connect()
    connection.execute(
        """CREATE TABLE items (id bigint PRIMARY KEY, words text, free numeric);
        INSERT INTO items SELECT i, repeat(md5(i::text), 64), i FROM generate_series(1, 7000) AS s(i)"""
    )
    return connection


def exported(url: str, to: str, inputs: list[str] | None = None, **options: Any) -> Exported:
    model = {"python": "tests:none"}
    with opened(configuration(url, inputs=inputs or ["id", "words"], model=model)) as engine:
        return export(engine, None, Wishes(to), **options)


def content(s3: Any, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return body


def test_what_is_large_goes_in_parts_and_is_whole(database_url: str, rows: Session, s3: Any) -> None:
    assert rows is not None
    found = exported(database_url, f"s3://{BUCKET}/churn/train.csv")
    head = s3.head_object(Bucket=BUCKET, Key="churn/train.csv")
    assert head["ETag"].endswith('-2"'), "an object of two parts"
    assert head["ContentLength"] == found.size > 8 << 20
    lines = list(csv.reader(io.StringIO(content(s3, "churn/train.csv").decode())))
    assert [int(number) for number, _ in lines] == list(range(1, 7001))
    assert {len(words) for _, words in lines} == {2048}


def test_parquet_is_read_as_it_was_written(database_url: str, rows: Session, s3: Any) -> None:
    assert rows is not None
    exported(database_url, f"s3://{BUCKET}/train.parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(content(s3, "train.parquet")))
    assert table.column("id").to_pylist() == list(range(1, 7001))


def test_a_file_without_rows_is_there(database_url: str, rows: Session, s3: Any) -> None:
    rows.execute("DELETE FROM items")
    exported(database_url, f"s3://{BUCKET}/empty.csv")
    assert content(s3, "empty.csv") == b""


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_told_to_stop_it_leaves_the_old_object_and_no_parts(
    database_url: str, rows: Session, s3: Any, suffix: str
) -> None:
    assert rows is not None
    key = f"train.{suffix}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"old")
    with opened(
        configuration(database_url, inputs=["id", "words"], model={"python": "tests:none"})
    ) as engine:
        found = export(engine, None, Wishes(f"s3://{BUCKET}/{key}"), progress=lambda *_: engine.stop.set())
    assert not found.complete
    assert content(s3, key) == b"old"
    assert s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_a_value_without_a_place_leaves_no_parts(database_url: str, rows: Session, s3: Any) -> None:
    rows.execute("UPDATE items SET free = 1e30 WHERE id = 6000")
    with pytest.raises(FileError, match="column free: a value does not fit"):
        exported(database_url, f"s3://{BUCKET}/train.parquet", ["words", "free"])
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    assert s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_a_bucket_that_is_not_there_is_told(database_url: str, rows: Session, s3: Any) -> None:
    assert rows is not None
    assert s3 is not None
    with pytest.raises(ConfigurationError, match=r"--to: cannot write s3://nowhere/a\.csv: .*NoSuchBucket"):
        exported(database_url, "s3://nowhere/a.csv")


def test_an_upload_that_somebody_ends_is_told(
    database_url: str, rows: Session, s3: Any, tmp_path: Path
) -> None:
    assert rows is not None
    s3.create_bucket(Bucket="passing")

    def remove(*_: object) -> None:
        for upload in s3.list_multipart_uploads(Bucket="passing").get("Uploads", []):
            s3.abort_multipart_upload(Bucket="passing", Key=upload["Key"], UploadId=upload["UploadId"])

    with pytest.raises(FileError, match=r"cannot write s3://passing/a\.csv: .*UploadPart"):
        exported(database_url, "s3://passing/a.csv", progress=remove)
    s3.delete_bucket(Bucket="passing")
    assert list(tmp_path.iterdir()) == []
