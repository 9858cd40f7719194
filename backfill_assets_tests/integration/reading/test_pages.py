"""The Python of the pages on reading, run as it is printed."""

import re
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import psycopg
import pytest

from backfill_assets import read_bars
from backfill_assets_tests.support import PROJECT


def blocks(*path):
    """The Python blocks of a page."""
    return re.findall(
        r"^```python\n(.*?)^```$", PROJECT.joinpath("docs", *path).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


HOW_TO, TUTORIAL = blocks("howto", "read-the-data.md"), blocks("tutorial.md")


@pytest.fixture
def run(filled, monkeypatch, tmp_path, capsys):
    """Run a block as a newcomer does, in an empty folder; return what it prints and the names that it defines."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.chdir(tmp_path)

    def run(code, url=filled):
        monkeypatch.setenv("DATABASE_URL", url)
        names = {}
        exec(code, names)  # noqa: S102  # our own page
        return capsys.readouterr().out, names

    return run


@pytest.mark.parametrize("code", HOW_TO, ids=lambda code: code.splitlines()[-1][:40])
def test_each_task_takes_at_most_five_lines(run, code):
    assert len(code.splitlines()) <= 5
    printed, names = run(code)
    assert printed or "bars" in names


def task(word):
    """The block of the how-to that has the word."""
    (code,) = (code for code in HOW_TO if word in code)
    return code


def test_the_tasks_do_what_the_page_says(run, filled, tmp_path):
    """The grid of regular hours, a weekly return, the last bars, and all bars as CSV."""
    hours = run(task("session="))[1]["bars"]["timestamp"]
    assert {(at.tz.key, at.minute) for at in hours} == {("America/New_York", 30)}
    _, weekly = run(task("pivot"))
    weeks = read_bars("MSFT", "1w", adjust="all", url=filled)["close"]
    assert weekly["close"]["MSFT"].dropna().tolist() == weeks.tolist()
    last = run(task("tail(1)"))[1]["last"]
    assert list(zip(last["symbol"], last["timestamp"].dt.date.map(str), strict=True)) == [
        ("AAPL", "2024-07-12"),
        ("BTC", "2024-07-13"),
        ("MSFT", "2024-07-12"),
    ]
    run(task("to_csv"))
    month = pd.read_csv(tmp_path / "bars.csv")
    bars = read_bars(None, "5m", url=filled)
    np.testing.assert_allclose(month["close"], bars["close"], rtol=1e-15)
    assert pd.to_datetime(month["timestamp"], utc=True).tolist() == bars["timestamp"].tolist()


def test_the_tutorial_goes_from_the_store_to_a_plot(run, tmp_path, database_url):
    table, *plots = TUTORIAL
    with psycopg.connect(database_url) as connection:
        connection.execute(
            """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
               values ('AAPL', '1m', %s, 260.31, 260.31, 260.20, 260.20, 4268, 'polygon')""",
            [datetime(2026, 11, 21, 0, 59, tzinfo=UTC)],
        )
    printed, _ = run(table, database_url)
    assert printed.split()[-6:] == ["19:59:00-05:00", "260.31", "260.31", "260.2", "260.2", "4268.0"]
    for code, name in zip(plots, ("growth.svg", "session.svg"), strict=True):
        run(code)
        assert "<svg" in (tmp_path / name).read_text(encoding="utf-8")
