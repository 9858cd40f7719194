"""Yahoo and Binance.US: their bars in our units, their limits, and everything else that they may answer."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.other_source import KnownSplits, open_source
from backfill_assets.adapters.transport import RetryPolicy
from backfill_assets.domain.adjustments import SplitRatio
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    NotFound,
    RateLimited,
    SplitsUnknown,
    VendorUnavailable,
)
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1
from backfill_assets.domain.universe import Symbol
from backfill_assets.simulator import Fault, OtherVendors, Scenario, Split
from backfill_assets_tests.integration.adapters.scripted_vendor import Response, ScriptedVendor
from backfill_assets_tests.integration.pipelines.harness import clock_and_vendor
from backfill_assets_tests.support import trading_calendar

NOW = datetime(2024, 6, 20, 2, tzinfo=UTC)
APPLE, COIN = Symbol("AAPL", "AAPL"), Symbol("BTC", "X:BTCUSD")
SESSIONS = [s for s in trading_calendar("stocks").sessions if date(2024, 5, 21) <= s <= date(2024, 6, 18)]
NO_SPLITS = KnownSplits(date(2003, 9, 10), ())


@pytest.fixture
def vendor(monkeypatch):
    with clock_and_vendor(NOW) as (clock, vendor):
        monkeypatch.setenv("APCA_API_KEY_ID", "alpaca-key-id")
        monkeypatch.setenv("APCA_API_SECRET_KEY", "alpaca-secret-key")
        for name in ("YAHOO", "BINANCE_US", "ALPACA"):
            monkeypatch.setenv(f"{name}_URL", vendor.url)
            monkeypatch.setenv(f"{name}_REQUESTS_PER_SECOND", "100")
        vendor.clock = clock
        yield vendor


@pytest.fixture
def ask(vendor, database_url):  # noqa: ARG001  # sets the addresses
    async def ask(symbol, timeframe, start, end, *, splits=NO_SPLITS, now=NOW, attempts=1, source=None):
        name = source or ("binance_us" if symbol.ticker.startswith("X:") else "yahoo")
        retry = RetryPolicy(attempts, first_pause=0)
        async with open_source(name, database_url, lambda _: splits, lambda _: None, retry) as client:
            return await client.bars(symbol, timeframe, start, end, now=now)

    return ask


def assert_prices(found, truth):
    np.testing.assert_array_equal(found.timestamp, truth.t)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_allclose(getattr(found, name), getattr(truth, name), rtol=1e-9, atol=0, err_msg=name)


async def test_days_over_a_split_are_raw(vendor, ask):
    splits = (Split(ticker="AAPL", execution_date=date(2024, 6, 10), split_to=4),)
    vendor.scenario = Scenario(splits=splits)
    known = KnownSplits(date(2024, 1, 1), (SplitRatio(date(2024, 6, 10), 1, 4),))
    found = await ask(APPLE, DAY_1, date(2024, 5, 20), date(2024, 6, 18), splits=known)
    truth = vendor.market.daily_bars("AAPL", date(2024, 5, 20), date(2024, 6, 18))
    assert len(truth) == 21
    assert_prices(found.bars, truth)
    np.testing.assert_allclose(found.bars.volume, truth.volume, rtol=1e-9)
    assert np.isnan(found.bars.vwap).all()
    assert found.dropped == {"null": 1}
    assert len(vendor.requests) == 1


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(SESSIONS), st.sampled_from([4, 0.2, 2, 1.5, 1 / 3]), max_size=3),
    st.sampled_from([DAY_1, MINUTE_1]),
)
async def test_prices_over_any_splits_are_raw(vendor, ask, ratios, timeframe):
    sent = len(vendor.requests)
    splits = tuple(Split(ticker="AAPL", execution_date=day, split_to=ratio) for day, ratio in ratios.items())
    vendor.scenario = Scenario(splits=splits)
    known = KnownSplits(date(2024, 1, 1), tuple(SplitRatio(day, 1, ratio) for day, ratio in ratios.items()))
    start, end = date(2024, 5, 23), date(2024, 6, 4)
    found = await ask(APPLE, timeframe, start, end, splits=known)
    made = vendor.market.daily_bars if timeframe == DAY_1 else vendor.market.minute_bars
    truth = made("AAPL", start, end)
    assert_prices(found.bars, truth)
    coarsest = max([1.0, *(1 / ratio for ratio in ratios.values())]) ** len(ratios)
    np.testing.assert_allclose(found.bars.volume, truth.volume, rtol=1e-6, atol=coarsest)
    assert len(vendor.requests) - sent == (1 if timeframe == DAY_1 else 3)


@pytest.mark.parametrize(
    ("known", "error", "words"),
    [
        (None, SplitsUnknown, "are not known"),
        (KnownSplits(date(2024, 6, 4), ()), SplitsUnknown, "those of AAPL since 2024-06-03 are not known"),
        (NO_SPLITS, ContradictoryAnswer, "makes 4 of a share of AAPL on 2024-06-10, the vendor 1"),
        (KnownSplits(date(2024, 1, 1), (SplitRatio(date(2024, 6, 10), 1, 5),)), ContradictoryAnswer, "the vendor 5"),
        (KnownSplits(date(2024, 1, 1), (SplitRatio(date(2024, 6, 11), 1, 4),)), ContradictoryAnswer, "the vendor 1"),
    ],
)
@pytest.mark.parametrize("timeframe", [DAY_1, MINUTE_1])
async def test_prices_whose_splits_are_not_certain_are_refused(vendor, ask, known, error, words, timeframe):
    vendor.scenario = Scenario(splits=(Split(ticker="AAPL", execution_date=date(2024, 6, 10), split_to=4),))
    with pytest.raises(error, match=words):
        await ask(APPLE, timeframe, date(2024, 6, 3), date(2024, 6, 5), splits=known)


async def test_a_split_that_yahoo_made_up_is_refused(vendor, ask):
    vendor.scenario = Scenario(other_vendors=OtherVendors(splits={"AAPL": {date(2024, 6, 5): 1.283}}))
    with pytest.raises(ContradictoryAnswer, match=r"makes 1\.283 of a share"):
        await ask(APPLE, DAY_1, date(2024, 6, 3), date(2024, 6, 12))


async def test_bars_that_have_not_ended_and_rows_of_nulls_are_left_out(vendor, ask):
    during = datetime(2024, 6, 12, 15, 30, 20, tzinfo=UTC)
    vendor.clock.now = during
    found = await ask(APPLE, MINUTE_1, date(2024, 6, 12), date(2024, 6, 12), now=during)
    truth = vendor.market.minute_bars("AAPL", date(2024, 6, 12), date(2024, 6, 12))
    assert_prices(found.bars, truth.take(truth.t + 60_000 <= int(during.timestamp() * 1000)))
    assert set(found.dropped) == {"not ended", "null"}
    days = await ask(APPLE, DAY_1, date(2024, 6, 10), date(2024, 6, 12), now=during)
    assert len(days.bars) == 2


async def test_minutes_that_yahoo_does_not_reach_back_to_are_its_refusal(ask):
    with pytest.raises(BadRequest, match="8 days"):
        await ask(APPLE, MINUTE_1, date(2024, 5, 2), date(2024, 5, 3))


async def test_klines_are_numbers_of_traded_minutes_on_several_pages(vendor, ask):
    days = date(2024, 3, 9), date(2024, 3, 10)
    found = await ask(COIN, MINUTE_1, *days)
    truth = vendor.market.minute_bars("X:BTCUSD", *days)
    assert_prices(found.bars, truth)
    np.testing.assert_array_equal(found.bars.trades, np.maximum(truth.trades, 1))
    np.testing.assert_allclose(found.bars.volume, truth.volume, atol=1e-8)
    assert [r.path.rpartition("/")[2] for r in vendor.requests] == ["exchangeInfo", "klines", "klines", "klines"]
    days_found = await ask(COIN, DAY_1, *days)
    assert_prices(days_found.bars, vendor.market.daily_bars("X:BTCUSD", *days))


async def test_minutes_without_trades_are_no_bars(vendor, ask):
    found = await ask(Symbol("ETH", "X:ETHUSD"), MINUTE_1, date(2024, 3, 9), date(2024, 3, 9))
    assert_prices(found.bars, vendor.market.minute_bars("X:ETHUSD", date(2024, 3, 9), date(2024, 3, 9)))
    assert (found.bars.trades > 0).all()


@pytest.mark.parametrize("pairs", [(), ("BTCUSDT",)])
async def test_another_pair_is_never_taken(vendor, ask, pairs):
    vendor.scenario = Scenario(other_vendors=OtherVendors(pairs=(*pairs, "ETHUSD")))
    with pytest.raises(NotFound, match="does not list BTCUSD"):
        await ask(COIN, DAY_1, date(2024, 3, 9), date(2024, 3, 9))
    assert len(vendor.requests) == 1


async def test_the_limit_of_the_venue_slows_requests(vendor, database_url):
    vendor.scenario = Scenario(other_vendors=OtherVendors(limit=30))
    async with open_source("binance_us", database_url, lambda _: None, lambda _: None) as client:
        limiter = client._limiter
        assert limiter.interval < 0.1
        await client.bars(COIN, DAY_1, date(2024, 3, 9), date(2024, 3, 9), now=NOW - timedelta(days=100))
        assert limiter.interval == 2


@pytest.mark.parametrize("symbol", [APPLE, COIN])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="status", status=429), RateLimited),
        (Fault(kind="html", status=200), MalformedAnswer),
        (Fault(kind="html", status=403), VendorUnavailable),
        (Fault(kind="html", status=404), VendorUnavailable),
        (Fault(kind="status", status=500), VendorUnavailable),
        (Fault(kind="status", status=400), VendorUnavailable),
        (Fault(kind="malformed_json"), MalformedAnswer),
        (Fault(kind="cut_body"), VendorUnavailable),
        (Fault(kind="reset"), VendorUnavailable),
    ],
)
async def test_only_their_own_words_settle_anything(vendor, ask, symbol, fault, error):
    vendor.scenario = Scenario(faults=(fault,))
    with pytest.raises(error) as raised:
        await ask(symbol, DAY_1, date(2024, 3, 7), date(2024, 3, 8))
    assert not isinstance(raised.value, NotFound)
    assert "polygon" not in str(raised.value).lower()
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("timeframe", [DAY_1, MINUTE_1])
async def test_alpaca_gives_raw_bars_on_several_pages(vendor, ask, timeframe):
    vendor.scenario = Scenario(splits=(Split(ticker="AAPL", execution_date=date(2024, 6, 10), split_to=4),))
    days = date(2024, 3, 4), date(2024, 3, 28)
    found = await ask(APPLE, timeframe, *days, splits=None, source="alpaca")
    made = vendor.market.daily_bars if timeframe == DAY_1 else vendor.market.minute_bars
    truth = made("AAPL", *days)
    assert_prices(found.bars, truth)
    np.testing.assert_allclose(found.bars.volume, truth.volume, rtol=1e-9)
    np.testing.assert_allclose(found.bars.vwap, truth.vwap, rtol=1e-9)
    assert len(vendor.requests) == (1 if timeframe == DAY_1 else 2)
    nothing = await ask(Symbol("ZZ", "ZZ"), timeframe, *days, splits=None, source="alpaca")
    assert len(nothing.bars) == 0


async def test_the_keys_of_alpaca_are_needed_and_in_no_message(vendor, ask, monkeypatch):
    days = date(2024, 3, 7), date(2024, 3, 8)
    echoed = Response(b'{"message": "forbidden: alpaca-key-id alpaca-secret-key"}', 403)
    async with ScriptedVendor(echoed) as server:
        monkeypatch.setenv("ALPACA_URL", server.url)
        with pytest.raises(KeyRefused) as refused:
            await ask(APPLE, DAY_1, *days, source="alpaca")
    assert "alpaca-" not in str(refused.value)
    assert "forbidden" in str(refused.value)
    monkeypatch.delenv("APCA_API_SECRET_KEY")
    with pytest.raises(KeyRefused, match="APCA_API_SECRET_KEY are not set"):
        await ask(APPLE, DAY_1, *days, source="alpaca")
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"bars": {"META": []}, "next_page_token": None}, 200, ContradictoryAnswer),
        ({"bars": {"AAPL": []}}, 200, MalformedAnswer),
        ({"bars": {"AAPL": [{"t": "2024-03-07", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}]}}, 200, MalformedAnswer),
        ({"bars": {}, "next_page_token": "again"}, 200, MalformedAnswer),
        ({"message": "your subscription does not permit querying recent SIP data"}, 403, NotEntitled),
        ({"message": "too many requests."}, 429, RateLimited),
        ({"message": "invalid start"}, 400, BadRequest),
    ],
)
async def test_what_else_alpaca_may_answer(ask, monkeypatch, body, status, error):
    async with ScriptedVendor(Response(json.dumps(body).encode(), status)) as server:
        monkeypatch.setenv("ALPACA_URL", server.url)
        with pytest.raises(error):
            await ask(APPLE, DAY_1, date(2024, 3, 7), date(2024, 3, 7), source="alpaca")


async def test_another_not_found_of_yahoo_is_no_answer(ask, monkeypatch):
    body = {"chart": {"result": None, "error": {"code": "Not Found", "description": "No route"}}}
    async with ScriptedVendor(Response(body, 404)) as server:
        monkeypatch.setenv("YAHOO_URL", server.url)
        with pytest.raises(VendorUnavailable):
            await ask(APPLE, DAY_1, date(2024, 3, 7), date(2024, 3, 7))


async def test_yahoo_does_not_know_a_symbol(vendor, ask):
    vendor.scenario = Scenario(other_vendors=OtherVendors(unknown=("AAPL",)))
    with pytest.raises(NotFound, match="No data found"):
        await ask(APPLE, DAY_1, date(2024, 3, 7), date(2024, 3, 8))


async def test_a_ban_is_obeyed_by_all_processes_and_holds_up_none(vendor, ask):
    vendor.scenario = Scenario(faults=(Fault(kind="status", status=418, retry_after=7200, times=1),))
    with pytest.raises(RateLimited):
        await ask(COIN, DAY_1, date(2024, 3, 7), date(2024, 3, 8), attempts=3)
    with pytest.raises(RateLimited, match="no request may be sent to binance_us for 7,"):
        await ask(COIN, DAY_1, date(2024, 3, 7), date(2024, 3, 8), attempts=3)
    assert len(vendor.requests) == 1


def yahoo_answer(**changes):
    quote = {"open": [9.0], "high": [11.0], "low": [8.5], "close": [10.0], "volume": [100]}
    result = {"meta": {"symbol": "AAPL", "dataGranularity": "1d"}, "timestamp": [1709821800]}
    result |= {"indicators": {"quote": [quote | changes.pop("quote", {})]}} | changes
    return {"chart": {"result": [result], "error": None}}


KLINE = [1709769600000, "9", "11", "8.5", "10", "100", 1709855999999, "1000", 5, "0", "0", "0"]
EXCHANGE = {"rateLimits": [], "symbols": [{"symbol": "BTCUSD", "status": "TRADING"}]}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"meta": {"symbol": "META", "dataGranularity": "1d"}}, ContradictoryAnswer),
        ({"meta": {"symbol": "AAPL", "dataGranularity": "1mo"}}, ContradictoryAnswer),
        ({"meta": None}, MalformedAnswer),
        ({"timestamp": ["1709821800"]}, MalformedAnswer),
        ({"timestamp": [1709821800, 1709908200]}, ContradictoryAnswer),
        ({"timestamp": [1609821800]}, ContradictoryAnswer),
        ({"indicators": {}}, MalformedAnswer),
        ({"quote": {"open": ["9.0"]}}, MalformedAnswer),
        ({"quote": {"open": []}}, ContradictoryAnswer),
        ({"events": {"splits": {"1": {"date": 1709821800, "numerator": 4}}}}, MalformedAnswer),
        ({"events": {"splits": {"1": {"date": 1709821800, "numerator": 4, "denominator": 0}}}}, MalformedAnswer),
    ],
)
async def test_another_shape_of_yahoo_is_no_answer(ask, monkeypatch, changes, error):
    async with ScriptedVendor(Response(yahoo_answer(**changes))) as server:
        monkeypatch.setenv("YAHOO_URL", server.url)
        with pytest.raises(error):
            await ask(APPLE, DAY_1, date(2024, 3, 7), date(2024, 3, 7))


@pytest.mark.parametrize(
    ("quote", "dropped"),
    [
        ({}, {}),
        ({"close": [None]}, {"null": 1}),
        ({"low": [9.5]}, {"impossible": 1}),
        ({"close": [-10.0]}, {"impossible": 1}),
        ({"volume": [-1]}, {"impossible": 1}),
    ],
)
async def test_a_row_of_yahoo_that_is_no_bar_is_counted(ask, monkeypatch, quote, dropped):
    async with ScriptedVendor(Response(yahoo_answer(quote=quote))) as server:
        monkeypatch.setenv("YAHOO_URL", server.url)
        found = await ask(APPLE, DAY_1, date(2024, 3, 7), date(2024, 3, 7))
    assert (len(found.bars), found.dropped) == (0 if dropped else 1, dropped)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ({"code": 0}, MalformedAnswer),
        ([KLINE[:8]], MalformedAnswer),
        ([[*KLINE[:1], 9, *KLINE[2:]]], MalformedAnswer),
        ([[*KLINE[:1], "nine", *KLINE[2:]]], MalformedAnswer),
        ([KLINE, KLINE], ContradictoryAnswer),
        ([[1609769600000, *KLINE[1:]]], ContradictoryAnswer),
    ],
)
async def test_another_shape_of_binance_is_no_answer(ask, monkeypatch, rows, error):
    async with ScriptedVendor(Response(EXCHANGE), Response(json.dumps(rows).encode())) as server:
        monkeypatch.setenv("BINANCE_US_URL", server.url)
        with pytest.raises(error):
            await ask(COIN, DAY_1, date(2024, 3, 7), date(2024, 3, 7))


async def test_a_day_of_which_a_minute_is_impossible_is_left_out(ask, monkeypatch):
    minutes = [[KLINE[0] + at * 60_000, *KLINE[1:]] for at in range(3)]
    minutes[1][3] = "12"
    next_day = [KLINE[0] + 86_400_000, *KLINE[1:]]
    async with ScriptedVendor(Response(EXCHANGE), Response(json.dumps([*minutes, next_day]).encode())) as server:
        monkeypatch.setenv("BINANCE_US_URL", server.url)
        found = await ask(COIN, MINUTE_1, date(2024, 3, 7), date(2024, 3, 8))
    assert found.bars.timestamp.tolist() == [next_day[0]]
    assert found.dropped == {"impossible": 1, "of a day with such a bar": 2}
