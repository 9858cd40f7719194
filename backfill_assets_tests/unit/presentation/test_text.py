import re
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.completeness import Counts
from backfill_assets.presentation.calendar import data_uri, grid_of
from backfill_assets.presentation.text import cell, instant, markdown, percent, summary
from backfill_assets_tests.unit.presentation.examples import complete_market, incomplete_market

some_counts = st.builds(Counts, *[st.integers(0, 200_000)] * 4)


@given(some_counts, st.booleans())
def test_a_share_is_rounded_down_and_100_only_if_complete(counts, tenths):
    text = percent(counts, tenths=tenths)
    assert (text == "100%") is (counts.complete == counts.expected)
    if counts.expected:
        true = 100 * Fraction(counts.complete, counts.expected)
        step = Fraction(1, 10) if tenths and counts.complete < counts.expected else 1
        assert 0 <= true - Fraction(text.removesuffix("%")) < step


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts(complete=7), "✓"),
        (Counts(), "·"),
        (Counts(complete=999, explained=1), "~ 99.9%"),
        (Counts(complete=2, explained=5, partial=1), "✗ 25.0%"),
        (Counts(missing=3), "✗ 0.0%"),
    ],
)
def test_a_cell_is_a_glyph_and_a_share(counts, text):
    assert cell(counts) == text


def test_summary():
    assert summary(Counts(complete=1200)) == "100% complete of 1,200 sessions"
    assert summary(Counts(1199, 4, 0, 2)) == "99.5% complete; 2 missing, 4 explained of 1,205 sessions"
    assert summary(Counts(3, fallback=1)) == "75.0% complete; 1 from a fallback of 4 sessions"


def test_instants_are_in_utc():
    east = timezone(timedelta(hours=9))
    assert instant(datetime(2025, 6, 30, 8, 59, 59, tzinfo=east)) == "2025-06-29 23:59"
    assert instant(datetime(2025, 6, 30, tzinfo=UTC)) == "2025-06-30 00:00"
    assert instant(None) == ""


NO_BREAK = "\N{NO-BREAK SPACE}"


def table(text):
    """The cells of the table by row."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace(NO_BREAK, " ") for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_markdown_table_has_a_row_per_symbol_and_a_column_per_timeframe():
    head, alignments, *rows = table(markdown(incomplete_market()))
    assert head[:9] == ["symbol", "1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"]
    assert head[9:] == ["open gaps", "explained", "last bar (UTC)"]
    assert all(re.fullmatch(":--|--:", side) for side in alignments)
    assert rows == [
        ["AAPL", *["✗ 98.9%"] * 6, "✓", "✓", "2", "0", "2025-06-30 23:59"],
        ["MSFT", *["~ 99.7%"] * 6, "✓", "✓", "0", "1", "2025-06-30 23:59"],
        ["NVDA", *["✓"] * 8, "0", "0", "2025-06-30 23:59"],
        ["SPY", *["✓"] * 8, "0", "0", "none"],
    ]


def test_markdown_starts_with_the_summary_and_embeds_the_calendar():
    found = incomplete_market()
    first, picture = markdown(found).splitlines()[0:3:2]
    assert first == "2024-01-02 to 2025-06-30: 99.6% complete; 3 missing, 1 partial, 1 explained of 1,309 sessions."
    alternative, address = re.fullmatch(r"!\[([^\[\]]+)\]\(([^()\s]+)\)", picture).groups()
    assert alternative == f"stocks, {first.removesuffix('.')}"
    assert address == data_uri(grid_of(found), first.removesuffix("."))


def test_the_markdown_of_a_small_market_opens_in_a_dialog():
    """The Dagster UI squeezes texts of fewer than 1,000 characters into a row."""
    assert len(markdown(complete_market())) >= 1000
