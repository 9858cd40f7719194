"""The sources of bars: what each can serve, when flat files are published, and how two sources differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import Bars
from backfill_assets.domain.days import ONE_DAY
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe

POLYGON = "polygon"
"""The vendor's REST API: a range of one symbol, or the daily bars of all symbols, in one request."""

POLYGON_FILES = "polygon_files"
"""The vendor's flat files: a session of all symbols, without vwap, in one download."""

FIRST_SOURCES = (POLYGON, POLYGON_FILES)
"""The vendor whose bars a market consists of. All other sources are fallbacks."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """A source of bars that is asked for whole sessions which the sources before it do not have.

    Its client is the class `Client` of the package `backfill_assets.adapters.NAME`.

    kind   the market whose bars it has
    reach  the timeframes it serves, with the age of the oldest session it has; None: it has all
    volume  what its volume is of
    """

    name: str
    kind: Kind
    reach: Mapping[str, timedelta | None]
    volume: str

    def serves(self, timeframe: Timeframe, session: date, today: date) -> bool:
        """Whether it can have bars of a session."""
        if timeframe.name not in self.reach:
            return False
        oldest = self.reach[timeframe.name]
        return oldest is None or session >= today - oldest


FALLBACKS = {
    source.name: source
    for source in (
        Fallback(
            "yahoo",
            Kind.STOCKS,
            {MINUTE_1.name: timedelta(days=29), DAY_1.name: None},
            "the composite by Yahoo's count",
        ),
        Fallback("alpaca", Kind.STOCKS, {MINUTE_1.name: None, DAY_1.name: None}, "the composite by Alpaca's count"),
        Fallback("binance_us", Kind.CRYPTO, {MINUTE_1.name: None, DAY_1.name: None}, "the venue's alone"),
    )
}
"""By name. Yahoo refuses minutes that begin more than 30 days ago; one day is left for the time of a run."""

SOURCES = (*FIRST_SOURCES, *FALLBACKS)


def fallbacks(sources: Sequence[str]) -> list[Fallback]:
    """Return the fallbacks among a market's sources, in order."""
    return [FALLBACKS[name] for name in sources if name in FALLBACKS]


_PUBLISHED = time(11)
_NEW_YORK = ZoneInfo("America/New_York")


def file_due(session: date) -> datetime:
    """Return when a session's flat file is published: about 11:00 New York of the next day, by the vendor's documentation."""
    return datetime.combine(session + ONE_DAY, _PUBLISHED, _NEW_YORK)


@dataclass(frozen=True, slots=True)
class Difference:
    """How a session's stored bars differ from those of another source: numbers of bars, and the first bar in words."""

    only_stored: int
    only_other: int
    differing: int
    example: str


_COMPARED = ("open", "high", "low", "close", "volume")
_TOLERANCE = 1e-9
"""Relative. Both sources write decimal numbers."""


def difference(stored: Bars, other: Bars) -> Difference | None:
    """Compare two sources' bars of a session by time, prices and volume; None if they agree. Both are ordered."""
    both, at, of = np.intersect1d(stored.timestamp, other.timestamp, assume_unique=True, return_indices=True)
    pairs = [(getattr(stored, name)[at], getattr(other, name)[of]) for name in _COMPARED]
    unequal = np.array([~np.isclose(a, b, rtol=_TOLERANCE, atol=0) for a, b in pairs]).reshape(len(pairs), len(both))
    differing = np.flatnonzero(unequal.any(axis=0))
    only_stored, only_other = len(stored) - len(both), len(other) - len(both)
    if not (len(differing) or only_stored or only_other):
        return None
    if len(differing):
        row = differing[0]
        name, (a, b) = next((n, p) for n, p, wrong in zip(_COMPARED, pairs, unequal, strict=True) if wrong[row])
        first, words = both[row], f"{name} is {a[row]:.10g}, elsewhere {b[row]:.10g}"
    else:
        lone, words = (stored, "not elsewhere") if only_stored else (other, "only elsewhere")
        first = lone.timestamp[~np.isin(lone.timestamp, both)][0]
    example = f"{datetime.fromtimestamp(int(first) / 1000, UTC):%Y-%m-%d %H:%M} UTC: {words}"
    return Difference(only_stored, only_other, len(differing), example)
