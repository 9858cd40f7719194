"""Ranges of calendar days."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class DayRange:
    """Calendar days from `start` to `end`, both included. ValueError if `end` is before `start`."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"{self.end} is before {self.start}")

    def __contains__(self, day: date) -> bool:
        return self.start <= day <= self.end

    def __iter__(self) -> Iterator[date]:
        return (self.start + number * ONE_DAY for number in range(len(self)))

    def __len__(self) -> int:
        return (self.end - self.start).days + 1

    def __str__(self) -> str:
        return f"{self.start}" if self.start == self.end else f"{self.start} to {self.end}"

    def intersect(self, other: DayRange) -> DayRange | None:
        """Return the days in both ranges, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return DayRange(start, end) if start <= end else None


def ranges_of(days: Iterable[date]) -> list[DayRange]:
    """Return the fewest ranges that hold the days, ascending. Order and duplicates of `days` do not matter."""
    out: list[DayRange] = []
    for day in sorted(set(days)):
        if out and out[-1].end + ONE_DAY == day:
            out[-1] = DayRange(out[-1].start, day)
        else:
            out.append(DayRange(day, day))
    return out


def runs_of(days: Iterable[date], among: Iterable[date]) -> list[DayRange]:
    """Group days that are consecutive in `among` (a market's sessions) into ranges: Friday and Monday are consecutive.

    Days that are not in `among` are dropped.
    """
    wanted = set(days)
    out: list[DayRange] = []
    open_run = False
    for day in sorted(set(among)):
        if day not in wanted:
            open_run = False
        elif open_run:
            out[-1] = DayRange(out[-1].start, day)
        else:
            out.append(DayRange(day, day))
            open_run = True
    return out
