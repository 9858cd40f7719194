"""Answers compared with their requests: whose bars they are, of which days, on which grid."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from backfill_assets.adapters.polygon import failures
from backfill_assets.adapters.polygon.wire import GroupedDay, Page, neighbours
from backfill_assets.domain.bars import BadBar, Bars, Int
from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.errors import ContradictoryAnswer
from backfill_assets.domain.sessions import HOURS, Kind, day_starts
from backfill_assets.domain.timeframes import Base, Timeframe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray


_AROUND = 8  # days; more than `_NEAR`
_NEAR = 7 * 86_400_000  # ms; the vendor rounds a range outwards to its bars, which span a week at the most


@dataclass(frozen=True, slots=True, eq=False)
class Requested:
    """What a page has to be about.

    first, end  midnight of the first requested day, and of the day after the last one, in the market's zone
    since       no bar of the page may be before it: the last bar of the page before it
    midnights   of the requested days and those around them: int64 (n,)

    All times are milliseconds since the epoch, UTC.
    """

    ticker: str
    timeframe: Timeframe
    first: int
    end: int
    since: int
    midnights: Int

    @classmethod
    def range(cls, ticker: str, timeframe: Timeframe, start: date, end: date) -> Requested:
        """Return what the first page of a range has to be about."""
        zone = HOURS[Kind.CRYPTO if ticker.startswith("X:") else Kind.STOCKS].zone
        around = DayRange(start - _AROUND * ONE_DAY, end + (_AROUND + 1) * ONE_DAY)
        midnights = day_starts(list(around), zone)
        first, after = int(midnights[_AROUND]), int(midnights[-1 - _AROUND])
        return cls(ticker, timeframe, first, after, first, midnights)

    def inside(self, timestamps: Int, margin: int = 0) -> NDArray[np.bool_]:
        """Return which times are of the requested days, or at most `margin` ms away."""
        inside: NDArray[np.bool_] = (timestamps >= self.first - margin) & (timestamps < self.end + margin)
        return inside

    def after(self, page: Page) -> Requested:
        """Return what the page that follows has to be about."""
        return replace(self, since=int(page.bars.timestamp[self.inside(page.bars.timestamp)].max(initial=self.since)))

    def checked(self, page: Page) -> Page:
        """Return the page, with those rows as `bad` whose time cannot be right.

        These are: rows more than a week outside the range; minutes that do not start on the minute, and days that do not
        start at midnight; all rows of a minute or a day that has several different ones. Other rows outside the range stay.
        Raises ContradictoryAnswer if the page is about another ticker, or leads back, or no row is of the requested days, or
        no row of them can be used.
        """
        failures.refuse_other_ticker(page.ticker, self.ticker)
        t = page.bars.timestamp
        inside, far = self.inside(t), ~self.inside(t, _NEAR)
        of_bad = np.array([bar.timestamp for bar in page.bad], dtype=np.int64)
        if len(t) + len(of_bad) and not inside.any() and not self.inside(of_bad).any():
            raise ContradictoryAnswer(
                f"none of its {len(t) + len(of_bad)} bars is of the requested days; a time is {[*t, *of_bad][0]}"
            )
        off, several = self._off_grid(page.bars)
        several &= inside
        unknown = far | off
        if t[inside & ~unknown].min(initial=self.since) < self.since:
            raise ContradictoryAnswer("it leads back to bars before the end of the page before it")
        wrong = unknown | several
        if not wrong.any() and not page.bad:
            return page
        bad = self._bad(page, inside & ~unknown, far, several, np.flatnonzero(wrong).tolist())
        if inside.any() and not (inside & ~wrong).any():
            raise ContradictoryAnswer(f"none of its {len(t)} bars can be used: {bad[-1].reason}")
        return replace(page, bars=page.bars.take(~wrong), bad=tuple(bad))

    def _bad(
        self,
        page: Page,
        believed: NDArray[np.bool_],
        far: NDArray[np.bool_],
        several: NDArray[np.bool_],
        wrong: Sequence[int],
    ) -> list[BadBar]:
        """Return the bad rows of a page and the `wrong` ones. A row whose time is not believed is between those around it."""
        t, unit = page.bars.timestamp, self.timeframe.base.value
        first, last = self.since, self.end - 1
        if page.more:
            last = min(last, int(t[believed].max(initial=first)) + _NEAR)
        # Of a few days not even the order says where a row belongs: all days without a bar are in doubt.
        in_order = self.timeframe.base is Base.MINUTE and bool(np.all(np.diff(t[believed]) >= 0))

        def between(reason: str, before: int, after: int) -> BadBar:
            before = before if first <= before <= last else first
            after = after if first <= after <= last else last
            return BadBar(before, reason, (before, after) if in_order and before <= after else (first, last))

        found = [
            bar
            if not bar.between and self.inside(np.array([bar.timestamp]), _NEAR)[0]
            else between(bar.reason, *(bar.between or (first, last)))
            for bar in page.bad
        ]
        known = [time if sure else None for time, sure in zip(t.tolist(), believed.tolist(), strict=True)]
        around = neighbours(known, first, last) if wrong else []
        for i in wrong:
            reason = (
                "its time is far from the requested days"
                if far[i]
                else f"its {unit} has bars that differ"
                if several[i]
                else f"it does not start with a {unit}"
            )
            found.append(BadBar(int(t[i]), reason) if believed[i] else between(reason, *around[i]))
        return found

    def _off_grid(self, bars: Bars) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which bars do not start with a minute or day, and which share theirs with a different bar."""
        t = bars.timestamp
        if self.timeframe.base is Base.MINUTE:
            step = self.timeframe.seconds * 1000
            cells = t // step
            off = cells * step != t
        else:
            cells = np.searchsorted(self.midnights, t, side="right")
            off = self.midnights[cells - 1] != t
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
