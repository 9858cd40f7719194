"""The calendar of a market as a picture: an SVG.

SVG, written by hand: the picture is five kinds of line and some text. A plotting library would bring megabytes and seconds of
import into every code location for it, and a PNG needs fonts of its own; this is some kilobytes in the event that holds it,
sharp at every size, and the page takes it as it is. Neighbours that stand alike are one line: a complete market is small.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from backfill_assets.domain.completeness import SessionState
from backfill_assets.presentation.grid import Grid, Run

ROW, TOP, BOTTOM, EDGE = 16, 34, 34, 8
"""Heights of a row, of the months above, of the legend below; the margin. All in px."""
WIDEST, NARROWEST = 14, 3
"""A column's width lies between these two."""
ON_A_PAGE, IN_DAGIT = 1080, 810
"""What all columns may take together. Dagit cuts off what is wider than four fifths of its window."""
CAPITAL, LETTER = 8, 6
"""About as wide as the font's capitals and its other letters."""
LABEL = 34
"""So far apart two names of months must stand at the least."""
LEGEND = (*list(SessionState)[1:], SessionState.NOT_EXPECTED)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things stand: `left` is the first column's left edge."""

    left: int
    column: int
    width: int
    height: int

    @classmethod
    def of(cls, grid: Grid, across: int) -> _Frame:
        count = max(len(grid.columns), 1)
        column = max(NARROWEST, min(WIDEST, across // count))
        left = 2 * EDGE + CAPITAL * max(map(len, grid.symbols), default=0)
        width = left + max(column * (count - 1) + LABEL, _LEGEND_WIDTH)
        return cls(left, column, width, TOP + ROW * len(grid.symbols) + BOTTOM)

    def line(self, row: int, run: Run) -> str:
        """A run of cells as a path's data: a line through the middle of its row."""
        return f"M{self.left + run.first * self.column} {TOP + row * ROW + ROW // 2}h{(run.after - run.first) * self.column}"


def css() -> str:
    """The rules that the drawing is shown by."""
    return files("backfill_assets.presentation").joinpath("calendar.css").read_text(encoding="utf-8")


def drawing(grid: Grid, label: str, across: int = ON_A_PAGE, *, titles: bool = True) -> str:
    """The calendar as an `svg` element for a page that has the rules of `css()`.

    `titles`: each run of cells is an element of its own, which says what it is when pointed at; else a kind is one element.
    """
    frame = _Frame.of(grid, across)
    cells = _titled(grid, frame) if titles else _plain(grid, frame)
    parts = [*cells, *_axis(grid, frame), *_symbols(grid, frame)]
    return (
        f'<svg class="calendar" width="{frame.width}" height="{frame.height}" '
        f'viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(label)}">'
        f'<rect class="paper" width="100%" height="100%" rx="4"/>{"".join(parts)}{_legend(grid, frame)}</svg>'
    )


def data_uri(grid: Grid, label: str) -> str:
    """The calendar as an image's address that holds the image: nothing is fetched to show it."""
    svg = drawing(grid, label, IN_DAGIT, titles=False)
    opening = '<svg xmlns="http://www.w3.org/2000/svg"'
    whole = svg.replace("<svg", opening, 1).replace(">", f"><style>{css()}</style>", 1)
    return f"data:image/svg+xml;base64,{b64encode(whole.encode()).decode()}"


def _class(standing: SessionState) -> str:
    return standing.word.replace(" ", "-")


def _plain(grid: Grid, frame: _Frame) -> Iterator[str]:
    lines: dict[SessionState, list[str]] = {}
    for row in range(len(grid.symbols)):
        for run in grid.runs(row):
            lines.setdefault(run.standing, []).append(frame.line(row, run))
    for standing, data in sorted(lines.items()):
        yield f'<path class="{_class(standing)}" d="{"".join(data)}"/>'


def _titled(grid: Grid, frame: _Frame) -> Iterator[str]:
    for row, symbol in enumerate(grid.symbols):
        for run in grid.runs(row):
            first, last = grid.columns[run.first], grid.columns[run.after - 1]
            days = str(first.start) if first.start == last.end else f"{first.start} to {last.end}"
            title = escape(f"{symbol}, {days}: {run.standing.word}")
            yield f'<path class="{_class(run.standing)}" d="{frame.line(row, run)}"><title>{title}</title></path>'


def _symbols(grid: Grid, frame: _Frame) -> Iterator[str]:
    for row, symbol in enumerate(grid.symbols):
        yield f'<text class="symbol" x="{frame.left - EDGE}" y="{TOP + row * ROW + 12}">{escape(symbol)}</text>'


def _axis(grid: Grid, frame: _Frame) -> Iterator[str]:
    """Names of months: every second, third, sixth, or only Januaries where there is no room; the year where it begins."""
    days = [column.start for column in grid.columns]
    months = [at for at, day in enumerate(days) if at == 0 or day.month != days[at - 1].month]
    room = frame.column * len(grid.columns) / max(len(months), 1)
    every = next((n for n in (1, 2, 3, 6) if n * room >= LABEL), 12)
    year, free = 0, 0
    for at in months:
        x, day = frame.left + at * frame.column, days[at]
        if x < free or (at and (day.month - 1) % every):
            continue
        yield f'<path class="tick" d="M{x}.5 {TOP}V{frame.height - BOTTOM}"/><text x="{x}" y="{TOP - 7}">{day:%b}</text>'
        if day.year != year:
            year = day.year
            yield f'<text class="year" x="{x}" y="{TOP - 20}">{year}</text>'
        free = x + LABEL


_SAMPLE, _GAP = 22, 18
_CAPTION = "one column: a {step}, at its worst"
_LEGEND_WIDTH = sum(_SAMPLE + 6 + LETTER * len(standing.word) + _GAP for standing in LEGEND) + LETTER * len(_CAPTION)


def _legend(grid: Grid, frame: _Frame) -> str:
    x, y = frame.left, frame.height - 13
    parts = []
    for standing in LEGEND:
        parts.append(f'<path class="{_class(standing)}" d="M{x} {y}h{_SAMPLE}"/>')
        parts.append(f'<text x="{x + _SAMPLE + 6}" y="{y + 4}">{standing.word}</text>')
        x += _SAMPLE + 6 + LETTER * len(standing.word) + _GAP
    caption = "one column: a session" if grid.step == "session" else _CAPTION.format(step=grid.step)
    return f'<g class="legend">{"".join(parts)}<text x="{x}" y="{y + 4}">{caption}</text></g>'
