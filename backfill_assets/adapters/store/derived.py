"""Write derived bars in the transaction of the bars that they are derived from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np

from backfill_assets.adapters.store.rows import Rows, instant
from backfill_assets.domain.bars import Bars
from backfill_assets.domain.derive import derive, week_end, week_start
from backfill_assets.domain.sessions import SessionBars, count_by_session, day_starts
from backfill_assets.domain.timeframes import WEEK_1, Timeframe

SOURCE = "derived"
"""The value of the column `source` for derived bars."""


def write_derived(
    source: Rows, timeframes: Sequence[Timeframe], sessions: Sequence[date], bars: Bars | None, finished: Sequence[date]
) -> None:
    """Derive the bars of `timeframes` that overlap the sessions, and record the sessions for each.

    `bars` are the source's bars of exactly these sessions; None if the table may hold more of them than the caller does.
    `finished` are the market's finished sessions, at least those of the weeks that are touched: a week is derived once all of
    its sessions are answered, and derived again when they change.
    """
    if not sessions:
        return
    for timeframe in timeframes:
        target = replace(source, timeframe=timeframe.name)
        if timeframe == WEEK_1:
            _write_weeks(source, target, sessions, finished)
            continue
        bars = source.read(sessions[0], sessions[-1]) if bars is None else bars
        made = derive(bars, timeframe, source.zone)
        target.merge(made, SOURCE)
        target.record(sessions, count_by_session(made, sessions, source.zone))


def _write_weeks(source: Rows, target: Rows, sessions: Sequence[date], finished: Sequence[date]) -> None:
    touched = {week_start(session) for session in sessions}
    due = [session for session in finished if week_start(session) in touched]
    answered = source.answered(due)
    complete = touched - {week_start(session) for session in due if session not in answered}
    if not complete:
        return
    made = derive(source.read(min(complete), week_end(max(complete))), WEEK_1, source.zone)
    stamps = dict(zip(ordered := sorted(complete), day_starts(ordered, source.zone).tolist(), strict=True))
    made = made.take(np.isin(made.timestamp, list(stamps.values())))
    target.merge(made, SOURCE)
    stored = set(made.timestamp.tolist())
    counts = [
        # Each session of a week is recorded with the week's bar.
        SessionBars(session, 1, instant(stamps[week_start(session)]), instant(stamps[week_start(session)]))
        for session in due
        if week_start(session) in complete and stamps[week_start(session)] in stored
    ]
    target.record([s for s in due if week_start(s) in complete], counts)
