"""`backfill status`: output on a terminal, in a pipe, as JSON and HTML, and the exit code."""

import io
import json
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from backfill_assets.cli.status import show_status
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.simulator import Hole
from backfill_assets_tests.support import backdate_answers
from backfill_assets_tests.unit.presentation.examples import NOW, complete_market, incomplete_market

ALL = list(TIMEFRAMES)
LOST = Hole(ticker="AAPL", first=date(2024, 3, 6), last=date(2024, 3, 7))
THIN = Hole(ticker="X:BTCUSD", first=date(2024, 3, 9), last=date(2024, 3, 9), base="minute", start="08:00", end="24:00")
HEAD = ["symbol", *ALL, "gaps", "last", "bar", "(UTC)", "next", "try"]


def words(text):
    return [line.split() for line in text.splitlines()]


def shown(*found, width=80, terminal=False, now=NOW):
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=terminal, color_system="standard" if terminal else None)
    show_status(console, found, now)
    return screen.getvalue()


@pytest.fixture
def filled_with_holes(backfilled_except):
    return backfilled_except(LOST, THIN)


def test_everything_is_missing_before_the_first_run(closed_markets, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    result = closed_markets("status")
    assert (result.code, result.err) == (3, "")
    assert result.out == "Nothing fetched yet: `backfill run --days 30`\n"
    assert closed_markets.vendor.requests == []


def test_a_market_is_shown_before_its_first_run(closed_markets):
    assert closed_markets("run", "--symbols", "AAPL", "--timeframes", "1d").code == 0
    result = closed_markets("status")
    assert (result.code, result.err) == (3, "")
    nothing = ["✗", "0%"] * 8
    assert words(result.out)[:6] == [
        ["stocks,", "2024-03-04", "to", "2024-03-08:", "0.0%", "complete;", "10", "missing", "of", "10", "sessions"],
        ["crypto,", "2024-03-04", "to", "2024-03-10:", "0.0%", "complete;", "7", "missing", "of", "7", "sessions"],
        HEAD,
        ["AAPL", *["✗", "0%"] * 6, "✓", "✓", "1", "2024-03-08", "05:00", "now"],
        ["MSFT", *nothing, "1", "none", "now"],
        ["BTC", *nothing, "2", "none", "now"],
    ]
    assert words(result.out)[6:9] == [
        ["✓", "complete,", "~", "explained,", "✗", "open", "gaps"],
        ["4", "unexplained", "gaps.", "To", "fetch", "them", "now:"],
        ["backfill", "repair", "--symbols", "AAPL,MSFT,BTC"],
    ]


def test_stored_symbols_that_are_not_in_the_universe_are_named(closed_markets):
    backfill = closed_markets
    assert backfill("run", "--markets", "stocks").code == 0
    sentence = "1 symbol stored, but not in the universe: OTHER. See `backfill symbols list`.\n"
    assert sentence not in backfill("status").out
    with psycopg.connect(backfill.database_url) as connection:
        connection.execute(
            "insert into market_data (symbol, timeframe, source, timestamp, open, high, low, close, volume)"
            " select 'OTHER', timeframe, source, timestamp, open, high, low, close, volume"
            " from market_data where symbol = 'AAPL' and timeframe = '1d'"
        )
    assert backfill("status").out.endswith(sentence)
    assert json.loads(backfill("status", "--json").out)["not_in_universe"] == ["OTHER"]


def test_a_complete_store_exits_with_zero(closed_markets):
    assert closed_markets("run").code == 0
    result = closed_markets("status")
    assert (result.code, result.err) == (0, "")
    assert [line for line in words(result.out) if line[0] in {"AAPL", "BTC"}] == [
        ["AAPL", *["✓"] * 8, "0", "2024-03-09", "00:59"],
        ["BTC", *["✓"] * 8, "0", "2024-03-10", "23:59"],
    ]
    assert "repair" not in result.out
    assert closed_markets("status", "--markets", "crypto").out.count("\n") == 4


def test_wrong_data_are_reported_by_every_command_with_exit_code_3(closed_markets):
    """The same check of several assets is one line; checks of what is missing are left to the commands."""
    assert closed_markets("run", "--markets", "crypto", "--end", "2024-03-08").code == 0
    with psycopg.connect(closed_markets.database_url) as connection:
        connection.execute("update market_data set low = high + 1 where timeframe in ('1h', '1d')")
    results = {
        name: closed_markets(*name.split()) for name in ("run --markets crypto", "status", "report --json", "alerts")
    }
    assert {name: result.code for name, result in results.items()} == dict.fromkeys(results, 3)
    in_json = closed_markets("run", "--markets", "crypto", "--json")
    found = json.loads(in_json.out)
    assert in_json.code == found["exit_code"] == 3
    for failed in (found["failed_checks"], json.loads(results["report --json"].out)["failed_checks"]):
        wrong = [f for f in failed if f["check"] == "bars_are_valid"]
        assert [(f["asset"], f["severity"]) for f in wrong] == [
            ("crypto/ohlcv_1d", "error"),
            ("crypto/ohlcv_1h", "error"),
        ]
    assert json.loads(closed_markets("status", "--json").out)["failed_checks"] == found["failed_checks"]
    for name in ("run --markets crypto", "status", "alerts"):
        blocks = results[name].out.split("check bars_are_valid failed for ")[1:]
        assert [block.splitlines()[0] for block in blocks] == ["crypto/ohlcv_1d", "crypto/ohlcv_1h"]
        assert all("broken rules in" in block and "\n  Checked 20" in block for block in blocks)
        assert all(len(line) <= 80 for block in blocks for line in block.splitlines()[:3])
    assert "no_missing_sessions" not in results["run --markets crypto"].out
    assert json.loads(closed_markets("status", "--markets", "stocks", "--json").out)["failed_checks"] == []


def test_gaps_are_shown_until_they_are_explained(filled_with_holes, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    backfill = filled_with_holes
    result = backfill("status")
    assert result.code == 3
    found = {line[0]: line for line in reversed(words(result.out))}
    assert found["AAPL"][1:-3] == [*["✗60%"] * 7, "✓", "1", "2024-03-09", "00:59"]
    assert found["BTC"][1:9] == [*["✗85%"] * 6, "✓", "✓"]
    assert found["MSFT"][1:10] == [*["✓"] * 8, "0"]
    assert " ".join(found["AAPL"][-3:]) in {"in 1 h", "in 60 min", "in 59 min"}
    backdate_answers(backfill.database_url)
    backfill("repair")
    result = backfill("status")
    assert result.code == 0
    found = {line[0]: line for line in reversed(words(result.out))}
    assert found["AAPL"][1:] == [*["~60%"] * 7, "✓", "0", "2024-03-09", "00:59"]
    assert found["BTC"][1:9] == [*["~85%"] * 6, "✓", "✓"]
    assert "repair" not in result.out


def test_json_has_markets_symbols_series_and_gaps(filled_with_holes):
    result = filled_with_holes("status", "--json")
    assert (result.code, result.err) == (3, "")
    found = json.loads(result.out)
    assert set(found) == {
        "exit_code",
        "as_of",
        "markets",
        "symbols",
        "series",
        "gaps",
        "failed_checks",
        "not_in_universe",
    }
    assert found["exit_code"] == 3
    stocks, crypto = found["markets"]
    assert stocks == {
        "market": "stocks",
        "start": "2024-03-04",
        "end": "2024-03-08",
        "share_complete": 0.8,
        "expected_sessions": 10,
        "complete_sessions": 8,
        "explained_sessions": 0,
        "fallback_sessions": 0,
        "partial_sessions": 0,
        "missing_sessions": 2,
    }
    assert (crypto["expected_sessions"], crypto["partial_sessions"]) == (7, 1)
    series = {(s["symbol"], s["timeframe"]): s for s in found["series"]}
    assert set(series) == {(s, t) for s in ("AAPL", "MSFT", "BTC") for t in ALL}
    query = "select symbol, timeframe, max(timestamp) from market_data group by 1, 2"
    assert {k: datetime.fromisoformat(s["last_bar"]) for k, s in series.items()} == {
        (s, t): at for s, t, at in filled_with_holes.rows(query)
    }
    assert (series["AAPL", "1d"]["share_complete"], series["AAPL", "1d"]["open_gaps"]) == (0.6, 1)
    assert {s["symbol"]: s["open_gaps"] for s in found["symbols"]} == {"AAPL": 7, "MSFT": 0, "BTC": 6}
    assert found["gaps"] == json.loads(filled_with_holes("gaps", "--json").out)


def test_symbols_and_markets_limit_the_output_and_the_exit_code(filled_with_holes):
    result = filled_with_holes("status", "--symbols", "MSFT", "--json")
    assert result.code == 0
    assert [s["symbol"] for s in json.loads(result.out)["symbols"]] == ["MSFT"]
    assert filled_with_holes.rows("select count(*) from backfill_gaps where not filled") == [(13,)]
    assert filled_with_holes("status", "--markets", "crypto").code == 3


def test_html_writes_a_page_too(filled_with_holes, tmp_path):
    path = tmp_path / "status page.html"
    result = filled_with_holes("status", "--html", str(path), "--json")
    assert (result.code, result.err) == (3, f"Wrote {path}.\n")
    assert json.loads(result.out)["markets"]
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    for part in ("<h2>stocks</h2>", "<h2>crypto</h2>", "backfill repair --symbols AAPL"):
        assert part in text
    assert [p.name for p in tmp_path.iterdir() if "status" in p.name] == [path.name]


@pytest.mark.parametrize("place", ["nowhere/status.html", "."])
def test_a_page_that_cannot_be_written_is_one_sentence(closed_markets, tmp_path, place):
    result = closed_markets("status", "--html", str(tmp_path / place))
    assert (result.code, result.out) == (2, "")
    assert re.match(r"--html '.*' cannot be written \(.+\)\.$", result.error)
    assert not list(Path(tmp_path).rglob("*.part"))


# --- The terminal


def table(text):
    """Return the table's lines without its head."""
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("symbol"))
    legend = next(i for i, line in enumerate(lines) if "explained, " in line and "complete, " in line)
    return lines[head + 1 : legend]


def incomplete_in_all_timeframes(symbol):
    """Return a market with the widest possible row."""
    first, *others = incomplete_market(symbols=(symbol, "MSFT", "NVDA", "SPY")).rows
    series = tuple(replace(s, counts=first.series[0].counts, gaps=first.series[0].gaps) for s in first.series)
    return replace(incomplete_market(), rows=(replace(first, series=series), *others))


def test_it_fits_eighty_columns_with_symbols_of_eight_letters():
    plain = shown(incomplete_in_all_timeframes("BRK.B-AB"), now=NOW - timedelta(minutes=55))
    assert max(map(len, plain.splitlines())) <= 80
    widest, *others = table(plain)
    assert widest == f"BRK.B-AB {'✗98% ' * 8}   2 2025-06-30 23:59 in 59 min"
    assert [line.split()[0] for line in others] == ["MSFT", "NVDA", "SPY"]


def test_a_longer_symbol_is_folded():
    symbol = "ABCDEFGHIJKLMNOPQRST"
    lines = table(shown(incomplete_in_all_timeframes(symbol), now=NOW - timedelta(minutes=55)))
    assert {len(line) for line in lines} == {80}
    assert "".join(line.split()[0] for line in lines[:-3]) == symbol
    assert lines[0].endswith(f" {'✗98% ' * 8}   2 2025-06-30 23:59 in 59 min")


def test_colours_repeat_what_glyphs_show():
    drawn = shown(incomplete_market(), terminal=True)
    for glyph, colour in {"✓": 32, "~": 33, "✗": 31}.items():
        assert f"\x1b[{colour}m{glyph}\x1b[0m" in drawn
    assert re.sub(r"\x1b\[[0-9;]*m", "", drawn) == shown(incomplete_market())


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (timedelta(seconds=-1), "now"),
        (timedelta(seconds=30), "in 30 s"),
        (timedelta(minutes=4), "in 4 min"),
        (timedelta(minutes=59, seconds=59), "in 60 min"),
        (timedelta(hours=1, seconds=1), "in 2 h"),
        (timedelta(days=3), "in 3 d"),
    ],
)
def test_the_time_until_the_next_retry(before, expected):
    due = NOW + timedelta(minutes=4)
    (line,) = [line for line in shown(incomplete_market(), now=due - before).splitlines() if line.startswith("AAPL")]
    assert line.rstrip().endswith(f" 23:59 {expected}")


def test_markets_of_other_timeframes_leave_their_columns_empty():
    lines = shown(incomplete_market(), complete_market()).splitlines()
    head = next(line for line in lines if line.startswith("symbol"))
    *_, aapl = [line for line in lines if line.startswith("AAPL")]
    ticks = [head[i : i + 3].split()[0] for i, sign in enumerate(aapl) if sign == "✓"]
    assert ticks == ["1m", "1d"]
