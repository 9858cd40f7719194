"""The universe: which symbols of which markets are kept, since when, in which timeframes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import Timeframe

MOST_SYMBOLS = 100
"""Above this many symbols a market's asset pages grow slow: 100 symbols x 5 years answer in 1.6 s, 1000 in 50 s."""


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """One instrument. `name` is what tables, partitions and users say; `ticker` is what the vendor is asked for."""

    name: str
    ticker: str

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
    """Days on which it does not trade, ascending, beside those that its kind's calendar knows."""

    def symbol(self, name: str) -> Symbol:
        """The symbol of that name; KeyError where the market has none."""
        for symbol in self.symbols:
            if symbol.name == name:
                return symbol
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class Universe:
    """All markets, in the order of the file. No symbol stands in two of them: tables are keyed by symbol alone."""

    markets: tuple[Market, ...]

    def market(self, name: str) -> Market:
        """The market of that name; KeyError where there is none."""
        for market in self.markets:
            if market.name == name:
                return market
        raise KeyError(name)

    def warnings(self) -> list[str]:
        """What works and will not work well, one sentence each."""
        return [
            f"Market {m.name} has {len(m.symbols)} symbols: above {MOST_SYMBOLS} Dagit's asset pages grow slow; "
            f"split it into several markets of kind {m.kind}."
            for m in self.markets
            if len(m.symbols) > MOST_SYMBOLS
        ]


def default_ticker(kind: Kind, name: str) -> str:
    """How the vendor spells a symbol: as it is for stocks; X:BTCUSD for BTC, because BTC alone is a US-listed stock."""
    return name if kind is Kind.STOCKS else f"X:{name}USD"
