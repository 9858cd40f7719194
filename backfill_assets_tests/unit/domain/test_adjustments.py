from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.domain import adjustments
from backfill_assets.domain.adjustments import SplitRatio, Stretches
from backfill_assets.domain.derive import derive
from backfill_assets.domain.timeframes import DAY_1, TIMEFRAMES, WEEK_1
from backfill_assets_tests.unit.domain.frames import assert_same
from backfill_assets_tests.unit.domain.walks import NEW_YORK, in_shares, stock_stamps, walk

HOUR_1 = TIMEFRAMES["1h"]

# A Monday, and the Wednesday of the week after.
FOUR_FOR_ONE = SplitRatio(date(2024, 6, 10), 1, 4)
ONE_FOR_FIVE = SplitRatio(date(2024, 6, 19), 5, 1)


def at(day, hour=0):
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=NEW_YORK).timestamp()) * 1000


def instants(*days):
    return np.array([at(day) for day in days], dtype=np.int64)


DAYS = [date(2024, 6, day) for day in (7, 10, 18, 19)]


def test_a_bar_before_a_four_for_one_split_has_a_quarter_of_the_price_from_the_ex_date_on():
    for seen_from in (DAYS[1], DAYS[3]):
        f = adjustments.factors(instants(*DAYS), [FOUR_FOR_ONE], at(seen_from), DAY_1, NEW_YORK)
        assert f.tolist() == [0.25, 1, 1, 1]


def test_later_bars_are_adjusted_back_to_a_day_before_the_ex_date():
    f = adjustments.factors(instants(*DAYS), [FOUR_FOR_ONE], at(DAYS[0]), DAY_1, NEW_YORK)
    assert f.tolist() == [1, 4, 4, 4]


def test_splits_multiply_in_any_order():
    for splits in ([FOUR_FOR_ONE, ONE_FOR_FIVE], [ONE_FOR_FIVE, FOUR_FOR_ONE]):
        f = adjustments.factors(instants(*DAYS), splits, at(DAYS[3]), DAY_1, NEW_YORK)
        assert f.tolist() == [1.25, 5, 5, 1]


def test_two_splits_of_one_day_multiply():
    splits = [SplitRatio(DAYS[1], 1, 2), SplitRatio(DAYS[1], 1, 3)]
    f = adjustments.factors(instants(*DAYS), splits, at(DAYS[1]), DAY_1, NEW_YORK)
    assert f.tolist() == [1 / 6, 1, 1, 1]


def test_without_splits_there_is_one_unit():
    none = adjustments.units([], DAY_1, NEW_YORK)
    assert none.factors(instants(*DAYS), 0).tolist() == [1, 1, 1, 1]
    assert none.pieces(instants(*DAYS), first=1) == [(slice(1, 4), 0)]


def test_new_units_start_at_midnight_in_the_markets_zone():
    steps = adjustments.units([FOUR_FOR_ONE], HOUR_1, NEW_YORK)
    midnight = at(FOUR_FOR_ONE.ex_date)
    assert steps.of(np.array([midnight - 1, midnight])).tolist() == [0, 1]


def test_a_week_is_in_the_units_of_its_last_day():
    steps = adjustments.units([ONE_FOR_FIVE], WEEK_1, NEW_YORK)
    sundays = instants(date(2024, 6, 9), date(2024, 6, 16), date(2024, 6, 23))
    assert steps.of(sundays).tolist() == [0, 1, 1]


def test_a_split_outside_the_rows_cuts_nothing_and_applies_to_all():
    steps = adjustments.units([FOUR_FOR_ONE, SplitRatio(date(2030, 1, 2), 1, 2)], DAY_1, NEW_YORK)
    assert steps.pieces(instants(*DAYS[1:])) == [(slice(0, 3), 1)]
    assert steps.factors(instants(*DAYS[1:]), 1).tolist() == [1, 1, 1]


def test_adjusted_bars_keep_their_value_and_their_trades():
    bars = walk(stock_stamps(DAY_1, 10))
    adjusted = adjustments.adjusted(bars, np.full(10, 0.25))
    np.testing.assert_array_equal(adjusted.close, bars.close / 4)
    np.testing.assert_array_equal(adjusted.vwap, bars.vwap / 4)
    np.testing.assert_array_equal(adjusted.volume, bars.volume * 4)
    np.testing.assert_array_equal(adjusted.trades, bars.trades)
    np.testing.assert_array_equal(adjusted.timestamp, bars.timestamp)


@pytest.mark.parametrize("ratio", [(0, 1), (1, 0), (-1, 4), (1, float("nan")), (float("inf"), 1)])
def test_an_invalid_ratio_is_an_error(ratio):
    with pytest.raises(ValueError, match=r"the split of 2024-06-10 has an invalid ratio"):
        adjustments.units([SplitRatio(date(2024, 6, 10), *ratio)], DAY_1, NEW_YORK)


# --- Weeks


def test_weeks_without_a_split_are_derived_weeks():
    daily = walk(stock_stamps(DAY_1, 60))
    assert_same(adjustments.weekly_bars(daily, [], NEW_YORK), derive(daily, WEEK_1, NEW_YORK))
    monday = [SplitRatio(date(2024, 2, 5), 1, 4)]
    assert_same(adjustments.weekly_bars(daily, monday, NEW_YORK), derive(daily, WEEK_1, NEW_YORK))


def test_a_week_with_a_split_is_in_the_units_of_its_end():
    flat = walk(stock_stamps(DAY_1, 15, datetime(2024, 6, 10, tzinfo=NEW_YORK)), volatility=0)
    raw = in_shares(flat, np.where(flat.timestamp < at(ONE_FOR_FIVE.ex_date), 0.2, 1.0))
    weeks = adjustments.weekly_bars(raw, [ONE_FOR_FIVE], NEW_YORK)
    np.testing.assert_allclose(weeks.high, [20, 100, 100])
    np.testing.assert_allclose(weeks.low, [20, 100, 100])
    stored = derive(raw, WEEK_1, NEW_YORK)
    assert (stored.low[1], stored.high[1]) == (20, 100)


# --- Properties


RATIOS = st.tuples(st.integers(1, 50), st.integers(1, 50))
SPLITS = st.lists(st.builds(lambda day, r: SplitRatio(day, *r), st.dates(date(2024, 1, 1), date(2024, 12, 31)), RATIOS))


@settings(max_examples=60)
@given(splits=SPLITS, first=st.integers(0, 300))
def test_pieces_hold_every_row_once_in_one_unit(splits, first):
    steps = adjustments.units(splits, DAY_1, NEW_YORK)
    stamps = stock_stamps(DAY_1, 260)
    pieces = steps.pieces(stamps, min(first, 260))
    assert [row for rows, _ in pieces for row in range(rows.start, rows.stop)] == list(range(min(first, 260), 260))
    for rows, unit in pieces:
        assert set(steps.of(stamps[rows]).tolist()) == {unit}
        assert set(steps.factors(stamps[rows], unit).tolist()) == {1.0}


@settings(max_examples=60)
@given(splits=SPLITS, days=st.tuples(*[st.dates(date(2024, 1, 1), date(2024, 12, 31))] * 3))
def test_adjusting_over_a_third_day_gives_the_same_units(splits, days):
    def f(bar, seen_from):
        return adjustments.factors(instants(bar), splits, at(seen_from), DAY_1, NEW_YORK)[0]

    a, b, c = days
    assert f(a, c) == pytest.approx(f(a, b) * f(b, c), rel=1e-12)
    assert f(a, a) == 1


FACTORS = st.floats(1e-6, 1e6)


@given(
    stretches=st.dictionaries(st.integers(-50, 50), st.tuples(FACTORS, FACTORS, st.booleans()), max_size=5),
    stamps=st.lists(st.integers(-60, 60), max_size=20),
)
def test_a_bar_has_the_factors_of_the_first_stretch_that_ends_after_it(stretches, stamps):
    ordered = sorted(stretches.items())
    columns = [
        np.array([row[n] for _, row in ordered], kind) for n, kind in enumerate((np.float64, np.float64, np.bool_))
    ]
    found = Stretches(np.array([end for end, _ in ordered], np.int64), *columns)
    expected = [next((row for end, row in ordered if stamp < end), (1.0, 1.0, False)) for stamp in stamps]
    if any(uncertain for *_, uncertain in expected):
        with pytest.raises(ValueError, match="uncertain"):
            found.factors(np.array(stamps, np.int64))
        return
    price, shares = found.factors(np.array(stamps, np.int64))
    assert (price.tolist(), shares.tolist()) == ([p for p, _, _ in expected], [s for _, s, _ in expected])
