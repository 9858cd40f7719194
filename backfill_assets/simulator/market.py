"""The truth of the simulated market: which bars a ticker has in a range, raw or adjusted for splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np

from backfill_assets.simulator import generator
from backfill_assets.simulator.columns import Columns, Float, Int
from backfill_assets.simulator.holes import Holes, cut
from backfill_assets.simulator.noise import bits, seed
from backfill_assets.simulator.scenario import Hole, Scenario
from backfill_assets.simulator.sessions import MINUTE_MS, Days, day_at, day_number, market_of, trading_days
from backfill_assets.simulator.universe import STOCK_HISTORY_STARTS, profile

_CHUNK = 64  # trading days generated at once: a page of 50,000 minutes reaches over 52 to 60 of a large stock
_FEW = 10  # so many day bars are cheaper to make than to keep with all their year
_UNTIL_ALWAYS = 1 << 62


class Market:
    """What trades under a scenario. Every range of days or milliseconds gives the same bars however it is cut.

    `now` returns an aware datetime; bars end with it. Methods are safe to call from several threads.
    """

    def __init__(self, scenario: Scenario, now: Callable[[], datetime]) -> None:
        self._scenario = scenario
        self._now = now
        self._known = frozenset(scenario.known)
        self._years: dict[tuple[str, int], Columns] = {}
        self.holes = Holes(scenario.holes, now)

    def now_ms(self) -> int:
        """The simulator's clock, milliseconds since 1970 UTC."""
        return int(self._now().timestamp() * 1000)

    def exists(self, ticker: str) -> bool:
        """Whether the ticker is among the known ones."""
        return ticker in self._known

    def lifetime(self, ticker: str) -> tuple[date, date | None]:
        """First day of trading, and the last one if it was delisted."""
        return self._scenario.listed.get(ticker, profile(ticker).first), self._scenario.delisted.get(ticker)

    def days(self, ticker: str, first: int, last: int) -> Days:
        """The trading days between two day numbers on which the ticker was listed, until today."""
        market = market_of(ticker)
        born, died = self.lifetime(ticker)
        if market == "stocks":
            born = max(born, STOCK_HISTORY_STARTS)
        last = min(last, day_at(market, self.now_ms()))
        return trading_days(market).between(
            max(first, day_number(born)), last if died is None else min(last, day_number(died))
        )

    def minute_bars(
        self, ticker: str, start: date, end: date, *, adjusted: bool = False, holes: bool = False
    ) -> Columns:
        """Minute bars of the days `start` to `end`, both included, in the market's own zone.

        holes   leave out what the scenario's open holes hide, as the API does; False gives what ought to be there
        """
        if not self.exists(ticker):
            return Columns.empty()
        hidden = self.holes.seen(ticker, "minute") if holes else ()
        bars = self.minutes(ticker, day_number(start), day_number(end), hidden)
        return self.served(ticker, Columns.concat(*bars), MINUTE_MS, adjusted=adjusted)

    def daily_bars(
        self, ticker: str, start: date, end: date, *, adjusted: bool = False, holes: bool = False
    ) -> Columns:
        """Day bars of the days `start` to `end`, both included; `t` is midnight in the market's own zone."""
        if not self.exists(ticker):
            return Columns.empty()
        hidden = self.holes.seen(ticker, "day") if holes else ()
        bars = self.daily(ticker, day_number(start), day_number(end), hidden)
        return self.served(ticker, bars, 1440 * MINUTE_MS, adjusted=adjusted)

    def minutes(
        self, ticker: str, first: int, last: int, holes: tuple[Hole, ...] = (), *, backwards: bool = False
    ) -> Iterator[Columns]:
        """Raw minute bars outside the holes, in chunks of trading days, each ascending; backwards, the last one first."""
        days, now = self.days(ticker, first, last), self.now_ms()
        starts = range(0, len(days), _CHUNK)
        for i in reversed(starts) if backwards else starts:
            part = days.rows(slice(i, i + _CHUNK))
            bars = generator.minute_bars(part, self._generate(ticker, part), now)
            yield cut(self._restated(ticker, bars), holes, "minute")

    def daily(self, ticker: str, first: int, last: int, holes: tuple[Hole, ...] = ()) -> Columns:
        """Raw day bars between two day numbers outside the holes, ascending; today's goes as far as the clock."""
        days, now = self.days(ticker, first, last), self.now_ms()
        if not len(days):
            return Columns.empty()
        today = day_at(days.market, now)
        if len(days) <= _FEW:
            bars = generator.day_bars(days, self._generate(ticker, days), _UNTIL_ALWAYS)
        else:
            years = range(int(days.day[0]) // 366, int(days.day[-1]) // 366 + 1)
            bars = Columns.concat(*(self._year(ticker, year) for year in years))
        bars = bars.take((bars.day >= days.day[0]) & (bars.day <= days.day[-1]) & (bars.day < today))
        if days.day[-1] == today:
            part = days.rows(slice(len(days) - 1, None))
            bars = Columns.concat(bars, generator.day_bars(part, self._generate(ticker, part), now))
        return cut(self._restated(ticker, bars), holes, "day")

    def served(self, ticker: str, bars: Columns, interval: int, *, adjusted: bool) -> Columns:
        """Bars as an answer holds them: adjusted if asked for, and a few without `vw` or `n`.

        interval   milliseconds from one bar to the next; it only decides which bars lack what
        """
        if adjusted:
            bars = self.adjust(ticker, bars)
        chance = bits(seed("missing", ticker, interval), bars.t // MINUTE_MS)
        lacks_vwap, lacks_trades = chance & np.uint64(0xFF) == 0, (chance >> np.uint64(8)) & np.uint64(0xFF) == 0
        return replace(
            bars, vwap=np.where(lacks_vwap, np.nan, bars.vwap), trades=np.where(lacks_trades, -1, bars.trades)
        )

    def adjust(self, ticker: str, bars: Columns) -> Columns:
        """Prices before a split divided by its ratio, volumes multiplied; splits that are still to come do not count."""
        ratio = self._ratio(ticker, bars.day, until=day_at(market_of(ticker), self.now_ms()))
        if np.all(ratio == 1.0):
            return bars
        return replace(_priced(bars, 1 / ratio, 4), volume=_scaled(bars.volume, ratio, 4))

    def _year(self, ticker: str, year: int) -> Columns:
        """Whole days of 366 day numbers, kept: a day bar needs all its minutes, and long ranges ask for them again."""
        bars = self._years.get((ticker, year))
        if bars is None:
            days = trading_days(market_of(ticker)).between(year * 366, year * 366 + 365)
            parts = (days.rows(slice(i, i + _CHUNK)) for i in range(0, len(days), _CHUNK))
            made = [generator.day_bars(p, self._generate(ticker, p), _UNTIL_ALWAYS) for p in parts]
            bars = self._years[ticker, year] = Columns.concat(*made)
        return bars

    def _generate(self, ticker: str, days: Days) -> generator.Minutes:
        return generator.minutes(profile(ticker), days, self._ratio(ticker, days.day))

    def _ratio(self, ticker: str, day: Int, until: int = 1 << 40) -> Float:
        """New shares that one share of that day has become by the splits after it, up to day number `until`."""
        ratio: Float = np.ones(len(day))
        for s in self._scenario.splits:
            if s.ticker == ticker and s.happened and day_number(s.execution_date) <= until:
                ratio = np.where(day < day_number(s.execution_date), ratio * s.split_to / s.split_from, ratio)
        return ratio

    def _restated(self, ticker: str, bars: Columns) -> Columns:
        for r in self._scenario.restatements:
            if r.ticker != ticker or (r.at is not None and self._now() < _aware(r.at)):
                continue
            factor = np.where(bars.day == day_number(r.day), r.factor, 1.0)
            places = 4 if market_of(ticker) == "stocks" else 8
            bars = _priced(bars, factor, places)
        return bars


def _priced(bars: Columns, factor: Float, places: int) -> Columns:
    return replace(
        bars,
        open=_scaled(bars.open, factor, places),
        high=_scaled(bars.high, factor, places),
        low=_scaled(bars.low, factor, places),
        close=_scaled(bars.close, factor, places),
        vwap=_scaled(bars.vwap, factor, places),
    )


def _scaled(values: Float, factor: Float, places: int) -> Float:
    """Rounded products, and the very same numbers where the factor is 1."""
    return np.where(factor == 1.0, values, np.round(values * factor, places))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
