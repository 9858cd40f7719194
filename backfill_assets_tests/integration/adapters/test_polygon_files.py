"""Flat files are fetched completely or not at all, and read as the bars they are."""

import asyncio
import hashlib
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import httpx
import numpy as np
import pytest
from msgspec import structs

from backfill_assets.adapters.polygon import RetryPolicy
from backfill_assets.adapters.polygon_files import PolygonFiles, read_day
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    RateLimited,
    SettingMistake,
    UsageMistake,
    VendorError,
    VendorUnavailable,
    VendorUnreachable,
)
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1
from backfill_assets.simulator import Fault, FileFault, Hole, Restatement, Scenario, Simulator
from backfill_assets_tests.buckets import bucket
from backfill_assets_tests.integration.adapters.scripted_vendor import NoSleep, Response, ScriptedVendor
from backfill_assets_tests.support import read_settings, unused_port

DAY = date(2024, 3, 8)
LATER = datetime(2024, 3, 20, tzinfo=UTC)
KNOWN = ("AAPL", "BRK.B", "THIN", "X:BTCUSD", "X:SHIBUSD")
SECRETS = ("the-key-id", "the-secret-key")


class Clock:
    def __init__(self):
        self.now = LATER

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def server(clock):
    with Simulator(Scenario(known=KNOWN, archive_tickers=3), now=clock) as running:
        yield running


@pytest.fixture
def vendor(server, clock):
    clock.now = LATER
    server.reset()
    return server


def settings_of(url, folder, **others):
    key_id, secret = SECRETS
    key = {"POLYGON_FILES_ACCESS_KEY_ID": key_id, "POLYGON_FILES_SECRET_ACCESS_KEY": secret}
    return read_settings({"POLYGON_FILES_URL": url, "BACKFILL_DATA_DIR": str(folder)} | key | others)


@pytest.fixture
def opened(tmp_path):
    """Open the files of a server: `opened(url, attempts=2)`."""

    def files(url, attempts=6, **more):
        settings = settings_of(url, tmp_path)
        found = PolygonFiles.of(settings, retry=RetryPolicy(attempts), sleep=NoSleep(), random=lambda: 0.0, **more)
        assert found is not None
        return found

    return files


@pytest.fixture
def files(vendor, opened):
    return opened(vendor.url)


async def day_of(files, kind=Kind.STOCKS, timeframe=MINUTE_1, day=DAY):
    """List, fetch, read and delete a file."""
    file = (await files.listing(kind, timeframe, DayRange(day, day)))[day]
    path = await files.fetch(file)
    try:
        return read_day(path, file, HOURS[kind].zone)
    finally:
        path.unlink()


def truth(vendor, ticker, timeframe, day):
    made = vendor.market.minute_bars if timeframe == MINUTE_1 else vendor.market.daily_bars
    return made(ticker, day, day)


def assert_true(found, vendor, *, without=()):
    """Assert that a day has the vendor's bars of all tickers, but those in `without`, and no vwap."""
    kind, timeframe, day = found.file.kind, found.file.timeframe, found.file.session
    tickers = [t for t in KNOWN if t.startswith("X:") == (kind is Kind.CRYPTO)]
    assert list(found.rows) == sorted(found.rows)
    assert {*tickers} <= {*found.rows, *without}
    for ticker in set(tickers) - set(without):
        expected, bars = truth(vendor, ticker, timeframe, day), found.bars(ticker)
        np.testing.assert_array_equal(bars.timestamp, expected.t)
        for name in ("open", "high", "low", "close", "volume", "trades"):
            np.testing.assert_array_equal(getattr(bars, name), getattr(expected, name), err_msg=f"{ticker} {name}")
        assert np.isnan(bars.vwap).all()
    assert len(found.table) == sum(end - first for first, end in found.rows.values())


@pytest.mark.parametrize("timeframe", [MINUTE_1, DAY_1], ids=str)
@pytest.mark.parametrize(
    ("kind", "day"),
    [
        (Kind.STOCKS, date(2024, 3, 8)),  # the last session of winter time
        (Kind.STOCKS, date(2024, 3, 11)),  # the first of summer time
        (Kind.STOCKS, date(2023, 11, 24)),  # a half day
        (Kind.CRYPTO, date(2024, 3, 10)),  # New York's day of 23 hours
    ],
)
async def test_a_file_has_the_bars_of_the_rest_api_for_all_tickers(vendor, files, kind, day, timeframe):
    vendor.change(holes=(Hole(ticker="AAPL", first=DAY, last=DAY),))  # of the REST API only
    found = await day_of(files, kind, timeframe, day)
    assert_true(found, vendor)
    assert not found.rejected
    assert ("NA" in found.rows) == (kind is Kind.STOCKS)
    assert not len(found.bars("NEVER"))
    assert [str(t) for t in found.table.schema.types] == ["string", "timestamp[us, tz=UTC]", *["double"] * 5, "int64"]


async def test_the_list_has_sessions_that_are_published_and_costs_few_requests(vendor, files, clock):
    clock.now = datetime(2024, 3, 9, 15, 59, 59, tzinfo=UTC)
    days = DayRange(date(2022, 11, 21), date(2024, 3, 31))
    listed = await files.listing(Kind.STOCKS, MINUTE_1, days)
    assert date(2024, 3, 7) in listed
    assert DAY not in listed  # until eleven o'clock
    assert not {date(2022, 11, 24), date(2024, 3, 2)} & listed.keys()  # Thanksgiving, a Saturday
    assert list(listed) == sorted(listed)
    assert files.traffic.requests == 3
    clock.now += timedelta(seconds=1)
    file = (await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY)))[DAY]
    assert (file.session, file.modified) == (DAY, clock.now)
    assert vendor.requests[-1].query["prefix"] == "us_stocks_sip/minute_aggs_v1/2024/03/"
    years = DayRange(date(2012, 1, 1), date(2013, 12, 31))
    assert len(await files.listing(Kind.CRYPTO, DAY_1, years)) == len(years)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("truncated", MalformedAnswer),
        ("empty", MalformedAnswer),
        ("garbage", MalformedAnswer),
        ("bomb", MalformedAnswer),
        ("no_rows", MalformedAnswer),
        ("text", MalformedAnswer),
        ("impossible", MalformedAnswer),
        ("off_grid", MalformedAnswer),
        ("other_day", ContradictoryAnswer),
    ],
)
async def test_nothing_of_a_damaged_file_is_used_until_it_is_replaced(vendor, files, clock, kind, error):
    vendor.change(file_faults=(FileFault(kind=kind, until=LATER + timedelta(hours=1)),))
    before = (await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY)))[DAY]
    with pytest.raises(error) as caught:
        await day_of(files)
    assert type(caught.value) is error
    assert before.key in str(caught.value)
    clock.now += timedelta(hours=1)
    after = await day_of(files)
    assert (after.file.etag, after.file.modified) != (before.etag, before.modified)
    assert_true(after, vendor)


@pytest.mark.parametrize("kind", ["columns", "doubles"])
async def test_what_has_one_meaning_is_read_as_it_is_meant(vendor, files, kind):
    vendor.change(file_faults=(FileFault(kind=kind, count=1),))
    found = await day_of(files)
    assert_true(found, vendor)
    assert not found.rejected


@pytest.mark.parametrize("timeframe", [MINUTE_1, DAY_1], ids=str)
@pytest.mark.parametrize(
    ("kind", "count", "reasons"),
    [
        ("doubles", 2, {"its minute has bars that differ", "its day has bars that differ"}),
        ("off_grid", 1, {"it does not start with a minute", "it does not start with a day"}),
        ("other_day", 1, {"its time is of another day"}),
        ("impossible", 1, {"a price is zero or negative"}),
    ],
)
async def test_bars_of_one_ticker_that_cannot_be_used_cost_only_that_ticker(
    vendor, files, timeframe, kind, count, reasons
):
    vendor.change(file_faults=(FileFault(kind=kind, ticker="AAPL", count=count),))
    found = await day_of(files, timeframe=timeframe)
    assert_true(found, vendor, without={"AAPL"})
    assert found.rejected.keys() == {"AAPL"}
    assert {bad.reason for bad in found.rejected["AAPL"]} <= reasons


async def test_every_impossible_bar_is_named_and_its_time_is_of_the_session(vendor, files):
    vendor.change(file_faults=(FileFault(kind="impossible", ticker="THIN", count=6),))
    found = await day_of(files)
    assert_true(found, vendor, without={"THIN"})
    expected = truth(vendor, "THIN", MINUTE_1, DAY).t
    assert {bad.reason for bad in found.rejected["THIN"]} == {
        "a price is zero or negative",
        "high is below low",
        "a price is not finite",
        "volume is negative or not finite",
        "its time is of another day",
    }
    unknown = [bad for bad in found.rejected["THIN"] if bad.between]
    assert len(unknown) == 1
    assert unknown[0].between[0] <= expected[0] <= expected[-1] <= unknown[0].between[1]
    assert {bad.timestamp for bad in found.rejected["THIN"] if not bad.between} < set(expected.tolist())
    assert found.bars("THIN").timestamp.tolist() == expected[6:].tolist()


async def test_bars_without_a_ticker_are_left_out(vendor, files):
    vendor.change(file_faults=(FileFault(kind="no_ticker", ticker="THIN"),))
    found = await day_of(files)
    assert_true(found, vendor, without={"THIN"})
    assert "THIN" not in found.rows
    assert "" not in found.rows
    assert {bad.reason for bad in found.rejected[""]} == {"it has no ticker"}


@pytest.mark.parametrize(("kind", "minutes"), [("missing_close", [960]), ("missing_minutes", range(660, 720))])
async def test_missing_minutes_are_missing_until_the_file_is_replaced(vendor, files, clock, kind, minutes):
    vendor.change(file_faults=(FileFault(kind=kind, ticker="AAPL", until=LATER + timedelta(days=3)),))
    found = await day_of(files)
    assert_true(found, vendor, without={"AAPL"})
    midnight = int(datetime(2024, 3, 8, tzinfo=HOURS[Kind.STOCKS].zone).timestamp()) * 1000
    missing = set(truth(vendor, "AAPL", MINUTE_1, DAY).t.tolist()) - set(found.bars("AAPL").timestamp.tolist())
    assert missing == {midnight + 60_000 * minute for minute in minutes}
    clock.now += timedelta(days=3)
    assert_true(await day_of(files), vendor)


async def test_a_fractional_volume_is_kept(vendor, files):
    vendor.change(file_faults=(FileFault(kind="fractional", ticker="AAPL"),))
    found = await day_of(files)
    np.testing.assert_array_equal(found.bars("AAPL").volume, truth(vendor, "AAPL", MINUTE_1, DAY).volume + 0.25)


async def test_a_restatement_replaces_the_file(vendor, files, clock):
    vendor.change(restatements=(Restatement(ticker="AAPL", day=DAY, factor=1.5, at=LATER + timedelta(hours=1)),))
    before = await day_of(files)
    assert_true(before, vendor)
    clock.now += timedelta(hours=1)
    after = await day_of(files)
    assert_true(after, vendor)
    assert after.file.etag != before.file.etag
    assert after.bars("AAPL").close[0] == pytest.approx(1.5 * before.bars("AAPL").close[0])
    other = await day_of(files, day=date(2024, 3, 7))
    assert other.file.modified == datetime(2024, 3, 8, 16, tzinfo=UTC)


async def test_a_refused_file_is_never_a_refusal_by_the_plan(vendor, files, clock, tmp_path):
    listed = (await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY)))[DAY]
    vendor.change(file_faults=(FileFault(kind="refused"),))
    with pytest.raises(VendorUnavailable, match="refuses a file that it lists") as caught:
        await files.fetch(listed)
    assert caught.value.status == 403
    vendor.change(file_faults=(FileFault(kind="late", day=DAY, until=LATER + timedelta(hours=2)),))
    assert not await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))
    with pytest.raises(VendorUnavailable, match="does not have the file") as caught:
        await files.fetch(listed)
    assert caught.value.status == 403
    clock.now += timedelta(hours=2)
    assert_true(await day_of(files), vendor)
    assert files.traffic.retries == 0
    assert not list((tmp_path / "flat-files").iterdir())


async def test_a_market_that_the_plan_does_not_include_is_not_entitled(vendor, files):
    vendor.change(files_forbidden=("crypto",))
    with pytest.raises(NotEntitled, match="does not include these flat files, or an agreement is not signed"):
        await files.listing(Kind.CRYPTO, MINUTE_1, DayRange(DAY, DAY))
    assert await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))


async def test_an_unknown_access_key_is_refused_at_once(vendor, files):
    vendor.change(file_keys=("another-key-id",))
    with pytest.raises(KeyRefused, match="check POLYGON_FILES_ACCESS_KEY_ID") as caught:
        await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert files.traffic.requests == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="cut_body", path="aggs_v1"),
        Fault(kind="reset", path="aggs_v1"),
        Fault(kind="html", path="aggs_v1", status=503),
        Fault(kind="html", path="aggs_v1", status=403),
        Fault(kind="status", path="aggs_v1", status=429),
        Fault(kind="slow", path="aggs_v1", seconds=1),
        Fault(kind="reset", path="/flatfiles"),
        Fault(kind="status", path="/flatfiles", status=500),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status} {fault.path}",
)
async def test_a_transfer_that_breaks_is_resumed_and_ends_after_the_last_attempt(vendor, opened, fault, tmp_path):
    waits = list[str]()
    files = opened(vendor.url, attempts=3, silence=timedelta(seconds=0.2), on_wait=waits.append)
    vendor.change(faults=(structs.replace(fault, times=2),))
    assert_true(await day_of(files), vendor)
    assert files.traffic.retries == len(waits) == 2
    assert f"{vendor.url.removeprefix('http://')} " in waits[0]
    sent = [request.status for request in vendor.requests if "aggs_v1" in request.path]
    if fault.kind == "cut_body":  # half of it, then half of the rest, then the rest
        assert sent == [200, 206, 206]
    vendor.change(faults=(structs.replace(fault, times=3),))
    with pytest.raises(VendorError) as caught:
        await day_of(files)
    silent = fault.kind in {"reset", "slow"}
    assert type(caught.value) is (
        VendorUnreachable if silent else RateLimited if fault.status == 429 else VendorUnavailable
    )
    assert not list((tmp_path / "flat-files").glob("*"))


async def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(vendor, files, clock, tmp_path):
    listed = (await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY)))[DAY]
    vendor.change(
        restatements=(Restatement(ticker="AAPL", day=DAY, factor=2, at=LATER + timedelta(hours=1)),),
        faults=(Fault(kind="cut_body", path="aggs_v1", times=1),),
    )

    async def hours_pass(_):
        clock.now += timedelta(hours=2)

    files._sleep = hours_pass
    with pytest.raises(VendorUnavailable, match="was replaced since it was listed") as caught:
        await files.fetch(listed)
    assert caught.value.status == 412
    assert [r.status for r in vendor.requests if "aggs_v1" in r.path] == [200, 412]
    assert not list((tmp_path / "flat-files").iterdir())
    assert_true(await day_of(files), vendor)


async def test_a_server_that_is_away_is_unreachable(opened):
    files = opened(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(VendorUnreachable, match="POLYGON_FILES_URL"):
        await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))
    assert (files.traffic.requests, files.traffic.retries) == (6, 5)


async def test_files_that_a_killed_process_has_left_are_deleted_after_a_day(vendor, files, tmp_path):
    await day_of(files)
    folder = tmp_path / "flat-files"
    for name, hours in {"left.csv.gz": 25, "in-use.csv.gz": 1, "other.txt": 25}.items():
        (folder / name).touch()
        at = time.time() - 3600 * hours
        os.utime(folder / name, (at, at))
    await day_of(files)
    assert {path.name for path in folder.iterdir()} == {"in-use.csv.gz", "other.txt"}
    assert folder.stat().st_mode & 0o077 == 0
    assert vendor.requests[-1].status == 200


BODY = b"the bytes of a file"


def an_object(body=BODY, etag=None, **more):
    etag = hashlib.md5(BODY, usedforsecurity=False).hexdigest() if etag is None else etag
    headers = {"ETag": f'"{etag}"', "Last-Modified": "Sat, 09 Mar 2024 16:00:00 GMT"}
    return Response(body, headers=headers, **more)


@pytest.fixture
async def file(files):
    listed = (await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY)))[DAY]
    return replace(listed, size=len(BODY), etag=an_object().headers["ETag"])


PAGE = Response(b"<html>log in</html>")
DAMAGED = an_object(BODY.upper())


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        ([an_object()], 1),
        ([DAMAGED, an_object()], 2),  # its MD5 is not its ETag
        ([PAGE, an_object()], 2),  # of a proxy
        ([an_object(BODY + b"!"), an_object()], 2),
        ([an_object(BODY[:-1]), an_object()], 2),
        ([an_object(cut=True), an_object()], 2),
        ([Response(b"", 404), an_object()], 2),  # without S3's own words
    ],
)
async def test_bytes_that_are_not_the_file_are_fetched_again(opened, file, script, requests):
    async with ScriptedVendor(*script) as vendor:
        files = opened(vendor.url)
        path = await files.fetch(file)
    assert path.read_bytes() == BODY
    assert files.traffic.requests == requests
    assert vendor.requests[0].headers["if-match"] == file.etag


@pytest.mark.parametrize("answer", [PAGE, an_object(BODY + b"!")])
async def test_bytes_that_are_never_the_file_are_malformed(opened, file, tmp_path, answer):
    async with ScriptedVendor(answer) as vendor:
        files = opened(vendor.url)
        with pytest.raises(MalformedAnswer, match="2024-03-08"):
            await files.fetch(file)
        assert len(vendor.requests) == 6
        with pytest.raises(MalformedAnswer, match="256 MB"):
            await files.fetch(replace(file, size=2**30))
        assert len(vendor.requests) == 6
    assert not list((tmp_path / "flat-files").iterdir())


@pytest.mark.parametrize(
    ("page", "pages", "error"),
    [
        (PAGE, 2, None),
        (PAGE, None, MalformedAnswer),
        (Response(b"", 302, {"Location": "/"}), None, VendorUnreachable),
        (Response(b"<html>log in"), None, VendorUnreachable),
        (Response(b'{"error": "log in"}'), None, VendorUnreachable),
    ],
)
async def test_a_page_in_place_of_a_list_is_never_a_list_without_files(opened, page, pages, error):
    listed = Response(
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>us_stocks_sip/minute_aggs_v1/2024/03/"
        b"2024-03-08.csv.gz</Key><LastModified>2024-03-09T16:00:00.000Z</LastModified><Size>5</Size></Contents>"
        b"</ListBucketResult>"
    )
    async with ScriptedVendor(*([page] * (pages or 1)), *([listed] if pages else [])) as proxy:
        files, days = opened(proxy.url, attempts=3), DayRange(DAY, DAY)
        if error is None:
            assert list(await files.listing(Kind.STOCKS, MINUTE_1, days)) == [DAY]
            return
        with pytest.raises(VendorError, match="check the network, its proxy and POLYGON_FILES_URL") as caught:
            await files.listing(Kind.STOCKS, MINUTE_1, days)
        assert type(caught.value) is error


async def test_an_etag_that_is_another_hash_costs_one_more_transfer(opened, file):
    answer = an_object(etag="0" * 32)
    file = replace(file, etag=answer.headers["ETag"])
    async with ScriptedVendor(answer) as vendor:
        files = opened(vendor.url)
        paths = [await files.fetch(file), await files.fetch(file)]
    assert [path.read_bytes() for path in paths] == [BODY, BODY]
    assert files.traffic.requests == 3


async def test_other_machines_are_reached_through_the_proxy(opened, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    empty = Response(b"<ListBucketResult/>")
    async with ScriptedVendor(empty, Response(status=404), empty) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:pa55@"))
        assert not await opened("http://files.invalid").listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))
    assert proxy.requests[0].target.startswith("http://files.invalid/flatfiles?list-type=2")
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cGE1NQ=="
    monkeypatch.setenv("http_proxy", "socks5h://127.0.0.1:1")
    with pytest.raises(SettingMistake, match="SOCKS"):
        opened("http://files.invalid")


@pytest.mark.parametrize("missing", [{"ACCESS_KEY_ID"}, {"SECRET_ACCESS_KEY"}, {"ACCESS_KEY_ID", "SECRET_ACCESS_KEY"}])
def test_without_an_access_key_there_are_no_files_and_half_of_one_is_a_mistake(tmp_path, missing):
    settings = settings_of("http://127.0.0.1:1", tmp_path, **{f"POLYGON_FILES_{name}": "" for name in missing})
    if len(missing) == 2:
        assert PolygonFiles.of(settings) is None
    else:
        with pytest.raises(SettingMistake, match=f"POLYGON_FILES_{missing.pop()} is not set"):
            PolygonFiles.of(settings)


@pytest.mark.parametrize("package", ["obstore", "pyarrow"])
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(UsageMistake, match=r"pip install 'backfill-assets\[files\]'"):
        PolygonFiles.of(settings_of("http://127.0.0.1:1", tmp_path))


@pytest.fixture
def s3():
    with bucket("flatfiles", *SECRETS) as client:
        yield client


async def test_another_server_of_s3_is_read_alike_whatever_the_aws_variables_say(
    vendor, files, opened, s3, monkeypatch
):
    """moto's server signs, lists and hashes by code of others."""
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "HTTP_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    source = (await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY)))[DAY]
    content = (await files.fetch(source)).read_bytes()
    url = s3.meta.endpoint_url
    await asyncio.to_thread(s3.put_object, Bucket="flatfiles", Key=source.key, Body=content)
    await asyncio.to_thread(s3.put_object, Bucket="flatfiles", Key=source.key.replace("-08.", "-30."), Body=b"?")
    mirror = opened(url)
    days = DayRange(date(2023, 12, 1), date(2024, 3, 29))
    listed = await mirror.listing(Kind.STOCKS, MINUTE_1, days)
    assert list(listed) == [DAY]
    assert listed[DAY].modified.utcoffset() == timedelta(0)
    assert_true(await day_of(mirror), vendor)
    assert mirror.traffic.retries == 0
    await asyncio.to_thread(s3.delete_object, Bucket="flatfiles", Key=source.key)
    with pytest.raises(VendorUnavailable, match="does not have the file") as caught:
        await mirror.fetch(listed[DAY])
    assert caught.value.status == 404
    checked = partial(httpx.post, f"{url}/moto-api/reset-auth", trust_env=False)
    await asyncio.to_thread(checked, content=b"0")  # from now on keys are
    with pytest.raises(KeyRefused, match="check POLYGON_FILES_ACCESS_KEY_ID") as refused:
        await mirror.listing(Kind.STOCKS, MINUTE_1, days)
    assert not any(secret in str(refused.value) for secret in SECRETS)
    await asyncio.to_thread(checked, content=b"inf")


async def test_a_bucket_that_does_not_exist_is_named(s3, tmp_path):
    files = PolygonFiles.of(settings_of(s3.meta.endpoint_url, tmp_path, POLYGON_FILES_BUCKET="no-such-bucket"))
    with pytest.raises(BadRequest, match="check POLYGON_FILES_BUCKET"):
        await files.listing(Kind.STOCKS, MINUTE_1, DayRange(DAY, DAY))
