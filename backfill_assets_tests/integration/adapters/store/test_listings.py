from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta, timezone

import psycopg
import pytest

from backfill_assets.adapters.store.listings import KnownListing, ListingStore
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.listings import UNKNOWN, Listing, LongHole, TickerChange
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets_tests.support import MOMENT, rows

STORE = ListingStore

NEW_YORK = HOURS[Kind.STOCKS].zone
FIRST, LAST = date(2020, 6, 1), date(2024, 3, 8)
EVERY_KIND = {
    "AAPL": Listing(FIRST, None),
    "OLD": Listing(FIRST, LAST),
    "GONE": Listing(None, LAST),
    "BRK.B": UNKNOWN,
    "DAY": Listing(FIRST, FIRST),
}


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


def cover(url, symbol, timeframe, *ranges):
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into coverage (symbol, timeframe, filled) values (%s, %s, %s::datemultirange)",
            [symbol, timeframe, "{" + ",".join(f"[{first},{last}]" for first, last in ranges) + "}"],
        )


def test_bars_that_the_vendor_sent_refute_dates_and_show_that_the_ticker_exists(store, database_url):
    store.record("AAPL", Listing(FIRST, LAST), MOMENT)
    store.record("APPL", None, MOMENT, ticker="APPL", likely="AAPL")
    cover(database_url, "AAPL", "1d", (FIRST, LAST))
    cover(database_url, "AAPL", "1w", (FIRST - ONE_DAY, LAST))
    found = store.read(["AAPL", "APPL"])
    assert (found["AAPL"].listing.bars, found["AAPL"].listing.doubtful) == (DayRange(FIRST, LAST), False)
    assert found["APPL"] == KnownListing(Listing(None, None, unknown_at=MOMENT, likely="AAPL"), MOMENT, "APPL")
    cover(database_url, "AAPL", "1m", (FIRST + ONE_DAY, LAST + ONE_DAY))
    cover(database_url, "APPL", "1m", (FIRST, FIRST))
    found = store.read(["AAPL", "APPL"])
    assert (found["AAPL"].listing.first_day, found["AAPL"].listing.last_day) == (FIRST, None)
    assert found["APPL"].listing.unknown_at is None


def test_ticker_changes_are_replaced_if_there_is_an_answer(store, database_url):
    def since():
        return store.read(["META"])["META"].listing.ticker_since

    changes = (TickerChange(FIRST, "FB"), TickerChange(LAST, "META"))
    store.record("META", UNKNOWN, MOMENT, ticker="META", changes=changes)
    assert since() == LAST
    store.record("META", UNKNOWN, MOMENT, ticker="META")
    assert since() == LAST
    assert rows(database_url, "select distinct source, checked_at from ticker_changes") == [("polygon", MOMENT)]
    store.record("META", UNKNOWN, MOMENT, ticker="META", changes=changes[1:])
    assert since() is None


def test_what_was_answered_for_an_unknown_ticker_is_forgotten(store, database_url):
    with psycopg.connect(database_url) as connection:
        for symbol in ("APPL", "GONE"):
            connection.execute(
                "insert into session_answers (symbol, timeframe, session, bars, answers, answered_at)"
                " values (%s, '1d', %s, 0, 2, now())",
                [symbol, FIRST],
            )
    cover(database_url, "GONE", "1d", (LAST, LAST))
    for symbol in ("APPL", "GONE"):
        store.record(symbol, None, MOMENT)
    assert rows(database_url, "select symbol from session_answers") == [("GONE",)]
    for taken, left in ((FIRST, [("GONE",)]), (FIRST + ONE_DAY, [])):
        store.record("GONE", UNKNOWN, MOMENT, taken=taken)
        assert rows(database_url, "select symbol from session_answers") == left


def test_long_holes_have_the_prices_around_them_and_the_splits_within(store, database_url):
    days = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 6, 10), date(2024, 8, 9)]
    cover(database_url, "META", "1d", (days[0], days[1]), (days[2], days[2]), (days[3], days[3]))
    with psycopg.connect(database_url) as connection:
        for day, price in zip(days, (11.0, 12.0, 184.0, 185.0), strict=True):
            at = datetime.combine(day, time(0), NEW_YORK)
            connection.execute(
                "insert into market_data (symbol, timeframe, timestamp, open, high, low, close, volume, source)"
                " values ('META', '1d', %s, %s, %s, %s, %s, 1, 'polygon')",
                [at, price, price, price, price + 0.5],
            )
        for day, withdrawn in ((days[1], None), (days[2], None), (date(2024, 3, 1), None), (date(2024, 4, 1), MOMENT)):
            connection.execute(
                "insert into corporate_events (symbol, kind, ex_date, ratio_from, ratio_to, first_seen, changed_at,"
                " withdrawn_at) values ('META', 'split', %s, 2, 1, now(), now(), %s)",
                [day, withdrawn],
            )
    (hole,) = store.long_holes(["META", "AAPL"], NEW_YORK)
    assert hole == LongHole("META", days[1], 12.5, days[2], 184.0, pytest.approx(0.25))
    assert hole.sentence == "no bars from 2024-01-04 to 2024-06-09, then 184 after 12.5"
