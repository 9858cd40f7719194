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


def test_what_was_said_is_read_back_with_its_instant(store):
    for name, listing in EVERY_KIND.items():
        store.record(name, listing, MOMENT)
    assert store.read(EVERY_KIND) == {name: KnownListing(listing, MOMENT) for name, listing in EVERY_KIND.items()}


def test_symbols_that_were_never_looked_up_are_absent(store):
    store.record("AAPL", UNKNOWN, MOMENT)
    assert set(store.read(["AAPL", "SPY"])) == {"AAPL"}
    assert store.read(["SPY"]) == {}
    assert store.read([]) == {}


@pytest.mark.parametrize("again", [Listing(FIRST, LAST), Listing(None, LAST), UNKNOWN])
def test_what_is_said_last_replaces_what_was_said_before(store, database_url, again):
    store.record("AAPL", Listing(FIRST, None), MOMENT)
    store.record("SPY", Listing(FIRST, None), MOMENT)
    later = MOMENT + timedelta(days=7)
    store.record("AAPL", again, later)
    assert store.read(["AAPL", "SPY"]) == {
        "AAPL": KnownListing(again, later),
        "SPY": KnownListing(Listing(FIRST, None), MOMENT),
    }
    assert len(rows(database_url, "select from listings")) == 2


def test_an_instant_is_the_same_in_whatever_zone_it_is_told(store):
    store.record("AAPL", UNKNOWN, MOMENT.astimezone(timezone(timedelta(hours=-9))))
    assert store.read(["AAPL"])["AAPL"].checked_at == MOMENT


def test_look_ups_of_one_symbol_at_once_leave_one_row(store, database_url):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.record("AAPL", Listing(FIRST, None), MOMENT + timedelta(seconds=n)), range(8)))
    assert rows(database_url, "select symbol, listed from listings") == [("AAPL", FIRST)]
