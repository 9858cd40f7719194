from datetime import date

import pytest

from backfill_assets.domain.corporate_actions import Dividend, Split

DAY = date(2024, 6, 10)


@pytest.mark.parametrize("ratio", [0, -1, float("nan"), float("inf")])
def test_a_ratio_is_finite_and_above_zero(ratio):
    with pytest.raises(ValueError, match="NVDA: a split of"):
        Split("NVDA", DAY, ratio, 1)
    with pytest.raises(ValueError, match="NVDA: a split of"):
        Split("NVDA", DAY, 1, ratio)


@pytest.mark.parametrize("amount", [-0.01, float("nan"), float("inf")])
def test_an_amount_is_finite_and_not_negative(amount):
    with pytest.raises(ValueError, match="is no cash amount of a dividend"):
        Dividend("NVDA", DAY, amount)


def test_equal_events_are_one():
    assert len({Split("NVDA", DAY, 1, 10), Split("NVDA", DAY, 1.0, 10.0), Split("NVDA", DAY, 1, 10, "E1")}) == 2
