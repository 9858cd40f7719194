from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.listings import (
    LONG_HOLE,
    UNKNOWN,
    Listing,
    LongHole,
    TickerChange,
    likely_names,
    ticker_taken,
)
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Symbol, default_ticker

FIRST, LAST = date(2020, 1, 6), date(2020, 3, 2)
NEAR = st.dates(FIRST - timedelta(days=30), LAST + timedelta(days=30))
RANGES = st.lists(NEAR, min_size=2, max_size=2).map(lambda two: DayRange(min(two), max(two)))


@pytest.mark.parametrize(
    ("day", "expected"),
    [(FIRST - timedelta(days=1), False), (FIRST, True), (LAST, True), (LAST + timedelta(days=1), False)],
)
def test_first_and_last_day_are_expected(day, expected):
    assert Listing(FIRST, LAST).expects(day) is expected


@pytest.mark.parametrize("day", [date.min, FIRST, date.max])
def test_an_unknown_listing_expects_every_day(day):
    assert UNKNOWN.expects(day)


@given(st.none() | NEAR, st.none() | NEAR, st.none() | RANGES, RANGES)
def test_expected_days_are_those_that_no_date_excludes_without_being_refuted_by_bars(listed, delisted, bars, asked):
    listing, days = Listing(listed, delisted, bars), list(asked)
    expected = [
        day
        for day in days
        if (not listed or day >= listed or (bars and bars.start < listed))
        and (not delisted or day <= delisted or (bars and bars.end > delisted))
    ]
    assert days[listing.expected(days)] == [day for day in days if listing.expects(day)] == expected
    assert listing.doubtful == bool(bars and ((listed and bars.start < listed) or (delisted and bars.end > delisted)))
    around = [day for day in days if listing.around(day)]
    assert not set(around) & set(expected)
    assert all(min(abs(day - edge) for edge in (listed, delisted) if edge) <= 7 * ONE_DAY for day in around)


def test_bars_on_both_sides_make_a_listing_unbounded():
    listing = Listing(FIRST, LAST, DayRange(FIRST - ONE_DAY, LAST + ONE_DAY))
    assert (listing.first_day, listing.last_day, listing.doubtful) == (None, None, True)


FB, META, OTHER = (TickerChange(date(year, 6, 9), name) for year, name in ((2012, "FB"), (2022, "META"), (2015, "X")))


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ([], None),
        ([META], None),  # the first one: an initial offering
        ([FB], None),
        ([META, FB], (META.day, "FB")),
        ([FB, OTHER, META], (META.day, "X")),
        ([META, TickerChange(date(2023, 1, 3), "META"), FB], (META.day, "FB")),  # repeated
        ([TickerChange(date(2003, 9, 10), "META"), FB, META], (META.day, "FB")),  # taken for the second time
        ([FB, META, TickerChange(date(2024, 1, 3), "NEXT")], (META.day, "FB")),
    ],
)
def test_a_ticker_is_taken_when_it_follows_another_one(changes, taken):
    assert ticker_taken(changes, "META") == taken


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("stocks", "aapl", "AAPL"),
        ("stocks", "BRK-B", "BRK.B"),
        ("stocks", "brk-b", "BRK.B"),
        ("stocks", "APPL", "AAPL"),
        ("stocks", "MSTF", "MSFT"),
        ("crypto", "BTCUSD", "BTC"),
        ("crypto", "BTC-USD", "BTC"),
        ("crypto", "btc", "BTC"),
        ("crypto", "ETHUSDT", "ETH"),
    ],
)
def test_usual_mistakes_lead_to_the_ticker_that_is_meant(kind, written, meant):
    assert meant in likely_names(Symbol(written, default_ticker(Kind(kind), written)))


@given(st.text("ABbX.-", min_size=1, max_size=8), st.sampled_from(Kind))
@example("A", Kind.STOCKS)
def test_a_likely_name_is_another_ticker(name, kind):
    symbol = Symbol(name, default_ticker(kind, name))
    found = likely_names(symbol)
    assert len(found) == len(set(found)) <= 3
    assert all(likely and default_ticker(kind, likely) != symbol.ticker for likely in found)


@pytest.mark.parametrize(
    ("sessions", "close", "opened", "split", "breaks"),
    [
        (90, 12.31, 184.0, 1, True),  # META, 2022
        (90, 184.0, 12.31, 1, True),
        (LONG_HOLE, 12.31, 184.0, 1, False),
        (90, 100.0, 290.0, 1, False),
        (90, 100.0, 10.0, 10, False),  # a split of ten for one
        (90, 10.0, 100.0, 0.1, False),  # ten old shares for a new one
        (90, 100.0, 100.0, 10, True),
    ],
)
def test_a_price_that_breaks_over_a_long_hole_is_another_companys(sessions, close, opened, split, breaks):
    assert LongHole("META", FIRST, close, LAST, opened, split).breaks(sessions) is breaks


def test_sentences_say_what_to_do():
    since = Listing(None, None, ticker_since=date(2022, 6, 9), earlier="FB")
    assert since.sentence("META") == (
        "before 2022-06-09 the ticker was FB; to fetch it, write "
        "{symbol: META, formerly: [{ticker: FB, until: 2022-06-08}]}"
    )
    unknown = Listing(None, None, unknown_at=datetime(2025, 7, 1, tzinfo=UTC), likely="AAPL")
    assert unknown.sentence("APPL") == (
        "Polygon does not know the ticker of APPL: correct it in the universe file; did you mean AAPL?"
    )
    assert UNKNOWN.sentence("AAPL") == ""
