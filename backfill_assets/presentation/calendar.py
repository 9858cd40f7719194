"""The calendar of a market as SVG.

The SVG is written by hand: it is five kinds of line and some text. A plotting library would add megabytes and seconds of
import to every code location. An event that holds the SVG grows by some kilobytes, since consecutive cells in the same
state are one line.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from importlib.resources import files
from itertools import pairwise

import numpy as np

from backfill_assets.domain.completeness import Completeness, SessionState, SessionStates
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.derive import week_start

# --- The grid

MAX_COLUMNS = 270
"""At the narrowest visible column, these fill the width of a page: enough for five years of weeks."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive cells of a row in the same state: columns from `first` to before `after`."""

    first: int
    after: int
    state: SessionState


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """`step` is the period of a column: session, week, month. `columns` are its days, from first session to last.

    `cells` has a row for each of `symbols`, a column for each of `columns`: int8, the worst state of its sessions.
    """

    step: str
    columns: tuple[DayRange, ...]
    symbols: tuple[str, ...]
    cells: SessionStates

    def runs(self, row: int) -> Iterator[Run]:
        """Group consecutive cells of a row in the same state."""
        cells = self.cells[row]
        edges = [0, *(np.flatnonzero(np.diff(cells)) + 1).tolist(), len(cells)] if len(cells) else []
        for first, after in pairwise(edges):
            yield Run(first, after, SessionState(int(cells[first])))


def grid_of(found: Completeness, max_columns: int = MAX_COLUMNS) -> Grid:
    """Build the finest grid of at most `max_columns`; months if weeks are too many as well."""
    step, starts = next(
        (s for s in ((name, _starts(found.sessions, key)) for name, key in _STEPS.items()) if len(s[1]) <= max_columns),
        ("month", _starts(found.sessions, _STEPS["month"])),
    )
    ends = [*(i - 1 for i in starts[1:]), len(found.sessions) - 1]
    columns = tuple(DayRange(found.sessions[a], found.sessions[b]) for a, b in zip(starts, ends, strict=False))
    cells = np.zeros((len(found.rows), len(columns)), np.int8)
    if columns:
        for at, row in enumerate(found.rows):
            cells[at] = np.maximum.reduceat(row.states, starts)
    return Grid(step, columns, tuple(row.symbol for row in found.rows), cells)


_STEPS: dict[str, Callable[[date], date]] = {
    "session": lambda day: day,
    "week": week_start,
    "month": lambda day: day.replace(day=1),
}


def _starts(sessions: Sequence[date], key: Callable[[date], date]) -> list[int]:
    """The index of the first session of each column."""
    keys = [key(day) for day in sessions]
    return [i for i, k in enumerate(keys) if i == 0 or keys[i - 1] != k]


# --- The drawing

ROW, TOP, BOTTOM, EDGE = 16, 34, 34, 8
"""Heights of a row, of the months above and of the legend below; the margin. All in px."""
MAX_WIDTH, MIN_WIDTH = 14, 3
"""Limits for the width of a column, px."""
PAGE_WIDTH, UI_WIDTH = 1080, 810
"""Maximum width of all columns. The Dagster UI cuts off images wider than four fifths of its window."""
CAPITAL, LETTER = 8, 6
"""Approximate widths of the font's capital and other letters."""
LABEL = 34
"""Minimum distance of two month names."""
LEGEND = (*list(SessionState)[1:], SessionState.NOT_EXPECTED)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The layout: `left` is the left edge of the first column."""

    left: int
    column: int
    width: int
    height: int

    @classmethod
    def of(cls, grid: Grid, max_width: int, legend: int) -> _Frame:
        count = max(len(grid.columns), 1)
        column = max(MIN_WIDTH, min(MAX_WIDTH, max_width // count))
        left = 2 * EDGE + CAPITAL * max(map(len, grid.symbols), default=0)
        width = left + max(column * (count - 1) + LABEL, legend)
        return cls(left, column, width, TOP + ROW * len(grid.symbols) + (BOTTOM if legend else EDGE))

    def line(self, row: int, run: Run) -> str:
        """Return the path data of a run: a line through the middle of its row."""
        return f"M{self.left + run.first * self.column} {TOP + row * ROW + ROW // 2}h{(run.after - run.first) * self.column}"


def css() -> str:
    """Return the style sheet of the drawing."""
    return files("backfill_assets.presentation").joinpath("calendar.css").read_text(encoding="utf-8")


def drawing(grid: Grid, label: str, max_width: int = PAGE_WIDTH, *, alone: bool = False) -> str:
    """Draw the calendar as an `svg` element for a page with the rules of `css()`, whose `legend` is below it.

    Every run of cells is an element with a tooltip. If it stands `alone`, every state is one, and the legend is in it.
    """
    frame = _Frame.of(grid, max_width, _LEGEND_WIDTH if alone else 0)
    cells = _plain(grid, frame) if alone else _titled(grid, frame)
    parts = [*cells, *_axis(grid, frame), *_symbols(grid, frame), *([_legend(grid, frame)] if alone else [])]
    return (
        f'<svg class="calendar" width="{frame.width}" height="{frame.height}" '
        f'viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(label)}">'
        f'<rect class="paper" width="100%" height="100%" rx="4"/>{"".join(parts)}</svg>'
    )


def data_uri(grid: Grid, label: str) -> str:
    """Draw the calendar as a `data:` URI."""
    svg = drawing(grid, label, UI_WIDTH, alone=True)
    opening = '<svg xmlns="http://www.w3.org/2000/svg"'
    complete = svg.replace("<svg", opening, 1).replace(">", f"><style>{css()}</style>", 1)
    return f"data:image/svg+xml;base64,{b64encode(complete.encode()).decode()}"


def _class(state: SessionState) -> str:
    return state.label.replace(" ", "-")


def _plain(grid: Grid, frame: _Frame) -> Iterator[str]:
    lines: dict[SessionState, list[str]] = {}
    for row in range(len(grid.symbols)):
        for run in grid.runs(row):
            lines.setdefault(run.state, []).append(frame.line(row, run))
    for state, data in sorted(lines.items()):
        yield f'<path class="{_class(state)}" d="{"".join(data)}"/>'


def _titled(grid: Grid, frame: _Frame) -> Iterator[str]:
    for row, symbol in enumerate(grid.symbols):
        for run in grid.runs(row):
            first, last = grid.columns[run.first], grid.columns[run.after - 1]
            days = str(first.start) if first.start == last.end else f"{first.start} to {last.end}"
            title = escape(f"{symbol}, {days}: {run.state.label}")
            yield f'<path class="{_class(run.state)}" d="{frame.line(row, run)}"><title>{title}</title></path>'


def _symbols(grid: Grid, frame: _Frame) -> Iterator[str]:
    for row, symbol in enumerate(grid.symbols):
        yield f'<text class="symbol" x="{frame.left - EDGE}" y="{TOP + row * ROW + 12}">{escape(symbol)}</text>'


def _axis(grid: Grid, frame: _Frame) -> Iterator[str]:
    """Names of months: all, or every second, third, sixth or twelfth as space allows; the year where it starts."""
    year = 0
    for at in _labelled(grid, frame):
        x, day = frame.left + at * frame.column, grid.columns[at].start
        yield f'<path class="tick" d="M{x}.5 {TOP}v{ROW * len(grid.symbols)}"/><text x="{x}" y="{TOP - 7}">{day:%b}</text>'
        if day.year != year:
            year = day.year
            yield f'<text class="year" x="{x}" y="{TOP - 20}">{year}</text>'


def _labelled(grid: Grid, frame: _Frame) -> list[int]:
    """Return the columns in which labelled months begin; the first one, which may be cut off, only if it has room."""
    days, room = [column.start for column in grid.columns], -(-LABEL // frame.column)
    months = [at for at in range(1, len(days)) if days[at].month != days[at - 1].month]
    for every in (1, 2, 3, 6, 12):
        shown = [at for at in months if (days[at].month - 1) % every == 0]
        if all(b - a >= room for a, b in pairwise(shown)):
            break
    return [0, *shown] if days and (not shown or shown[0] >= room) else shown


_SAMPLE, _GAP = 22, 18
_CAPTION = "one column per {step}, worst session shown"
_LEGEND_WIDTH = sum(_SAMPLE + 6 + LETTER * len(state.label) + _GAP for state in LEGEND) + LETTER * len(_CAPTION)


def legend(grid: Grid) -> str:
    """Return the legend as a paragraph, which breaks into lines where it has to."""
    samples = (
        f'<span><svg class="calendar" width="{_SAMPLE}" height="12"><path class="{_class(state)}" d="M0 6h{_SAMPLE}"/></svg>'
        f"{state.label}</span>"
        for state in _shown(grid)
    )
    return f'<p class="legend">{"".join(samples)}<span>{_caption(grid)}</span></p>'


def _shown(grid: Grid) -> Iterator[SessionState]:
    """Yield the states of the legend: few markets have fallbacks."""
    return (s for s in LEGEND if s is not SessionState.FALLBACK or bool((grid.cells == s).any()))


def _caption(grid: Grid) -> str:
    return "one column per session" if grid.step == "session" else _CAPTION.format(step=grid.step)


def _legend(grid: Grid, frame: _Frame) -> str:
    x, y = frame.left, frame.height - 13
    parts = []
    for state in _shown(grid):
        parts.append(f'<path class="{_class(state)}" d="M{x} {y}h{_SAMPLE}"/>')
        parts.append(f'<text x="{x + _SAMPLE + 6}" y="{y + 4}">{state.label}</text>')
        x += _SAMPLE + 6 + LETTER * len(state.label) + _GAP
    return f'<g class="legend">{"".join(parts)}<text x="{x}" y="{y + 4}">{_caption(grid)}</text></g>'
