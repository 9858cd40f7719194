"""Mark the feature rows that a change affects as stale, in the transaction of the change.

The value of a feature depends on its bar and on the bars before it: those of its look-back window, and all of its session. So
an inserted or changed bar affects itself, as many bars after it as the look-back has, and the rest of its session; a split
affects as many bars from its ex-date on. Features of daily and weekly bars look at the complete history, so there a change
affects everything after it. Weeks are computed from days if there are splits, so a day affects its week even if the stored
weekly bar does not change.
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
    """Mark the rows affected by bars that were written between each first and last bar start (UTC, both included).

    `zone` is the market's, whose days are sessions. Without it a session is assumed to last 25 hours, the longest possible.
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
    """Mark the rows of every series of the symbol affected by a split whose ex-date begins at an instant (UTC)."""
    values = {"symbol": symbol, "at": at, "look_back": LOOK_BACK, "endless": _ENDLESS, "week": WEEK_1.name}
    connection.execute(SQL["mark_after"], values)
