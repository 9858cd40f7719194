"""`backfill gaps`: what is missing, why, and when it is fetched again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    counted,
    output_console,
    plain_table,
    print_json,
    show_details,
    until,
)
from backfill_assets.cli.selection import select
from backfill_assets.domain.gaps import Gap, merge_timeframes, unexplained
from backfill_assets.domain.timeframes import ranges
from backfill_assets.pipelines.status import requested_gaps
from backfill_assets.presentation.documents import gap_json


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
