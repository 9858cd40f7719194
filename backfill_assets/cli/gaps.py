"""`backfill gaps`: what is missing, why, and when it is fetched again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    counted,
    iso,
    output_console,
    plain_table,
    print_json,
    show_details,
    until,
)
from backfill_assets.cli.selection import select
from backfill_assets.domain.gaps import Gap, merge_timeframes, unexplained
from backfill_assets.domain.timeframes import ranges
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.gaps import Watched, current_gaps
from backfill_assets.pipelines.listings import known_listings


def gaps_command(options: Options, *, as_json: bool) -> int:
    """List gaps. Returns the exit code."""
    settings, _, requests = select(options)
    with GapStore(database.ready(settings), read_only=True) as store:
        found = [gap for request in requests for gap in requested_gaps(store, request)]
    if as_json:
        print_json([gap_json(gap) for gap in found])
    else:
        _show(found, datetime.now(UTC))
    return DAYS_MISSING if unexplained(found) else COMPLETE


def requested_gaps(store: Store, request: BackfillRequest) -> list[Gap]:
    """Return the gaps of the request's market, over all its sessions, in the requested symbols and timeframes."""
    market = request.market
    watched = Watched(market, request.calendar, known_listings(store, market), request.retries)
    names, timeframes = set(request.names), {t.name for t in request.timeframes}
    found = current_gaps(store, watched, request.now)
    return [gap for gap in found if gap.symbol in names and gap.timeframe in timeframes]


def gap_json(gap: Gap) -> dict[str, object]:
    """Return a gap as JSON: days are ISO dates, times ISO 8601 in UTC."""
    return {
        "symbol": gap.symbol,
        "timeframe": gap.timeframe,
        "start": gap.days.start.isoformat(),
        "end": gap.days.end.isoformat(),
        "sessions": gap.sessions,
        "reason": gap.reason.value,
        "detail": gap.detail,
        "explained": gap.explained,
        "attempts": gap.attempts,
        "next_attempt_at": iso(gap.next_attempt_at),
    }


def _show(gaps: Sequence[Gap], now: datetime) -> None:
    """Print a table with one row for all timeframes of a symbol with the same gap, the unexplained first."""
    if not gaps:
        sys.stdout.write("Nothing is missing.\n")
        return
    names = ("symbol", "timeframes", "missing", "days", "reason", "tries", "next try")
    table = plain_table(*names, right=["days", "tries"])
    merged = merge_timeframes(gaps)
    for gap, timeframes in merged:
        colour = "yellow" if gap.explained else "red"
        due = until(None if gap.explained else gap.next_attempt_at, now)
        numbers = (f"{gap.sessions:,}", f"[{colour}]{gap.reason.value}[/]", str(gap.attempts), due)
        table.add_row(gap.symbol, ranges(timeframes), str(gap.days), *numbers)
    output_console().print(table)
    show_details(output_console(), gaps)
    if still_open := unexplained(gap for gap, _ in merged):
        sys.stdout.write(f"{counted(len(still_open), 'unexplained gap')}. To fetch them now: `backfill repair`\n")
