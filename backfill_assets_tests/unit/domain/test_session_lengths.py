"""Half days, minutes of regular trading, and additional closed days."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import Kind, calendar

SPAN = DayRange(date(2024, 1, 1), date(2026, 12, 31))
STOCKS, CRYPTO = (calendar(kind, SPAN) for kind in Kind)

# NYSE's own "Holidays and trading hours" page: days with an early close at 13:00.
HALF_DAYS = {2024: "07-03 11-29 12-24", 2025: "07-03 11-28 12-24", 2026: "11-27 12-24"}


@pytest.mark.parametrize("year", HALF_DAYS)
def test_half_days_are_those_of_the_exchange(year):
    published = [date.fromisoformat(f"{year}-{day}") for day in HALF_DAYS[year].split()]
    assert [d for d in STOCKS.half_days if d.year == year] == published


def test_a_stock_session_has_390_regular_minutes_and_a_half_day_210():
    assert {STOCKS.regular_minutes(s) for s in STOCKS.half_days} == {13 * 60 - (9 * 60 + 30)}
    assert {STOCKS.regular_minutes(s) for s in STOCKS.sessions if s not in STOCKS.half_days} == {
        16 * 60 - (9 * 60 + 30)
    }


def test_crypto_trades_around_the_clock_and_has_no_half_days():
    assert {CRYPTO.regular_minutes(s) for s in CRYPTO.sessions} == {CRYPTO.hours.minutes} == {24 * 60}
    assert CRYPTO.half_days == ()


@pytest.mark.parametrize("day", [date(2025, 7, 4), date(2025, 7, 5), date(2023, 12, 29), date(2027, 1, 4)], ids=str)
def test_a_day_that_is_not_a_session_has_no_minutes(day):
    with pytest.raises(KeyError):
        STOCKS.regular_minutes(day)


def test_minutes_match_sessions_in_spans_of_any_length():
    for span in (SPAN, DayRange(date(2024, 11, 29), date(2024, 11, 29)), DayRange(date(2024, 7, 3), date(2024, 7, 5))):
        trading = calendar(Kind.STOCKS, span)
        assert len(trading.minutes) == len(trading.sessions)
        assert trading.half_days == tuple(d for d in STOCKS.half_days if d in span)
        assert [trading.regular_minutes(s) for s in trading.sessions] == [
            STOCKS.regular_minutes(s) for s in trading.sessions
        ]


@given(st.sets(st.sampled_from(list(DayRange(SPAN.start - 9 * ONE_DAY, SPAN.end + 9 * ONE_DAY))), max_size=8))
@settings(max_examples=20)
def test_closures_only_remove_their_days(closed):
    for known in (STOCKS, CRYPTO):
        trading = calendar(known.kind, SPAN, frozenset(closed))
        assert trading.sessions == tuple(s for s in known.sessions if s not in closed)
        assert trading.half_days == tuple(s for s in known.half_days if s not in closed)
        assert all(trading.regular_minutes(s) == known.regular_minutes(s) for s in trading.sessions)
        assert not any(day in trading for day in closed)
        added = {d for d in closed if d in known}
        assert set(trading.closed_days()) == set(known.closed_days()) | added


def test_calendars_with_and_without_closures_are_cached():
    closed = frozenset({date(2024, 3, 6)})
    assert calendar(Kind.STOCKS, SPAN, closed) is calendar(Kind.STOCKS, SPAN, frozenset(closed))
    assert calendar(Kind.STOCKS, SPAN, closed) is not STOCKS
