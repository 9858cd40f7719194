"""Derived timeframes: stored bars equal the vendor's own, in whatever order they were fetched."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import httpx
import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.store.bars import BarStore, WriteContext
from backfill_assets.domain.answers import CompleteSessions
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_start
from backfill_assets.domain.sessions import count_by_session, day_starts
from backfill_assets.domain.timeframes import DAY_1, TIMEFRAMES, WEEK_1
from backfill_assets.pipelines.backfill_request import Refresh, plan, recorded, underived
from backfill_assets.simulator import Restatement
from backfill_assets_tests.integration.pipelines.harness import simulated
from backfill_assets_tests.integration.pipelines.test_ohlcv import backfill_request, filled
from backfill_assets_tests.support import MOMENT, rows, stored_bars, trading_calendar

ALL = " ".join(TIMEFRAMES)
FIELDS = ("open", "high", "low", "close", "volume")


def own_bars(vendor, symbol, timeframe, start, end):
    """Return the vendor's own bars of a range, by start."""
    url = f"{vendor.url}/v2/aggs/ticker/{symbol.ticker}/range/{timeframe.multiplier}/{timeframe.timespan}/{start}/{end}"
    options = {"adjusted": "false", "limit": "50000", "apiKey": "any"}
    answer = httpx.get(url, params=options).json()
    assert "next_url" not in answer
    return {bar["t"]: bar for bar in answer["results"]}


@pytest.mark.parametrize(
    ("kind", "names", "start", "end"),
    [
        ("stocks", "AAPL NVDA", "2024-05-20", "2024-06-14"),  # Memorial Day, and NVDA's split of 10 June
        ("stocks", "SPY", "2024-03-04", "2024-03-15"),  # clocks go forward on 10 March
        ("stocks", "SPY", "2024-11-25", "2024-12-06"),  # a half day, 29 November
        ("crypto", "BTC", "2024-10-27", "2024-11-09"),
    ],
)
async def test_every_derived_bar_is_the_vendors_own(database_url, vendor, kind, names, start, end):
    what = backfill_request(kind, names, start, end, timeframes=ALL)
    series = await filled(database_url, vendor, what)
    assert len(vendor.requests) == 2 * len(what.wanted)
    assert not any(s.missing for s in series)
    for symbol in what.wanted:
        for timeframe in TIMEFRAMES.values():
            expected = own_bars(vendor, symbol, timeframe, start, end)
            found = stored_bars(database_url, symbol.name, timeframe.name)
            assert found.timestamp.tolist() == sorted(expected), (symbol, timeframe)
            for name in FIELDS:
                theirs = [expected[t][name[0]] for t in found.timestamp.tolist()]
                np.testing.assert_allclose(
                    getattr(found, name), theirs, rtol=1e-9, err_msg=f"{symbol} {timeframe} {name}"
                )
            for ours, key in ((found.vwap, "vw"), (found.trades, "n")):
                for stamp, value in zip(found.timestamp.tolist(), ours.tolist(), strict=True):
                    if value >= 0 and key in expected[stamp]:
                        assert value == pytest.approx(expected[stamp][key], rel=1e-7)


async def test_a_range_that_cuts_weeks_also_requests_their_other_days(database_url, vendor):
    what = backfill_request("stocks", "AAPL", "2024-03-06", "2024-03-12", timeframes="1d 1w")
    await filled(database_url, vendor, what)
    assert [r.path.split("/")[-2:] for r in vendor.requests] == [["2024-03-04", "2024-03-15"]]
    weeks = stored_bars(database_url, "AAPL", "1w")
    expected = own_bars(vendor, what.market.symbols[0], WEEK_1, "2024-03-04", "2024-03-15")
    assert weeks.timestamp.tolist() == sorted(expected)
    assert weeks.volume.tolist() == [expected[t]["v"] for t in sorted(expected)]


@pytest.mark.parametrize(
    ("kind", "start", "first"),
    [
        ("crypto", "2024-11-11", "2024-11-17"),
        ("stocks", "2024-11-12", "2024-11-17"),
        ("stocks", "2024-01-02", "2023-12-31"),
    ],
)
async def test_a_week_that_began_before_the_market_has_no_bar_and_is_no_gap(database_url, kind, start, first):
    """2 January 2024 is a Tuesday after a holiday: its week is complete."""
    end = datetime.fromisoformat(start).replace(tzinfo=UTC) + timedelta(days=13)
    async with simulated(
        database_url, end, kind, "BTC" if kind == "crypto" else "AAPL", start, timeframes="1d 1w"
    ) as one:
        series = await one.fetch()
        assert not any(s.missing for s in series)
        zone = one.watched().calendar.hours.zone
        (sunday,) = day_starts([date.fromisoformat(first)], zone).tolist()
        assert stored_bars(database_url, series[0].symbol.name, "1w").timestamp[0] == sunday
        assert one.gaps() == []
        before = len(one.vendor.requests)
        assert not any(s.missing for s in await one.fetch())
        assert underived(one.request(), recorded(one.store, one.request())) == []
        assert len(one.vendor.requests) == before


async def test_a_symbol_listed_within_a_week_has_a_bar_for_it(database_url):
    end = datetime(2024, 11, 23, 12, tzinfo=UTC)
    async with simulated(database_url, end, "stocks", "AAPL", "2024-11-11", timeframes="1d 1w") as one:
        one.vendor.change(listed={"AAPL": date(2024, 11, 13)})
        with psycopg.connect(database_url) as connection:
            connection.execute("insert into listings (symbol, listed, checked_at) values ('AAPL', '2024-11-13', now())")
        await one.fetch()
        assert len(stored_bars(database_url, "AAPL", "1w")) == 2
        assert one.gaps() == []


async def test_a_restated_day_changes_only_the_bars_derived_from_it(database_url, vendor):
    what = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-15", timeframes=ALL)
    await filled(database_url, vendor, what)
    before = rows(database_url, "select timeframe, timestamp, xmin::text from market_data")
    vendor.change(restatements=(Restatement(ticker="AAPL", day=date(2024, 3, 6), factor=1.01),))
    again = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-15", timeframes=ALL, refresh=Refresh.EVERYTHING)
    await filled(database_url, vendor, again)
    after = rows(database_url, "select timeframe, timestamp, xmin::text from market_data")
    touched = {(t, (s.date() if t != "1w" else None)) for t, s, _ in set(after) - set(before)}
    assert {t for t, _ in touched} == set(TIMEFRAMES)
    assert {day for t, day in touched if t != "1w"} <= {
        date(2024, 3, 6),
        date(2024, 3, 7),
    }  # 19:00 New York is 00:00 UTC
    assert len(after) == len(before)
    weeks = [stamp for t, stamp, _ in set(after) - set(before) if t == "1w"]
    assert len(weeks) == 1


async def test_a_timeframe_added_to_the_universe_is_derived_from_stored_bars(database_url, vendor):
    await filled(database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-15"))
    sent = len(vendor.requests)
    what = backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-15", timeframes=ALL)
    series = await filled(database_url, vendor, what)
    assert len(vendor.requests) == sent
    assert not any(s.missing for s in series)
    made = rows(database_url, "select distinct timeframe from market_data where source = 'derived'")
    assert {t for (t,) in made} == set(TIMEFRAMES) - {"1m", "1d"}


async def test_a_timeframe_that_is_not_in_the_universe_is_not_derived(database_url, vendor):
    await filled(
        database_url, vendor, backfill_request("stocks", "AAPL", "2024-03-04", "2024-03-08", timeframes="1m 1h")
    )
    assert {t for (t,) in rows(database_url, "select distinct timeframe from market_data")} == {"1m", "1h"}


async def test_one_day_of_many_symbols_is_one_grouped_request(database_url, vendor):
    names = "AAPL MSFT NVDA SPY"
    what = backfill_request("stocks", names, "2024-03-11", "2024-03-11", timeframes="1d")
    series = await filled(database_url, vendor, what)
    assert [r.path for r in vendor.requests] == ["/v2/aggs/grouped/locale/us/market/stocks/2024-03-11"]
    assert not any(s.missing for s in series)
    for symbol in what.wanted:
        (expected,) = own_bars(vendor, symbol, DAY_1, "2024-03-11", "2024-03-11").values()
        (stamp,) = stored_bars(database_url, symbol.name, "1d").timestamp.tolist()
        assert stamp == expected["t"], "a daily bar is stamped at the start of its day"
        (volume,) = stored_bars(database_url, symbol.name, "1d").volume.tolist()
        assert volume == expected["v"]


async def test_a_nightly_run_makes_one_request_for_each_symbol_and_two_for_the_days(database_url, vendor):
    names = "AAPL MSFT NVDA SPY AMZN"
    before = backfill_request("stocks", names, "2024-03-04", "2024-03-12", timeframes=ALL)
    await filled(database_url, vendor, replace(before, now=datetime(2024, 3, 13, 2, tzinfo=UTC)))
    vendor.change(restatements=(Restatement(ticker="SPY", day=date(2024, 3, 11), factor=1.01),))
    sent = len(vendor.requests)
    night = backfill_request("stocks", names, "2024-03-11", "2024-03-13", timeframes=ALL, refresh=Refresh.RESTATEMENTS)
    series = await filled(database_url, vendor, replace(night, now=datetime(2024, 3, 14, 2, tzinfo=UTC)))
    assert not any(s.missing for s in series)
    assert len(vendor.requests) - sent == len(names.split()) + 2
    changed = {(s.symbol.name, s.timeframe.name) for s in series if s.written.changed}
    assert changed == {("SPY", "1m"), ("SPY", "1d")}


def test_a_nightly_run_of_twenty_symbols_requests_daily_bars_once():
    names = " ".join(f"S{n}" for n in range(20))
    assert len(plan(backfill_request("stocks", names, "2024-03-15", "2024-03-15"), {})) == 21


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_weeks_do_not_depend_on_the_order_of_their_days(database_url, shuffle: random.Random, parts):
    calendar = trading_calendar("stocks")
    zone = calendar.hours.zone
    days = list(calendar.within(DayRange(date(2024, 3, 4), date(2024, 3, 22))))
    bars = Bars(day_starts(days, zone), *[np.arange(1.0, len(days) + 1)] * 6, np.arange(1, len(days) + 1))
    order_of_days = days.copy()
    shuffle.shuffle(order_of_days)
    chunks = [sorted(order_of_days[n::parts]) for n in range(parts)]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("truncate market_data, session_answers, coverage")
    with BarStore(database_url) as store:
        for chunk in filter(None, chunks):
            some = bars.take(np.isin(bars.timestamp, day_starts(chunk, zone)))
            answer = CompleteSessions(tuple(chunk), tuple(count_by_session(some, chunk, zone)), some)
            store.write("AAPL", DAY_1, answer, WriteContext(zone, MOMENT, derived=(WEEK_1,), finished=days))
    weeks = stored_bars(database_url, "AAPL", "1w")
    sundays = sorted({week_start(d) for d in days})
    assert weeks.timestamp.tolist() == day_starts(sundays, zone).tolist()
    assert weeks.volume.tolist() == [sum(n for n, d in enumerate(days, 1) if week_start(d) == s) for s in sundays]
    recorded = rows(database_url, "select session, bars from session_answers where timeframe = '1w' order by 1")
    assert recorded == [(day, 1) for day in days]


def test_a_week_has_no_bar_while_a_day_of_it_is_unanswered(database_url):
    calendar = trading_calendar("stocks")
    zone = calendar.hours.zone
    week = list(calendar.within(DayRange(date(2024, 3, 4), date(2024, 3, 8))))
    some = week[1:]
    bars = Bars(day_starts(some, zone), *[np.ones(4)] * 6, np.ones(4, np.int64))
    with BarStore(database_url) as store:
        answer = CompleteSessions(tuple(some), tuple(count_by_session(bars, some, zone)), bars)
        store.write("AAPL", DAY_1, answer, WriteContext(zone, MOMENT, derived=(WEEK_1,), finished=week))
        assert len(stored_bars(database_url, "AAPL", "1w")) == 0
        empty = CompleteSessions((week[0],), (), Bars.empty())
        store.write("AAPL", DAY_1, empty, WriteContext(zone, MOMENT, derived=(WEEK_1,), finished=week))
    assert stored_bars(database_url, "AAPL", "1w").volume.tolist() == [4.0], (
        "a day without bars is answered all the same"
    )
