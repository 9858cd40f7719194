"""The first requests of a plan, sent before the run that needs them."""

from datetime import date

import pytest

from backfill_assets.adapters.polygon import Polygon
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.request_plan import GroupedCall, RangeCall
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.pipelines.backfill_request import BackfillRequest, plan
from backfill_assets.pipelines.head_start import MOST, head_start
from backfill_assets.pipelines.ohlcv import in_turn
from backfill_assets_tests.integration.pipelines.harness import fetched
from backfill_assets_tests.support import KEY, MOMENT, market, read_settings, trading_calendar


def backfill_request(kind, names, timeframes="1m 1d"):
    of, calendar = market(kind, *names.split(), timeframes=timeframes), trading_calendar(kind)
    sessions = calendar.within(DayRange(date(2024, 3, 4), date(2024, 3, 6)))
    return BackfillRequest(of, calendar, dict.fromkeys(of.symbols, sessions), of.timeframes, MOMENT)


@pytest.fixture
def settings(vendor):
    return read_settings(
        {
            "POLYGON_API_KEY": KEY,
            "POLYGON_BASE_URL": vendor.url,
            "POLYGON_REQUESTS_PER_SECOND": "500",
        }
    )


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        pytest.param("stocks", "AAPL", id="a range of minutes and one of days"),
        pytest.param("stocks", "AAPL MSFT NVDA BRK.B", id="days of the whole market, fewer than symbols"),
        pytest.param("crypto", "BTC ETH", id="crypto"),
    ],
)
async def test_the_run_sends_nothing_that_was_sent_already(database_url, vendor, settings, kind, names):
    what = backfill_request(kind, names)
    requests = plan(what, {})
    with BarStore(database_url) as store, head_start(settings, database_url, what.market, requests) as early:
        async with (
            RateLimiter(database_url, per_second=500) as limiter,
            Polygon(KEY, base_url=vendor.url, limiter=limiter, ahead=early) as client,
        ):
            series = await fetched(what, store, client, lambda: what.now)
            assert client.traffic.requests == len(requests)
    assert all(s.answers.keys() >= set(s.wanted) for s in series)
    assert len(vendor.requests) == len({r.path for r in vendor.requests}) == len(requests)


def test_days_of_the_whole_market_come_before_the_last_symbols_and_the_newest_first():
    """Once more than three symbols have minutes to fetch; the first ones show what the plan gives."""

    def labels(names):
        return [
            f"{r.start:%d}" if isinstance(r, GroupedCall) else r.symbol.name
            for r in in_turn(plan(backfill_request("stocks", names), {}))
        ]

    assert labels("AAPL MSFT NVDA TSLA AMZN") == ["AAPL", "MSFT", "06", "05", "04", "NVDA", "TSLA", "AMZN"]
    assert labels("AAPL MSFT NVDA TSLA") == ["AAPL", "06", "05", "04", "MSFT", "NVDA", "TSLA"]
    assert labels("AAPL MSFT") == ["AAPL", "AAPL", "MSFT", "MSFT"]


def test_of_one_symbol_the_newest_days_come_first():
    what = backfill_request("stocks", "AAPL", timeframes="1m")
    (symbol,) = what.wanted
    old = RangeCall(symbol, MINUTE_1, what.calendar.within(DayRange(date(2024, 3, 4), date(2024, 3, 4))), 1)
    new = RangeCall(symbol, MINUTE_1, what.calendar.within(DayRange(date(2024, 3, 6), date(2024, 3, 6))), 1)
    assert in_turn([old, new]) == [new, old]


async def test_no_more_is_sent_than_may_wait_in_memory(database_url, vendor, settings):
    names = "AAPL MSFT NVDA TSLA AMZN META GOOGL AMD NFLX INTC SPY QQQ IBM KO"
    what = backfill_request("stocks", names, timeframes="1m")
    requests = plan(what, {})
    assert len(requests) > MOST
    with head_start(settings, database_url, what.market, requests) as early:
        taken = [
            await early.take((f"/v2/aggs/ticker/{r.symbol.ticker}/range/1/minute/{r.start}/{r.end}", PARAMETERS))
            for r in requests
        ]
    assert [body is not None for body in taken] == [True] * MOST + [False] * (len(requests) - MOST)
    assert len(vendor.requests) == MOST


PARAMETERS = {"adjusted": "false", "sort": "asc", "limit": "50000"}
