"""`backfill repair`: requests, output and exit code."""

import json
from datetime import date

import dagster as dg
import pytest

from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.cli.test_gaps import LOST, WIDTH, lines
from backfill_assets_tests.support import backdate_answers

TWO_DAYS = Hole(ticker="X:BTCUSD", first=date(2024, 3, 8), last=date(2024, 3, 9), base="day")
PLANNED = [
    ["stocks", "AAPL", "1m", "2024-03-06 to 2024-03-07", "polygon", "2", "1"],
    ["stocks", "AAPL", "1d", "2024-03-06 to 2024-03-07", "polygon", "2", "1"],
    ["crypto", "BTC", "1d", "2024-03-08 to 2024-03-09", "polygon", "2", "1"],
]


@pytest.fixture
def holed(backfilled_except):
    """A store in which two days of a stock and two of a coin are missing; their retries are not due yet."""
    return backfilled_except(LOST, TWO_DAYS)


def sent(backfill, before):
    """Return ticker, timespan, first and last day of the requests after the first `before`."""
    paths = [r.path.split("/") for r in backfill.vendor.requests[before:]]
    return sorted((p[4], p[7], p[8], p[9]) for p in paths if p[2] == "aggs")


def test_only_missing_sessions_are_requested_before_their_retry_is_due(holed):
    before = len(holed.vendor.requests)
    assert holed("run").code == 3
    assert len(holed.vendor.requests) == before, "an ordinary run waits for the pause"
    holed.vendor.change(holes=(TWO_DAYS,))
    result = holed("repair")
    assert result.code == 3
    assert sent(holed, before) == [
        ("AAPL", "day", "2024-03-06", "2024-03-07"),
        ("AAPL", "minute", "2024-03-06", "2024-03-07"),
        ("X:BTCUSD", "day", "2024-03-08", "2024-03-09"),
    ]
    assert (
        "stocks: 1 symbol, 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, 2024-03-06 to 2024-03-07 (2 sessions): 2 requests"
        in result.err
    )
    table = {row[0]: row[1] for row in lines(result) if len(row) > 2}
    assert table == {"symbol": "days", "AAPL": "2/2", "BTC": "0/2"}
    assert "missing: 2024-03-08 to 2024-03-09 (2 sessions) of BTC 1d\n" in result.out
    assert result.out.splitlines()[-1].endswith(" To fetch now: `backfill repair`.")
    with holed.instance() as instance:
        shown = instance.get_materialized_partitions(dg.AssetKey(["stocks", "ohlcv_4h"]))
        assert {"2024-03-06|AAPL", "2024-03-07|AAPL"} <= shown

    holed.vendor.change(holes=())
    healed = holed("repair")
    assert healed.code == 0
    assert "stocks: nothing to fetch\n" in healed.err
    assert holed("gaps").out == "Nothing is missing.\n"


def test_symbols_limit_what_is_repaired(holed):
    before = len(holed.vendor.requests)
    holed.vendor.change(holes=())
    assert holed("repair", "--symbols", "BTC").code == 0
    assert {request[0] for request in sent(holed, before)} == {"X:BTCUSD"}
    assert {g["symbol"] for g in json.loads(holed("gaps", "--json").out)} == {"AAPL"}


def test_a_dry_run_shows_and_sends_nothing(holed, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    before = holed.rows("select * from session_answers order by 1, 2, 3")
    requests = len(holed.vendor.requests)
    result = holed("repair", "--dry-run")
    assert (result.code, result.err) == (3, "")
    assert lines(result) == [
        ["3 requests at 500 per second: at least 0 s."],
        ["market", "symbols", "timeframe", "days", "source", "sessions", "requests"],
        *PLANNED,
    ]
    as_json = json.loads(holed("repair", "--dry-run", "--symbols", "BTC", "--json").out)
    assert as_json["requests"] == 1
    assert [(p["market"], p["symbols"], p["timeframe"], p["sessions"]) for p in as_json["plan"]] == [
        ("crypto", ["BTC"], "1d", 2)
    ]
    assert len(holed.vendor.requests) == requests
    assert holed.rows("select * from session_answers order by 1, 2, 3") == before


def test_explained_gaps_are_requested_only_with_the_option(holed, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    backdate_answers(holed.database_url)
    assert holed("run").code == 0
    before = len(holed.vendor.requests)
    result = holed("repair")
    assert (result.code, result.out) == (0, "No unexplained gaps.\n")
    assert result.err.splitlines() == [
        "stocks: nothing to fetch",
        "crypto: nothing to fetch",
        "No requests needed.",
    ]
    assert len(holed.vendor.requests) == before
    shown = holed("repair", "--explained", "--dry-run")
    assert (shown.code, lines(shown)[2:]) == (0, PLANNED)
    still = holed("repair", "--explained")
    assert still.code == 0
    assert "vendor_empty: 2024-03-06 to 2024-03-07 (2 sessions) of AAPL 1m-1d\n" in still.out
    assert "backfill repair" not in still.out
    holed.vendor.change(holes=())
    assert holed("repair", "--explained").code == 0
    assert holed("gaps").out == "Nothing is missing.\n"


def test_without_a_key_nothing_is_sent(holed, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    before = len(holed.vendor.requests)
    result = holed("repair", "--json")
    assert (result.code, result.out) == (1, "")
    assert result.error == "POLYGON_API_KEY is not set: set it to the key from the vendor's dashboard."
    assert len(holed.vendor.requests) == before
    as_text = holed("repair")
    assert as_text.code == 1
    assert as_text.err.splitlines()[-1] == f"backfill: {result.error}"


def test_a_failed_request_is_reported_and_the_gap_stays(holed):
    holed.vendor.change(faults=(Fault(kind="status", status=404, ticker="AAPL"),), holes=())
    result = holed("repair")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith(
        "backfill: stocks: 2 of 2 series could not be fetched completely: AAPL 1"
    )
    assert "missing: 2024-03-06 to 2024-03-07 (2 sessions) of AAPL" in result.out
    assert max(map(len, result.out.splitlines())) <= WIDTH
    assert {g["symbol"] for g in json.loads(holed("gaps", "--json").out)} == {"AAPL"}


def test_json_is_alone_on_standard_output(holed):
    holed.vendor.change(holes=(TWO_DAYS,))
    result = holed("repair", "--json")
    assert (result.code, result.err) == (3, "")
    found = json.loads(result.out)
    assert (found["exit_code"], found["planned_requests"]) == (3, 3)
    missing = [(s["symbol"], s["timeframe"], s["missing"], s["explained"]) for s in found["series"] if s["missing"]]
    assert missing == [("BTC", "1d", ["2024-03-08", "2024-03-09"], [])]
