"""Listings and tickers of symbols: which are looked up, when again, and which sessions are therefore not requested."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from backfill_assets.adapters.store.listings import KnownListing, ListingStore
from backfill_assets.domain.errors import VendorUnavailable
from backfill_assets.domain.gaps import Reason
from backfill_assets.domain.listings import REFRESHED_AFTER, UNKNOWN, Listing
from backfill_assets.domain.retries import Retry
from backfill_assets.domain.universe import EarlierTicker, Symbol
from backfill_assets.pipelines.backfill_request import Refresh, gaps_of, plan, recorded
from backfill_assets.pipelines.health import examine
from backfill_assets.pipelines.listings import (
    expected,
    in_question,
    known_listings,
    look_up,
    look_up_stale,
    stale,
)
from backfill_assets.simulator import Columns, Fault, Hole, Rename
from backfill_assets_tests.integration.pipelines.harness import full_market, simulated
from backfill_assets_tests.support import assert_same_bars, market, rows, stored_bars

SATURDAY = datetime(2024, 12, 7, 12, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
LISTED, DELISTED = date(2024, 12, 4), date(2024, 12, 3)


def looked_up(vendor, before=0):
    """Return the tickers whose reference data were requested since."""
    paths = [r.path for r in vendor.requests[before:] if r.path.startswith("/v3/reference/tickers/")]
    return [path.rpartition("/")[2] for path in paths]


async def in_doubt(one):
    """Fetch the market; return the symbols in question afterwards."""
    request = one.request()
    return [s.name for s in in_question(request, await one.fetch_request(request))]


@pytest.mark.parametrize(
    ("hole", "doubted"),
    [
        pytest.param(None, False, id="complete"),
        pytest.param(("2024-12-02", "2024-12-03"), True, id="nothing at first"),
        pytest.param(("2024-12-05", "2024-12-06"), True, id="nothing at last"),
        pytest.param(("2024-12-02", "2024-12-06"), True, id="nothing at all"),
        pytest.param(("2024-12-04", "2024-12-04"), False, id="a hole in the middle"),
    ],
)
async def test_symbols_without_bars_at_either_end_are_in_question(database_url, hole, doubted):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02", timeframes="1d") as one:
        if hole:
            first, last = map(date.fromisoformat, hole)
            one.vendor.change(holes=(Hole(ticker="AAPL", first=first, last=last),))
        assert await in_doubt(one) == (["AAPL"] if doubted else [])


async def test_failed_series_and_coins_with_bars_are_not_in_question(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        one.vendor.change(
            faults=(Fault(kind="status", ticker="AAPL"),),
            holes=(Hole(ticker="X:BTCUSD", first=date(2024, 12, 2), last=date(2024, 12, 5)),),
        )
        assert await in_doubt(one) == []
        coins = one.of(full_market("crypto", "BTC NONE", "2024-12-02", timeframes="1d"))
        assert await in_doubt(coins) == ["NONE"]
        assert rows(database_url, "select count(*) from session_answers where answers = 0") == [(5,)]


async def test_a_look_up_is_stored_with_its_time_once_for_each_symbol(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT ZZZZ", "2024-12-02") as one:
        one.vendor.change(listed={"AAPL": LISTED}, delisted={"MSFT": DELISTED})
        symbols = market("stocks", "AAPL", "MSFT", "ZZZZ").symbols
        store = ListingStore.beside(one.store)
        for _ in range(2):
            await look_up(store, one.client, symbols, one.clock)
            known = store.read(["AAPL", "MSFT", "ZZZZ", "NVDA"])
            now = one.clock.now
            assert known == {
                "AAPL": KnownListing(Listing(LISTED, None), now, "AAPL"),
                "MSFT": KnownListing(Listing(date(1986, 3, 13), DELISTED), now, "MSFT"),
                "ZZZZ": KnownListing(Listing(None, None, unknown_at=now), now, "ZZZZ"),
            }
            assert known_listings(store, one.market) == {name: k.listing for name, k in known.items()}
            one.clock.advance(days=1)
        assert rows(database_url, "select count(*) from listings") == [(3,)]


async def test_coins_have_no_listing(database_url):
    async with simulated(database_url, SATURDAY, "crypto", "BTC", "2024-12-02") as one:
        ListingStore.beside(one.store).record("BTC", Listing(LISTED, None), one.clock.now)
        assert known_listings(one.store, one.market) == {}
        assert one.request().days.start == date(2024, 12, 2)


def test_a_look_up_is_stale_after_six_days():
    symbols = market("stocks", "OLD", "FRESH", "NEW").symbols
    known = {
        "OLD": KnownListing(UNKNOWN, SATURDAY - REFRESHED_AFTER),
        "FRESH": KnownListing(UNKNOWN, SATURDAY - REFRESHED_AFTER + A_SECOND),
    }
    assert [s.name for s in stale(symbols, known, SATURDAY)] == ["OLD", "NEW"]
    assert [s.name for s in stale(symbols, known, SATURDAY, after=timedelta(0))] == ["OLD", "FRESH", "NEW"]
    assert timedelta(days=6) == REFRESHED_AFTER
    known["FRESH"] = KnownListing(UNKNOWN, SATURDAY, "OTHER")
    known["NEW"] = KnownListing(Listing(None, None, unknown_at=SATURDAY), SATURDAY, "NEW")
    assert [s.name for s in stale(symbols, known, SATURDAY)] == ["OLD", "FRESH", "NEW"]


async def test_a_listing_is_looked_up_only_when_it_is_stale(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02") as one:
        store, symbols = ListingStore.beside(one.store), one.market.symbols

        async def look(*some):
            before = len(one.vendor.requests)
            assert await look_up_stale(store, one.client, some, one.clock) is None
            return looked_up(one.vendor, before)

        assert await look() == []
        assert await look(symbols[0]) == ["AAPL"]
        assert await look(*symbols) == ["MSFT"]
        assert await look(*symbols) == []
        one.clock.advance(days=6)
        assert await look(*symbols) == ["AAPL", "MSFT"]


async def test_a_failed_look_up_is_a_warning_and_keeps_the_stored_listing(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT", "2024-12-02") as one:
        store, symbols = ListingStore.beside(one.store), one.market.symbols
        await look_up(store, one.client, symbols, one.clock)
        before = store.read(["AAPL", "MSFT"])
        one.clock.advance(days=7)
        one.vendor.change(faults=(Fault(kind="status", path="/v3/reference/", ticker="MSFT"),))
        warning = await look_up_stale(store, one.client, symbols, one.clock)
        after = store.read(["AAPL", "MSFT"])
        assert after == {"AAPL": replace(before["AAPL"], checked_at=one.clock.now), "MSFT": before["MSFT"]}
        assert warning.startswith("Listing dates could not be looked up: Polygon gave no usable answer")
        with pytest.raises(VendorUnavailable):
            await look_up(store, one.client, symbols[1:], one.clock)


async def test_sessions_outside_a_listing_are_not_requested(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT SPY", "2024-12-02", timeframes="1m") as one:
        one.vendor.change(listed={"AAPL": LISTED}, delisted={"MSFT": DELISTED})
        await look_up(ListingStore.beside(one.store), one.client, one.market.symbols, one.clock)
        request = one.request()
        spans = {s.name: (days[0], days[-1]) for s, days in request.wanted.items()}
        assert spans == {
            "AAPL": (LISTED, date(2024, 12, 6)),
            "MSFT": (date(2024, 12, 2), DELISTED),
            "SPY": (date(2024, 12, 2), date(2024, 12, 6)),
        }
        # Some days around a listing are requested once, for bars that refute it.
        planned = {r.label: (r.start, r.end) for r in plan(request, recorded(one.store, request))}
        assert set(planned.values()) == {spans["SPY"]}
        await one.fetch()
        assert plan(one.request(), recorded(one.store, one.request())) == []
        assert one.gaps() == []
        one.clock.advance(days=7)
        assert "MSFT" in {s.name for s, days in one.request().wanted.items() if days}
        await one.fetch("2024-12-02", "2024-12-10")
        one.clock.advance(days=1)
        before = len(one.vendor.requests)
        await one.fetch()
        assert {r.path.split("/")[4] for r in one.vendor.requests[before:]} == {"AAPL", "SPY"}


async def test_a_symbol_that_comes_back_is_expected_again(database_url):
    """A look-up corrects the one before: the days in between become gaps."""
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        one.vendor.change(delisted={"AAPL": DELISTED})
        request = one.request()
        assert await one.look_up(request, await one.fetch_request(request)) == ["AAPL"]
        assert one.gaps() == []
        one.vendor.change(delisted={})
        await look_up(ListingStore.beside(one.store), one.client, one.market.symbols, one.clock)
        assert [str(gap.days) for gap in one.gaps()] == ["2024-12-04 to 2024-12-06"]
        one.clock.advance(minutes=2)
        await one.fetch()
        assert one.gaps() == []


# --- Bars against reference data


async def test_bars_before_a_listing_refute_it(database_url):
    """The vendor's first day is that of a move to another exchange: the days just before it show that."""
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-11-11", timeframes="1d 1w") as one:
        one.vendor.change(list_dates={"AAPL": date(2024, 12, 3)})
        await look_up(ListingStore.beside(one.store), one.client, one.market.symbols, one.clock)
        request = one.request()
        (call,) = plan(request, recorded(one.store, request))
        assert (call.start, call.end, request.days.start) == (date(2024, 11, 26), date(2024, 12, 6), date(2024, 11, 26))
        await one.fetch()
        (listing,) = known_listings(one.store, one.market).values()
        assert (listing.listed, listing.first_day, listing.doubtful) == (date(2024, 12, 3), None, True)
        assert {str(gap.days) for gap in one.gaps() if gap.timeframe == "1d"} == {"2024-11-11 to 2024-11-25"}
        await one.fetch()
        assert one.gaps() == []
        stored = rows(database_url, "select timeframe, count(*) from market_data group by 1 order by 1")
        assert stored == [("1d", 19), ("1w", 4)]
        assert {s.name: len(days) for s, days in expected(one.store, request).wanted.items()} == {"AAPL": 19}


# --- Tickers that the vendor does not know


@pytest.mark.parametrize(
    ("kind", "name", "likely"),
    [
        ("stocks", "BRK-B", "BRK.B"),
        ("stocks", "aapl", "AAPL"),
        ("stocks", "APPL", "AAPL"),
        ("stocks", "QQQQQQ", ""),
        ("crypto", "BTCUSD", "BTC"),
        ("crypto", "BTC-USD", "BTC"),
    ],
)
async def test_sessions_of_an_unknown_ticker_stay_missing_and_say_so(database_url, kind, name, likely):
    async with simulated(database_url, SATURDAY, kind, name, "2024-12-01", timeframes="1m 1d 1w") as one:
        for _ in range(3):
            request = one.request()
            assert await one.look_up(request, await one.fetch_request(request)) == [name]
            detail = f"Polygon does not know the ticker of {name}: correct it in the universe file"
            detail += f"; did you mean {likely}?" if likely else ""
            found = {(g.timeframe, g.reason, g.explained, g.detail) for g in one.gaps()}
            assert found == {(t, Reason.MISSING, False, detail) for t in ("1m", "1d", "1w")}
            assert found == {(g.timeframe, g.reason, g.explained, g.detail) for g in gaps_of(one.request(), {})}
            assert {g.next_attempt_at for g in one.gaps()} == {one.clock.now + REFRESHED_AFTER}
            assert rows(database_url, "select from session_answers") == []
            one.clock.advance(days=5)
            assert plan(one.request(), {}) == []
            assert plan(one.request(retry=Retry.NOW), {}) != []
            one.clock.advance(days=1)
            assert plan(one.request(), {}) != []


async def test_a_corrected_ticker_is_fetched_at_once(database_url):
    async with simulated(database_url, SATURDAY, "crypto", "BTCUSD", "2024-12-02", timeframes="1d") as one:
        request = one.request()
        await one.look_up(request, await one.fetch_request(request))
        corrected = one.of(replace(one.market, symbols=(Symbol("BTCUSD", "X:BTCUSD"),)))
        await corrected.fetch()
        assert corrected.gaps() == []


async def test_a_ticker_that_becomes_known_is_fetched_from_its_first_day(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "NEWCO", "2024-12-02", timeframes="1d") as one:
        request = one.request()
        await one.look_up(request, await one.fetch_request(request))
        one.vendor.change(known=("NEWCO",), listed={"NEWCO": LISTED})
        await look_up(ListingStore.beside(one.store), one.client, one.market.symbols, one.clock)
        assert {str(gap.days) for gap in one.gaps()} == {"2024-12-04 to 2024-12-06"}
        await one.fetch()
        assert one.gaps() == []


async def test_a_ticker_with_bars_is_known_whatever_the_reference_data_say(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        await one.fetch()
        ListingStore.beside(one.store).record("AAPL", None, one.clock.now, ticker="AAPL")
        one.clock.advance(days=3)
        assert [str(gap.days) for gap in one.gaps()] == ["2024-12-09"]
        assert {gap.detail for gap in one.gaps()} == {""}
        await one.fetch()
        assert one.gaps() == []


# --- Tickers that were another company's

CHANGE = date(2024, 12, 4)  # a Wednesday
RENAMED = Rename(ticker="META", earlier="FB", day=CHANGE)
REUSED = msgspec.structs.replace(RENAMED, other_until=date(2024, 11, 29))


async def test_days_before_a_known_change_of_the_ticker_are_not_fetched(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "META", "2024-11-18", timeframes="1m 1d 1w") as one:
        one.vendor.change(renames=(REUSED,))
        await look_up(ListingStore.beside(one.store), one.client, one.market.symbols, one.clock)
        for terms in ({}, {"retry": Retry.EXPLAINED}, {"refresh": Refresh.EVERYTHING}):
            request = one.request(**terms)
            calls = plan(request, recorded(one.store, request))
            assert {(call.start, call.end) for call in calls} <= {(CHANGE, date(2024, 12, 6))}
        await one.fetch()
        found = one.gaps()
        assert {(str(g.days), g.reason, g.explained) for g in found} == {
            ("2024-11-18 to 2024-12-03", Reason.EARLIER_TICKER, True)
        }
        assert all("formerly: [{ticker: FB, until: 2024-12-03}]" in gap.detail for gap in found)
        assert rows(database_url, "select count(*) from market_data where timeframe = '1w'") == [(1,)]


@pytest.mark.parametrize("change", [RENAMED, REUSED], ids=["new", "reused"])
@pytest.mark.parametrize("others", ["", " AAPL MSFT"], ids=["ranges", "grouped days"])
async def test_earlier_days_are_fetched_under_the_earlier_ticker(database_url, change, others):
    names = f"META{others}"
    async with simulated(database_url, SATURDAY, "stocks", names, "2024-12-02", timeframes="1m 5m 1d 1w") as one:
        one.vendor.change(renames=(change,))
        _, *rest = one.market.symbols
        meta = Symbol("META", "META", (EarlierTicker("FB", date(2024, 12, 3)),))
        stated = one.of(replace(one.market, symbols=(meta, *rest)))
        await look_up(ListingStore.beside(one.store), one.client, stated.market.symbols, one.clock)
        if rest:  # a session missing for all is one grouped request, under the ticker of the day
            await stated.fetch("2024-12-02", "2024-12-02", timeframes="1d")
            assert not [r.path for r in one.vendor.requests if "/range/" in r.path]
        await stated.fetch()
        assert stated.gaps() == []
        market = one.vendor.market
        for timeframe, bars in (("1m", market.minute_bars), ("1d", market.daily_bars)):
            own = bars("META", CHANGE, date(2024, 12, 6))
            assert_same_bars(
                stored_bars(database_url, "META", timeframe),
                Columns.concat(bars("FB", date(2024, 12, 2), date(2024, 12, 3)), own),
            )
        assert rows(database_url, "select count(*) from market_data where timeframe = '1w' and symbol = 'META'") == [
            (1,)
        ]


async def test_bars_of_another_company_are_found_by_reference_data_and_by_prices(database_url):
    """Fetched before the change of the ticker was known, as all bars of its present name."""
    async with simulated(database_url, SATURDAY, "stocks", "META AAPL", "2024-01-02", timeframes="1d") as one:
        one.vendor.change(renames=(msgspec.structs.replace(REUSED, other_until=date(2024, 3, 1)),))
        await one.fetch()
        found = examine(one.store, one.watched(), one.clock.now)
        ((symbol, by_price),) = found.mixed
        assert (symbol, by_price.partition(", then")[0]) == ("META", "no bars from 2024-03-02 to 2024-12-03")
        await look_up(ListingStore.beside(one.store), one.client, one.market.symbols, one.clock)
        by_reference, _ = examine(one.store, one.watched(), one.clock.now).mixed
        assert by_reference[1].startswith("bars since 2024-01-02; before 2024-12-04 the ticker was FB")
        meta = Symbol("META", "META", (EarlierTicker("FB", date(2024, 12, 3)),))
        stated = one.of(replace(one.market, symbols=(meta, one.market.symbol("AAPL"))))
        assert examine(one.store, stated.watched(), one.clock.now).mixed == ()


async def test_an_experimental_endpoint_that_fails_keeps_the_known_changes(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "META AAPL", "2024-12-02", timeframes="1d") as one:
        one.vendor.change(renames=(RENAMED,))
        store = ListingStore.beside(one.store)
        await look_up(store, one.client, one.market.symbols, one.clock)
        one.vendor.change(faults=(Fault(kind="status", path="/vX/"),))
        one.clock.advance(days=7)
        before = len(one.vendor.requests)
        await look_up(store, one.client, one.market.symbols, one.clock)
        assert {name: k.listing.ticker_since for name, k in store.read(["META", "AAPL"]).items()} == {
            "META": CHANGE,
            "AAPL": None,
        }
        assert {k.checked_at for k in store.read(["META", "AAPL"]).values()} == {one.clock.now}
        failed = [r.path for r in one.vendor.requests[before:] if "/vX/" in r.path]
        assert set(failed) == {"/vX/reference/tickers/META/events"}
