from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.listings import UNKNOWN, Listing

FIRST, LAST = date(2020, 1, 6), date(2020, 3, 2)
NEAR = st.dates(FIRST - timedelta(days=30), LAST + timedelta(days=30))


@pytest.mark.parametrize(
    ("day", "expected"),
    [(FIRST - timedelta(days=1), False), (FIRST, True), (LAST, True), (LAST + timedelta(days=1), False)],
)
def test_first_and_last_day_are_expected(day, expected):
    assert Listing(FIRST, LAST).expects(day) is expected


@pytest.mark.parametrize("day", [date.min, FIRST, date.max])
def test_an_unknown_listing_expects_every_day(day):
    assert UNKNOWN.expects(day)
    assert UNKNOWN.bounds(DayRange(day, day)) == DayRange(day, day)


@given(st.none() | NEAR, st.none() | NEAR, NEAR, NEAR)
def test_the_bounds_are_exactly_the_expected_days(listed, delisted, one, other):
    days, listing = DayRange(min(one, other), max(one, other)), Listing(listed, delisted)
    assert list(listing.bounds(days) or []) == [day for day in days if listing.expects(day)]
