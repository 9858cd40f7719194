"""What a user selects of the universe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Selection:
    """Names and days; None means all. `days` is a number of calendar days, `end` is included."""

    symbols: tuple[str, ...] | None = None
    markets: tuple[str, ...] | None = None
    timeframes: tuple[str, ...] | None = None
    days: int | None = None
    start: date | None = None
    end: date | None = None
