"""Flat files as a source beside the REST API, of one truth: bars, calls, faults, and files that are published or replaced."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.polygon_files import PolygonFiles
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.sources import SourceStore
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import VendorUnreachable
from backfill_assets.domain.sources import POLYGON, POLYGON_FILES
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.pipelines.backfill_request import BackfillRequest, Refresh
from backfill_assets.pipelines.flat_files import FileReader, unread
from backfill_assets.pipelines.ohlcv import OtherSources
from backfill_assets.simulator import Fault, FileFault, Restatement, Scenario, Simulator
from backfill_assets_tests.integration.adapters.scripted_vendor import NoSleep
from backfill_assets_tests.integration.pipelines.harness import Clock, fetched
from backfill_assets_tests.support import (
    KEY,
    assert_same_bars,
    market,
    read_settings,
    rows,
    stored_bars,
    trading_calendar,
    unused_port,
)

NAMES = ("AAPL", "MSFT", "SPY", "NVDA")
COINS = ("BTC", "ETH")
LATER = datetime(2024, 12, 20, 22, tzinfo=UTC)
BOTH = (POLYGON_FILES, POLYGON)


@pytest.fixture(scope="module")
def clock():
    return Clock(LATER)


@pytest.fixture(scope="module")
def server(clock):
    with Simulator(Scenario(archive_tickers=2), now=clock) as running:
        yield running


@pytest.fixture
def vendor(server, clock):
    clock.now = LATER
    server.reset()
    return server


@pytest.fixture
def files(vendor, tmp_path):
    return files_at(vendor.url, tmp_path)


def files_at(url, folder):
    settings = {
        "POLYGON_FILES_URL": url,
        "BACKFILL_DATA_DIR": str(folder),
        "POLYGON_FILES_ACCESS_KEY_ID": "id",
        "POLYGON_FILES_SECRET_ACCESS_KEY": "secret",
    }
    return PolygonFiles.of(read_settings(settings), retry=RetryPolicy(2), sleep=NoSleep())


def what(kind, names, days, *, sources=BOTH, now=LATER, timeframes="1m 1d", **options):
    """Request sessions between two days, such as `2024-03-06 2024-03-13`."""
    of = replace(market(kind, *names, timeframes=timeframes), sources=sources)
    first, last = map(date.fromisoformat, days.split())
    sessions = trading_calendar(kind).within(DayRange(first, last))
    return BackfillRequest(
        of, trading_calendar(kind), dict.fromkeys(of.symbols, sessions), of.timeframes, now, **options
    )


@asynccontextmanager
async def opened(url, vendor):
    with BarStore(url) as store:
        async with (
            RateLimiter(url, per_second=500) as limiter,
            Polygon(KEY, base_url=vendor.url, limiter=limiter, sleep=NoSleep(), retry=RetryPolicy(2)) as client,
        ):
            yield store, client


async def fill(url, vendor, files, request):
    async with opened(url, vendor) as (store, client):
        reader = FileReader(files, store, lambda: request.now)
        return await fetched(request, store, client, lambda: request.now, others=OtherSources(reader))


def requests(vendor):
    """Count the requests to each source, without those for lists."""
    paths = [r.path for r in vendor.requests]
    files = sum(path.endswith(".csv.gz") for path in paths)
    return files, sum("/aggs/" in path for path in paths)


def truth(vendor, symbol, timeframe, days):
    made = vendor.market.minute_bars if timeframe == "1m" else vendor.market.daily_bars
    return made(symbol.ticker, *map(date.fromisoformat, days.split()), adjusted=False)


def unpriced(bars):
    """Return bars as a file has them."""
    return replace(bars, vwap=np.full(len(bars), np.nan))


def history(url):
    return rows(
        url, "select symbol, timeframe, timestamp, close, new_close, source, new_source from market_data_history"
    )


@pytest.mark.parametrize(
    ("kind", "names", "days"),
    [
        pytest.param("stocks", NAMES, "2024-03-08 2024-03-12", id="clocks go forward"),
        pytest.param("stocks", NAMES, "2024-11-01 2024-11-05", id="clocks go back"),
        pytest.param("stocks", NAMES, "2024-07-02 2024-07-05", id="half day and a holiday without a file"),
        pytest.param("stocks", ("BRK.B", "NVDA"), "2024-06-07 2024-06-10", id="a dot, and a split"),
        pytest.param("crypto", COINS, "2024-03-09 2024-03-11", id="crypto"),
    ],
)
async def test_files_alone_give_every_bar_but_its_vwap(database_url, vendor, files, kind, names, days):
    request = what(kind, names, days, sources=(POLYGON_FILES,), timeframes="1m 5m 1d")
    series = await fill(database_url, vendor, files, request)
    sessions = len(request.wanted[request.market.symbols[0]])
    assert requests(vendor) == (2 * sessions, 0)
    for one in series:
        assert (one.missing, one.error, one.dropped, one.rejected) == ([], None, 0, ())
        if one.timeframe.name != "5m":
            expected = truth(vendor, one.symbol, one.timeframe.name, days)
            assert_same_bars(stored_bars(database_url, one.symbol.name, one.timeframe.name), unpriced(expected))
    assert rows(database_url, "select distinct timeframe, source, vwap from market_data order by 1") == [
        ("1d", POLYGON_FILES, None),
        ("1m", POLYGON_FILES, None),
        ("5m", "derived", None),
    ]
    assert (await fill(database_url, vendor, files, request))[0].before
    assert requests(vendor) == (2 * sessions, 0)


async def test_the_source_of_fewest_calls_is_used_and_the_newest_session_requested(database_url, vendor, files, clock):
    days, night = "2024-03-11 2024-03-12", datetime(2024, 3, 13, 1, tzinfo=UTC)
    clock.now = night
    for day, calls in (("2024-03-11", (2, 0)), ("2024-03-12", (2, len(NAMES) + 1))):  # the 12th has no file yet
        await fill(database_url, vendor, files, what("stocks", NAMES, f"{day} {day}", now=night))
        assert requests(vendor) == calls
    found = rows(
        database_url, "select distinct timestamp::date, source from market_data where timeframe = '1d' order by 1"
    )
    assert found == [(date(2024, 3, 11), POLYGON_FILES), (date(2024, 3, 12), POLYGON)]
    for symbol in market("stocks", *NAMES).symbols:
        stored = stored_bars(database_url, symbol.name, "1m")
        assert_same_bars(unpriced(stored), unpriced(truth(vendor, symbol, "1m", days)))


async def test_a_new_file_is_compared_with_the_bars_of_the_api(database_url, vendor, files, clock):
    days, night, morning = "2024-03-12 2024-03-12", *(datetime(2024, 3, 13, hour, tzinfo=UTC) for hour in (1, 16))
    wrong = FileFault(kind="restated", base="minute", ticker="AAPL", count=1, until=morning + timedelta(hours=1))
    vendor.change(file_faults=(wrong,))
    clock.now = night
    await fill(database_url, vendor, files, what("stocks", NAMES, days, sources=(POLYGON, POLYGON_FILES), now=night))
    before = rows(database_url, "table market_data order by 1, 2, 3")
    clock.now = morning
    read = what("stocks", NAMES, days, now=morning, refresh=Refresh.FILES)
    asked = requests(vendor)
    await fill(database_url, vendor, files, read)
    # Both files, and the minutes of AAPL again.
    assert requests(vendor) == (asked[0] + 2, asked[1] + 1)
    assert rows(database_url, "table market_data order by 1, 2, 3") == before
    with SourceStore(database_url) as store:
        (found,) = store.differences(NAMES)
        assert (found.symbol, found.timeframe, str(found.session)) == ("AAPL", "1m", "2024-03-12")
        assert (found.difference.only_stored, found.difference.only_other, found.difference.differing) == (0, 0, 1)
        assert "elsewhere" in found.difference.example
        assert await unread(files, store, read) == {TIMEFRAMES["1m"]: [], TIMEFRAMES["1d"]: []}
        # The file is replaced by one that agrees.
        clock.now = morning + timedelta(hours=2)
        again = replace(read, now=clock.now)
        assert [f.timeframe.name for some in (await unread(files, store, again)).values() for f in some] == ["1m"]
        await fill(database_url, vendor, files, again)
        assert store.differences(NAMES) == []
        assert await unread(files, store, again) == {TIMEFRAMES["1m"]: [], TIMEFRAMES["1d"]: []}
    assert history(database_url) == []


async def test_what_the_api_has_corrected_is_taken_in_when_a_file_differs(database_url, vendor, files, clock):
    days, night, morning = "2024-03-12 2024-03-12", *(datetime(2024, 3, 13, hour, tzinfo=UTC) for hour in (1, 16))
    clock.now = night
    await fill(database_url, vendor, files, what("stocks", NAMES, days, sources=(POLYGON, POLYGON_FILES), now=night))
    vendor.change(restatements=(Restatement(ticker="MSFT", day=date(2024, 3, 12), factor=1.01),))
    clock.now = morning
    await fill(database_url, vendor, files, what("stocks", NAMES, days, now=morning, refresh=Refresh.FILES))
    for timeframe in ("1m", "1d"):
        symbol = market("stocks", "MSFT").symbols[0]
        assert_same_bars(stored_bars(database_url, "MSFT", timeframe), truth(vendor, symbol, timeframe, days))
    with SourceStore(database_url) as store:
        assert store.differences(NAMES) == []
    assert {(row[0], *row[5:]) for row in history(database_url)} == {("MSFT", POLYGON, POLYGON)}


async def test_a_replaced_file_changes_what_came_from_it_and_keeps_the_history(database_url, vendor, files, clock):
    days = "2024-03-11 2024-03-12"
    wrong = FileFault(kind="restated", day=date(2024, 3, 11), ticker="AAPL", until=LATER - timedelta(days=1))
    vendor.change(file_faults=(wrong,))
    clock.now = LATER - timedelta(days=2)
    request = what("stocks", NAMES, days, sources=(POLYGON_FILES,), now=clock.now, timeframes="1m 1h 1d")
    await fill(database_url, vendor, files, request)
    symbol = request.market.symbols[0]
    stored = stored_bars(database_url, "AAPL", "1m")
    right = unpriced(truth(vendor, symbol, "1m", days))
    differing = int((stored.close != right.close).sum())
    assert differing
    clock.now = LATER
    await fill(database_url, vendor, files, replace(request, now=LATER, refresh=Refresh.FILES))
    assert_same_bars(stored_bars(database_url, "AAPL", "1m"), right)
    assert {(row[0], *row[5:]) for row in history(database_url)} == {("AAPL", POLYGON_FILES, POLYGON_FILES)}
    hours = stored_bars(database_url, "AAPL", "1h")
    assert hours.volume.sum() == pytest.approx(right.volume.sum())


FAULTS = ["late", "refused", "truncated", "empty", "garbage", "bomb", "no_rows", "other_day"]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("sources", [(POLYGON_FILES,), BOTH], ids=["alone", "with the API"])
async def test_a_faulty_file_never_makes_a_session_empty(database_url, vendor, files, kind, sources):
    days = "2024-03-11 2024-03-12"
    vendor.change(file_faults=(FileFault(kind=kind, base="minute", day=date(2024, 3, 11)),))
    request = what("stocks", NAMES, days, sources=sources)
    series = await fill(database_url, vendor, files, request)
    answered = rows(
        database_url,
        "select bars, answers, refused from session_answers where timeframe = '1m' and session = '2024-03-11'",
    )
    if sources == BOTH:
        assert all(one.error is None and not one.missing for one in series)
        assert [(answers, refused) for _, answers, refused in answered] == [(1, False)] * len(NAMES)
    else:
        assert all(one.error is not None for one in series if one.timeframe.name == "1m") == (kind != "late")
        assert not any(answers for _, answers, _ in answered)
        assert all(one.error is None and not one.missing for one in series if one.timeframe.name == "1d")


async def test_without_a_list_the_api_is_used_or_the_fetch_ends(database_url, vendor, tmp_path):
    gone = files_at(f"http://127.0.0.1:{unused_port()}", tmp_path)
    request = what("stocks", NAMES, "2024-03-11 2024-03-11")
    assert all(not one.missing for one in await fill(database_url, vendor, gone, request))
    other = what("crypto", COINS, "2024-03-11 2024-03-11", sources=(POLYGON_FILES,))
    with pytest.raises(VendorUnreachable, match="POLYGON_FILES_URL"):
        await fill(database_url, vendor, gone, other)
    assert rows(database_url, "select count(*) from session_answers where symbol = 'BTC'") == [(0,)]


async def test_a_ticker_that_is_not_in_a_complete_file_has_an_empty_session(database_url, vendor, files):
    request = what("stocks", (*NAMES, "NOBODY"), "2024-03-11 2024-03-11", sources=(POLYGON_FILES,))
    await fill(database_url, vendor, files, request)
    found = rows(
        database_url, "select timeframe, bars, answers from session_answers where symbol = 'NOBODY' order by 1"
    )
    assert found == [("1d", 0, 1), ("1m", 0, 1)]


async def test_a_failed_request_does_not_spread_from_the_api_to_files(database_url, vendor, files):
    vendor.change(faults=[Fault(kind="status", path="/v2/aggs", status=500, times=100)])
    series = await fill(database_url, vendor, files, what("stocks", NAMES, "2024-03-11 2024-03-11"))
    assert all(one.error is None and not one.missing for one in series)


async def test_a_file_neither_overwrites_a_vwap_nor_counts_as_a_change(database_url, vendor, files):
    days = "2024-03-11 2024-03-11"
    await fill(database_url, vendor, files, what("stocks", NAMES, days, sources=(POLYGON,)))
    with BarStore(database_url) as store:
        request = what("stocks", NAMES, days)
        bars = stored_bars(database_url, "AAPL", "1m")
        assert not np.isnan(bars.vwap[0])
        written = written_from_a_file(store, request, unpriced(bars))
        assert (written.inserted, written.changed, written.unchanged) == (0, 0, len(bars))
        assert_same_bars(stored_bars(database_url, "AAPL", "1m"), bars)
        # Another bar has another average price, which the file does not give.
        changed = unpriced(bars)
        changed.volume[0] += 1
        assert written_from_a_file(store, request, changed).changed == 1
        assert np.isnan(stored_bars(database_url, "AAPL", "1m").vwap[0])
    assert len(history(database_url)) == 1


def written_from_a_file(store, request, bars: Bars):
    from backfill_assets.adapters.store.bars import WriteContext  # noqa: PLC0415
    from backfill_assets.domain.answers import PageCutter  # noqa: PLC0415

    zone = request.calendar.hours.zone
    answer = PageCutter(request.wanted[request.market.symbols[0]], zone).feed(bars, more=False, bad=[])
    return store.write("AAPL", TIMEFRAMES["1m"], answer, WriteContext(zone, LATER, source=POLYGON_FILES))


async def test_bars_of_a_file_gain_their_vwap_from_the_api_without_history(database_url, vendor, files):
    days = "2024-03-11 2024-03-11"
    await fill(database_url, vendor, files, what("stocks", NAMES, days, sources=(POLYGON_FILES,)))
    series = await fill(database_url, vendor, files, what("stocks", NAMES, days, refresh=Refresh.EVERYTHING))
    assert any(one.written.changed for one in series)
    assert not any(one.written.restated for one in series)
    for symbol in market("stocks", *NAMES).symbols:
        assert_same_bars(stored_bars(database_url, symbol.name, "1m"), truth(vendor, symbol, "1m", days))
    assert history(database_url) == []
