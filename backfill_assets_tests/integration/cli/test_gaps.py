"""`backfill gaps`: output and exit code."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.simulator import Hole
from backfill_assets_tests.support import backdate_answers

ALL = list(TIMEFRAMES)
INTRADAY = ALL[:6]
WIDTH = 120

LOST = Hole(ticker="AAPL", first=date(2024, 3, 6), last=date(2024, 3, 7))
THIN = Hole(ticker="X:BTCUSD", first=date(2024, 3, 9), last=date(2024, 3, 9), base="minute", start="08:00", end="24:00")


def lines(result):
    """Return the cells of each line, which two blanks or more separate."""
    assert max(map(len, result.out.splitlines()), default=0) <= WIDTH
    return [[word for word in (w.strip() for w in line.split("  ")) if word] for line in result.out.splitlines()]


def due(backfill, symbol, timeframe):
    """Return when the retry is due: two minutes after the only attempt."""
    found = backfill.rows(
        "select min(answered_at) from session_answers where symbol = %s and timeframe = %s and (bars = 0 or partial)",
        symbol,
        timeframe,
    )
    return found[0][0].astimezone(UTC) + timedelta(minutes=2)


def test_everything_is_missing_and_due_before_the_first_run(closed_markets, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    result = closed_markets("gaps")
    frames = " ".join(ALL)
    assert (result.code, result.err) == (3, "")
    assert lines(result) == [
        ["symbol", "timeframes", "missing", "sessions", "reason", "attempts", "next retry"],
        ["AAPL", frames, "2024-03-04 to 2024-03-08", "5", "missing", "0", "now"],
        # The market starts within a week, which is not expected in 1w; the next week has one session so far.
        ["BTC", frames.removesuffix(" 1w"), "2024-03-04 to 2024-03-10", "7", "missing", "0", "now"],
        ["BTC", "1w", "2024-03-10", "1", "missing", "0", "now"],
        ["MSFT", frames, "2024-03-04 to 2024-03-08", "5", "missing", "0", "now"],
        ["24 unexplained gaps. To fetch them now: `backfill repair`"],
    ]
    assert closed_markets.vendor.requests == []


def test_empty_and_thin_sessions_are_listed_until_explained(closed_markets, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    backfill = closed_markets
    backfill.vendor.change(holes=(LOST, THIN))
    ran = backfill("run")
    assert ran.code == 3
    assert max(map(len, ran.out.splitlines())) <= WIDTH
    assert "missing: 2024-03-06 to 2024-03-07 (2 sessions) of AAPL 1m 5m 15m 30m 1h 4h 1d\n" in ran.out
    assert "partial: 2024-03-09 (1 session) of BTC 1m 5m 15m 30m 1h 4h\n" in ran.out
    of_minutes, of_thin = due(backfill, "AAPL", "1m"), due(backfill, "BTC", "1m")
    first = min(of_minutes, due(backfill, "AAPL", "1d"))
    result = f"Next retry: {first:%Y-%m-%d %H:%M:%S} UTC. To fetch now: `backfill repair`."
    assert ran.out.splitlines()[-1] == result

    listed = backfill("gaps")
    assert listed.code == 3
    when = f"{first:%Y-%m-%d %H:%M:%S} UTC"
    assert lines(listed)[1:] == [
        ["AAPL", " ".join([*INTRADAY, "1d"]), "2024-03-06 to 2024-03-07", "2", "missing", "1", when],
        ["BTC", " ".join(INTRADAY), "2024-03-09", "1", "partial", "1", f"{of_thin:%Y-%m-%d %H:%M:%S} UTC"],
        ["13 unexplained gaps. To fetch them now: `backfill repair`"],
    ]
    as_json = backfill("gaps", "--json")
    assert (as_json.code, as_json.err) == (3, "")
    gaps = json.loads(as_json.out)
    assert len(gaps) == 13
    assert gaps[0] == {
        "symbol": "AAPL",
        "timeframe": "1m",
        "start": "2024-03-06",
        "end": "2024-03-07",
        "sessions": 2,
        "reason": "missing",
        "explained": False,
        "attempts": 1,
        "next_attempt_at": of_minutes.isoformat(),
        "detail": "",
    }
    assert datetime.fromisoformat(gaps[0]["next_attempt_at"]).utcoffset() == timedelta(0)

    backdate_answers(backfill.database_url)
    assert backfill("run").code == 0
    explained = backfill("gaps")
    assert explained.code == 0
    assert lines(explained)[1:] == [
        ["AAPL", " ".join([*INTRADAY, "1d"]), "2024-03-06 to 2024-03-07", "2", "vendor_empty", "2", "none"],
        ["BTC", " ".join(INTRADAY), "2024-03-09", "1", "partial", "2", "none"],
    ]
    assert {(g["explained"], g["next_attempt_at"]) for g in json.loads(backfill("gaps", "--json").out)} == {
        (True, None)
    }
    calm = backfill("run")
    assert calm.code == 0
    assert "backfill repair" not in calm.out


def test_no_gaps(closed_markets):
    assert closed_markets("run").code == 0
    result = closed_markets("gaps")
    assert (result.code, result.out, result.err) == (0, "Nothing is missing.\n", "")
    assert json.loads(closed_markets("gaps", "--json").out) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--symbols", "MSFT"], {("MSFT", t) for t in ALL}),
        (["--markets", "crypto"], {("BTC", t) for t in ALL}),
        (["--timeframes", "1m,1w"], {(s, t) for s in ("AAPL", "MSFT", "BTC") for t in ("1m", "1w")}),
        (["--symbols", "AAPL,BTC", "--timeframes", "1d"], {("AAPL", "1d"), ("BTC", "1d")}),
    ],
)
def test_options_limit_what_is_listed_and_not_what_is_stored(closed_markets, options, expected):
    result = closed_markets("gaps", *options, "--json")
    assert {(g["symbol"], g["timeframe"]) for g in json.loads(result.out)} == expected
    markets = {"--symbols": {"MSFT": 16, "AAPL,BTC": 24}, "--markets": {"crypto": 8}, "--timeframes": {"1m,1w": 24}}
    assert closed_markets.rows("select count(*) from backfill_gaps") == [(markets[options[0]][options[1]],)]


def test_symbols_outside_the_universe_have_no_gaps(closed_markets, monkeypatch, tmp_path):
    assert closed_markets("gaps").code == 3
    text = (tmp_path / "closed.yaml").read_text(encoding="utf-8")
    smaller = tmp_path / "smaller.yaml"
    smaller.write_text(text.replace("symbols: [AAPL, MSFT]", "symbols: [AAPL], timeframes: [1d]"), encoding="utf-8")
    monkeypatch.setenv("BACKFILL_UNIVERSE", str(smaller))
    closed_markets("gaps")
    found = closed_markets.rows("select symbol, count(*), bool_or(filled) from backfill_gaps group by 1 order by 1")
    assert found == [("AAPL", 1, False), ("BTC", 8, False)]
