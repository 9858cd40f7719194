"""The catalog of features is correct, and values do not depend on the window."""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.domain import features
from backfill_assets.domain.adjustments import SplitRatio, factors, units, weekly_bars
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.features import COLUMNS, FEATURES, LOOK_BACK, Scaling, compute, compute_range, rescaled
from backfill_assets.domain.features.window import session_starts
from backfill_assets.domain.timeframes import DAY_1, TIMEFRAMES, WEEK_1
from backfill_assets_tests.unit.domain.walks import NEW_YORK, in_shares, minutes, stock_stamps, thinned, walk

MINUTE_1, HOUR_1 = TIMEFRAMES["1m"], TIMEFRAMES["1h"]
NAMES = [column.name for column in COLUMNS]
VWAP = NAMES.index("session_vwap")
NATURES = [
    {"volatility": 1e-3},
    {"volatility": 0.1, "still": 0.5},
    {"volatility": 5e-4, "still": 0.5},
    {"volatility": 1e-4, "still": 0.9},
]


def scales(bars):
    """The scale of errors: the highest price, the greatest volume, the range of a ratio."""
    of_volume = max(float(bars.volume.max()), 1.0)
    of_ratio = {"0 to 100": 100.0, "-100 to 0": 100.0, "percent": 100.0, "index": 1000.0}
    scale = {Scaling.PRICE: bars.high.max(), Scaling.VOLUME: of_volume}
    return np.array([scale.get(column.scaling, of_ratio.get(column.unit, 1.0)) for column in COLUMNS])


def assert_as_one(got, want, bars, tolerance=1e-9):
    """Assert equality within the tolerance of each column's scale, and NaN in the same places."""
    assert got.shape == want.shape
    gone = np.isnan(got) != np.isnan(want)
    off = gone | (np.abs(np.nan_to_num(got) - np.nan_to_num(want)) > tolerance * scales(bars))
    assert not off.any(), {
        NAMES[i]: (got[off[:, i], i][:3], want[off[:, i], i][:3]) for i in np.flatnonzero(off.any(axis=0))
    }


# --- The catalog


def test_column_names_are_unique_and_valid_in_sql():
    assert len(set(NAMES)) == len(NAMES) == 34
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in NAMES)
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_the_first_value_comes_after_the_warm_up(column):
    values = compute(walk(minutes(120), tick=1e-6), NEW_YORK)[:, NAMES.index(column.name)]
    assert np.flatnonzero(np.isfinite(values))[0] == column.warm_up
    assert np.isfinite(values[column.warm_up :]).all()


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
@pytest.mark.parametrize("nature", NATURES, ids=str)
def test_the_look_back_is_sufficient(feature, nature):
    bars = walk(minutes(900), seed=4, **nature)
    start = 300  # midnight in New York: the window starts with a session
    columns = [NAMES.index(column.name) for column in feature.columns]
    complete, later = (compute(window, NEW_YORK) for window in (bars, bars.take(slice(start, None))))
    want, got = complete[start + feature.look_back :, columns], later[feature.look_back :, columns]
    if feature.settles is None:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=0, atol=(1e-9 * scales(bars)[columns]).min())
    assert feature.look_back < LOOK_BACK


@pytest.mark.parametrize("ratio", [0.25, 5.0, 1 / 7, 1e-4])
def test_columns_scale_with_prices(ratio):
    bars = walk(minutes(800), seed=5, still=0.2, untraded=0.1)
    here = compute(bars, NEW_YORK)
    there = compute(in_shares(bars, np.full(len(bars), ratio)), NEW_YORK)
    assert_as_one(rescaled(here, np.full(len(bars), ratio)), there, in_shares(bars, np.full(len(bars), ratio)))


# --- Windows


def test_sessions_start_with_the_day_in_the_markets_zone():
    # Clocks go forward on 10 March 2024: midnight in New York is 05:00 UTC, then 04:00.
    quarters = minutes(1, datetime(2024, 3, 9, tzinfo=NEW_YORK)) + 900_000 * np.arange(3 * 96)
    assert session_starts(quarters, NEW_YORK).tolist() == [0, 96, 96 + 92, 96 + 92 + 96]
    assert session_starts(quarters[:0], NEW_YORK).tolist() == []
    assert session_starts(stock_stamps(DAY_1, 500), NEW_YORK).tolist() == list(range(500))


def test_the_average_price_of_a_day_or_a_week_is_its_typical_price():
    bars = walk(stock_stamps(DAY_1, 30), untraded=0.2)
    vwap = compute(bars, NEW_YORK)[:, VWAP]
    np.testing.assert_array_equal(np.isnan(vwap), bars.volume == 0)
    traded = bars.volume > 0
    np.testing.assert_allclose(vwap[traded], ((bars.high + bars.low + bars.close) / 3)[traded], rtol=1e-15)


@pytest.mark.parametrize("rows", [0, 1, 2, 14, 20, 33, 34, 61])
def test_few_bars_give_few_values_and_no_error(rows):
    bars = walk(minutes(100), tick=1e-6)
    got = compute(bars.take(slice(0, rows)), NEW_YORK)
    np.testing.assert_allclose(got, compute(bars, NEW_YORK)[:rows], rtol=1e-9, atol=1e-12)


def test_only_the_requested_rows_are_returned():
    bars = walk(minutes(100))
    np.testing.assert_array_equal(compute(bars, NEW_YORK, 90), compute(bars, NEW_YORK)[90:])
    assert compute(bars, NEW_YORK, 100).shape == (0, len(COLUMNS))
    assert compute(Bars.empty(), NEW_YORK).shape == (0, len(COLUMNS))
    assert compute_range(Bars.empty(), MINUTE_1, NEW_YORK).shape == (0, len(COLUMNS))


def test_no_value_is_infinite():
    bars = walk(minutes(900), still=0.97, untraded=0.97, tick=1.0)
    assert not np.isinf(compute(bars, NEW_YORK)).any()


def test_bars_are_not_changed():
    bars = walk(minutes(200))
    for name in ("high", "low", "close", "volume"):
        getattr(bars, name).setflags(write=False)
    compute(bars, NEW_YORK)


def test_a_price_that_is_not_finite_is_an_error():
    bars = walk(minutes(50))
    bars.close[7] = np.nan
    with pytest.raises(ValueError, match="features need finite numbers, but close"):
        compute(bars, NEW_YORK)


def test_days_and_weeks_look_back_on_all_bars():
    assert [features.look_back(TIMEFRAMES[name]) for name in ("1m", "4h", "1d", "1w")] == [640, 640, None, None]


# --- Ranges


def splits_within(stamps):
    """A 4:1 split a third of the way in, a 1:5 one at two thirds."""
    days = [datetime.fromtimestamp(int(stamps[len(stamps) * k // 3]) / 1000, NEW_YORK).date() for k in (1, 2)]
    return [SplitRatio(days[0], 1, 4), SplitRatio(days[1], 5, 1)]


def as_traded(bars, splits, timeframe):
    """Convert bars of one unit to the units of their days."""
    steps = units(splits, timeframe, NEW_YORK)
    return in_shares(bars, 1 / steps.factors(bars.timestamp, 0))


SHAPES = {"1m": (MINUTE_1, 2900), "1h": (HOUR_1, 1900), "1d": (DAY_1, 1500)}


@dataclass(frozen=True)
class Series:
    """Parameters of a random series; `dead` is where, as a share of the series, and for how many bars nothing moves."""

    shape: str
    seed: int
    volatility: float
    still: float
    untraded: float
    gaps: float
    dead: tuple[float, int]
    split: bool

    def bars(self):
        timeframe, rows = SHAPES[self.shape]
        stamps = stock_stamps(timeframe, rows)
        bars = walk(stamps, self.seed, self.volatility, still=self.still, untraded=self.untraded)
        bars = thinned(bars, self.gaps, self.seed)
        return timeframe, without_moves(bars, int(self.dead[0] * len(bars)), self.dead[1])


SERIES = st.builds(
    Series,
    shape=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 10_000),
    volatility=st.sampled_from([0.0, 2e-4, 1e-3, 2e-2]),
    still=st.sampled_from([0.0, 0.3, 0.9, 0.99]),
    untraded=st.sampled_from([0.0, 0.2, 0.95]),
    gaps=st.sampled_from([0.0, 0.1, 0.5]),
    dead=st.tuples(st.floats(0, 1), st.sampled_from([0, 50, 300, 700])),
    split=st.booleans(),
)


@settings(max_examples=30)
@given(series=SERIES, cuts=st.lists(st.floats(0, 1), max_size=3))
def test_a_range_in_pieces_equals_one_pass(series, cuts):
    timeframe, even = series.bars()
    splits = splits_within(even.timestamp) if series.split else []
    raw = as_traded(even, splits, timeframe)

    # One pass over the complete history in the units of its first day, then converted to those of each day.
    into_own_units = 1 / units(splits, timeframe, NEW_YORK).factors(raw.timestamp, 0)
    complete = rescaled(compute(even, NEW_YORK), into_own_units)

    sessions = session_starts(raw.timestamp, NEW_YORK)
    edges = sorted({0, len(raw), *(int(sessions[int(cut * (len(sessions) - 1))]) for cut in cuts)})
    for start, stop in pairwise(edges):
        begin = start - (features.look_back(timeframe) or start) if start >= LOOK_BACK else 0
        got = compute_range(raw.take(slice(begin, stop)), timeframe, NEW_YORK, splits, start - begin)
        assert_as_one(got, complete[start:stop], raw.take(slice(0, stop)))


def without_moves(bars, start, length):
    """Bars with a period in which the price does not move."""
    rows = np.arange(len(bars))
    inside = (rows >= start) & (rows < start + length)
    level = bars.close[max(start - 1, 0)]
    columns = {name: np.where(inside, level, getattr(bars, name)) for name in ("open", "high", "low", "close", "vwap")}
    return replace(bars, **columns)


def test_a_split_does_not_affect_ratios():
    even = walk(stock_stamps(HOUR_1, 800), seed=6)
    splits = splits_within(even.timestamp)
    got = compute_range(as_traded(even, splits, HOUR_1), HOUR_1, NEW_YORK, splits)
    want = compute(even, NEW_YORK)
    ratios = [i for i, column in enumerate(COLUMNS) if column.scaling is Scaling.NONE]
    np.testing.assert_allclose(got[:, ratios], want[:, ratios], rtol=1e-9, atol=1e-7)
    # Without the split, its day appears to lose three quarters.
    blind = compute(as_traded(even, splits, HOUR_1), NEW_YORK)
    assert np.nanmin(blind[:, NAMES.index("pct_return")]) < -0.7


def test_weeks_with_a_split():
    even = walk(stock_stamps(DAY_1, 900), seed=7, volatility=0.01)
    splits = [SplitRatio(date(2025, 3, 5), 1, 4), SplitRatio(date(2026, 6, 18), 5, 1)]  # a Wednesday and a Thursday
    raw = as_traded(even, splits, DAY_1)
    got = compute_range(weekly_bars(raw, splits, NEW_YORK), WEEK_1, NEW_YORK, splits)
    weeks = weekly_bars(even, [], NEW_YORK)
    into_own_units = 1 / units(splits, WEEK_1, NEW_YORK).factors(weeks.timestamp, 0)
    assert_as_one(got, rescaled(compute(weeks, NEW_YORK), into_own_units), raw)


def test_stored_rows_are_read_in_the_units_of_a_later_day():
    even = walk(stock_stamps(DAY_1, 300), seed=8)
    splits = splits_within(even.timestamp)
    raw = as_traded(even, splits, DAY_1)
    stored = compute_range(raw, DAY_1, NEW_YORK, splits)
    today = int(raw.timestamp[-1])
    f = factors(raw.timestamp, splits, today, DAY_1, NEW_YORK)
    assert_as_one(rescaled(stored, f), compute(in_shares(raw, f), NEW_YORK), in_shares(raw, f))
