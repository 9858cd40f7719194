"""Fixtures for the tests of indicators."""

import numpy as np
import pytest

from backfill_assets_tests.unit.domain.walks import minutes, walk


@pytest.fixture
def quiet_divisions():
    """Let NumPy divide by zero without a warning, as `features.compute` does."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="module")
def lively():
    """Bars with still minutes and minutes without trades."""
    return walk(minutes(400), seed=3, volatility=2e-3, still=0.2, untraded=0.1)
