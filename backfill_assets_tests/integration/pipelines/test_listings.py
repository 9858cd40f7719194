"""Listings of symbols: which are looked up, when again, and which sessions are therefore not requested."""

from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_assets.adapters.store.listings import KnownListing, ListingStore
from backfill_assets.domain.errors import VendorUnavailable
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets.pipelines.backfill_request import plan, recorded
from backfill_assets.pipelines.listings import (
    REFRESHED_AFTER,
    in_question,
    known_listings,
    look_up,
    look_up_stale,
    stale,
)
from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.pipelines.harness import full_market, simulated
from backfill_assets_tests.support import market, rows

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


async def test_failed_series_and_crypto_are_not_in_question(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL", "2024-12-02", timeframes="1d") as one:
        one.vendor.change(
            faults=(Fault(kind="status", ticker="AAPL"),),
            holes=(Hole(ticker="X:BTCUSD", first=date(2024, 12, 2), last=date(2024, 12, 6)),),
        )
        assert await in_doubt(one) == []
        assert await in_doubt(one.of(full_market("crypto", "BTC", "2024-12-02", timeframes="1d"))) == []
        assert rows(database_url, "select count(*) from session_answers where answers = 0") == [(5,)]


async def test_a_look_up_is_stored_with_its_time_once_for_each_symbol(database_url):
    async with simulated(database_url, SATURDAY, "stocks", "AAPL MSFT ZZZZ", "2024-12-02") as one:
        one.vendor.change(listed={"AAPL": LISTED}, delisted={"MSFT": DELISTED})
        symbols = market("stocks", "AAPL", "MSFT", "ZZZZ").symbols
        store = ListingStore.beside(one.store)
        for _ in range(2):
            await look_up(store, one.client, symbols, one.clock)
            known = store.read(["AAPL", "MSFT", "ZZZZ", "NVDA"])
            assert known == {
                "AAPL": KnownListing(Listing(LISTED, None), one.clock.now),
                "MSFT": KnownListing(Listing(date(1986, 3, 13), DELISTED), one.clock.now),
                "ZZZZ": KnownListing(UNKNOWN, one.clock.now),
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
        assert after == {"AAPL": KnownListing(before["AAPL"].listing, one.clock.now), "MSFT": before["MSFT"]}
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
        planned = {r.label: (r.start, r.end) for r in plan(request, recorded(one.store, request))}
        assert planned == spans
        await one.fetch()
        assert one.gaps() == []
        one.clock.advance(days=7)
        assert "MSFT" in {s.name for s, days in one.request().wanted.items() if days}
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
