"""The simulated flat files, as a public client of S3 and public readers of CSV see them."""

import csv
import gzip
import io
from datetime import UTC, date, datetime, timedelta

import boto3
import botocore.config
import botocore.exceptions
import duckdb
import polars as pl
import pytest

from backfill_assets.simulator import FileFault, Scenario

KEY = "us_stocks_sip/minute_aggs_v1/2024/03/2024-03-08.csv.gz"
MARCH = {"Bucket": "flatfiles", "Prefix": "us_stocks_sip/minute_aggs_v1/2024/03/"}
THIS = {"Bucket": "flatfiles", "Key": KEY}


@pytest.fixture
def s3(vendor):
    vendor.change(known=("AAPL", "X:BTCUSD"), archive_tickers=20, file_keys=("a-key-id",))
    client = boto3.client(
        "s3",
        endpoint_url=vendor.url,
        region_name="us-east-1",
        aws_access_key_id="a-key-id",
        aws_secret_access_key="secret",  # noqa: S106  # not one
        config=botocore.config.Config(proxies={}, retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


def test_a_list_has_pages_of_sessions(s3):
    pages = list(s3.get_paginator("list_objects_v2").paginate(**MARCH, PaginationConfig={"PageSize": 7}))
    assert [page["KeyCount"] for page in pages] == [7, 7, 6]
    found = [item for page in pages for item in page["Contents"]]
    assert [item["Key"][-17:-7] for item in found][:6] == [f"2024-03-{day:02}" for day in (1, 4, 5, 6, 7, 8)]
    assert found[5]["Key"] == KEY
    assert found[5]["LastModified"] == datetime(2024, 3, 9, 16, tzinfo=UTC)
    assert len({item["ETag"] for item in found}) == 20
    answer = s3.list_objects_v2(Bucket="flatfiles", Prefix="global_crypto/")
    assert (answer["KeyCount"], answer["IsTruncated"]) == (1000, True)


def test_an_object_is_what_the_list_says_in_one_piece_or_in_parts(s3):
    listed = s3.list_objects_v2(**MARCH)["Contents"][5]
    head = s3.head_object(**THIS)
    whole = s3.get_object(**THIS)
    body = whole["Body"].read()
    assert len(body) == listed["Size"] == head["ContentLength"]
    assert head["ETag"] == whole["ETag"] == listed["ETag"]
    assert head["LastModified"] == listed["LastModified"]
    for range_, part in {"bytes=100-": body[100:], "bytes=5-9": body[5:10]}.items():
        answer = s3.get_object(**THIS, Range=range_, IfMatch=listed["ETag"])
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert answer["Body"].read() == part


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"IfMatch": '"another"'}, 412, "PreconditionFailed"),
        ({"Range": "bytes=99999999-"}, 416, "InvalidRange"),
        ({"Key": KEY.replace("03-08", "03-09")}, 403, "AccessDenied"),
    ],
)
def test_a_refusal_has_the_codes_of_s3(s3, more, status, code):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        s3.get_object(**(THIS | more))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["Error"]["Code"] == code


def test_only_known_access_keys_and_markets_of_the_plan_are_served(vendor, s3):
    vendor.change(files_forbidden=("crypto",))
    assert s3.list_objects_v2(**MARCH)["KeyCount"] == 20
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket="flatfiles", Prefix="global_crypto/day_aggs_v1/2024/")
    vendor.change(file_keys=("other",))
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidAccessKeyId"):
        s3.list_objects_v2(**MARCH)


@pytest.mark.parametrize("base", ["minute", "day"])
def test_public_readers_agree_on_the_rows(s3, tmp_path, base):
    key = KEY.replace("minute", base)
    path = tmp_path / "day.csv.gz"
    path.write_bytes(s3.get_object(Bucket="flatfiles", Key=key)["Body"].read())
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    assert list(rows[0]) == "ticker volume open close high low window_start transactions".split()
    assert {row["ticker"] for row in rows} > {"AAPL", "NA"}
    assert rows == sorted(rows, key=lambda row: (row["ticker"], row["window_start"]))
    assert pl.read_csv(path, infer_schema=False).height == len(rows)
    assert len(duckdb.read_csv(str(path)).fetchall()) == len(rows)
    bars = {(row["ticker"], row["window_start"]) for row in rows}
    assert len(bars) == len(rows)


def test_a_fault_ends_when_the_file_is_replaced(vendor, s3, clock):
    until = clock.moment + timedelta(hours=1)
    vendor.change(file_faults=(FileFault(kind="restated", ticker="AAPL", day=date(2024, 3, 8), until=until),))
    before = s3.get_object(**THIS)
    clock.moment = until
    after = s3.get_object(**THIS)
    assert before["ETag"] != after["ETag"]
    assert (before["LastModified"], after["LastModified"]) == (datetime(2024, 3, 9, 16, tzinfo=UTC), until)
    texts = [gzip.decompress(answer["Body"].read()).decode().splitlines() for answer in (before, after)]
    changed = {old.split(",")[0] for old, new in zip(*texts, strict=True) if old != new}
    assert changed == {"AAPL"}
    assert Scenario().archive_tickers > 100
