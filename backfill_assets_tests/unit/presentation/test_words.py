"""Shares, sentences and commands."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.completeness import Counts
from backfill_assets.presentation.words import cell, instant, percent, repair_command, tally
from backfill_assets_tests.unit.presentation.examples import complete, incomplete

some_counts = st.builds(Counts, *[st.integers(0, 200_000)] * 4)


@given(some_counts, st.booleans())
def test_a_share_is_rounded_down_and_whole_only_where_nothing_lacks(counts, tenths):
    told = percent(counts, tenths=tenths)
    assert (told == "100%") is (counts.complete == counts.expected)
    if counts.expected:
        true = 100 * Fraction(counts.complete, counts.expected)
        step = Fraction(1, 10) if tenths and counts.complete < counts.expected else 1
        assert 0 <= true - Fraction(told.removesuffix("%")) < step


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (Counts(complete=7), "✓"),
        (Counts(), "·"),
        (Counts(complete=999, explained=1), "~ 99.9%"),
        (Counts(complete=2, explained=5, partial=1), "✗ 25.0%"),
        (Counts(missing=3), "✗ 0.0%"),
    ],
)
def test_a_series_is_told_in_a_cell(counts, told):
    assert cell(counts) == told


def test_a_market_is_told_in_a_sentence():
    assert tally(Counts(complete=1200)) == "100% complete of 1,200 sessions"
    assert tally(Counts(1199, 4, 0, 2)) == "99.5% complete; 2 missing, 4 explained of 1,205 sessions"


def test_instants_are_told_in_utc():
    east = timezone(timedelta(hours=9))
    assert instant(datetime(2025, 6, 30, 8, 59, 59, tzinfo=east)) == "2025-06-29 23:59"
    assert instant(datetime(2025, 6, 30, tzinfo=UTC)) == "2025-06-30 00:00"
    assert instant(None) == ""


def test_the_command_names_each_symbol_that_something_is_to_be_done_about_once():
    assert repair_command(incomplete().gaps) == "backfill repair --symbols AAPL"
    assert repair_command(complete().gaps) == ""
