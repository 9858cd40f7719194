"""Bars of an archive as the blocks that bars of the store are read in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from backfill_assets.domain.bars import NO_TRADES
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import NotStored, UsageMistake
from backfill_assets.domain.sessions import HOURS, Kind
from backfill_assets.domain.text import suggestion
from backfill_assets.domain.timeframes import Timeframe

if TYPE_CHECKING:
    from backfill_assets.adapters.archive.places import Place
    from backfill_assets.domain.universe import Archive, Universe
    from backfill_assets.reading.connection import Columns
    from backfill_assets.reading.selection import Bounds, Names, Series

_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class ArchiveReader:
    """The files of an archive. A symbol of the universe has its tickers, any other is a ticker itself."""

    archive: Archive
    place: Place
    universe: Universe
    _files: dict[str, dict[date, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, name: str) -> ArchiveReader:
        """Open an archive of the universe file. Raises NotStored, UsageMistake."""
        from importlib.util import find_spec

        from backfill_assets.adapters.archive.places import place_of
        from backfill_assets.adapters.settings import Settings

        if not find_spec("polars"):
            raise UsageMistake("Archives need the extra `reading`: pip install 'backfill-assets[reading]'.")
        settings = Settings.read()
        universe = settings.universe(datetime.now(UTC).date())
        for archive in universe.archives:
            if archive.name == name:
                return cls(archive, place_of(settings.archive, settings.data / "archive-parts"), universe)
        known = [archive.name for archive in universe.archives]
        raise NotStored(f"There is no archive {name!r} in the universe file; {suggestion(str(name), known)}")

    def select(self, symbols: Names, timeframe: Timeframe, bounds: Bounds) -> list[Series]:
        """Return the series to read, sorted by symbol. Raises NotStored, UsageMistake."""
        from backfill_assets.reading.selection import names_of, series_of

        names = names_of("symbols", symbols)
        if names is None:
            raise UsageMistake("symbols must be named: an archive has thousands.")
        if timeframe.source not in self.archive.timeframes:
            there = ", ".join(t.name for t in self.archive.timeframes)
            raise NotStored(f"The archive {self.archive.name} has no {timeframe.source} bars, only {there}.")
        return [series_of(name, HOURS[self.archive.kind], *bounds) for name in sorted(names)]

    def blocks(
        self,
        statement: str,
        features: Sequence[str],
        rows: int,
        *,
        symbol: str,
        timeframe: str,
        start: datetime,
        end: datetime,
        **others: object,
    ) -> Iterator[Columns]:
        """Yield the bars of a symbol that begin in [start, end), ascending, as `Reader.blocks` does. Raises ExportError."""
        del statement, features, others
        from backfill_assets.adapters.archive.sessions import scan

        zone = HOURS[self.archive.kind].zone
        files = self._sessions(timeframe)
        first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
        lower, upper = (round(at.timestamp() * 1_000_000) for at in (start, end))
        for ticker, days in self._tickers(symbol, [day for day in files if first <= day <= last]):
            for at in range(0, len(days), _FILES):
                frame = scan(self.place, [files[day] for day in days[at : at + _FILES]], [ticker])
                stamps = frame["timestamp"].to_physical().to_numpy()
                inside = (stamps >= lower) & (stamps < upper)
                columns: Columns = {"timestamp": stamps[inside]}
                columns |= {name: frame[name].to_numpy()[inside] for name in _COLUMNS}
                columns |= {"vwap": np.full(int(inside.sum()), np.nan)}
                columns |= {"trades": frame["trades"].fill_null(NO_TRADES).to_numpy()[inside]}
                for row in range(0, len(columns["timestamp"]), rows):
                    yield {name: column[row : row + rows] for name, column in columns.items()}

    def require_splits(self, names: Sequence[str]) -> None:
        """Raise NotStored for a stock whose splits are not fetched, as it is not in the universe."""
        if self.archive.kind is Kind.STOCKS:
            known = {s.name for m in self.universe.markets if m.kind is Kind.STOCKS for s in m.symbols}
            for name in names:
                if name not in known:
                    raise NotStored(
                        f"The splits of {name} are not known: add it to a market of the universe file and run `backfill "
                        "events`, or read raw bars without features."
                    )

    def _sessions(self, timeframe: str) -> dict[date, str]:
        from backfill_assets.adapters.archive.sessions import name_of, sessions_in

        if timeframe not in self._files:
            days = DayRange(self.archive.start, datetime.now(UTC).date())
            found = sessions_in(self.place, self.archive.name, timeframe, days)
            self._files[timeframe] = {day: name_of(self.archive.name, timeframe, day) for day in found}
        return self._files[timeframe]

    def _tickers(self, symbol: str, days: Sequence[date]) -> Iterator[tuple[str, list[date]]]:
        """Yield the tickers of a symbol with their days, in the order of the days."""
        from itertools import groupby

        known = {s.name: s for m in self.universe.markets if m.kind is self.archive.kind for s in m.symbols}
        ticker: Callable[[date], str] = known[symbol].ticker_on if symbol in known else lambda _: symbol
        for name, group in groupby(days, ticker):
            yield name, list(group)


_FILES = 64
"""Files that are opened together."""
