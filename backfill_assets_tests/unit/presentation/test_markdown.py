"""What Dagit is given to show."""

import re

from backfill_assets.presentation.calendar import data_uri
from backfill_assets.presentation.grid import grid_of
from backfill_assets.presentation.markdown import matrix
from backfill_assets_tests.unit.presentation.examples import complete, incomplete

NO_BREAK = "\N{NO-BREAK SPACE}"


def table(text):
    """The cells of the table, row by row."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace(NO_BREAK, " ") for cell in row.strip("|").split(" | ")] for row in rows]


def test_the_table_has_a_row_a_symbol_and_a_column_a_timeframe():
    head, sides, *rows = table(matrix(incomplete()))
    assert head[:9] == ["symbol", "1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w"]
    assert head[9:] == ["open gaps", "explained", "last bar (UTC)"]
    assert all(re.fullmatch(":--|--:", side) for side in sides)
    assert rows == [
        ["AAPL", *["✗ 98.9%"] * 6, "✓", "✓", "12", "0", "2025-06-30 23:59"],
        ["MSFT", *["~ 99.7%"] * 6, "✓", "✓", "0", "1", "2025-06-30 23:59"],
        ["NVDA", *["✓"] * 8, "0", "0", "2025-06-30 23:59"],
        ["SPY", *["✓"] * 8, "0", "0", "none"],
    ]


def test_the_market_is_told_first_and_the_picture_is_part_of_the_text():
    found = incomplete()
    told, picture = matrix(found).splitlines()[0:3:2]
    assert told == "2024-01-02 to 2025-06-30: 99.6% complete; 3 missing, 1 partial, 1 explained of 1,309 sessions."
    alternative, address = re.fullmatch(r"!\[([^\[\]]+)\]\(([^()\s]+)\)", picture).groups()
    assert alternative == f"stocks, {told.removesuffix('.')}"
    assert address == data_uri(grid_of(found), told.removesuffix("."))


def test_even_a_small_market_opens_in_a_dialog():
    """Dagit squeezes a text of fewer than 1,000 characters into its row."""
    assert len(matrix(complete())) >= 1000
