"""The timeframes, requested from the vendor or derived from others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby


class Base(StrEnum):
    """The bars that count against the limit of a vendor's page: minute bars for minutes and hours, else day bars."""

    MINUTE = "minute"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Timeframe:
    """A bar length. `name` is used by users and tables, `multiplier` and `timespan` in the vendor's requests.

    `seconds` is the nominal length: a daily bar spans 23 or 25 hours when clocks change. `derived_from` is the name of the
    source timeframe; None if the vendor is requested.
    """

    name: str
    seconds: int
    multiplier: int
    timespan: str
    base: Base
    derived_from: str | None
    description: str

    def __str__(self) -> str:
        return self.name

    @property
    def source(self) -> Timeframe:
        """The timeframe that is requested from the vendor: this one, or the one it is derived from."""
        return TIMEFRAMES[self.derived_from] if self.derived_from else self


MINUTE_1 = Timeframe("1m", 60, 1, "minute", Base.MINUTE, None, "1-minute bars")
DAY_1 = Timeframe("1d", 86_400, 1, "day", Base.DAY, None, "daily bars")
WEEK_1 = Timeframe("1w", 604_800, 1, "week", Base.DAY, "1d", "weekly bars")


def _from_minutes(name: str, minutes: int, multiplier: int, timespan: str) -> Timeframe:
    return Timeframe(name, 60 * minutes, multiplier, timespan, Base.MINUTE, "1m", f"{multiplier}-{timespan} bars")


TIMEFRAMES: dict[str, Timeframe] = {
    t.name: t
    for t in (
        MINUTE_1,
        _from_minutes("5m", 5, 5, "minute"),
        _from_minutes("15m", 15, 15, "minute"),
        _from_minutes("30m", 30, 30, "minute"),
        _from_minutes("1h", 60, 1, "hour"),
        _from_minutes("4h", 240, 4, "hour"),
        DAY_1,
        WEEK_1,
    )
}
"""Every timeframe by name, finest first, so that a source comes before what is derived from it."""


def sources(timeframes: Iterable[Timeframe]) -> tuple[Timeframe, ...]:
    """Return the timeframes to request from the vendor for these, finest first."""
    needed = {t.source.name for t in timeframes}
    return tuple(t for t in TIMEFRAMES.values() if t.name in needed)


def made_from(source: Timeframe, among: Iterable[Timeframe]) -> tuple[Timeframe, ...]:
    """Return those timeframes that are derived from `source`, in their order."""
    return tuple(t for t in among if t.derived_from == source.name)


def ranges(names: Iterable[str]) -> str:
    """Format names of timeframes: `1m-4h 1d` stands for seven of them."""
    order = list(TIMEFRAMES)
    places = sorted({order.index(name) for name in names})
    runs = [[i for _, i in group] for _, group in groupby(enumerate(places), lambda pair: pair[1] - pair[0])]
    return " ".join(
        f"{order[run[0]]}-{order[run[-1]]}" if len(run) > 2 else " ".join(order[i] for i in run) for run in runs
    )
