"""`backfill gaps`: output and exit code."""

import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.simulator import Fault, Hole, Rename
from backfill_assets_tests.support import backdate_answers

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
    assert (result.code, result.err) == (3, "")
    assert lines(result) == [
        ["symbol", "timeframes", "missing", "days", "reason", "tries", "next try"],
        ["AAPL", "1m-1w", "2024-03-04 to 2024-03-08", "5", "missing", "0", "now"],
        # The market starts within a week, which is not expected in 1w; the next week has one session so far.
        ["BTC", "1m-1d", "2024-03-04 to 2024-03-10", "7", "missing", "0", "now"],
        ["BTC", "1w", "2024-03-10", "1", "missing", "0", "now"],
        ["MSFT", "1m-1w", "2024-03-04 to 2024-03-08", "5", "missing", "0", "now"],
        ["4 unexplained gaps. To fetch them now: `backfill repair`"],
    ]
    assert closed_markets.vendor.requests == []


def test_empty_and_thin_sessions_are_listed_until_explained(closed_markets, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    backfill = closed_markets
    backfill.vendor.change(holes=(LOST, THIN))
    ran = backfill("run")
    assert ran.code == 3
    assert max(map(len, ran.out.splitlines())) <= WIDTH
    assert "missing: 2024-03-06 to 2024-03-07 (2 sessions) of AAPL 1m-1d\n" in ran.out
    assert "partial: 2024-03-09 (1 session) of BTC 1m-4h: no minutes from 08:00 to 24:00\n" in ran.out
    of_minutes = due(backfill, "AAPL", "1m")
    first = min(of_minutes, due(backfill, "AAPL", "1d"))
    result = f"Next retry: {first:%Y-%m-%d %H:%M:%S} UTC. To fetch now: `backfill repair`."
    assert ran.out.splitlines()[-1] == result

    listed = backfill("gaps")
    assert listed.code == 3
    assert [
        row[-1] in {"in 2 min", "in 1 min", "now"} or re.fullmatch(r"in \d+ s", row[-1]) for row in lines(listed)[1:3]
    ]
    assert [row[:-1] for row in lines(listed)[1:3]] == [
        ["AAPL", "1m-1d", "2024-03-06 to 2024-03-07", "2", "missing", "1"],
        ["BTC", "1m-4h", "2024-03-09", "1", "partial", "1"],
    ]
    assert lines(listed)[3:] == [
        ["BTC 2024-03-09: no minutes from 08:00 to 24:00."],
        ["2 unexplained gaps. To fetch them now: `backfill repair`"],
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
        "detail": "",
        "explained": False,
        "attempts": 1,
        "next_attempt_at": of_minutes.isoformat(),
    }
    assert datetime.fromisoformat(gaps[0]["next_attempt_at"]).utcoffset() == timedelta(0)

    backdate_answers(backfill.database_url)
    assert backfill("run").code == 0
    explained = backfill("gaps")
    assert explained.code == 0
    assert lines(explained)[1:] == [
        ["AAPL", "1m-1d", "2024-03-06 to 2024-03-07", "2", "vendor_empty", "2", "none"],
        ["BTC", "1m-4h", "2024-03-09", "1", "partial", "2", "none"],
        ["BTC 2024-03-09: no minutes from 08:00 to 24:00."],
    ]
    assert {(g["explained"], g["next_attempt_at"]) for g in json.loads(backfill("gaps", "--json").out)} == {
        (True, None)
    }
    calm = backfill("run")
    assert calm.code == 0
    assert "backfill repair" not in calm.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--symbols", "MSFT"], {("MSFT", t) for t in TIMEFRAMES}),
        (["--markets", "crypto"], {("BTC", t) for t in TIMEFRAMES}),
        (["--timeframes", "1m,1w"], {(s, t) for s in ("AAPL", "MSFT", "BTC") for t in ("1m", "1w")}),
        (["--symbols", "AAPL,BTC", "--timeframes", "1d"], {("AAPL", "1d"), ("BTC", "1d")}),
    ],
)
def test_options_limit_what_is_listed(closed_markets, options, expected):
    result = closed_markets("gaps", *options, "--json")
    assert {(g["symbol"], g["timeframe"]) for g in json.loads(result.out)} == expected
    assert closed_markets.rows("select * from backfill_gaps") == []


def test_unknown_and_earlier_tickers_are_named_by_every_command(closed_markets, tmp_path):
    backfill, path = closed_markets, tmp_path / "closed.yaml"
    text = path.read_text(encoding="utf-8").replace("AAPL, MSFT", "APPL, META").replace("[BTC]", "[BTCUSD]")
    path.write_text(text.replace("start: 2024-03-04,", "start: 2024-03-04, timeframes: [1d],"), encoding="utf-8")
    backfill.vendor.change(renames=(Rename(ticker="META", earlier="FB", day=date(2024, 3, 6)),))
    unknown = {
        "APPL": "ticker of APPL: correct it in the universe file; did you mean AAPL?",
        "BTCUSD": "did you mean BTC?",
    }
    ran = backfill("run")
    assert ran.code == 3
    earlier = "write {symbol: META, formerly: [{ticker: FB, until: 2024-03-05}]}"
    for _ in range(2):
        for command in (("run",), ("gaps",), ("status",)):
            result = backfill(*command)
            assert result.code == 3
            for name, sentence in unknown.items():
                assert [line for line in result.out.splitlines() if name in line and sentence in line], result.out
            assert earlier in result.out
        sent = len(backfill.vendor.requests)
    assert len(backfill.vendor.requests) == sent
    reasons = {
        g["symbol"]: (g["reason"], g["explained"], g["sessions"]) for g in json.loads(backfill("gaps", "--json").out)
    }
    assert reasons == {
        "APPL": ("missing", False, 5),
        "META": ("earlier_ticker", True, 2),
        "BTCUSD": ("missing", False, 7),
    }
    path.write_text(
        path.read_text(encoding="utf-8")
        .replace("APPL", "AAPL")
        .replace("BTCUSD", "BTC")
        .replace("META", "{symbol: META, formerly: [{ticker: FB, until: 2024-03-05}]}"),
        encoding="utf-8",
    )
    assert backfill("run").code == 0
    assert backfill("gaps").out == "Nothing is missing.\n"


def test_bars_that_cannot_be_true_are_named_and_their_sessions_retried(closed_markets):
    backfill = closed_markets
    backfill.vendor.change(faults=(Fault(kind="impossible", ticker="AAPL", path="/minute/", count=6),))
    ran = backfill("run")
    assert ran.code == 3
    named = ran.out[ran.out.index("6 invalid bars rejected:") :].splitlines()[1:7]
    assert [line.split(": ")[0].split()[:3] for line in named[:5]] == [["AAPL", "1m", "2024-03-04"]] * 5
    assert [line.split(": ")[1] for line in named[:4]] == [
        "a price is zero or negative",
        "a price is zero or negative",
        "high is below low",
        "volume is negative or not finite",
    ]
    assert named[5] == "  and 1 more: `backfill report --last`"
    (gap,) = [g for g in json.loads(backfill("gaps", "--json").out) if g["timeframe"] == "1m"]
    assert (gap["symbol"], gap["start"], gap["end"]) == ("AAPL", "2024-03-04", "2024-03-04")
    assert gap["detail"] == "6 bars left out: a price is zero or negative"

    backdate_answers(backfill.database_url)
    again = json.loads(backfill("run", "--json").out)
    assert len(again["rejected_bars"]) == 6
    assert (
        again["rejected_bars"][2].items()
        >= {"symbol": "AAPL", "session": "2024-03-04", "reason": "high is below low"}.items()
    )
    backdate_answers(backfill.database_url)
    backfill.vendor.change(faults=())
    healed = backfill("run")
    assert healed.code == 0
    assert "left out" not in healed.out
    assert json.loads(backfill("gaps", "--json").out) == []
