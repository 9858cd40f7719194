"""The simulated market: the bars of a ticker in a range, raw or adjusted for splits, and holes in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np

from backfill_assets.simulator import generator
from backfill_assets.simulator.columns import Columns, Float, Int
from backfill_assets.simulator.noise import bits, seed
from backfill_assets.simulator.scenario import Hole, Scenario
from backfill_assets.simulator.sessions import MINUTE_MS, Days, day_at, day_number, market_of, midnight, trading_days
from backfill_assets.simulator.universe import STOCK_HISTORY_STARTS, profile

Base = Literal["minute", "day"]


class Holes:
    """The holes of a scenario. `now` returns an aware datetime. Thread-safe."""

    def __init__(self, holes: tuple[Hole, ...], now: Callable[[], datetime]) -> None:
        self._holes = holes
        self._now = now
        self._touched = [0] * len(holes)
        self._lock = threading.Lock()

    def touch(self, ticker: str, base: Base, first: int, last: int) -> tuple[Hole, ...]:
        """Count a request for bars of the days `first` to `last` (day numbers) and return the holes it sees."""
        with self._lock:
            for i, hole in enumerate(self._holes):
                if _concerns(hole, ticker, base) and day_number(hole.first) <= last and day_number(hole.last) >= first:
                    self._touched[i] += 1
            return tuple(
                h for i, h in enumerate(self._holes) if _concerns(h, ticker, base) and not self._healed(i, h, 0)
            )

    def seen(self, ticker: str, base: Base) -> tuple[Hole, ...]:
        """Return the holes that the next request would see, without counting one."""
        with self._lock:
            return tuple(
                h for i, h in enumerate(self._holes) if _concerns(h, ticker, base) and not self._healed(i, h, 1)
            )

    def _healed(self, i: int, hole: Hole, ahead: int) -> bool:
        if hole.heal_after_requests is not None and self._touched[i] + ahead > hole.heal_after_requests:
            return True
        at = hole.heal_at
        return at is not None and self._now() >= aware(at)


_CHUNK = 64  # trading days generated at a time: a page of 50,000 minutes covers 52 to 60 days of a large stock
_FEW = 10  # up to this many day bars are generated instead of cached by year
_ALWAYS = 1 << 62


class Market:
    """The bars of a scenario. A range has the same bars however it is requested.

    `now` returns an aware datetime, the end of all bars. Thread-safe.
    """

    def __init__(self, scenario: Scenario, now: Callable[[], datetime]) -> None:
        self._scenario = scenario
        self._now = now
        self._renamed = {r.ticker: r for r in scenario.renames}
        self._company = {r.earlier: r.ticker for r in scenario.renames}
        self.traded = frozenset(scenario.known) | self._company.keys()
        self._years: dict[tuple[str, int], Columns] = {}
        self.holes = Holes(scenario.holes, now)

    def now_ms(self) -> int:
        """Return the simulator's time, milliseconds since 1970 UTC."""
        return int(self._now().timestamp() * 1000)

    def exists(self, ticker: str) -> bool:
        """Return whether the ticker is or was traded."""
        return ticker in self.traded

    def lifetime(self, ticker: str) -> tuple[date, date | None]:
        """Return the first day of trading, and the last one if delisted."""
        company = self._company.get(ticker, ticker)
        born, died = self._scenario.listed.get(company, profile(company).first), self._scenario.delisted.get(ticker)
        return born, died if company == ticker else self._renamed[company].day - timedelta(days=1)

    def days(self, ticker: str, first: int, last: int) -> Days:
        """Return the trading days between two day numbers while the ticker was listed, until today."""
        market = market_of(ticker)
        born, died = self.lifetime(ticker)
        if market == "stocks":
            born = max(born, STOCK_HISTORY_STARTS)
        last = min(last, day_at(market, self.now_ms()))
        days = trading_days(market).between(
            max(first, day_number(born)), last if died is None else min(last, day_number(died))
        )
        if renamed := self._renamed.get(ticker):
            own = days.day >= day_number(renamed.day)
            return days.rows(own | (days.day <= day_number(renamed.other_until or date.min)))
        return days

    def minute_bars(
        self, ticker: str, start: date, end: date, *, adjusted: bool = False, holes: bool = False
    ) -> Columns:
        """Return the minute bars of the days `start` to `end`, both included, in the market's zone.

        With `holes`, the scenario's open holes are left out, as in the API.
        """
        if not self.exists(ticker):
            return Columns.empty()
        hidden = self.holes.seen(ticker, "minute") if holes else ()
        bars = self.minutes(ticker, day_number(start), day_number(end), hidden)
        return self.served(ticker, Columns.concat(*bars), MINUTE_MS, adjusted=adjusted)

    def daily_bars(
        self, ticker: str, start: date, end: date, *, adjusted: bool = False, holes: bool = False
    ) -> Columns:
        """Return the day bars of the days `start` to `end`, both included; `t` is midnight in the market's zone."""
        if not self.exists(ticker):
            return Columns.empty()
        hidden = self.holes.seen(ticker, "day") if holes else ()
        bars = self.daily(ticker, day_number(start), day_number(end), hidden)
        return self.served(ticker, bars, 1440 * MINUTE_MS, adjusted=adjusted)

    def minutes(
        self, ticker: str, first: int, last: int, holes: tuple[Hole, ...] = (), *, backwards: bool = False
    ) -> Iterator[Columns]:
        """Yield raw minute bars outside the holes in ascending chunks of trading days, the last one first if `backwards`."""
        days, now = self.days(ticker, first, last), self.now_ms()
        starts = range(0, len(days), _CHUNK)
        for i in reversed(starts) if backwards else starts:
            part = days.rows(slice(i, i + _CHUNK))
            bars = generator.minute_bars(part, self._generate(ticker, part), now)
            yield cut(self._restated(ticker, bars), holes, "minute")

    def daily(self, ticker: str, first: int, last: int, holes: tuple[Hole, ...] = ()) -> Columns:
        """Return raw day bars between two day numbers outside the holes, ascending; today's ends now."""
        days, now = self.days(ticker, first, last), self.now_ms()
        if not len(days):
            return Columns.empty()
        today = day_at(days.market, now)
        if len(days) <= _FEW:
            bars = generator.day_bars(days, self._generate(ticker, days), _ALWAYS)
        else:
            years = range(int(days.day[0]) // 366, int(days.day[-1]) // 366 + 1)
            bars = Columns.concat(*(self._year(ticker, year) for year in years))
            bars = bars.take(np.isin(bars.day, days.day))
        bars = bars.take((bars.day >= days.day[0]) & (bars.day <= days.day[-1]) & (bars.day < today))
        if days.day[-1] == today:
            part = days.rows(slice(len(days) - 1, None))
            bars = Columns.concat(bars, generator.day_bars(part, self._generate(ticker, part), now))
        return cut(self._restated(ticker, bars), holes, "day")

    def served(self, ticker: str, bars: Columns, interval: int, *, adjusted: bool) -> Columns:
        """Return bars as in a response: adjusted if requested, a few of them without `vw` or `n`.

        `interval`, the milliseconds between bars, only selects those.
        """
        if adjusted:
            bars = self.adjust(ticker, bars)
        chance = bits(seed("missing", ticker, interval), bars.t // MINUTE_MS)
        no_vwap, no_trades = chance & np.uint64(0xFF) == 0, (chance >> np.uint64(8)) & np.uint64(0xFF) == 0
        return replace(bars, vwap=np.where(no_vwap, np.nan, bars.vwap), trades=np.where(no_trades, -1, bars.trades))

    def adjust(self, ticker: str, bars: Columns) -> Columns:
        """Divide prices before a split by its ratio, multiply volumes; future splits do not count."""
        ratio = self._ratio(ticker, bars.day, until=day_at(market_of(ticker), self.now_ms()))
        if np.all(ratio == 1.0):
            return bars
        return replace(_priced(bars, 1 / ratio, 4), volume=_scaled(bars.volume, ratio, 4))

    def _year(self, ticker: str, year: int) -> Columns:
        """The days of 366 day numbers, cached: a day bar needs all its minutes, and long ranges are requested repeatedly.

        Days without trading may be among them.
        """
        bars = self._years.get((ticker, year))
        if bars is None:
            days = trading_days(market_of(ticker)).between(year * 366, year * 366 + 365)
            parts = (days.rows(slice(i, i + _CHUNK)) for i in range(0, len(days), _CHUNK))
            made = [generator.day_bars(p, self._generate(ticker, p), _ALWAYS) for p in parts]
            bars = self._years[ticker, year] = Columns.concat(*made)
        return bars

    def _generate(self, ticker: str, days: Days) -> generator.Minutes:
        scale = self._ratio(ticker, days.day)
        if renamed := self._renamed.get(ticker):
            scale = np.where(days.day < day_number(renamed.day), scale / 20, scale)
        return generator.minutes(profile(self._company.get(ticker, ticker)), days, scale)

    def _ratio(self, ticker: str, day: Int, until: int = 1 << 40) -> Float:
        """The shares that one share of each day has become by later splits, up to day number `until`."""
        ratio: Float = np.ones(len(day))
        for s in self._scenario.splits:
            if s.ticker == ticker and s.happened and day_number(s.execution_date) <= until:
                ratio = np.where(day < day_number(s.execution_date), ratio * s.split_to / s.split_from, ratio)
        return ratio

    def _restated(self, ticker: str, bars: Columns) -> Columns:
        for r in self._scenario.restatements:
            if r.ticker != ticker or (r.at is not None and self._now() < aware(r.at)):
                continue
            factor = np.where(bars.day == day_number(r.day), r.factor, 1.0)
            places = 4 if market_of(ticker) == "stocks" else 8
            bars = _priced(bars, factor, places)
        return bars


def cut(bars: Columns, holes: tuple[Hole, ...], base: Base) -> Columns:
    """Remove the bars of one ticker that are in holes."""
    for hole in holes:
        hidden = (bars.day >= day_number(hole.first)) & (bars.day <= day_number(hole.last))
        if base == "minute" and hidden.any():
            market = market_of(hole.ticker)
            start = {d: midnight(market, d) for d in np.unique(bars.day[hidden]).tolist()}
            clock = (bars.t - np.array([start.get(d, 0) for d in bars.day.tolist()], dtype=np.int64)) // MINUTE_MS
            hidden &= (clock >= _clock(hole.start)) & (clock < _clock(hole.end))
        bars = bars.take(~hidden)
    return bars


def _concerns(hole: Hole, ticker: str, base: Base) -> bool:
    return hole.ticker == ticker and hole.base in (base, "all")


def _clock(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _priced(bars: Columns, factor: Float, places: int) -> Columns:
    names = ("open", "high", "low", "close", "vwap")
    prices: dict[str, Any] = {name: _scaled(getattr(bars, name), factor, places) for name in names}
    return replace(bars, **prices)


def _scaled(values: Float, factor: Float, places: int) -> Float:
    """Rounded products; values are unchanged if the factor is 1."""
    return np.where(factor == 1.0, values, np.round(values * factor, places))


def aware(moment: datetime) -> datetime:
    """Return the moment, which is UTC if it has no zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
