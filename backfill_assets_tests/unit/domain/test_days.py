from datetime import date, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.days import ONE_DAY, DayRange, ranges_of, runs_of

FIRST = date(2024, 2, 20)
DAYS = st.integers(0, 60).map(lambda n: FIRST + timedelta(days=n))
SETS = st.lists(DAYS, max_size=40)
RANGES = st.tuples(DAYS, DAYS).map(lambda pair: DayRange(min(pair), max(pair)))


def test_a_range_includes_both_ends():
    week = DayRange(date(2024, 2, 26), date(2024, 3, 3))
    assert len(week) == len(list(week)) == 7
    assert week.start in week
    assert week.end in week
    assert week.start - ONE_DAY not in week
    assert week.end + ONE_DAY not in week


def test_a_range_that_ends_before_it_starts_is_an_error():
    with pytest.raises(ValueError, match="2024-01-01 is before 2024-01-02"):
        DayRange(date(2024, 1, 2), date(2024, 1, 1))


def test_a_range_as_text():
    assert str(DayRange(date(2024, 1, 2), date(2024, 1, 2))) == "2024-01-02"
    assert str(DayRange(date(2024, 1, 2), date(2024, 1, 5))) == "2024-01-02 to 2024-01-05"


def test_ranges_order_by_start_then_end():
    a, b, c = DayRange(FIRST, FIRST), DayRange(FIRST, FIRST + ONE_DAY), DayRange(FIRST + ONE_DAY, FIRST + ONE_DAY)
    assert sorted([c, b, a]) == [a, b, c]


def test_the_last_representable_day_can_be_iterated():
    assert list(DayRange(date.max - ONE_DAY, date.max)) == [date.max - ONE_DAY, date.max]


@given(RANGES)
def test_length_and_membership_agree_with_iteration(days):
    listed = list(days)
    assert len(days) == len(listed)
    assert listed == sorted(set(listed))
    around = DayRange(days.start - 3 * ONE_DAY, days.end + 3 * ONE_DAY)
    assert [d for d in around if d in days] == listed


@given(RANGES, RANGES)
def test_an_intersection_holds_the_days_in_both(one, other):
    both = one.intersect(other)
    assert (set(both) if both else set()) == set(one) & set(other)
    assert both == other.intersect(one)


def test_no_days_are_no_ranges():
    assert ranges_of([]) == []
    assert runs_of([], [FIRST]) == []
    assert runs_of([FIRST], []) == []


@given(SETS)
def test_ranges_are_the_fewest_that_hold_exactly_the_days_given_whatever_the_iterable(days):
    ranges = ranges_of(days)
    assert [day for span in ranges for day in span] == sorted(set(days))
    assert all(one.end + ONE_DAY < other.start for one, other in pairwise(ranges))
    assert ranges_of(iter(days * 2)) == ranges_of(set(days)) == ranges


def test_friday_and_monday_are_consecutive_weekdays():
    weekdays = [d for d in DayRange(date(2024, 3, 4), date(2024, 3, 15)) if d.weekday() < 5]
    friday, monday = date(2024, 3, 8), date(2024, 3, 11)
    assert runs_of([monday, friday], weekdays) == [DayRange(friday, monday)]
    assert ranges_of([monday, friday]) == [DayRange(friday, friday), DayRange(monday, monday)]


@given(SETS, SETS)
def test_runs_are_the_fewest_that_hold_exactly_the_wanted_sessions_whatever_the_iterables(days, among):
    sessions, wanted = sorted(set(among)), set(days) & set(among)
    runs = runs_of(days, among)
    assert [s for s in sessions if any(s in run for run in runs)] == sorted(wanted)
    assert all({run.start, run.end} <= wanted for run in runs)
    for one, other in pairwise(runs):
        assert any(one.end < s < other.start for s in sessions)
    assert runs_of(iter(days * 2), iter(among * 2)) == runs_of(set(days), set(among)) == runs
