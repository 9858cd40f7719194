from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.plausibility import (
    DAY_MARGIN,
    EXTENDED_MARGIN,
    REGULAR_MARGIN,
    PriceRange,
    implausible,
    least_margin,
    margin,
)
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1

DAY = PriceRange(91.75, 93.88)


@pytest.mark.parametrize(
    ("bar", "near", "day", "factor", "expected"),
    [
        pytest.param((92.23, 645.57), (92.2, 92.5), DAY, EXTENDED_MARGIN, [645.57], id="a print from before a split"),
        pytest.param((0.01, 93.0), (92.2, 92.5), DAY, REGULAR_MARGIN, [0.01], id="a stub quote"),
        pytest.param((0.5, 400.0), (92.2, 92.5), DAY, REGULAR_MARGIN, [0.5, 400.0], id="both ends"),
        pytest.param((85.0, 93.0), (92.2, 92.5), PriceRange(85.0, 93.0), REGULAR_MARGIN, [], id="a flash crash"),
        pytest.param((60.0, 93.0), (61.0, 93.0), None, REGULAR_MARGIN, [], id="a crash that stays"),
        pytest.param((1.3, 1.6), (1.7, 2.4), DAY, EXTENDED_MARGIN, [], id="thin hours with wide spreads"),
        pytest.param((81.0, 93.0), (92.2, 92.5), None, EXTENDED_MARGIN, [], id="just within the margin"),
    ],
)
def test_only_prices_far_from_the_day_and_the_neighbours_are_named(bar, near, day, factor, expected):
    found, usual = implausible(PriceRange(*bar), PriceRange(*near), day, factor)
    assert found == expected
    assert usual.lowest <= near[0] <= near[1] <= usual.highest


PRICES = st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6)).map(lambda p: PriceRange(*sorted(p)))


@given(PRICES, PRICES, st.none() | PRICES, st.sampled_from([REGULAR_MARGIN, DAY_MARGIN]), st.sampled_from([2.0, 0.25]))
def test_the_unit_of_prices_does_not_matter_and_neighbours_are_plausible(bar, near, day, factor, unit):
    def scaled(prices):
        return prices and PriceRange(prices.lowest * unit, prices.highest * unit)

    found, _ = implausible(bar, near, day, factor)
    assert implausible(scaled(bar), scaled(near), scaled(day), factor)[0] == [price * unit for price in found]
    assert implausible(near, near, day, factor)[0] == []


def test_margins_follow_the_hours_of_new_york():
    summer, winter = datetime(2025, 6, 30, 13, 30, tzinfo=UTC), datetime(2025, 1, 15, 13, 30, tzinfo=UTC)
    margins = [margin(Kind.STOCKS, MINUTE_1, at) for at in (summer, winter)]
    assert margins == [REGULAR_MARGIN, EXTENDED_MARGIN]
    assert margin(Kind.CRYPTO, MINUTE_1, summer) == EXTENDED_MARGIN
    assert margin(Kind.STOCKS, DAY_1, summer) == DAY_MARGIN
    assert [least_margin(t) for t in (MINUTE_1, DAY_1)] == [REGULAR_MARGIN, DAY_MARGIN]
