"""Derived bars, written in the transaction of the bars that they come from.

What lives here: which stored bars a derived one needs, and writing it. What does not: the arithmetic (`domain.derive`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from backfill_assets.adapters.store.rows import Rows, Written, instant
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.derive import derive, week_end, week_start
from backfill_assets.domain.sessions import SessionBars, count_by_session, day_starts
from backfill_assets.domain.timeframes import WEEK_1, Timeframe

SOURCE = "derived"
"""What the column `source` says of bars that were made from others."""


def write_derived(
    source: Rows, timeframes: Sequence[Timeframe], sessions: Sequence[date], bars: Bars | None
) -> Written:
    """Make the bars of `timeframes` that touch the sessions, and record the sessions for each.

    `bars` are the source's bars of exactly these sessions; None where the table may hold more of them than the caller does.
    """
    total = Written()
    if not sessions:
        return total
    first, last = sessions[0], sessions[-1]
    for timeframe in timeframes:
        if timeframe == WEEK_1:
            stored = source.read(week_start(first), week_end(last))
        else:
            bars = source.read(first, last) if bars is None else bars
            stored = bars
        made = derive(stored, timeframe, source.zone)
        target = replace(source, timeframe=timeframe.name)
        total += target.merge(made, SOURCE)
        target.record(sessions, _counts(made, timeframe, sessions, source))
    return total


def _counts(made: Bars, timeframe: Timeframe, sessions: Sequence[date], source: Rows) -> list[SessionBars]:
    """Bars by session; of a weekly bar each of its week's sessions has one."""
    if timeframe != WEEK_1:
        return count_by_session(made, sessions, source.zone)
    weeks = set(made.timestamp.tolist())
    sundays = day_starts([week_start(s) for s in sessions], source.zone)
    return [
        SessionBars(session, 1, instant(sunday), instant(sunday))
        for session, sunday in zip(sessions, sundays, strict=True)
        if int(sunday) in weeks
    ]
