"""Requests for the markets, symbols, timeframes and days that a user selects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.retries import USUAL, Retries
from backfill_assets.domain.selection import Selection
from backfill_assets.domain.sessions import HOURS
from backfill_assets.domain.sources import POLYGON
from backfill_assets.domain.text import suggestion
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Market, Universe
from backfill_assets.pipelines.backfill_request import BackfillRequest, market_calendar


def backfill_requests(
    options: Selection, universe: Universe, now: datetime, retries: Retries = USUAL, *, flat_files: bool = True
) -> list[BackfillRequest]:
    """Return a request for each selected market, over its finished sessions, of which there may be none.

    `flat_files`: whether there is an access key for them. Without one, a market that has the REST API too uses that.

    Raises UsageMistake if options contradict each other, a name is not in the universe or the days are in the future.
    """
    if options.days is not None and options.start is not None:
        raise UsageMistake("--days and --start exclude each other: give one of them.")
    if options.start and options.end and options.end < options.start:
        raise UsageMistake(f"--end {options.end} is before --start {options.start}.")
    require_known("Market", options.markets or (), [m.name for m in universe.markets], "the universe")
    chosen = [m for m in universe.markets if not options.markets or m.name in options.markets]
    place = "the selected markets" if options.markets else "the universe"
    require_known("Symbol", options.symbols or (), [s.name for m in chosen for s in m.symbols], place)
    chosen = [m for m in chosen if not options.symbols or any(s.name in options.symbols for s in m.symbols)]
    for name in options.timeframes or ():
        if name not in TIMEFRAMES:
            raise UsageMistake(f"Timeframe {name!r} is unknown: there are {', '.join(TIMEFRAMES)}.")
        if not any(name == t.name for m in chosen for t in m.timeframes):
            raise UsageMistake(f"Timeframe {name} is not in the universe for {', '.join(m.name for m in chosen)}.")
    if options.start and all(options.start > _today(m, now) for m in chosen):
        raise UsageMistake(f"--start {options.start} is in the future.")
    requests = [o for o in (_request(market, options, now, retries) for market in chosen) if o.timeframes]
    return [r if flat_files or POLYGON not in r.market.sources else replace(r, files={}) for r in requests]


def _today(market: Market, now: datetime) -> date:
    return now.astimezone(HOURS[market.kind].zone).date()


def _request(market: Market, options: Selection, now: datetime, retries: Retries) -> BackfillRequest:
    trading = market_calendar(market, now.date())
    newest, today = trading.last_finished(now), _today(market, now)
    end = min(options.end or today, newest or today)
    start = options.start or market.start
    if options.days is not None:
        start = end - timedelta(days=min(options.days - 1, (end - date.min).days))
    sessions: tuple[date, ...] = ()
    if newest is not None and max(start, market.start) <= end:
        sessions = trading.within(DayRange(max(start, market.start), end))
    symbols = [s for s in market.symbols if not options.symbols or s.name in options.symbols]
    timeframes = tuple(t for t in market.timeframes if not options.timeframes or t.name in options.timeframes)
    return BackfillRequest(market, trading, dict.fromkeys(symbols, sessions), timeframes, now, retries=retries)


def require_known(what: str, names: Iterable[str], known: list[str], place: str) -> None:
    """Raise UsageMistake for a name that is not known."""
    for name in names:
        if name not in known:
            raise UsageMistake(f"{what} {name!r} is not in {place}; {suggestion(name, known)}")
