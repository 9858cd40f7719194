"""Calendars compared with those of two libraries, and with times and clock changes computed by hand."""

import importlib.util
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas_market_calendars
import pytest

from backfill_assets.domain import new_york
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import HOURS, Kind, calendar, day_starts

NEW_YORK = ZoneInfo("America/New_York")
SPAN = DayRange(date(2005, 1, 1), date(2026, 12, 31))
# A universe may start in 1970, but the two libraries disagree about hours before 2005.
LONG = DayRange(date(1970, 1, 1), SPAN.end)
STOCKS, CRYPTO = (calendar(kind, SPAN) for kind in Kind)
NINE_THIRTY = timedelta(hours=9, minutes=30)

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "generate_sessions.py"
SPEC = importlib.util.spec_from_file_location("generate_sessions", SCRIPT)
GENERATOR = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(GENERATOR)

# The other library has actual hours, exchange_calendars scheduled ones. Both days were scheduled in full.
UNPLANNED = {
    # Halted at 15:56 by a failure of communications: Los Angeles Times, 2005-06-02, "NYSE, Amex Trades End Early", which adds
    # that trading in Nasdaq's issues was not affected.
    date(2005, 6, 1): (NINE_THIRTY, timedelta(hours=15, minutes=56)),
    # Opened at 9:32 after a minute of silence for G. R. Ford: NYSE's list of special closings, nyse.com/pdfs/closings.pdf.
    date(2006, 12, 27): (timedelta(hours=9, minutes=32), timedelta(hours=16)),
}


@cache
def theirs(span):
    """Return each session with its open and close in New York, as times since midnight."""
    schedule = pandas_market_calendars.get_calendar("NYSE").schedule(str(span.start), str(span.end))
    return {
        row.Index.date(): tuple(_clock(row.Index.date(), moment) for moment in (row.market_open, row.market_close))
        for row in schedule.itertuples()
    }


def _clock(day, moment):
    local = moment.to_pydatetime().astimezone(NEW_YORK)
    assert local.date() == day
    return timedelta(hours=local.hour, minutes=local.minute)


def test_the_table_is_that_of_exchange_calendars():
    committed = GENERATOR.MODULE.read_text(encoding="utf-8")
    assert committed == GENERATOR.generated(), "run .venv/bin/python scripts/generate_sessions.py"


def test_a_calendar_does_not_reach_beyond_the_table():
    with pytest.raises(ValueError, match="ends at 2050-12-31"):
        calendar(Kind.STOCKS, DayRange(date(2050, 1, 1), new_york.LAST + ONE_DAY))


def test_the_other_library_is_independent():
    assert type(pandas_market_calendars.get_calendar("NYSE")).__module__ == "pandas_market_calendars.calendars.nyse"


@pytest.mark.parametrize("span", [SPAN, LONG], ids=str)
def test_both_libraries_have_the_same_sessions(span):
    ours = calendar(Kind.STOCKS, span).sessions
    assert set(ours) == set(theirs(span))
    assert len(ours) == len(set(ours))


def test_both_libraries_have_the_same_early_closes():
    full = (NINE_THIRTY, timedelta(hours=16))
    shorter = {d: hours for d, hours in theirs(SPAN).items() if hours != full}
    ours = {d: (NINE_THIRTY, NINE_THIRTY + timedelta(minutes=STOCKS.regular_minutes(d))) for d in STOCKS.half_days}
    assert shorter == ours | UNPLANNED
    assert not ours.keys() & UNPLANNED.keys()
    assert len(ours) == 47


@pytest.mark.parametrize(
    ("day", "why"),
    [
        (date(1985, 9, 27), "hurricane Gloria"),
        (date(1994, 4, 27), "mourning for R. M. Nixon"),
        (date(2001, 9, 11), "attacks on New York"),
        (date(2001, 9, 12), "attacks on New York"),
        (date(2001, 9, 13), "attacks on New York"),
        (date(2001, 9, 14), "attacks on New York"),
        (date(2004, 6, 11), "mourning for R. W. Reagan"),
        (date(2007, 1, 2), "mourning for G. R. Ford"),
        (date(2012, 10, 29), "hurricane Sandy"),
        (date(2012, 10, 30), "hurricane Sandy"),
        (date(2018, 12, 5), "mourning for G. H. W. Bush"),
        (date(2025, 1, 9), "mourning for J. Carter"),
    ],
    ids=str,
)
def test_both_libraries_have_the_unscheduled_closures(day, why):
    ours = calendar(Kind.STOCKS, LONG)
    assert day.weekday() < 5
    assert day not in ours, why
    assert day in ours.closed_days()
    assert day not in theirs(LONG), why


def test_crypto_trades_on_every_day():
    first, last = SPAN.start.toordinal(), SPAN.end.toordinal()
    assert [s.toordinal() for s in CRYPTO.sessions] == list(range(first, last + 1))
    assert len(CRYPTO.sessions) == 22 * 365 + 5  # leap years: 2008, 2012, 2016, 2020, 2024
    assert CRYPTO.closed_days() == ()


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("session", "finished"),
    [
        # The last clock changes of the old law: 2005-04-03 and 2006-10-29.
        ("2005-04-04", "2005-04-05 00:15"),
        ("2006-10-30", "2006-10-31 01:15"),
        # The first of the new one: 2007-03-11 and 2007-11-04.
        ("2007-03-12", "2007-03-13 00:15"),
        ("2007-11-05", "2007-11-06 01:15"),
        # 2026-03-08 and 2026-11-01
        ("2026-03-09", "2026-03-10 00:15"),
        ("2026-11-02", "2026-11-03 01:15"),
        # Half days, in summer and winter; the last one ends a month.
        ("2024-07-03", "2024-07-04 00:15"),
        ("2024-11-29", "2024-11-30 01:15"),
        # The last sessions of a year and of a leap February.
        ("2025-12-31", "2026-01-01 01:15"),
        ("2024-02-29", "2024-03-01 01:15"),
    ],
)
def test_a_stock_session_finishes_at_the_time_computed_by_hand(session, finished):
    day = date.fromisoformat(session)
    assert day in STOCKS
    assert STOCKS.hours.finished_at(day) == utc(finished)
    assert STOCKS.hours.finished_at(day).tzinfo is UTC
    assert STOCKS.last_finished(utc(finished)) == day
    assert STOCKS.last_finished(utc(finished) - timedelta(seconds=1)) < day


@pytest.mark.parametrize("day", ["2025-03-09", "2025-11-02", "2024-02-29", "2024-12-31", "2016-12-31"])
def test_a_crypto_session_finishes_with_its_utc_day(day):
    session = date.fromisoformat(day)
    assert CRYPTO.hours.finished_at(session) == utc(str(session + ONE_DAY))
    starts, ends = day_starts([session, session + ONE_DAY], HOURS[Kind.CRYPTO].zone)
    assert ends - starts == 86_400_000


def _nth_sunday(year, month, n):
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (n - 1))


def _daylight_saving(year):
    """Return the days on which New York's clocks change at 02:00: by the Uniform Time Act, since 2007 by the Energy Policy
    Act."""
    if year >= 2007:
        return _nth_sunday(year, 3, 2), _nth_sunday(year, 11, 1)
    return _nth_sunday(year, 4, 1), _nth_sunday(year, 11, 1) - 7 * ONE_DAY


def test_each_day_starts_four_or_five_hours_after_utc_by_daylight_saving_time():
    days = list(SPAN)
    epoch = date(1970, 1, 1)
    expected = []
    for day in days:
        forward, back = _daylight_saving(day.year)
        hours = 4 if forward < day <= back else 5  # clocks change after midnight
        expected.append(((day - epoch).days * 24 + hours) * 3_600_000)
    assert day_starts(days, NEW_YORK).tolist() == expected


def test_each_stock_session_finishes_at_a_quarter_past_midnight_or_one_by_daylight_saving_time():
    for session in STOCKS.sessions:
        forward, back = _daylight_saving(session.year)
        hours = 0 if forward <= session < back else 1
        next_day = datetime(session.year, session.month, session.day, tzinfo=UTC) + ONE_DAY
        assert STOCKS.hours.finished_at(session) == next_day + timedelta(hours=hours, minutes=15)
