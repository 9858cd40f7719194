"""The days between which a symbol is traded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from backfill_assets.domain.days import DayRange


@dataclass(frozen=True, slots=True)
class Listing:
    """First and last day of trading, in the market's own zone (New York, UTC for crypto), both included.

    listed    None if unknown: no day is too early
    delisted  None if unknown or still traded: no day is too late
    """

    listed: date | None
    delisted: date | None

    def expects(self, day: date) -> bool:
        """Return whether the symbol can have been traded on `day`."""
        return (self.listed is None or self.listed <= day) and (self.delisted is None or day <= self.delisted)

    def bounds(self, days: DayRange) -> DayRange | None:
        """Return the expected part of `days`, or None."""
        start = days.start if self.listed is None else max(days.start, self.listed)
        end = days.end if self.delisted is None else min(days.end, self.delisted)
        return DayRange(start, end) if start <= end else None


UNKNOWN = Listing(None, None)
"""Both days are unknown: every day is expected."""
