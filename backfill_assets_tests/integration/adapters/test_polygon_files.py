"""Flat files are fetched completely or not at all, and read as the bars they are."""

import asyncio
import gzip
from datetime import UTC, date, datetime

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from backfill_assets.adapters.polygon_files import PolygonFiles, read_day
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import KeyRefused, SettingMistake
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets_tests.support import read_settings

DAY = date(2024, 3, 8)
ZONE = HOURS[Kind.STOCKS].zone
HEADER = "ticker,volume,open,close,high,low,window_start,transactions"
KEY = "us_stocks_sip/minute_aggs_v1/2024/03/2024-03-08.csv.gz"


def stamp(minute, day=DAY):
    return int(datetime(day.year, day.month, day.day, 9, 30 + minute, tzinfo=ZONE).timestamp()) * 10**9


def body(*rows, header=HEADER):
    return gzip.compress("\n".join([header, *rows, ""]).encode())


def variables(tmp_path, url, **others):
    return {
        "POLYGON_FILES_URL": url,
        "POLYGON_FILES_ACCESS_KEY_ID": "the-key-id",
        "POLYGON_FILES_SECRET_ACCESS_KEY": "the-secret-key",
        "BACKFILL_DATA_DIR": str(tmp_path),
    } | others


@pytest.fixture
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",  # noqa: S106
    )
    client.create_bucket(Bucket="flatfiles")
    yield client
    client.close()
    server.stop()


async def test_a_file_of_an_s3_server_is_read_as_bars(s3, tmp_path, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_SKIP_SIGNATURE", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # of another bucket, and of the network outside
    rows = [f"{t},100.5,10,10.5,11,9.5,{stamp(m)},7" for t in ("NA", "BRK.B", "A") for m in (1, 0)]
    s3.put_object(Bucket="flatfiles", Key=KEY, Body=body(*rows))
    s3.put_object(Bucket="flatfiles", Key=KEY.replace("08.csv", "30.csv"), Body=b"")
    files = PolygonFiles.of(read_settings(variables(tmp_path, s3.meta.endpoint_url)))
    assert files is not None
    listed = await files.listing(Kind.STOCKS, MINUTE_1, DayRange(date(2023, 2, 1), date(2024, 3, 29)))
    assert list(listed) == [DAY]
    assert files.traffic.requests == 2  # a year each
    assert listed[DAY].modified.tzinfo is UTC
    path = await files.fetch(listed[DAY])
    day = read_day(path, listed[DAY], ZONE)
    assert list(day.rows) == ["A", "BRK.B", "NA"]
    bars = day.bars("NA")
    assert bars.timestamp.tolist() == [stamp(0) // 10**6, stamp(1) // 10**6]
    assert (bars.open[0], bars.high[0], bars.low[0], bars.close[0], bars.volume[0]) == (10, 11, 9.5, 10.5, 100.5)
    assert not len(day.bars("B"))
    assert not day.rejected


@pytest.mark.parametrize("missing", [{"ACCESS_KEY_ID"}, {"SECRET_ACCESS_KEY"}, {"ACCESS_KEY_ID", "SECRET_ACCESS_KEY"}])
def test_without_an_access_key_there_are_no_files_and_half_of_one_is_a_mistake(tmp_path, missing):
    settings = read_settings(variables(tmp_path, "http://127.0.0.1:1", **{f"POLYGON_FILES_{m}": "" for m in missing}))
    if len(missing) == 2:
        assert PolygonFiles.of(settings) is None
    else:
        with pytest.raises(SettingMistake, match=f"POLYGON_FILES_{missing.pop()} is not set"):
            PolygonFiles.of(settings)


async def test_an_unknown_key_is_refused_at_once(s3, tmp_path):
    url = f"{s3.meta.endpoint_url}/moto-api/reset-auth"
    await asyncio.to_thread(httpx.post, url, content=b"0")  # from now on keys are checked
    files = PolygonFiles.of(read_settings(variables(tmp_path, s3.meta.endpoint_url)))
    with pytest.raises(KeyRefused, match="check POLYGON_FILES_ACCESS_KEY_ID"):
        await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))
    assert files.traffic.requests == 1
