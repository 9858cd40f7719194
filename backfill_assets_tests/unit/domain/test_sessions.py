from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import (
    Calendar,
    Kind,
    calendar,
    count_by_session,
    day_starts,
    horizon,
    regular_hours_between,
    session_rows,
)
from backfill_assets_tests.unit.domain.frames import frame, ms

NEW_YORK = ZoneInfo("America/New_York")
MINUTE = timedelta(minutes=1)
STOCKS = calendar(Kind.STOCKS, DayRange(date(2012, 1, 1), date(2026, 12, 31)))
CRYPTO = calendar(Kind.CRYPTO, DayRange(date(2024, 1, 1), date(2026, 12, 31)))

# NYSE's own "Holidays and trading hours" page and its notices on national days of mourning.
HOLIDAYS = {
    2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    2025: "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
    2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
}


def utc(*moment):
    return datetime(*moment, tzinfo=UTC)


def new_york(*moment):
    return datetime(*moment, tzinfo=NEW_YORK)


@pytest.mark.parametrize("year", HOLIDAYS)
def test_stocks_are_closed_exactly_on_the_exchanges_holidays(year):
    published = [date.fromisoformat(f"{year}-{day}") for day in HOLIDAYS[year].split()]
    assert [d for d in STOCKS.closed_days() if d.year == year] == published


def test_days_outside_the_span_are_not_sessions():
    span = DayRange(date(2024, 3, 5), date(2024, 3, 6))
    for kind in Kind:
        narrow = calendar(kind, span)
        assert narrow.sessions == (span.start, span.end)
        assert date(2024, 3, 4) not in narrow
        assert date(2024, 3, 7) not in narrow


@given(st.sampled_from(Kind), st.dates(date(2024, 2, 1), date(2026, 1, 31)))
def test_the_first_week_is_the_first_with_all_of_its_sessions(kind, start):
    every = STOCKS if kind is Kind.STOCKS else CRYPTO
    sundays = [start + n * ONE_DAY for n in range(-6, 8) if (start + n * ONE_DAY).weekday() == 6]
    weeks = [s for s in sundays if all(d >= start for d in every.within(DayRange(s, s + 6 * ONE_DAY)))]
    assert calendar(kind, DayRange(start, start + 9 * ONE_DAY)).first_week == weeks[0]


@pytest.mark.parametrize(
    "span",
    [
        DayRange(date(2024, 3, 9), date(2024, 3, 9)),
        DayRange(date(2024, 3, 9), date(2024, 3, 10)),
        DayRange(date(2001, 9, 11), date(2001, 9, 11)),
        DayRange(date(2001, 9, 11), date(2001, 9, 16)),
        DayRange(date(2024, 12, 25), date(2024, 12, 25)),
    ],
    ids=str,
)
def test_a_span_without_sessions(span):
    shut = calendar(Kind.STOCKS, span)
    assert shut.sessions == shut.half_days == ()
    assert shut.last_finished(utc(2030, 1, 1)) is None
    assert shut.within(span) == ()


def test_the_earliest_allowed_start_has_sessions():
    early = calendar(Kind.STOCKS, DayRange(date(1970, 1, 1), date(1970, 1, 9)))
    assert early.sessions == tuple(date(1970, 1, d) for d in (2, 5, 6, 7, 8, 9))


@given(st.dates(date(2023, 12, 1), date(2027, 1, 31)), st.dates(date(2023, 12, 1), date(2027, 1, 31)))
def test_sessions_within_days(one, other):
    days = DayRange(min(one, other), max(one, other))
    for trading in (STOCKS, CRYPTO):
        within = trading.within(days)
        assert within == tuple(s for s in trading.sessions if s in days)
        assert all(s in trading for s in within)


def test_calendars_end_with_next_year():
    assert horizon(date(2025, 1, 1)) == horizon(date(2025, 12, 31)) == date(2026, 12, 31)


def test_before_the_first_session_has_finished_there_is_none():
    assert CRYPTO.last_finished(utc(2024, 1, 1, 23, 59)) is None
    assert CRYPTO.last_finished(utc(2024, 1, 2)) == date(2024, 1, 1)
    assert STOCKS.last_finished(utc(2000, 1, 1)) is None


def test_after_the_span_its_last_session_is_the_last_finished():
    assert STOCKS.last_finished(utc(2040, 1, 1)) == STOCKS.sessions[-1] == date(2026, 12, 31)


INSTANTS = st.datetimes(datetime(2023, 12, 25), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis puts the zone on
OFFSETS = st.integers(-14, 14).map(lambda h: timezone(timedelta(hours=h)))


@given(INSTANTS, OFFSETS)
def test_the_last_finished_session_does_not_depend_on_the_zone_of_now(now, zone):
    for trading in (STOCKS, CRYPTO):
        finished = trading.within(DayRange(date(2023, 12, 1), date(2026, 12, 31)))
        expected = max((s for s in finished if trading.hours.finished_at(s) <= now), default=None)
        assert trading.last_finished(now.astimezone(zone)) == expected


def test_day_starts_are_a_column_of_milliseconds():
    assert day_starts([date(1970, 1, 1), date(1970, 1, 2)], ZoneInfo("UTC")).tolist() == [0, 86_400_000]
    assert day_starts([], NEW_YORK).dtype == np.int64
    assert len(day_starts([], NEW_YORK)) == 0


@given(
    st.lists(st.dates(date(1970, 1, 1), date(2060, 1, 1)), max_size=20), st.sampled_from([NEW_YORK, ZoneInfo("UTC")])
)
def test_a_day_starts_at_midnight_in_the_zone(days, zone):
    starts = [datetime.fromtimestamp(int(t) / 1000, zone) for t in day_starts(days, zone)]
    assert [(t.date(), t.time()) for t in starts] == [(d, time(0)) for d in days]


def test_without_sessions_no_bar_has_one():
    assert session_rows(frame([0, 1]).timestamp, [], NEW_YORK).tolist() == [-1, -1]
    assert session_rows(Bars.empty().timestamp, [date(2025, 3, 7)], NEW_YORK).tolist() == []
    assert count_by_session(Bars.empty(), [date(2025, 3, 7)], NEW_YORK) == []
    assert count_by_session(Bars.empty(), [], NEW_YORK) == []


@st.composite
def sessions_and_stamps(draw):
    """Sessions around a weekend on which clocks change, and starts of bars on and around them."""
    trading: Calendar = draw(st.sampled_from([STOCKS, CRYPTO]))
    first = draw(st.sampled_from([date(2025, 3, 5), date(2025, 10, 30), date(2024, 12, 23), date(2025, 7, 1)]))
    sessions = draw(st.lists(st.sampled_from(trading.within(DayRange(first, first + 8 * ONE_DAY))), unique=True))
    minutes = draw(st.lists(st.integers(-60, 11 * 24 * 60), max_size=40))
    edges = draw(st.lists(st.sampled_from([n * 24 * 60 + h * 60 for n in range(11) for h in (0, 4, 5)]), max_size=10))
    start = ms(first.year, first.month, first.day)
    return sorted(sessions), sorted({start + m * 60_000 for m in minutes + edges}), trading.hours.zone


@given(sessions_and_stamps())
def test_bars_belong_to_the_session_of_their_day_in_the_zone(drawn):
    sessions, stamps, zone = drawn
    days = [datetime.fromtimestamp(t / 1000, zone).date() for t in stamps]
    expected = [sessions.index(d) if d in sessions else -1 for d in days]
    found = session_rows(frame(stamps).timestamp, sessions, zone)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(sessions_and_stamps())
def test_counts_agree_with_counting_bar_by_bar(drawn):
    sessions, stamps, zone = drawn
    by_day = defaultdict(list)
    for t in stamps:
        by_day[datetime.fromtimestamp(t / 1000, zone).date()].append(datetime.fromtimestamp(t / 1000, UTC))
    inside = [t for t in stamps if datetime.fromtimestamp(t / 1000, zone).date() in sessions]
    found = count_by_session(frame(inside), sessions, zone)
    expected = [(s, len(by_day[s]), by_day[s][0], by_day[s][-1]) for s in sessions if s in by_day]
    assert [(c.session, c.bars, c.first, c.last) for c in found] == expected
    marks = iter(range(len(inside)))
    for c in found:
        assert sum(c.half_hours) == c.bars
        assert c.volume == sum(10 * next(marks) for _ in range(c.bars))


def test_regular_hours_of_a_holiday_week_with_a_half_day_and_of_both_clocks():
    opens, closes = regular_hours_between(date(2024, 12, 23), date(2024, 12, 26))
    assert (opens[1], closes[1]) == (int(new_york(2024, 12, 24, 9, 30).timestamp()) * 1000, opens[1] + 210 * 60_000)
    assert ((closes - opens) // 60_000).tolist() == [390, 210, 390]
    opens, _ = regular_hours_between(date(2024, 3, 8), date(2024, 3, 11))
    assert (opens[1] - opens[0]) // 3_600_000 == 71
    assert [column.size for column in regular_hours_between(date(2024, 3, 9), date(2024, 3, 10))] == [0, 0]
