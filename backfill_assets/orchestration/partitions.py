"""The partitions of a market, session days by symbols, and marking single ones as materialized."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from typing import Any

import dagster as dg

from backfill_assets.adapters.store.feature_quality import FeatureSession
from backfill_assets.deployment.private_api import log_materializations
from backfill_assets.domain.answers import SessionAnswer
from backfill_assets.domain.sessions import Calendar
from backfill_assets.domain.sources import FALLBACKS
from backfill_assets.domain.universe import Archive, Market, Symbol

DATE = "date"
SYMBOL = "symbol"

WEEKENDS = "0 0 * * 6,0"
"""Cron schedule of Saturdays and Sundays, as Dagster's exclusions expect it."""


class MarketPartitions(dg.MultiPartitionsDefinition):
    """Session day by symbol. A run expands its range four times, for which the keys of the last range are kept."""

    _expanded: tuple[dg.PartitionKeyRange, Sequence[Any]] | None = None

    def get_partition_keys_in_range(
        self, partition_key_range: dg.PartitionKeyRange, dynamic_partitions_store: Any = None
    ) -> Sequence[Any]:
        """Return the keys of the rectangle between two corners."""
        expanded = self._expanded  # other threads may replace it
        if expanded is None or expanded[0] != partition_key_range:
            keys = super().get_partition_keys_in_range(partition_key_range, dynamic_partitions_store)
            expanded = self._expanded = partition_key_range, keys
        return expanded[1]


def session_days(market: Market | Archive, calendar: Calendar) -> dg.DailyPartitionsDefinition:
    """Return a partition for every session day of a market or archive. Closed days have none: a missing one is a gap.

    The key is the session's day in the market's time zone, but the window is in UTC: the partition exists from 24:00 UTC of
    the day, 19:00 or 20:00 in New York. In the market's zone it would exist only hours after the session can be fetched.
    """
    exclusions: list[str | datetime] = [] if calendar.hours.weekends else [WEEKENDS]
    exclusions += [datetime.combine(d, time(0)) for d in calendar.closed_days()]
    return dg.DailyPartitionsDefinition(
        start_date=market.start.isoformat(), timezone="UTC", exclusions=exclusions or None
    )


def months(market: Market) -> dg.MonthlyPartitionsDefinition:
    """Return a partition for every month of the market, the current one too; its key is the first day."""
    return dg.MonthlyPartitionsDefinition(market.start.replace(day=1).isoformat(), timezone="UTC", end_offset=1)


def market_partitions(market: Market, calendar: Calendar) -> MarketPartitions:
    """Return session day by symbol, symbols in the universe's order."""
    symbols = dg.StaticPartitionsDefinition([s.name for s in market.symbols])
    return MarketPartitions({DATE: session_days(market, calendar), SYMBOL: symbols})


def partition_key(session: date, symbol: Symbol) -> dg.MultiPartitionKey:
    """Return the key of a session and symbol."""
    return dg.MultiPartitionKey({DATE: session.isoformat(), SYMBOL: symbol.name})


def cells(keys: Iterable[str], market: Market) -> dict[Symbol, tuple[date, ...]]:
    """Group partition keys: sessions by symbol, ascending, symbols in the universe's order."""
    days: dict[str, set[date]] = {}
    for key in keys:
        # The dimensions are joined in alphabetical order: date|symbol.
        day, _, name = key.partition("|")
        days.setdefault(name, set()).add(date.fromisoformat(day))
    return {s: tuple(sorted(days[s.name])) for s in market.symbols if s.name in days}


type StoredSession = SessionAnswer | FeatureSession
"""A session with its number of bars, and the starts of the first and the last (aware)."""


def mark_materialized(
    context: dg.AssetExecutionContext, key: dg.AssetKey, sessions: Iterable[tuple[Symbol, StoredSession]]
) -> None:
    """Mark exactly these partitions as materialized, in one batch of writes. Any thread may call this.

    An asset's output is never yielded: Dagster would mark every partition of the run, and only at its end.
    """
    log_materializations(
        context,
        (
            dg.AssetMaterialization(key, partition=partition_key(s.session, symbol), metadata=_metadata(s))
            for symbol, s in sessions
        ),
    )


def _metadata(session: StoredSession) -> dict[str, dg.MetadataValue[Any]]:
    metadata: dict[str, dg.MetadataValue[Any]] = {"bars": dg.MetadataValue.int(session.bars)}
    if session.first and session.last:
        metadata["first_bar"] = dg.MetadataValue.timestamp(session.first)
        metadata["last_bar"] = dg.MetadataValue.timestamp(session.last)
    if fallback := session.filled_by:
        metadata["source"] = dg.MetadataValue.text(f"{fallback}; volume: {FALLBACKS[fallback].volume}")
    return metadata
