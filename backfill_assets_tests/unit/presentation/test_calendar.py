"""The picture, read back: one cell for each symbol and column, of the kind that its sessions are."""

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
from backfill_assets.presentation.calendar import IN_DAGIT, ON_A_PAGE, ROW, TOP, css, data_uri, drawing
from backfill_assets.presentation.grid import MOST_COLUMNS, grid_of
from backfill_assets_tests.unit.presentation.examples import lacking, some_markets, whole

CLASSES = {s.word.replace(" ", "-"): s for s in SessionState}
LINE = re.compile(r"M(\d+) (\d+)h(\d+)")


def elements(svg, name):
    root = ET.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))  # noqa: S314  # our own text
    legend = set(root.find("g[@class='legend']").iter())
    return [e for e in root.iter(name) if e not in legend]


def cells(grid, svg):
    """The kind of every cell that is drawn, by row and column; each must be drawn once."""
    lines = [
        (CLASSES[path.get("class")], *map(int, found))
        for path in elements(svg, "path")
        if path.get("class") in CLASSES
        for found in LINE.findall(path.get("d"))
    ]
    left = min(x for _, x, _, _ in lines)
    whole_row = max(x + length for _, x, _, length in lines) - left
    column, rest = divmod(whole_row, len(grid.columns))
    assert rest == 0
    seen = np.full((len(grid.symbols), len(grid.columns)), -1)
    for standing, x, y, length in lines:
        row, first, count = (y - TOP) // ROW, (x - left) // column, length // column
        assert (x - left) % column == length % column == 0
        assert (seen[row, first : first + count] == -1).all()
        seen[row, first : first + count] = standing
    return seen


@settings(max_examples=40)
@given(some_markets(), st.booleans(), st.sampled_from([ON_A_PAGE, IN_DAGIT]))
def test_every_symbol_and_column_has_one_cell_of_the_kind_of_its_worst_session(found, titles, across):
    if not found.sessions:
        return
    grid = grid_of(found)
    seen = cells(grid, drawing(grid, "label", across, titles=titles))
    for row, of_row in enumerate(found.rows):
        for column, days in enumerate(grid.columns):
            assert seen[row, column] == max(
                standing for day, standing in zip(found.sessions, of_row.standings, strict=True) if day in days
            )


@settings(max_examples=40)
@given(some_markets(), st.integers(5, MOST_COLUMNS))
def test_columns_are_the_finest_that_fit_and_hold_every_session_once(found, most):
    grid = grid_of(found, most)
    assert [day for days in grid.columns for day in found.sessions if day in days] == list(found.sessions)
    finer = {
        "session": [],
        "week": [len(found.sessions)],
        "month": [len({d.isocalendar()[:2] for d in found.sessions})],
    }
    assert all(count > most for count in finer[grid.step])
    assert len(grid.columns) <= most or grid.step == "month"


@pytest.mark.parametrize(
    ("start", "step"), [(date(2025, 6, 2), "session"), (date(2022, 6, 1), "week"), (date(2024, 7, 1), "session")]
)
def test_sessions_become_weeks_where_there_are_too_many(start, step):
    assert grid_of(lacking(start=start)).step == step


def test_symbols_months_years_and_kinds_are_named():
    texts = [e.text for e in elements(drawing(grid_of(lacking()), "label"), "text")]
    assert [t for t in texts if t in {"AAPL", "MSFT", "NVDA", "SPY"}] == ["AAPL", "MSFT", "NVDA", "SPY"]
    assert [t for t in texts if t.isdigit()] == ["2024", "2025"]
    assert {"Jan", "Mar", "May", "Nov"} <= set(texts)
    legend = drawing(grid_of(lacking()), "label").partition('<g class="legend">')[2]
    for standing in SessionState:
        assert f">{standing.word}</text>" in legend
    assert ">one column: a week, at its worst</text>" in legend


@settings(max_examples=25)
@given(some_markets())
def test_names_of_months_stand_apart_and_in_the_picture(found):
    svg = drawing(grid_of(found), "label", IN_DAGIT)
    months = [int(e.get("x")) for e in elements(svg, "text") if e.get("class") is None]
    assert all(b - a >= 34 for a, b in pairwise(months))
    width = int(re.search(r'width="(\d+)"', svg)[1])
    assert not months or months[-1] + 24 <= width


def test_a_page_of_two_years_fits_a_screen_and_dagits_dialog():
    names = tuple(f"SYM{n:02}" for n in range(25))
    grid = grid_of(lacking(start=date(2022, 9, 1), symbols=names))
    assert len(lacking(start=date(2022, 9, 1)).sessions) >= 700
    for across, widest in ((ON_A_PAGE, 1200), (IN_DAGIT, 920)):
        assert int(re.search(r'width="(\d+)"', drawing(grid, "label", across))[1]) <= widest


def test_pointing_at_cells_tells_what_they_are():
    svg = drawing(grid_of(lacking(start=date(2025, 6, 2))), "label")
    titles = [e.text for e in elements(svg, "title")]
    assert "AAPL, 2025-06-16 to 2025-06-18: missing" in titles
    assert "MSFT, 2025-06-16: explained" in titles
    assert "SPY, 2025-06-02 to 2025-06-30: complete" in titles


def test_texts_are_escaped():
    svg = drawing(grid_of(lacking(symbols=("<b>&", "B", "C", "D"))), '"><script>')
    assert "<b>" not in svg
    assert "<script>" not in svg
    assert elements(svg, "text")


def test_every_kind_has_a_colour_in_light_and_in_dark_and_a_form():
    light, dark = css().split("@media")
    for name in CLASSES:
        assert f"--{name}: #" in light
        assert f"--{name}: #" in dark
        assert f".calendar .{name} {{ stroke: var(--{name}); stroke-width: " in css()


def test_the_address_of_the_image_holds_all_of_it():
    kind, _, encoded = data_uri(grid_of(lacking()), "label").partition(",")
    assert kind == "data:image/svg+xml;base64"
    svg = b64decode(encoded).decode()
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" class="calendar"')
    assert css() in svg
    assert "href" not in svg
    assert (cells(grid_of(lacking()), svg) == grid_of(lacking()).cells).all()


def test_a_market_without_gaps_is_a_small_picture():
    """It stands in an event every hour."""
    names = tuple(f"SYM{n:02}" for n in range(25))
    assert len(data_uri(grid_of(whole()), "label")) < 6_000
    assert len(data_uri(grid_of(lacking(start=date(2022, 9, 1), symbols=names)), "label")) < 10_000


def test_before_the_first_session_there_is_an_empty_picture():
    svg = drawing(grid_of(whole(start=date(2025, 7, 1))), "label")
    assert [e.text for e in elements(svg, "text")] == ["AAPL", "MSFT"]
