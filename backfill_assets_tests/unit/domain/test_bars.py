import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.bars import Bars, clip, in_order
from backfill_assets_tests.unit.domain.frames import COLUMNS, assert_same, frame, rows

STAMPS = st.lists(st.integers(-5, 25), max_size=30)
LARGE = st.lists(st.integers(0, 2**42), max_size=30)


def test_empty_bars_have_all_columns_with_their_types():
    none = Bars.empty()
    assert len(none) == 0
    assert none.timestamp.dtype == none.trades.dtype == np.int64
    assert {getattr(none, c).dtype for c in COLUMNS[1:-1]} == {np.dtype(np.float64)}


def test_concatenation_keeps_the_order_of_its_parts():
    assert rows(Bars.concat(frame([3], [7]), Bars.empty(), frame([1, 2], [8, 9]))) == [(3, 7), (1, 8), (2, 9)]
    assert len(Bars.concat(Bars.empty(), Bars.empty())) == 0


@pytest.mark.parametrize(
    "chosen", [np.array([True, False, True]), np.array([0, 2]), slice(0, 3, 2)], ids=["mask", "index", "slice"]
)
def test_taken_rows_keep_their_columns_together(chosen):
    assert rows(frame([10, 20, 30]).take(chosen)) == [(10, 0), (30, 2)]


def test_taking_by_index_follows_the_index():
    assert rows(frame([10, 20, 30]).take(np.array([2, 0]))) == [(30, 2), (10, 0)]


def test_bars_in_order_are_returned_unchanged():
    for bars in (Bars.empty(), frame([5]), frame([1, 2, 9])):
        assert in_order(bars) is bars


@given(STAMPS | LARGE)
def test_ordering_agrees_with_a_dictionary(stamps):
    expected = sorted({t: mark for mark, t in enumerate(stamps)}.items())
    assert rows(in_order(frame(stamps))) == expected


@given(STAMPS, STAMPS)
def test_ordering_the_parts_first_changes_nothing(one, other):
    late = frame(other, [m + 100 for m in range(len(other))])
    complete = in_order(Bars.concat(frame(one), late))
    assert_same(in_order(Bars.concat(in_order(frame(one)), in_order(late))), complete)


@given(STAMPS, st.integers(-8, 28), st.integers(-8, 28))
def test_clipping_agrees_with_a_comparison_bar_by_bar(stamps, start, end):
    expected = [(t, mark) for mark, t in enumerate(stamps) if start <= t < end]
    assert rows(clip(frame(stamps), start, end)) == expected


def test_bars_inside_the_range_are_returned_unchanged():
    for bars in (Bars.empty(), frame([10, 19])):
        assert clip(bars, 10, 20) is bars


@given(STAMPS, st.integers(-8, 28), st.integers(-8, 28))
def test_clipping_and_ordering_commute(stamps, start, end):
    assert_same(in_order(clip(frame(stamps), start, end)), clip(in_order(frame(stamps)), start, end))
