"""Which jumps of the price are believed of a split."""

import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.split_jumps import LEAST_JUDGED, SplitJump

NIGHTS = st.floats(-0.08, 0.08)  # logarithms: an eventful night, not an extraordinary one


def jump(expected, seen):
    return SplitJump("NVDA", date(2024, 6, 10), expected, 100.0 * seen, 100.0)


@pytest.mark.parametrize(
    ("expected", "seen", "plausible"),
    [
        (10, 10, True),
        (10, 1, False),  # no split in the prices: doubled, or put off
        (10, 4, False),  # another ratio
        (20, 10, False),
        (0.125, 8, False),  # the wrong way round
        (0.125, 0.125, True),
        (2, 2 * 1.25, True),  # a bad night
        (2, 2 / 1.25, True),
        (2, 4, False),
        (1.5, 1.5, True),
        (1.5, 1, False),
        (50, 50 * 1.4, True),
        (50, 50 * 1.6, False),
    ],
)
def test_the_rule(expected, seen, plausible):
    assert jump(expected, seen).judged
    assert jump(expected, seen).plausible is plausible


@given(st.floats(1e-4, 1e4).filter(lambda r: abs(math.log(r)) >= LEAST_JUDGED), NIGHTS)
def test_every_split_that_happened_is_plausible_over_any_usual_night_and_none_that_did_not(ratio, night):
    assert jump(ratio, ratio * math.exp(night)).plausible
    assert not jump(ratio, math.exp(night)).plausible


@given(st.floats(math.exp(-0.2), math.exp(0.2)), st.floats(0.1, 10))
def test_ratios_near_one_are_not_judged(ratio, seen):
    assert not jump(ratio, seen).judged
    assert jump(ratio, seen).plausible


@pytest.mark.parametrize(("close", "opened"), [(None, 1.0), (1.0, None), (None, None)])
def test_without_a_bar_on_each_side_nothing_is_judged(close, opened):
    bare = SplitJump("NVDA", date(2024, 6, 10), 10.0, close, opened)
    assert (bare.seen, bare.judged, bare.plausible) == (None, False, True)
