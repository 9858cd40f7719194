"""Completeness in few characters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from backfill_assets.domain.completeness import Completeness, Counts, SessionState
from backfill_assets.domain.gaps import Gap, unexplained

GLYPHS: Mapping[SessionState, str] = {
    SessionState.COMPLETE: "✓",
    SessionState.EXPLAINED: "~",
    SessionState.PARTIAL: "✗",
    SessionState.MISSING: "✗",
    SessionState.NOT_EXPECTED: "·",
}
"""Beside a colour, never instead of words alone: a gap is a gap in black and white too."""


def percent(counts: Counts, *, tenths: bool = True) -> str:
    """The complete share, rounded down: 100% is said of nothing that lacks a session."""
    if not counts.expected:
        return "100%"
    if tenths and counts.complete < counts.expected:
        whole, tenth = divmod(1000 * counts.complete // counts.expected, 10)
        return f"{whole}.{tenth}%"
    return f"{100 * counts.complete // counts.expected}%"


def cell(counts: Counts) -> str:
    """A series in a table: its glyph, and its share where that is not whole."""
    glyph = GLYPHS[counts.standing]
    return glyph if counts.complete == counts.expected else f"{glyph} {percent(counts)}"


def tally(counts: Counts) -> str:
    """A market's sessions in a sentence's part: `99.7% complete; 12 missing, 1 partial, 3 explained of 18,125 sessions`."""
    lacking = {"missing": counts.missing, "partial": counts.partial, "explained": counts.explained}
    told = ", ".join(f"{number:,} {name}" for name, number in lacking.items() if number)
    return f"{percent(counts)} complete{f'; {told}' if told else ''} of {counts.expected:,} sessions"


def span(found: Completeness) -> str:
    """The days that were looked at."""
    return f"{found.sessions[0]} to {found.sessions[-1]}" if found.sessions else "no finished session yet"


def instant(at: datetime | None) -> str:
    """An instant in UTC, to the minute; empty where there is none."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else ""


def repair_command(gaps: Iterable[Gap]) -> str:
    """What asks at once for the gaps that nothing explains; empty where there are none."""
    symbols = dict.fromkeys(gap.symbol for gap in unexplained(gaps))
    return f"backfill repair --symbols {','.join(symbols)}" if symbols else ""
