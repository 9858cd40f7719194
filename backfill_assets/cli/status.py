"""`backfill status`: how complete each symbol is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import (
    counted,
    output_console,
    plain_table,
    print_json,
    show_details,
    show_failed_checks,
    until,
    write_file,
)
from backfill_assets.cli.selection import select
from backfill_assets.domain.completeness import Completeness, Counts, Row, SessionState
from backfill_assets.domain.gaps import MOST_NAMED, merge_timeframes, repair_command, unexplained
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.pipelines.status import read_status
from backfill_assets.presentation.documents import status_exit_code, status_json
from backfill_assets.presentation.page import page
from backfill_assets.presentation.text import GLYPHS, instant, percent, span, summary

_COLOURS = {
    SessionState.COMPLETE: "green",
    SessionState.FALLBACK: "cyan",
    SessionState.EXPLAINED: "yellow",
    SessionState.PARTIAL: "red",
    SessionState.MISSING: "red",
    SessionState.NOT_EXPECTED: "dim",
}


def status_command(options: Options, *, as_json: bool, html: Path | None) -> int:
    """Show how complete each symbol is. Returns the exit code."""
    settings, universe, requests = select(options)
    now = datetime.now(UTC)
    with GapStore(database.ready(settings), read_only=True) as store:
        found, checks, orphans = read_status(store, universe, requests, now)
    if html is not None:
        write_file(html, page(found, checks), "--html")
        sys.stderr.write(f"Wrote {html}.\n")
    if as_json:
        print_json(status_json(found, checks, orphans))
    elif not any(row.last_bar or any(gap.attempts for gap in row.open_gaps) for market in found for row in market.rows):
        sys.stdout.write("Nothing fetched yet: `backfill run --days 30`\n")
    else:
        show_status(output_console(), found, now)
        show_failed_checks(output_console(), checks)
        if orphans:
            names = f"{', '.join(orphans[:MOST_NAMED])}{' …' if len(orphans) > MOST_NAMED else ''}"
            output_console().print(
                f"{counted(len(orphans), 'symbol')} stored, but not in the universe: {names}. See `backfill symbols list`.",
                soft_wrap=True,
            )
    return status_exit_code(found, checks)


def show_status(console: Console, found: Sequence[Completeness], now: datetime) -> None:
    """Print a line for each market and a table of symbols: 80 columns wide if symbols have up to 8 letters."""
    for market in found:
        console.print(f"{market.market}, {span(market)}: {summary(market.counts)}")
    shown = [name for name in TIMEFRAMES if any(name in market.timeframes for market in found)]
    table = plain_table("symbol", *shown, "gaps", "last bar (UTC)", "next try", right=["gaps"])
    table.padding = (0, 1, 0, 0)
    symbols, *others = table.columns
    symbols.overflow = "fold"
    for column in others:
        column.no_wrap = True
    for market in found:
        for row in market.rows:
            table.add_row(*_cells(row, shown, now))
    console.print(table)
    filled = any(market.counts.fallback for market in found)
    states = (SessionState.COMPLETE, *([SessionState.FALLBACK] if filled else []), SessionState.EXPLAINED)
    legend = [f"{_marked(GLYPHS[state], state)} {state.label}" for state in states]
    console.print(", ".join([*legend, f"{_marked('✗', SessionState.MISSING)} open gaps"]))
    gaps = [gap for market in found for gap in market.gaps]
    show_details(console, gaps)
    still_open = unexplained(gaps)
    if command := repair_command(
        (g.symbol for g in still_open), *(market.market for market in found if unexplained(market.gaps))
    ):
        number = counted(len(merge_timeframes(still_open)), "unexplained gap")
        console.print(f"{number}. To fetch them now:\n  {command}", soft_wrap=True)


def _cells(row: Row, shown: Sequence[str], now: datetime) -> list[str]:
    shares = {series.timeframe: _share(series.counts) for series in row.series}
    rest = [
        f"{len(merge_timeframes(row.open_gaps)):,}",
        instant(row.last_bar) or "none",
        until(row.next_attempt_at, now) if row.open_gaps else "",
    ]
    return [row.symbol, *(shares.get(name, "") for name in shown), *rest]


def _share(counts: Counts) -> str:
    glyph = _marked(GLYPHS[counts.worst], counts.worst)
    return glyph if counts.complete == counts.expected else f"{glyph}{percent(counts, tenths=False):>3}"


def _marked(text: str, state: SessionState) -> str:
    return f"[{_COLOURS[state]}]{text}[/]"
