"""The days between which a symbol is traded, and whose its ticker was."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise

from backfill_assets.domain.days import ONE_DAY, DayRange
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Symbol, default_ticker

REFRESHED_AFTER = timedelta(days=6)
"""Less than a week, so that a weekly run refreshes all listings even if the last one was late."""

_AROUND = timedelta(days=7)
"""How far outside a listing bars are requested once: it may be wrong by some days, or by years if there are bars."""


@dataclass(frozen=True, slots=True, order=True)
class TickerChange:
    """From `day` on an instrument has `ticker`."""

    day: date
    ticker: str


@dataclass(frozen=True, slots=True)
class Listing:
    """First and last day of trading, in the market's own zone (New York, UTC for crypto), both included.

    listed        None if unknown: no day is too early
    delisted      None if unknown or still traded: no day is too late
    bars          the days from the first stored bar to the last, which refute `listed` and `delisted`
    unknown_at    when the vendor last answered that it does not know the ticker, UTC; None if it knows it
    likely        the symbol that is probably meant instead; "" if none is
    ticker_since  the first day on which the ticker was this instrument's, if it had another one before
    earlier       the ticker before that day
    """

    listed: date | None
    delisted: date | None
    bars: DayRange | None = None
    unknown_at: datetime | None = None
    likely: str = ""
    ticker_since: date | None = None
    earlier: str = ""

    @property
    def first_day(self) -> date | None:
        """The first expected day; None if `listed` is unknown or refuted by bars."""
        return None if self.listed and self.bars and self.bars.start < self.listed else self.listed

    @property
    def last_day(self) -> date | None:
        """The last expected day; None if `delisted` is unknown or refuted by bars."""
        return None if self.delisted and self.bars and self.bars.end > self.delisted else self.delisted

    @property
    def doubtful(self) -> bool:
        """Whether bars refute a day."""
        return (self.first_day, self.last_day) != (self.listed, self.delisted)

    @property
    def mixed(self) -> bool:
        """Whether there are bars from before the ticker was this instrument's."""
        return bool(self.ticker_since and self.bars and self.bars.start < self.ticker_since)

    def expects(self, day: date) -> bool:
        """Return whether the symbol can have been traded on `day`."""
        first, last = self.first_day, self.last_day
        return (first is None or first <= day) and (last is None or day <= last)

    def expected(self, days: Sequence[date]) -> slice:
        """Return which of the days (ascending) are expected."""
        first, last = self.first_day, self.last_day
        start = bisect_left(days, first) if first else 0
        return slice(start, max(start, bisect_right(days, last) if last else len(days)))

    def around(self, day: date) -> bool:
        """Return whether `day` is not expected, but near a day that is."""
        first, last = self.first_day, self.last_day
        return bool(first and first - _AROUND <= day < first) or bool(last and last < day <= last + _AROUND)

    def held(self, day: date) -> bool:
        """Return whether the ticker was this instrument's on `day`, as far as is known."""
        return self.ticker_since is None or self.ticker_since <= day

    def sentence(self, symbol: str) -> str:
        """Return what is wrong with the ticker of `symbol`, and what to do; empty if nothing is."""
        if self.unknown_at:
            sentence = f"Polygon does not know the ticker of {symbol}: correct it in the universe file"
            return sentence + (f"; did you mean {self.likely}?" if self.likely else "")
        if self.ticker_since:
            formerly = (
                f"{{symbol: {symbol}, formerly: [{{ticker: {self.earlier}, until: {self.ticker_since - ONE_DAY}}}]}}"
            )
            return f"before {self.ticker_since} the ticker was {self.earlier}; to fetch it, write {formerly}"
        return ""


UNKNOWN = Listing(None, None)
"""Both days are unknown: every day is expected."""


def ticker_taken(changes: Sequence[TickerChange], ticker: str) -> tuple[date, str] | None:
    """Return when an instrument took its present ticker, and the one before it; None if it had no other one."""
    for before, change in reversed([*pairwise(sorted(changes))]):
        if change.ticker == ticker != before.ticker:
            return change.day, before.ticker
    return None


def likely_names(symbol: Symbol) -> list[str]:
    """Return symbols that may be meant by one whose ticker the vendor does not know, the likeliest first; at most three."""
    written = symbol.ticker.upper()
    if written.startswith("X:"):
        kind, names = Kind.CRYPTO, [re.sub(r"([-.]?USD[TC]?)+$", "", written.removeprefix("X:"))]
    else:
        kind, names = Kind.STOCKS, [written, written.replace("-", "."), *_respelt(written)]
    return [name for name in dict.fromkeys(names) if name and default_ticker(kind, name) != symbol.ticker][:3]


def _respelt(ticker: str) -> list[str]:
    """Return a ticker with another letter doubled (APPL: AAPL), and with each two neighbours exchanged."""
    doubled = [
        ticker[:at] + ticker[at + 1 :]
        for at, (letter, following) in enumerate(pairwise(ticker))
        if letter == following and letter.isalpha()
    ]
    other = [short[:at] + short[at] + short[at:] for short in doubled for at in range(len(short))]
    exchanged = [ticker[:at] + ticker[at + 1] + ticker[at] + ticker[at + 2 :] for at in range(len(ticker) - 1)]
    return [name for name in (*other, *exchanged) if name != ticker]


@dataclass(frozen=True, slots=True)
class LongHole:
    """Many days without daily bars: the days of the bars around them, the price at both, and the splits in between.

    split  new shares for an old one
    """

    symbol: str
    last: date
    close: float
    first: date
    open: float
    split: float

    @property
    def ratio(self) -> float:
        """The open after the hole divided by the close before it, in the same shares."""
        return self.open * self.split / self.close

    @property
    def sentence(self) -> str:
        """What is seen: no bars from … to …, then 184.5 after 12.31."""
        days = DayRange(self.last + ONE_DAY, self.first - ONE_DAY)
        return f"no bars from {days}, then {self.open:g} after {self.close:g}"

    def breaks(self, sessions: int) -> bool:
        """Return whether the bars after so many sessions without any are probably another instrument's."""
        return sessions > LONG_HOLE and not 1 / 3 <= self.ratio <= 3


LONG_HOLE = 60
"""Sessions; longer than trading halts of a listed share usually are. META's ticker had none for 90 before it was Meta's."""
