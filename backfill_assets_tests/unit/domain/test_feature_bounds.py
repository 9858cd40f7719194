"""The bounds of columns, compared with computed values."""

import numpy as np
import pytest

from backfill_assets.adapters.store.feature_quality import ROUNDING, limits
from backfill_assets.domain.features import COLUMNS, compute
from backfill_assets_tests.unit.domain.walks import NEW_YORK, minutes, walk

BY_UNIT = {"0 to 100": (0.0, 100.0), "-100 to 0": (-100.0, 0.0), "-1 to 1": (-1.0, 1.0)}
WITHOUT = set(
    "log_return macd macd_signal macd_histogram bb_lower_20 bb_percent_b_20 cci_20 obv_change_20 volume_zscore_20".split()
)


def test_units_that_are_ranges_match_the_bounds():
    assert all(c.bounds == BY_UNIT[c.unit] for c in COLUMNS if c.unit in BY_UNIT)


def test_only_unbounded_values_have_no_bounds():
    assert {c.name for c in COLUMNS if c.bounds == (None, None)} == WITHOUT
    assert all(least is None or greatest is None or least < greatest for least, greatest in (c.bounds for c in COLUMNS))


@pytest.mark.parametrize(
    "nature",
    [
        {"volatility": 1e-3},
        {"volatility": 0.3, "tick": 1e-6},
        {"volatility": 0.1, "still": 0.5, "untraded": 0.3},
        {"volatility": 1e-4, "still": 0.9},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_computed_values_are_within_bounds(nature, seed):
    values = compute(walk(minutes(1500), seed=seed, **nature), NEW_YORK)
    for column, found in zip(COLUMNS, values.T, strict=True):
        least, greatest = limits(column)
        outside = found[(found < least) | (found > greatest)]
        assert not len(outside), (column.name, outside[:3])


@pytest.mark.parametrize("steps", [1.0, -1.0])
def test_strengths_reach_their_bounds(steps):
    """With prices that only rise or fall, values from 0 to 100 reach their bounds, apart from rounding."""
    bars = walk(minutes(400), volatility=1e-9)
    prices = 1000 + steps * np.arange(400.0)
    bars = type(bars)(bars.timestamp, prices, prices + 0.1, prices - 0.1, prices, bars.volume, prices, bars.trades)
    last = dict(zip([c.name for c in COLUMNS], compute(bars, NEW_YORK)[-1], strict=True))
    assert last["rsi_14"] == pytest.approx(100 if steps > 0 else 0, abs=ROUNDING)
    assert last["mfi_14"] == pytest.approx(100 if steps > 0 else 0, abs=ROUNDING)
    assert (last["minus_di_14"] if steps > 0 else last["plus_di_14"]) == pytest.approx(0, abs=ROUNDING)
