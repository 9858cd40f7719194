"""Splits and dividends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.feature_marks import mark_after
from backfill_assets.domain.corporate_actions import (
    ActionChanges,
    ActionKind,
    CorporateAction,
    KnownAction,
    ListedActions,
    SplitJump,
    compare,
)
from backfill_assets.domain.universe import Symbol

SQL = statements("backfill_assets.adapters.store", "corporate_actions.sql")


@dataclass(frozen=True, slots=True)
class StoredAction:
    """A corporate action with its history; times are UTC. A withdrawn one has no effect."""

    action: CorporateAction
    first_seen: datetime
    changed_at: datetime
    withdrawn_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """The ticker that was requested for a symbol, from which ex-date on, and when (UTC) it was last answered completely."""

    ticker: str
    since: date
    checked_at: datetime


class CorporateActionStore(Store):
    """The tables `corporate_events` and `corporate_event_lookups`."""

    def read(self, symbols: Iterable[str]) -> list[StoredAction]:
        """Return all actions of the symbols, withdrawn ones too, ascending by symbol and ex-date."""
        return self._transaction(lambda connection: _actions(connection, symbols))

    def lookups(self, symbols: Iterable[str]) -> dict[str, Lookup]:
        """Return the last lookup of each symbol that has one."""
        values = {"symbols": list(symbols)}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["lookups"], values).fetchall())
        return {symbol: Lookup(*lookup) for symbol, *lookup in rows}

    def record(
        self, symbols: Iterable[str], listed: ListedActions, answered: Iterable[Symbol], now: datetime, zone: ZoneInfo
    ) -> ActionChanges:
        """Write what an answer changes in the actions of the symbols, and the `answered` lookups; return the changes.

        The same transaction marks the features that new and withdrawn splits affect, from their ex-dates in `zone` on.
        Recording the same answer again changes and marks nothing.
        """
        names, lookups = list(symbols), list(answered)

        def work(connection: psycopg.Connection[Row]) -> ActionChanges:
            connection.execute(SQL["lock_events"])
            known = [KnownAction(s.action, s.withdrawn_at is not None) for s in _actions(connection, names)]
            changes = compare(known, listed)
            written = (*changes.new, *changes.changed, *changes.returned)
            with connection.cursor() as cursor:
                cursor.executemany(SQL["write_event"], [_row(action, now) for action in written])
                cursor.executemany(SQL["withdraw_event"], [_row(action, now) for action in changes.withdrawn])
                cursor.executemany(
                    SQL["record_lookup"],
                    [
                        {"symbol": s.name, "ticker": s.tickers, "since": listed.since, "checked_at": now}
                        for s in lookups
                    ],
                )
            for symbol, day in changes.split_days:
                mark_after(connection, symbol, datetime.combine(day, time(0), zone).astimezone(UTC))
            return changes

        return self._transaction(work)

    def split_jumps(self, symbols: Iterable[str], until: date, zone: ZoneInfo) -> list[SplitJump]:
        """Return the ratio of each day with splits up to `until`, and the raw daily prices within a week on both sides.

        Days start in `zone`. Ascending by symbol and day.
        """
        values = {"symbols": list(symbols), "until": until, "zone": zone.key}
        rows: list[Any] = self._transaction(lambda c: c.execute(SQL["split_jumps"], values).fetchall())
        return [SplitJump(*row) for row in rows]


def _actions(connection: psycopg.Connection[Row], symbols: Iterable[str]) -> list[StoredAction]:
    rows: list[Any] = connection.execute(SQL["events"], {"symbols": list(symbols)}).fetchall()
    return [
        StoredAction(CorporateAction(symbol, ActionKind(kind), *values), first_seen, changed_at, withdrawn_at)
        for symbol, kind, *values, first_seen, changed_at, withdrawn_at in rows
    ]


def _row(action: CorporateAction, now: datetime) -> Mapping[str, object]:
    return asdict(action) | {"kind": action.kind.value, "size": action.size, "now": now}
