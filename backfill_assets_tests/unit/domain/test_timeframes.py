import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.timeframes import TIMEFRAMES, ranges


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (TIMEFRAMES, "1m-1w"),
        (["1d", "4h", "1h", "30m", "15m", "5m", "1m"], "1m-1d"),
        (["1w", "1m"], "1m 1w"),
        (["1m", "5m", "1d", "1w"], "1m 5m 1d 1w"),
        (["1m", "15m", "30m", "1h", "1w"], "1m 15m-1h 1w"),
        ([], ""),
    ],
)
def test_three_or_more_consecutive_timeframes_are_a_range(names, text):
    assert ranges(names) == text


@given(st.sets(st.sampled_from(list(TIMEFRAMES))))
def test_ranges_name_exactly_the_given_timeframes(names):
    order, found = list(TIMEFRAMES), set()
    for part in ranges(names).split():
        first, _, last = part.partition("-")
        found |= set(order[order.index(first) : order.index(last or first) + 1])
    assert found == names
