import numpy as np
import pytest

from backfill_assets.domain import rolling

X = np.array([3.0, 1.0, 4.0, 1.0, 5.0])


def test_results_by_hand():
    nan = np.nan
    np.testing.assert_array_equal(rolling.total(X, 3), [nan, nan, 8, 6, 10])
    np.testing.assert_array_equal(rolling.mean(X, 2), [nan, 2, 2.5, 2.5, 3])
    np.testing.assert_array_equal(rolling.highest(X, 2), [nan, 3, 4, 4, 5])
    np.testing.assert_array_equal(rolling.lowest(X, 3), [nan, nan, 1, 1, 1])
    np.testing.assert_array_equal(rolling.deviation(X, rolling.mean(X, 2), 2, ddof=0), [nan, 1, 1.5, 1.5, 2])
    sample = rolling.deviation(X, rolling.mean(X, 2), 2, ddof=1)
    np.testing.assert_allclose(sample**2, [nan, 2, 4.5, 4.5, 8], rtol=1e-15)
    np.testing.assert_array_equal(rolling.mean_absolute_deviation(X, rolling.mean(X, 2), 2), [nan, 1.0, 1.5, 1.5, 2.0])


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_fewer_values_than_a_window_give_nan(rows):
    for reduced in (rolling.total(X[:rows], 3), rolling.deviation(X[:rows], X[:rows], 3, ddof=0)):
        np.testing.assert_array_equal(reduced, np.full(rows, np.nan))


def test_long_columns_are_reduced_in_blocks():
    x = np.random.default_rng(1).normal(size=3 * rolling._BLOCK + 7)
    windows = np.lib.stride_tricks.sliding_window_view(x, 20)
    np.testing.assert_allclose(rolling.total(x, 20)[19:], windows.sum(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(rolling.highest(x, 20)[19:], windows.max(axis=1))
    spread = rolling.deviation(x, rolling.mean(x, 20), 20, ddof=1)[19:]
    np.testing.assert_allclose(spread, windows.std(axis=1, ddof=1), rtol=1e-12)


def test_a_value_depends_only_on_its_window():
    x = np.exp(np.random.default_rng(2).normal(0, 5, 2000))
    for start in (1, 57, 1900):
        np.testing.assert_array_equal(rolling.total(x[start:], 20)[19:], rolling.total(x, 20)[start + 19 :])


def test_a_missing_value_affects_only_its_windows():
    x = np.array([1.0, np.nan, 1, 1, 1, 1])
    np.testing.assert_array_equal(rolling.total(x, 3), [np.nan] * 4 + [3, 3])
