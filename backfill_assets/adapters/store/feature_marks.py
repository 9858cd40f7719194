"""Marks on the feature rows that a change can reach, made in the transaction of the change.

The value of a feature depends on its bar and on those before it, as far as its window looks back, and back to its session's
first bar. So a bar that is added or changed reaches itself, so many bars after it, and what is left of its session; a split
reaches so many from its ex-date on. Of daily and weekly bars all history is looked at: there a change reaches everything
after it. Weeks are computed from days where there are splits, so a day reaches them too: its price may lie within a range
that the raw week, of prices before and after a split, has anyhow.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import psycopg

from backfill_assets.adapters.postgres import Row
from backfill_assets.adapters.sql import statements
from backfill_assets.domain.features.compute import LOOK_BACK, look_back
from backfill_assets.domain.timeframes import DAY_1, TIMEFRAMES, WEEK_1

SQL = statements("backfill_assets.adapters.store", "feature_marks.sql")

_ENDLESS = [t.name for t in TIMEFRAMES.values() if look_back(t) is None]


def mark_rows(
    connection: psycopg.Connection[Row],
    symbol: str,
    timeframe: str,
    first: Sequence[datetime],
    last: Sequence[datetime],
    zone: ZoneInfo | None = None,
) -> None:
    """Mark what bars reach that were written between each first and last bar start (UTC, both included).

    `zone` is the market's, whose days are sessions. Without it a session is taken to go on for 25 hours, as the longest does.
    """
    values = {
        "symbol": symbol,
        "timeframe": timeframe,
        "first": list(first),
        "last": list(last),
        "look_back": LOOK_BACK,
        "endless": timeframe in _ENDLESS,
        "zone": zone.key if zone else None,
    }
    connection.execute(SQL["mark_rows"], values)
    if timeframe == DAY_1.name:
        connection.execute(SQL["mark_weeks"], {"symbol": symbol, "week": WEEK_1.name, "first": min(first)})


def mark_after(connection: psycopg.Connection[Row], symbol: str, at: datetime) -> None:
    """Mark what a split reaches whose ex-date begins at an instant (UTC), in every series of the symbol."""
    values = {"symbol": symbol, "at": at, "look_back": LOOK_BACK, "endless": _ENDLESS, "week": WEEK_1.name}
    connection.execute(SQL["mark_after"], values)
