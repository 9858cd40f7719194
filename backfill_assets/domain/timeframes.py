"""The timeframes, and which of them the vendor is asked for.

What lives here: names, lengths and the way a timeframe is spelled to the vendor, as data. What does not: how bars of one
are made from another.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Base(StrEnum):
    """What the vendor counts against a page's limit: minute bars for minute and hour timespans, else day bars."""

    MINUTE = "minute"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Timeframe:
    """One bar length. `name` is what users write and tables hold; `multiplier` and `timespan` are the vendor's words."""

    name: str
    seconds: int
    multiplier: int
    timespan: str
    base: Base
    description: str

    def __str__(self) -> str:
        return self.name


MINUTE_1 = Timeframe("1m", 60, 1, "minute", Base.MINUTE, "one-minute bars")
DAY_1 = Timeframe("1d", 86_400, 1, "day", Base.DAY, "daily bars")

TIMEFRAMES: dict[str, Timeframe] = {t.name: t for t in (MINUTE_1, DAY_1)}
"""Every timeframe that is built, by name, finest first."""
