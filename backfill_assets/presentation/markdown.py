"""Completeness as Markdown, for Dagit.

Read off dagster-webserver 1.13: its sanitizer lets `data:` pass in an image's source; a text of 1,000 characters and more
opens in a dialog, a shorter one is squeezed into its row. The picture makes every text a long one.
"""

from __future__ import annotations

from collections.abc import Iterable

from backfill_assets.domain.completeness import Completeness, Row
from backfill_assets.presentation.calendar import data_uri
from backfill_assets.presentation.grid import grid_of
from backfill_assets.presentation.words import cell, instant, span, tally

_NO_BREAK = "\N{NO-BREAK SPACE}"


def matrix(found: Completeness) -> str:
    """The calendar as an image that the text itself holds; below it symbols down, timeframes across, complete shares."""
    told = f"{span(found)}: {tally(found.counts)}"
    names = ["symbol", *found.timeframes, "open gaps", "explained", "last bar (UTC)"]
    sides = [":--", *(":--" for _ in found.timeframes), "--:", "--:", ":--"]
    return "\n".join(
        [
            f"{told}.",
            "",
            f"![{found.market}, {told}]({data_uri(grid_of(found), told)})",
            "",
            _line(names),
            _line(sides),
            *(_line(_cells(row)) for row in found.rows),
            "",
            "✓ complete, ~ explained, ✗ open gaps; the share is that of expected sessions with whole bars.",
        ]
    )


def _cells(row: Row) -> list[str]:
    shares = [cell(series.counts) for series in row.series]
    return [row.symbol, *shares, str(len(row.open_gaps)), str(row.counts.explained), instant(row.last_bar) or "none"]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(c.replace(' ', _NO_BREAK) for c in cells)} |"
