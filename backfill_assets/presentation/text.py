"""Completeness as plain text, and as Markdown for the Dagster UI.

The UI (dagster-webserver 1.13) allows `data:` URIs in images. It opens texts of 1,000 characters and more in a dialog and
squeezes shorter ones into a table row; with the calendar, every text is long enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from backfill_assets.domain.completeness import Completeness, Counts, Row, SessionState
from backfill_assets.domain.gaps import merge_timeframes
from backfill_assets.presentation.calendar import data_uri, grid_of

GLYPHS: Mapping[SessionState, str] = {
    SessionState.COMPLETE: "✓",
    SessionState.FALLBACK: "◆",
    SessionState.EXPLAINED: "~",
    SessionState.PARTIAL: "✗",
    SessionState.MISSING: "✗",
    SessionState.NOT_EXPECTED: "·",
}
"""Shown beside colours, so that gaps are visible in black and white too."""

_NO_BREAK = "\N{NO-BREAK SPACE}"


def percent(counts: Counts, *, tenths: bool = True) -> str:
    """Format the complete share, rounded down: 100% only if every session is complete."""
    if not counts.expected:
        return "100%"
    if tenths and counts.complete < counts.expected:
        number, tenth = divmod(1000 * counts.complete // counts.expected, 10)
        return f"{number}.{tenth}%"
    return f"{100 * counts.complete // counts.expected}%"


def cell(counts: Counts) -> str:
    """Format a series in a table: its glyph, and its share if it is incomplete."""
    glyph = GLYPHS[counts.worst]
    return glyph if counts.complete == counts.expected else f"{glyph} {percent(counts)}"


def summary(counts: Counts) -> str:
    """Format a market's sessions: `99.7% complete; 12 missing, 1 partial, 3 explained of 18,125 sessions`."""
    incomplete = {"missing": counts.missing, "partial": counts.partial}
    incomplete |= {"explained": counts.explained, "from a fallback": counts.fallback}
    listed = ", ".join(f"{number:,} {name}" for name, number in incomplete.items() if number)
    return f"{percent(counts)} complete{f'; {listed}' if listed else ''} of {counts.expected:,} sessions"


def span(found: Completeness) -> str:
    """Format the first and last session."""
    return f"{found.sessions[0]} to {found.sessions[-1]}" if found.sessions else "no finished session yet"


def instant(at: datetime | None) -> str:
    """Format a time in UTC, to the minute; empty for None."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else ""


def next_attempt(at: datetime | None, now: datetime) -> str:
    """Format when an attempt is due: `now`, a time in UTC, or `none`."""
    return "none" if at is None else "now" if at <= now else instant(at)


def markdown(found: Completeness) -> str:
    """Format a market as Markdown: the calendar as an embedded image, and a table of symbols and timeframes."""
    title = f"{span(found)}: {summary(found.counts)}"
    names = ["symbol", *found.timeframes, "open gaps", "explained", "last bar (UTC)"]
    alignments = [":--", *(":--" for _ in found.timeframes), "--:", "--:", ":--"]
    return "\n".join(
        [
            f"{title}.",
            "",
            f"![{found.market}, {title}]({data_uri(grid_of(found), title)})",
            "",
            _line(names),
            _line(alignments),
            *(_line(_cells(row)) for row in found.rows),
            "",
            "✓ complete, ◆ from a fallback, ~ explained, ✗ open gaps; shares are of expected sessions that are complete.",
        ]
    )


def _cells(row: Row) -> list[str]:
    shares = [cell(series.counts) for series in row.series]
    return [
        row.symbol,
        *shares,
        str(len(merge_timeframes(row.open_gaps))),
        str(row.counts.explained),
        instant(row.last_bar) or "none",
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(c.replace(' ', _NO_BREAK) for c in cells)} |"
