"""The universe: the markets, symbols and archives that are stored, from which day and in which timeframes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.sources import POLYGON
from backfill_assets.domain.timeframes import Timeframe

MOST_SYMBOLS = 100
"""Above this many symbols a market's asset pages become slow: 1.6 s for 100 symbols x 5 years, 50 s for 1000."""


@dataclass(frozen=True, slots=True, order=True)
class EarlierTicker:
    """A ticker that an instrument had up to the day `until`, included."""

    ticker: str
    until: date


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """An instrument. `name` is used in tables, partitions and commands, `ticker` in requests to the vendor.

    `formerly` are its earlier tickers, ascending by day: earlier sessions are requested under them.
    """

    name: str
    ticker: str
    formerly: tuple[EarlierTicker, ...] = ()

    @property
    def tickers(self) -> str:
        """All tickers as text, such as `FB until 2022-06-08, META`: another text means that other bars are requested."""
        return ", ".join([*(f"{f.ticker} until {f.until}" for f in self.formerly), self.ticker])

    def ticker_on(self, day: date) -> str:
        """Return the ticker under which the day is requested."""
        return next((f.ticker for f in self.formerly if day <= f.until), self.ticker)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Market:
    """A named group of symbols that share a calendar and a first day."""

    name: str
    kind: Kind
    start: date
    symbols: tuple[Symbol, ...]
    timeframes: tuple[Timeframe, ...]
    closures: tuple[date, ...] = ()
    """Days without trading, ascending, in addition to those of its kind's calendar."""
    sources: tuple[str, ...] = (POLYGON,)
    """Where its bars come from, in order of preference: first the vendor's, then fallbacks."""
    witness: str | None = None
    """The source whose daily bars are compared with the stored ones."""

    def symbol(self, name: str) -> Symbol:
        """Return the symbol of that name. Raises KeyError."""
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Archive:
    """Files of every ticker of a kind of market, one a session and timeframe. No market has its name."""

    name: str
    kind: Kind
    start: date
    timeframes: tuple[Timeframe, ...]
    closures: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True)
class Universe:
    """All markets and archives, in the order of the file.

    No symbol is in two markets, as tables are keyed by symbol alone.
    """

    markets: tuple[Market, ...]
    archives: tuple[Archive, ...] = ()

    def market(self, name: str) -> Market:
        """Return the market of that name. Raises KeyError."""
        for market in self.markets:
            if market.name == name:
                return market
        raise KeyError(name)

    def without(self, names: Iterable[str]) -> list[str]:
        """Return those names that are no symbol of the universe."""
        known = {symbol.name for market in self.markets for symbol in market.symbols}
        return [name for name in names if name not in known]

    def warnings(self) -> list[str]:
        """Return one sentence for each setting that works, but not well."""
        return [
            f"Market {m.name} has {len(m.symbols)} symbols: above {MOST_SYMBOLS} the asset pages of the Dagster UI are slow; "
            f"split it into several markets of kind {m.kind}."
            for m in self.markets
            if len(m.symbols) > MOST_SYMBOLS
        ]


def default_ticker(kind: Kind, name: str) -> str:
    """Return the vendor's spelling: unchanged for stocks, X:BTCUSD for BTC, as BTC alone is a US-listed stock."""
    return name if kind is Kind.STOCKS else f"X:{name}USD"
