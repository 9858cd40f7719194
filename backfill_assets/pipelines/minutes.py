"""Find sessions with too few minute bars, and mark them as partial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.minutes import likely_minutes, partial
from backfill_assets.domain.sessions import Calendar


@dataclass(frozen=True, slots=True)
class ThinSession:
    """A session with far fewer minute bars than is likely from the symbol's other sessions."""

    symbol: str
    session: date
    bars: int
    likely: int


def judge_minutes(store: SeriesStore, symbols: Sequence[str], calendar: Calendar) -> list[ThinSession]:
    """Examine all stored sessions of the symbols, update their marks, and return the partial sessions, ascending."""
    found: list[ThinSession] = []
    marks: dict[tuple[str, date], bool] = {}
    for symbol, counts in sorted(store.minute_counts(symbols, calendar.span).items()):
        judged = [c for c in counts if c.session in calendar]
        bars = np.array([c.bars for c in judged], np.int64)
        regular = np.array([calendar.regular_minutes(c.session) for c in judged], np.int64)
        likely, _ = likely_minutes(bars, regular)
        thin = partial(bars, regular)
        for i, count in enumerate(judged):
            if thin[i]:
                found.append(ThinSession(symbol, count.session, count.bars, round(float(likely[i]))))
            if bool(thin[i]) != count.partial:
                marks[symbol, count.session] = bool(thin[i])
    store.mark_partial(marks)
    return found
