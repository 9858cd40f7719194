"""One partitions definition a market: its session days x its symbols."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time

import dagster as dg

from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.universe import Market, Symbol

DATE = "date"
SYMBOL = "symbol"

WEEKENDS = "0 0 * * 6,0"
"""Cron form of the midnights of Saturdays and Sundays, as Dagster's exclusions take them."""


def session_days(market: Market, calendar: Calendar) -> dg.DailyPartitionsDefinition:
    """A day partition for every session of the market: closed days do not exist, so that a missing one is a gap.

    A partition's key is the session's day in the market's own zone. Its window is laid in UTC: so it is there from 00:00 UTC,
    which for New York is 19:00 or 20:00 of the same day. In the market's zone it would be there only hours after a session
    has finished and can be asked for.
    """
    exclusions: list[str | datetime] = [] if calendar.hours.weekends else [WEEKENDS]
    exclusions += [datetime.combine(d, time(0)) for d in calendar.closed_days()]
    return dg.DailyPartitionsDefinition(
        start_date=market.start.isoformat(), timezone="UTC", exclusions=exclusions or None
    )


def market_partitions(market: Market, calendar: Calendar) -> dg.MultiPartitionsDefinition:
    """Session day x symbol, symbols in the universe's order."""
    symbols = dg.StaticPartitionsDefinition([s.name for s in market.symbols])
    return dg.MultiPartitionsDefinition({DATE: session_days(market, calendar), SYMBOL: symbols})


def partition_key(session: date, symbol: Symbol) -> dg.MultiPartitionKey:
    """The key of one cell."""
    return dg.MultiPartitionKey({DATE: session.isoformat(), SYMBOL: symbol.name})


def cells(keys: Iterable[str], market: Market) -> dict[Symbol, tuple[date, ...]]:
    """Partition keys as sessions a symbol, ascending, symbols in the universe's order."""
    days: dict[str, set[date]] = {}
    for key in keys:
        # Both dimensions stand in the key in alphabetical order: date|symbol.
        day, _, name = key.partition("|")
        days.setdefault(name, set()).add(date.fromisoformat(day))
    return {s: tuple(sorted(days[s.name])) for s in market.symbols if s.name in days}
