"""A market's calendar as a grid: a row a symbol, a column a session, a week or a month."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np

from backfill_assets.domain.completeness import Completeness, SessionState, SessionStates
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_start

MOST_COLUMNS = 270
"""At the narrowest column that can still be seen, they make a picture as wide as a page: five years of weeks fit."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring cells of a row that stand alike: columns from `first` to before `after`."""

    first: int
    after: int
    standing: SessionState


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """`step` is what a column stands for: session, week, month. `columns` are its days, from first session to last.

    `cells` has a row for each of `symbols`, a column for each of `columns`: int8, the worst state of its sessions.
    """

    step: str
    columns: tuple[DayRange, ...]
    symbols: tuple[str, ...]
    cells: SessionStates

    def runs(self, row: int) -> Iterator[Run]:
        """A row's cells, neighbours that stand alike together."""
        cells = self.cells[row]
        edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(cells)] if len(cells) else []
        for first, after in pairwise(edges):
            yield Run(first, after, SessionState(int(cells[first])))


def grid_of(found: Completeness, most: int = MOST_COLUMNS) -> Grid:
    """The finest grid of at most so many columns; months where weeks are too many as well."""
    step, starts = next(
        (s for s in ((name, _starts(found.sessions, key)) for name, key in _STEPS.items()) if len(s[1]) <= most),
        ("month", _starts(found.sessions, _STEPS["month"])),
    )
    ends = [*(i - 1 for i in starts[1:]), len(found.sessions) - 1]
    columns = tuple(DayRange(found.sessions[a], found.sessions[b]) for a, b in zip(starts, ends, strict=False))
    cells = np.zeros((len(found.rows), len(columns)), np.int8)
    if columns:
        for at, row in enumerate(found.rows):
            cells[at] = np.maximum.reduceat(row.standings, starts)
    return Grid(step, columns, tuple(row.symbol for row in found.rows), cells)


_STEPS: dict[str, Callable[[date], date]] = {
    "session": lambda day: day,
    "week": week_start,
    "month": lambda day: day.replace(day=1),
}


def _starts(sessions: Sequence[date], key: Callable[[date], date]) -> list[int]:
    """Where in the sessions each column begins."""
    keys = [key(day) for day in sessions]
    return [i for i, k in enumerate(keys) if i == 0 or keys[i - 1] != k]
