"""Answers compared with their requests: whose bars they are, of which days, on which grid."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from backfill_assets.adapters.polygon import failures
from backfill_assets.domain.bars import BadBar, Bars, Int
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.errors import ContradictoryAnswer
from backfill_assets.domain.sessions import HOURS, Kind, day_starts
from backfill_assets.domain.timeframes import Base, Timeframe

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

    from backfill_assets.adapters.polygon.wire import GroupedDay, Page

_NEAR = 7 * 86_400_000  # ms; the vendor rounds a range outwards to its bars, which span a week at the most


@dataclass(frozen=True, slots=True, eq=False)
class Requested:
    """What a page has to be about.

    days   midnight of each requested day and of the day after, in the market's zone: int64 (n + 1,)
    since  no bar of the page may be before it: midnight of the day on which the page before it ended

    All times are milliseconds since the epoch, UTC.
    """

    ticker: str
    timeframe: Timeframe
    days: Int
    since: int

    @classmethod
    def range(cls, ticker: str, timeframe: Timeframe, start: date, end: date) -> Requested:
        """Return what the first page of a range has to be about."""
        zone = HOURS[Kind.CRYPTO if ticker.startswith("X:") else Kind.STOCKS].zone
        days = day_starts([*DayRange(start, end), end + ONE_DAY], zone)
        return cls(ticker, timeframe, days, int(days[0]))

    def inside(self, timestamps: Int, margin: int = 0) -> NDArray[np.bool_]:
        """Return which times are of the requested days, or at most `margin` ms away."""
        found: NDArray[np.bool_] = (timestamps >= self.days[0] - margin) & (timestamps < self.days[-1] + margin)
        return found

    def after(self, page: Page) -> Requested:
        """Return what the page that follows has to be about."""
        latest = page.bars.timestamp[self.inside(page.bars.timestamp)].max(initial=self.since)
        return replace(self, since=int(self.days[np.searchsorted(self.days, latest, side="right") - 1]))

    def checked(self, page: Page) -> Page:
        """Return the page, with those rows as `bad` whose time cannot be right.

        These are: rows more than a week outside the range; minutes that do not start on a whole minute, and days that do not
        start at midnight; all rows of a minute or a day that has several different ones. Other rows outside the range stay.
        Raises ContradictoryAnswer if the page is about another ticker, or leads back, or no row is of the requested days, or
        no row of them can be used.
        """
        failures.refuse_other_ticker(page.ticker, self.ticker)
        t = page.bars.timestamp
        inside, far = self.inside(t), ~self.inside(t, _NEAR)
        bad = np.array([bar.timestamp for bar in page.bad], dtype=np.int64)
        if len(t) + len(bad) and not inside.any() and not self.inside(bad).any():
            raise ContradictoryAnswer(
                f"none of its {len(t) + len(bad)} bars is of the requested days; a time is {[*t, *bad][0]}"
            )
        if t[inside].min(initial=self.since) < self.since:
            raise ContradictoryAnswer("it leads back to days before the page before it")
        off, several = self._off_grid(page.bars)
        wrong = far | (inside & (off | several))
        if not wrong.any() and not len(bad):
            return page
        found = [
            bar if near else replace(bar, timestamp=self.since)
            for bar, near in zip(page.bad, self.inside(bad, _NEAR), strict=True)
        ]
        unit = self.timeframe.base.value
        before = self.since
        for i in np.flatnonzero(wrong | inside).tolist():
            if far[i]:
                found.append(BadBar(before, "its time is far from the requested days"))
                continue
            before = int(t[i])
            if wrong[i]:
                reason = f"its {unit} has bars that differ" if several[i] else f"it does not start with a {unit}"
                found.append(BadBar(before, reason))
        if inside.any() and not (inside & ~wrong).any():
            raise ContradictoryAnswer(f"none of its {len(t)} bars can be used; of the last one, {found[-1].reason}")
        return replace(page, bars=page.bars.take(~wrong), bad=tuple(found))

    def _off_grid(self, bars: Bars) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which bars do not start with a minute or day, and which share theirs with a different bar."""
        t = bars.timestamp
        if self.timeframe.base is Base.MINUTE:
            step = self.timeframe.seconds * 1000
            cells = t // step
            off = cells * step != t
        else:
            cells = np.searchsorted(self.days, t, side="right")
            off = self.days[cells - 1] != t
        if bool(np.all(cells[1:] > cells[:-1])):
            return off, np.zeros(len(t), dtype=np.bool_)
        order = np.argsort(cells, kind="stable")
        cells_in_order, differs = cells[order], np.zeros(max(len(t) - 1, 0), dtype=np.bool_)
        for column in (getattr(bars, f.name)[order] for f in fields(bars)):
            differs |= (column[1:] != column[:-1]) & ~((column[1:] != column[1:]) & (column[:-1] != column[:-1]))
        shared = cells_in_order[1:][(cells_in_order[1:] == cells_in_order[:-1]) & differs]
        return off, np.isin(cells, shared)


def checked_day(grouped: GroupedDay, kind: Literal["stocks", "crypto"], day: date) -> GroupedDay:
    """Return the grouped day, with rows of another day as `bad`. Raises ContradictoryAnswer if all are of another day."""
    start, end = day_starts([day, day + ONE_DAY], HOURS[Kind(kind)].zone)
    inside = (grouped.bars.timestamp >= start) & (grouped.bars.timestamp < end)
    if bool(inside.all()):
        return grouped
    if not inside.any():
        raise ContradictoryAnswer(f"none of its {len(inside)} bars is of {day}")
    bad = {grouped.tickers[i]: "its time is of another day" for i in np.flatnonzero(~inside).tolist()}
    tickers = [ticker for ticker in grouped.tickers if ticker not in bad]
    return replace(grouped, tickers=tickers, bars=grouped.bars.take(inside), bad={**grouped.bad, **bad})
