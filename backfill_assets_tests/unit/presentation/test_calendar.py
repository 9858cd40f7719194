"""The drawing, parsed: one cell per symbol and column, in the state of its sessions."""

import re
from base64 import b64decode
from datetime import date
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill_assets.domain.completeness import SessionState
from backfill_assets.presentation.calendar import (
    MAX_COLUMNS,
    PAGE_WIDTH,
    ROW,
    TOP,
    UI_WIDTH,
    css,
    data_uri,
    drawing,
    grid_of,
    legend,
)
from backfill_assets_tests.unit.presentation.examples import complete_market, incomplete_market, some_markets

CLASSES = {s.label.replace(" ", "-"): s for s in SessionState}
LINE = re.compile(r"M(\d+) (\d+)h(\d+)")


def elements(svg, name):
    root = ET.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))  # noqa: S314  # the drawing, not foreign XML
    inside = root.find("g[@class='legend']")
    legend = set() if inside is None else set(inside.iter())
    return [e for e in root.iter(name) if e not in legend]


def cells(grid, svg):
    """The state of every cell by row and column; each must be drawn once."""
    lines = [
        (CLASSES[path.get("class")], *map(int, found))
        for path in elements(svg, "path")
        if path.get("class") in CLASSES
        for found in LINE.findall(path.get("d"))
    ]
    left = min(x for _, x, _, _ in lines)
    row_width = max(x + length for _, x, _, length in lines) - left
    column, rest = divmod(row_width, len(grid.columns))
    assert rest == 0
    seen = np.full((len(grid.symbols), len(grid.columns)), -1)
    for state, x, y, length in lines:
        row, first, count = (y - TOP) // ROW, (x - left) // column, length // column
        assert (x - left) % column == length % column == 0
        assert (seen[row, first : first + count] == -1).all()
        seen[row, first : first + count] = state
    return seen


@settings(max_examples=40)
@given(some_markets(), st.booleans(), st.sampled_from([PAGE_WIDTH, UI_WIDTH]))
def test_every_cell_has_the_state_of_its_worst_session(found, alone, width):
    if not found.sessions:
        return
    grid = grid_of(found)
    seen = cells(grid, drawing(grid, "label", width, alone=alone))
    for row, of_row in enumerate(found.rows):
        for column, days in enumerate(grid.columns):
            assert seen[row, column] == max(
                state for day, state in zip(found.sessions, of_row.states, strict=True) if day in days
            )


@settings(max_examples=40)
@given(some_markets(), st.integers(5, MAX_COLUMNS))
def test_columns_are_the_finest_that_fit_and_hold_every_session_once(found, limit):
    grid = grid_of(found, limit)
    assert [day for days in grid.columns for day in found.sessions if day in days] == list(found.sessions)
    finer = {
        "session": [],
        "week": [len(found.sessions)],
        "month": [len({d.isocalendar()[:2] for d in found.sessions})],
    }
    assert all(count > limit for count in finer[grid.step])
    assert len(grid.columns) <= limit or grid.step == "month"


@pytest.mark.parametrize(
    ("start", "step"), [(date(2025, 6, 2), "session"), (date(2022, 6, 1), "week"), (date(2024, 7, 1), "session")]
)
def test_columns_are_weeks_if_there_are_too_many_sessions(start, step):
    assert grid_of(incomplete_market(start=start)).step == step


def test_symbols_months_years_and_states_are_labelled():
    texts = [e.text for e in elements(drawing(grid_of(incomplete_market()), "label"), "text")]
    assert [t for t in texts if t in {"AAPL", "MSFT", "NVDA", "SPY"}] == ["AAPL", "MSFT", "NVDA", "SPY"]
    assert [t for t in texts if t.isdigit()] == ["2024", "2025"]
    assert {"Jan", "Mar", "May", "Nov"} <= set(texts)
    grid = grid_of(incomplete_market())
    inside, below = drawing(grid, "label", alone=True).partition('<g class="legend">')[2], legend(grid)
    for state in SessionState:
        assert (f">{state.label}</text>" in inside) == (state is not SessionState.FALLBACK)
        assert (f"{state.label}</span>" in below) == (state is not SessionState.FALLBACK)
    grid.cells[0, 0] = SessionState.FALLBACK
    assert ">fallback</text>" in drawing(grid, "label", alone=True)
    assert "fallback</span>" in legend(grid)
    assert "legend" not in drawing(grid, "label")
    assert ">one column per week, worst session shown</text>" in inside
    assert "<span>one column per week, worst session shown</span>" in below


@settings(max_examples=25)
@given(some_markets())
def test_month_names_do_not_overlap_and_are_inside_the_drawing(found):
    svg = drawing(grid_of(found), "label", UI_WIDTH)
    months = [int(e.get("x")) for e in elements(svg, "text") if e.get("class") is None]
    assert all(b - a >= 34 for a, b in pairwise(months))
    width = int(re.search(r'width="(\d+)"', svg)[1])
    assert not months or months[-1] + 24 <= width


def months(start, end):
    """Return the names of months above the drawing of a market of stocks."""
    found = complete_market(start=start, end=end)
    return [
        e.text
        for e in elements(drawing(grid_of(found), "label"), "text")
        if e.get("class") is None and e.get("y") == "27"
    ]


def test_each_month_with_room_is_named_and_a_narrow_first_one_is_not():
    assert months(date(2024, 10, 30), date(2024, 11, 29)) == ["Nov"]
    assert months(date(2024, 11, 28), date(2024, 12, 3)) == ["Dec"]
    assert months(date(2024, 11, 29), date(2024, 11, 29)) == ["Nov"]
    year = [date(2024, m, 1).strftime("%b") for m in range(1, 13)]
    assert months(date(2024, 1, 2), date(2024, 12, 31)) == year
    assert months(date(2023, 11, 29), date(2024, 11, 29)) == ["Dec", *year[:11]]


def test_two_years_fit_a_page_and_the_dialog_of_the_dagster_ui():
    names = tuple(f"SYM{n:02}" for n in range(25))
    grid = grid_of(incomplete_market(start=date(2022, 9, 1), symbols=names))
    assert len(incomplete_market(start=date(2022, 9, 1)).sessions) >= 700
    for width, limit in ((PAGE_WIDTH, 1200), (UI_WIDTH, 920)):
        assert int(re.search(r'width="(\d+)"', drawing(grid, "label", width))[1]) <= limit


def test_cells_have_tooltips():
    svg = drawing(grid_of(incomplete_market(start=date(2025, 6, 2))), "label")
    titles = [e.text for e in elements(svg, "title")]
    assert "AAPL, 2025-06-16 to 2025-06-18: missing" in titles
    assert "MSFT, 2025-06-16: explained" in titles
    assert "SPY, 2025-06-02 to 2025-06-30: complete" in titles


def test_texts_are_escaped():
    svg = drawing(grid_of(incomplete_market(symbols=("<b>&", "B", "C", "D"))), '"><script>')
    assert "<b>" not in svg
    assert "<script>" not in svg
    assert elements(svg, "text")


def test_every_state_has_a_light_and_a_dark_colour_and_a_shape():
    light, dark = css().split("@media")
    for name in CLASSES:
        assert f"--{name}: #" in light
        assert f"--{name}: #" in dark
        assert f".calendar .{name} {{ stroke: var(--{name}); stroke-width: " in css()


def test_the_data_uri_holds_the_complete_drawing():
    kind, _, encoded = data_uri(grid_of(incomplete_market()), "label").partition(",")
    assert kind == "data:image/svg+xml;base64"
    svg = b64decode(encoded).decode()
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" class="calendar"')
    assert css() in svg
    assert "href" not in svg
    assert (cells(grid_of(incomplete_market()), svg) == grid_of(incomplete_market()).cells).all()


def test_the_drawing_of_a_market_without_gaps_is_small():
    """An hourly event holds it."""
    names = tuple(f"SYM{n:02}" for n in range(25))
    assert len(data_uri(grid_of(complete_market()), "label")) < 6_000
    assert len(data_uri(grid_of(incomplete_market(start=date(2022, 9, 1), symbols=names)), "label")) < 10_000


def test_before_the_first_session_the_drawing_is_empty():
    svg = drawing(grid_of(complete_market(start=date(2025, 7, 1))), "label")
    assert [e.text for e in elements(svg, "text")] == ["AAPL", "MSFT"]
