"""`backfill gaps`: what is missing, why, and when it is fetched again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rich.table import Table

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import output_console
from backfill_assets.cli.result import COMPLETE, DAYS_MISSING, counted, instant
from backfill_assets.cli.selection import backfill_requests
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.gaps import Watched, find_gaps, judge_minutes, series_of
from backfill_assets.pipelines.listings import known_listings


def gaps_command(options: Options, *, as_json: bool) -> int:
    """List gaps. Returns the exit code."""
    now = datetime.now(UTC)
    settings = Settings.read()
    universe = settings.universe(now.date())
    chosen = backfill_requests(options, universe, now, settings.retries)
    with GapStore(database.ready(settings)) as store:
        store.forget_others(series_of(universe))
        found = [gap for request in chosen for gap in gaps_meant(store, request)]
    if as_json:
        sys.stdout.write(json.dumps([gap_json(gap) for gap in found], indent=2) + "\n")
    else:
        show_gaps(found, now)
    return DAYS_MISSING if unexplained(found) else COMPLETE


def gaps_meant(store: Store, request: BackfillRequest) -> list[Gap]:
    """Return the gaps of the request's market, over all its sessions, in the requested symbols and timeframes."""
    market = request.market
    watched = Watched(market, request.calendar, known_listings(store, market), request.retries)
    if MINUTE_1 in market.timeframes:
        judge_minutes(SeriesStore.beside(store), [s.name for s in market.symbols], request.calendar)
    names, timeframes = {s.name for s in request.wanted}, {t.name for t in request.timeframes}
    found = find_gaps(GapStore.beside(store), watched, request.now)
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
        "explained": gap.explained,
        "attempts": gap.attempts,
        "next_attempt_at": gap.next_attempt_at.astimezone(UTC).isoformat() if gap.next_attempt_at else None,
    }


def show_gaps(gaps: Sequence[Gap], now: datetime) -> None:
    """Print a table with one row for all timeframes of a symbol with the same gap, the unexplained first."""
    if not gaps:
        sys.stdout.write("Nothing is missing.\n")
        return
    alike: dict[Gap, list[Gap]] = {}
    for gap in sorted(gaps, key=lambda g: (g.explained, g.symbol, g.days)):
        alike.setdefault(replace(gap, timeframe="", next_attempt_at=None), []).append(gap)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("symbol", "timeframes", "missing"):
        table.add_column(name)
    table.add_column("sessions", justify="right")
    table.add_column("reason")
    table.add_column("attempts", justify="right")
    table.add_column("next retry")
    for row, same in alike.items():
        colour = "yellow" if row.explained else "red"
        numbers = (str(row.sessions), f"[{colour}]{row.reason.value}[/]", str(row.attempts), _next_retry(same, now))
        table.add_row(row.symbol, " ".join(gap.timeframe for gap in same), str(row.days), *numbers)
    output_console().print(table)
    still_open = unexplained(gaps)
    if still_open:
        sys.stdout.write(f"{counted(len(still_open), 'unexplained gap')}. To fetch them now: `backfill repair`\n")


def _next_retry(gaps: Sequence[Gap], now: datetime) -> str:
    """Return when the first of the gaps is due."""
    at = min((gap.next_attempt_at for gap in gaps if gap.next_attempt_at and not gap.explained), default=None)
    if at is None:
        return "none"
    return "now" if at <= now else instant(at)
