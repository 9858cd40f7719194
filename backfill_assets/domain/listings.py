"""Between which days a symbol is traded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from backfill_assets.domain.days import DayRange


@dataclass(frozen=True, slots=True)
class Listing:
    """First and last day of trading, in the market's own zone (New York, UTC for crypto), both included.

    listed    None where it is not known: then no day is too early
    delisted  None where it is not known, or the symbol is still traded: then no day is too late

    One that ends before it begins expects no day at all; the client of the vendor hands out `UNKNOWN` instead.
    """

    listed: date | None
    delisted: date | None

    def expects(self, day: date) -> bool:
        """Whether the symbol can have been traded on `day`."""
        return (self.listed is None or self.listed <= day) and (self.delisted is None or day <= self.delisted)

    def bounds(self, days: DayRange) -> DayRange | None:
        """Those of `days` that are expected, or None where none is."""
        start = days.start if self.listed is None else max(days.start, self.listed)
        end = days.end if self.delisted is None else min(days.end, self.delisted)
        return DayRange(start, end) if start <= end else None


UNKNOWN = Listing(None, None)
"""Nothing is known: every day is expected."""
