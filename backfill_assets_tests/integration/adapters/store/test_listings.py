from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta, timezone

import pytest

from backfill_assets.adapters.store.listings import KnownListing, ListingStore
from backfill_assets.domain.listings import UNKNOWN, Listing
from backfill_assets_tests.support import MOMENT, rows

FIRST, LAST = date(2020, 6, 1), date(2024, 3, 8)
EVERY_KIND = {
    "AAPL": Listing(FIRST, None),
    "OLD": Listing(FIRST, LAST),
    "GONE": Listing(None, LAST),
    "BRK.B": UNKNOWN,
    "DAY": Listing(FIRST, FIRST),
}


@pytest.fixture
def store(database_url):
    with ListingStore(database_url) as opened:
        yield opened


def test_listings_are_read_back_with_their_time(store):
    for name, listing in EVERY_KIND.items():
        store.record(name, listing, MOMENT)
    assert store.read(EVERY_KIND) == {name: KnownListing(listing, MOMENT) for name, listing in EVERY_KIND.items()}


def test_unknown_symbols_are_absent(store):
    store.record("AAPL", UNKNOWN, MOMENT)
    assert set(store.read(["AAPL", "SPY"])) == {"AAPL"}
    assert store.read(["SPY"]) == {}
    assert store.read([]) == {}


@pytest.mark.parametrize("again", [Listing(FIRST, LAST), Listing(None, LAST), UNKNOWN])
def test_a_new_listing_replaces_the_old_one(store, database_url, again):
    store.record("AAPL", Listing(FIRST, None), MOMENT)
    store.record("SPY", Listing(FIRST, None), MOMENT)
    later = MOMENT + timedelta(days=7)
    store.record("AAPL", again, later)
    assert store.read(["AAPL", "SPY"]) == {
        "AAPL": KnownListing(again, later),
        "SPY": KnownListing(Listing(FIRST, None), MOMENT),
    }
    assert len(rows(database_url, "select from listings")) == 2


def test_times_are_independent_of_the_zone(store):
    store.record("AAPL", UNKNOWN, MOMENT.astimezone(timezone(timedelta(hours=-9))))
    assert store.read(["AAPL"])["AAPL"].checked_at == MOMENT


def test_concurrent_updates_of_one_symbol_leave_one_row(store, database_url):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.record("AAPL", Listing(FIRST, None), MOMENT + timedelta(seconds=n)), range(8)))
    assert rows(database_url, "select symbol, listed from listings") == [("AAPL", FIRST)]
