"""Fallbacks: asked for what the vendor lacks, stored under their own name, and replaced by the vendor's bars."""

import re
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store.bars import BarStore, WriteContext, Written
from backfill_assets.domain.answers import PageCutter
from backfill_assets.domain.bars import NO_TRADES, Bars
from backfill_assets.domain.errors import VendorUnreachable
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.request_plan import pages_of
from backfill_assets.domain.retries import USUAL, Retry
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.sources import POLYGON
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, TIMEFRAMES, WEEK_1
from backfill_assets.pipelines.backfill_request import BackfillRequest, market_calendar
from backfill_assets.pipelines.fallbacks import fallback_calls, opener
from backfill_assets.pipelines.gaps import Watched, measure
from backfill_assets.pipelines.ohlcv import OtherSources
from backfill_assets.pipelines.progress import SILENT
from backfill_assets.simulator import Fault, Hole, OtherVendors, Scenario
from backfill_assets_tests.integration.adapters.scripted_vendor import NoSleep
from backfill_assets_tests.integration.pipelines.harness import clock_and_vendor, fetched
from backfill_assets_tests.support import (
    KEY,
    assert_same_bars,
    market,
    rows,
    stored_bars,
    unused_port,
)

NEW_YORK = HOURS[Kind.STOCKS].zone
NIGHT = datetime(2024, 3, 9, 2, tzinfo=UTC)
EVERYTHING = "select *, xmin::text from market_data order by symbol, timeframe, timestamp"
DAYS = [date(2024, 3, d) for d in range(4, 9)]
HALTED = DAYS[2]
NAMES = ("AAPL", "MSFT")


@pytest.fixture
def place(database_url, monkeypatch):
    with clock_and_vendor(NIGHT) as (clock, vendor), BarStore(database_url) as store:
        monkeypatch.setenv("YAHOO_URL", vendor.url)
        monkeypatch.setenv("YAHOO_REQUESTS_PER_SECOND", "100")
        with psycopg.connect(database_url) as connection:
            for name in NAMES:
                connection.execute(
                    "insert into corporate_event_lookups values (%s, %s, '2003-09-10', %s)", [name, name, NIGHT]
                )
        yield SimpleNamespace(url=database_url, clock=clock, vendor=vendor, store=store)


def asked(place):
    """Count the requests to the fallback."""
    return sum(r.path.startswith("/v8/") for r in place.vendor.requests)


def of_yahoo(symbol, timeframe, place):
    """Return what the fallback has of the week, cut into sessions."""
    made = place.vendor.market.minute_bars if timeframe is MINUTE_1 else place.vendor.market.daily_bars
    bars = made(symbol, DAYS[0], DAYS[-1])
    none, trades = np.full(len(bars), np.nan), np.full(len(bars), NO_TRADES)
    found = Bars(bars.t, bars.open, bars.high, bars.low, bars.close, bars.volume, none, trades)
    return PageCutter(tuple(DAYS), NEW_YORK, one_bar=timeframe is DAY_1).feed(found, more=False)


def request(place, *, of=None, **terms):
    if of is None:
        of = replace(market("stocks", *NAMES, start=DAYS[0], timeframes="1m 5m 1d 1w"), sources=(POLYGON, "yahoo"))
    calendar = market_calendar(of, place.clock.now.date())
    sessions = tuple(s for s in calendar.sessions if s <= calendar.last_finished(place.clock.now))
    return BackfillRequest(of, calendar, dict.fromkeys(of.symbols, sessions), of.timeframes, place.clock.now, **terms)


async def run(place, url=None, **terms):
    of = request(place, **terms)
    async with (
        RateLimiter(place.url, per_second=1000) as limiter,
        Polygon(
            KEY, base_url=url or place.vendor.url, limiter=limiter, sleep=NoSleep(), retry=RetryPolicy(2)
        ) as client,
    ):
        return await fetched(
            of,
            place.store,
            client,
            place.clock,
            others=OtherSources(fallback=opener(place.store, SILENT, RetryPolicy(1, first_pause=0))),
        )


def sources(place, timeframe="1d"):
    query = (
        "select symbol, timestamp::date, source from market_data where timeframe = %s group by 1, 2, 3 order by 1, 2"
    )
    return {(symbol, day): source for symbol, day, source in rows(place.url, query, timeframe)}


async def test_a_dead_vendor_is_stood_in_for_and_replaced(place):
    place.clock.now = NIGHT + timedelta(hours=8)
    dead = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(VendorUnreachable):
        await run(place, dead)
    for timeframe, name in (("1d", "yahoo"), ("1m", "yahoo"), ("5m", "derived_yahoo"), ("1w", "derived_yahoo")):
        assert set(sources(place, timeframe).values()) == {name}, timeframe
    assert settled(place)[0]["fallback"] == 10
    await run(place)
    for timeframe, name in (("1d", "polygon"), ("1m", "polygon"), ("5m", "derived"), ("1w", "derived")):
        assert set(sources(place, timeframe).values()) == {name}, timeframe
    assert settled(place)[0]["complete"] == 10
    truth = place.vendor.market.minute_bars("AAPL", DAYS[0], DAYS[-1], adjusted=False)
    assert_same_bars(stored_bars(place.url, "AAPL", "1m"), truth)
    history = Counter(rows(place.url, "select source, timeframe, removed from market_data_history"))
    assert set(history) == {("yahoo", "1m", True), ("yahoo", "1d", True)}
    assert history["yahoo", "1d", True] == 10
    overlapping = (
        "select count(*) from market_data_history h join market_data m using (symbol, timeframe, timestamp)"
        " where m.ingested_at < h.changed_at"
    )
    assert rows(place.url, overlapping) == [(0,)]


def settled(place):
    of = request(place)
    found = measure(place.store, Watched(of.market, of.calendar, {}, of.retries), place.clock.now)
    return asdict(found.counts), found.gaps


def hole(*days, ticker="AAPL", **terms):
    return Hole(ticker=ticker, first=days[0], last=days[-1], **terms)


async def attempts(place, number, **terms):
    """Run until the vendor's attempts are used up."""
    for _ in range(number):
        await run(place, **terms)
        place.clock.advance(hours=2)


async def test_what_the_vendor_confirms_empty_is_filled_and_stays_so(place):
    place.vendor.scenario = Scenario(holes=(hole(HALTED),))
    await attempts(place, 4)
    assert asked(place) == 0
    assert ("AAPL", HALTED) not in sources(place)
    await run(place)
    assert asked(place) == 2
    assert sources(place)["AAPL", HALTED] == "yahoo"
    assert set(Counter(sources(place).values()).items()) == {("yahoo", 1), ("polygon", 9)}
    (detail,) = rows(place.url, "select detail from fallback_answers where timeframe = '1m'")[0]
    assert re.fullmatch(r"left out: \d+ null", detail)
    counts, gaps = settled(place)
    assert (counts["complete"], counts["fallback"]) == (9, 1)
    assert {(g.timeframe, g.reason, g.explained, g.detail) for g in gaps} == {
        (name, Reason.FALLBACK, True, "filled by yahoo; polygon: vendor_empty") for name in ("1m", "5m", "1d", "1w")
    }
    assert sources(place, "1w")["AAPL", date(2024, 3, 3)] == "derived_yahoo"
    before = place.vendor.requests.copy()
    place.clock.advance(days=1)
    await run(place)
    assert (asked(place), len(place.vendor.requests)) == (2, len(before))
    await run(place, retry=Retry.EXPLAINED)
    assert (asked(place), len(place.vendor.requests)) == (2, len(before) + 2)
    assert sources(place)["AAPL", HALTED] == "yahoo"
    assert settled(place)[0]["fallback"] == 1
    place.vendor.scenario = Scenario()
    await run(place, retry=Retry.EXPLAINED)
    assert settled(place) == ({**counts, "complete": 10, "fallback": 0}, [])
    assert set(sources(place, "1w").values()) == {"derived"}


async def test_a_plan_names_what_is_asked_of_fallbacks_next_and_counts_the_vendors_requests_alone(place):
    place.vendor.scenario = Scenario(holes=(hole(HALTED),), other_vendors=OtherVendors(lacks=(HALTED,)))
    await attempts(place, 4)
    assert fallback_calls(place.store, request(place)) == []
    await run(place)
    assert fallback_calls(place.store, request(place)) == []  # its pause is not over
    place.clock.advance(hours=2)
    calls = fallback_calls(place.store, request(place))
    assert [(c.source, c.symbol.name, c.timeframe.name, c.sessions) for c in calls] == [
        ("yahoo", "AAPL", name, (HALTED,)) for name in ("1m", "1d")
    ]
    assert pages_of(calls) == 0
    await run(place)
    place.clock.advance(days=1)
    assert fallback_calls(place.store, request(place)) == []
    assert len(fallback_calls(place.store, request(place, retry=Retry.EXPLAINED))) == 2


async def test_a_day_that_neither_has_is_confirmed_and_left(place):
    place.vendor.scenario = Scenario(holes=(hole(HALTED),), other_vendors=OtherVendors(lacks=(HALTED,)))
    await attempts(place, 5)
    counts, gaps = settled(place)
    assert {(g.reason, g.explained) for g in gaps} == {(Reason.MISSING, False)} or {g.explained for g in gaps} == {
        False
    }
    assert all(g.next_attempt_at for g in gaps)
    await attempts(place, 3)
    assert asked(place) == 4
    counts, gaps = settled(place)
    assert counts["explained"] == 1
    assert {(g.reason, g.explained) for g in gaps} == {(Reason.VENDOR_EMPTY, True)}
    assert rows(place.url, "select distinct bars, answers, failures, next_at from fallback_answers") == [
        (0, 2, 0, None)
    ]


async def test_a_fallback_is_asked_once_the_day_of_a_session_is_over(place):
    place.clock.now = datetime(
        2024, 3, 9, 1, 20, tzinfo=UTC
    )  # 20:20 in New York: the session is finished, the day is not
    place.vendor.scenario = Scenario(holes=(hole(DAYS[-1]),))
    for _ in range(12):
        await run(place)
        place.clock.advance(minutes=17)
    assert asked(place) == 0
    place.clock.advance(hours=2)
    await run(place)
    assert {sources(place, timeframe)["AAPL", DAYS[-1]] for timeframe in ("1m", "1d")} == {"yahoo"}


async def test_bars_derived_from_a_fallbacks_are_its_own(place):
    place.clock.now = NIGHT + timedelta(hours=8)
    of = request(place).market
    few = replace(of, timeframes=(MINUTE_1, DAY_1))
    for each in (few, of):  # the second adds timeframes, which are derived from what is stored
        with pytest.raises(VendorUnreachable):
            await run(place, f"http://127.0.0.1:{unused_port()}", of=each)
    for timeframe in ("5m", "1w"):
        assert set(sources(place, timeframe).values()) == {"derived_yahoo"}
    assert rows(place.url, "select distinct filled_by from session_answers") == [("yahoo",)]
    assert not place.store.any_filled(NAMES)


async def test_sessions_wait_for_the_splits_that_a_fallbacks_prices_are_converted_with(place):
    place.vendor.scenario = Scenario(holes=(hole(HALTED),))
    with psycopg.connect(place.url) as connection:
        connection.execute("delete from corporate_event_lookups where symbol = 'AAPL'")
    await attempts(place, 12)
    assert (asked(place), rows(place.url, "select * from fallback_answers")) == (0, [])
    assert len(fallback_calls(place.store, request(place))) == 2
    with psycopg.connect(place.url) as connection:
        connection.execute("insert into corporate_event_lookups values ('AAPL', 'AAPL', '2003-09-10', %s)", [NIGHT])
    await run(place)
    assert sources(place)["AAPL", HALTED] == "yahoo"


async def test_a_fallback_or_witness_that_is_no_longer_named_keeps_no_gap_open(place):
    place.vendor.scenario = Scenario(holes=(hole(HALTED),), other_vendors=OtherVendors(lacks=(HALTED,)))
    await attempts(place, 5)
    with psycopg.connect(place.url) as connection:
        connection.execute("insert into witness_bars values ('AAPL', %s, 'yahoo', 1, 1, 1, 1, 1, %s)", [HALTED, NIGHT])
    of = request(place).market
    for named, explained in (
        (replace(of, witness="yahoo"), False),
        (of, False),
        (replace(of, sources=(POLYGON,)), True),
    ):
        found = measure(place.store, Watched(named, request(place).calendar, {}, USUAL), place.clock.now)
        assert {(gap.explained, gap.next_attempt_at is None) for gap in found.gaps} == {(explained, explained)}
        assert {"witness" in gap.detail for gap in found.gaps} == {named.witness is not None}


async def test_what_the_plan_refuses_is_filled(place):
    place.vendor.scenario = Scenario(history_edge=DAYS[2])
    await attempts(place, 2)
    assert Counter(sources(place).values()) == {"polygon": 6, "yahoo": 4}
    assert {g.detail for g in settled(place)[1]} == {"filled by yahoo; polygon: not_entitled"}


@pytest.mark.parametrize(
    ("trouble", "calls", "failures"),
    [
        ({"faults": (Fault(kind="status", status=429, path="/v8/"),)}, 10, 5),
        ({"faults": (Fault(kind="reset", path="/v8/"),)}, 10, 5),
        ({"faults": (Fault(kind="html", status=200, path="/v8/"),)}, 10, 5),
        ({"other_vendors": OtherVendors(splits={"AAPL": {DAYS[3]: 4.0}})}, 10, 5),
        ({"other_vendors": OtherVendors(unknown=("AAPL",))}, 4, 0),
    ],
)
async def test_a_fallback_that_fails_is_asked_at_growing_intervals_and_fails_nothing(place, trouble, calls, failures):
    place.vendor.scenario = Scenario(holes=(hole(HALTED),))
    await attempts(place, 4)
    place.vendor.scenario = Scenario(holes=(hole(HALTED),), **trouble)
    for _ in range(12):
        assert not any(one.error for one in await run(place))
        place.clock.advance(hours=2)
    assert rows(place.url, "select max(failures), max(next_at) from fallback_answers") == [(failures, None)]
    if "splits" not in str(trouble):
        assert asked(place) == calls
    assert Counter(sources(place).values()) == {"polygon": 9}
    place.vendor.scenario = Scenario(holes=(hole(HALTED),))
    await run(place, retry=Retry.EXPLAINED)
    assert sources(place)["AAPL", HALTED] == "yahoo"


async def test_sessions_that_the_vendor_has_only_in_part_or_may_still_send_are_not_filled(place):
    place.vendor.scenario = Scenario(
        holes=(hole(DAYS[0], start="10:00", end="15:00", base="minute"), hole(DAYS[1], base="minute"))
    )
    await attempts(place, 5)
    assert Counter(sources(place).values()) == {"polygon": 10}
    found = sources(place, "1m")
    assert (found["AAPL", DAYS[0]], found["AAPL", DAYS[1]]) == ("polygon", "yahoo")
    assert {symbol for (symbol, _), source in found.items() if source == "yahoo"} == {"AAPL"}


async def test_the_fallback_never_writes_over_the_vendor(place):
    await run(place)
    before = rows(place.url, EVERYTHING)
    context = WriteContext(NEW_YORK, NIGHT, "yahoo", (WEEK_1,), tuple(DAYS))
    assert place.store.fill("AAPL", DAY_1, of_yahoo("AAPL", DAY_1, place), context) == Written()
    assert rows(place.url, EVERYTHING) == before


async def test_filling_again_changes_nothing_and_another_fallback_replaces(place):
    answer = of_yahoo("AAPL", MINUTE_1, place)
    context = WriteContext(NEW_YORK, NIGHT, "yahoo", (TIMEFRAMES["5m"],), tuple(DAYS))
    assert place.store.fill("AAPL", MINUTE_1, answer, context).inserted == len(answer.bars)
    before = rows(place.url, EVERYTHING)
    assert place.store.fill("AAPL", MINUTE_1, answer, context) == Written()
    assert rows(place.url, EVERYTHING) == before
    written = place.store.fill("AAPL", MINUTE_1, answer, replace(context, source="alpaca"))
    assert (written.inserted, written.removed) == (len(answer.bars), len(answer.bars))
    assert set(rows(place.url, "select distinct source from market_data")) == {("alpaca",), ("derived_alpaca",)}
    assert rows(
        place.url,
        "select count(*) from market_data_history h join market_data m using (symbol, timeframe, timestamp)"
        " where m.ingested_at < h.changed_at",
    ) == [(0,)]


async def test_coins_are_filled_by_the_pair_of_their_own_name_only(place, monkeypatch):
    monkeypatch.setenv("BINANCE_US_URL", place.vendor.url)
    start = date(2024, 3, 5)
    coins = (hole(start, ticker="X:BTCUSD"), hole(start, ticker="X:SOLUSD"))
    place.vendor.scenario = Scenario(holes=coins)
    of = replace(market("crypto", "BTC", "SOL", start=start, timeframes="1m 1d"), sources=(POLYGON, "binance_us"))
    await attempts(place, 5, of=of)
    assert Counter(sources(place).values()) == {"polygon": 6, "binance_us": 1}
    assert sources(place)["BTC", start] == "binance_us"
    assert rows(place.url, "select symbol, timeframe, bars > 0, answers from fallback_answers order by 1, 2") == [
        ("BTC", "1d", True, 0),
        ("BTC", "1m", True, 0),
        ("SOL", "1d", False, 1),
        ("SOL", "1m", False, 1),
    ]
