"""`backfill repair`: what is asked for at once, what is only shown, and the exit code."""

import json
from datetime import date

import dagster as dg
import pytest

from backfill_assets.simulator import Fault, Hole
from backfill_assets_tests.integration.cli.test_gaps import INTRADAY, LOST, WIDTH, lines
from backfill_assets_tests.surroundings import let_time_pass

TWO_DAYS = Hole(ticker="X:BTCUSD", first=date(2024, 3, 8), last=date(2024, 3, 9), base="day")
PLANNED = [
    ["stocks", "AAPL", "1m", "2024-03-06 to 2024-03-07", "2", "1"],
    ["stocks", "AAPL", "1d", "2024-03-06 to 2024-03-07", "2", "1"],
    ["crypto", "BTC", "1d", "2024-03-08 to 2024-03-09", "2", "1"],
]


@pytest.fixture
def holed(filled_but):
    """A store that lacks two days of one share and two of one coin, answered empty less than the first pause ago."""
    return filled_but(LOST, TWO_DAYS)


def sent(shell, before):
    """Ticker, timespan, first and last day of what was asked for since."""
    paths = [r.path.split("/") for r in shell.vendor.requests[before:]]
    return sorted((p[4], p[7], p[8], p[9]) for p in paths if p[2] == "aggs")


def test_it_asks_at_once_for_what_is_missing_and_for_nothing_else(holed):
    before = len(holed.vendor.requests)
    assert holed("run").code == 3
    assert len(holed.vendor.requests) == before, "an ordinary run waits for the pause"
    holed.vendor.change(holes=(TWO_DAYS,))
    said = holed("repair")
    assert said.code == 3
    assert sent(holed, before) == [
        ("AAPL", "day", "2024-03-06", "2024-03-07"),
        ("AAPL", "minute", "2024-03-06", "2024-03-07"),
        ("X:BTCUSD", "day", "2024-03-08", "2024-03-09"),
    ]
    assert (
        "stocks: 1 symbol, 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, 2024-03-06 to 2024-03-07 (2 sessions): 2 requests"
        in said.err
    )
    table = {row[0]: row[1] for row in lines(said) if len(row) > 2}
    assert table == {"symbol": "days", "AAPL": "2/2", "BTC": "0/2"}
    assert "missing: 2024-03-08 to 2024-03-09 (2 sessions) of BTC 1d\n" in said.out
    assert said.out.splitlines()[-1].endswith("; `backfill repair` asks at once.")
    with holed.instance() as instance:
        shown = instance.get_materialized_partitions(dg.AssetKey(["stocks", "ohlcv_4h"]))
        assert {"2024-03-06|AAPL", "2024-03-07|AAPL"} <= shown

    holed.vendor.change(holes=())
    healed = holed("repair")
    assert healed.code == 0
    assert "stocks: nothing to ask for\n" in healed.err
    assert holed("gaps").out == "Nothing is missing.\n"


def test_symbols_narrow_it(holed):
    before = len(holed.vendor.requests)
    holed.vendor.change(holes=())
    assert holed("repair", "--symbols", "BTC").code == 0
    assert {request[0] for request in sent(holed, before)} == {"X:BTCUSD"}
    assert {g["symbol"] for g in json.loads(holed("gaps", "--json").out)} == {"AAPL"}


def test_a_dry_run_shows_and_sends_nothing(holed, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    before = holed.rows("select * from session_answers order by 1, 2, 3")
    requests = len(holed.vendor.requests)
    said = holed("repair", "--dry-run")
    assert (said.code, said.err) == (3, "")
    assert lines(said) == [
        ["market", "of", "asked for", "days", "sessions", "requests"],
        *PLANNED,
        ["3 requests at 500 a second: 0 s at the least."],
    ]
    told = json.loads(holed("repair", "--dry-run", "--symbols", "BTC", "--json").out)
    assert told["requests"] == 1
    assert [(p["market"], p["symbols"], p["timeframe"], p["sessions"]) for p in told["plan"]] == [
        ("crypto", ["BTC"], "1d", 2)
    ]
    assert len(holed.vendor.requests) == requests
    assert holed.rows("select * from session_answers order by 1, 2, 3") == before


def test_what_is_explained_is_asked_for_only_when_that_is_said(holed, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    let_time_pass(holed.database_url)
    assert holed("run").code == 0
    before = len(holed.vendor.requests)
    said = holed("repair")
    assert (said.code, said.out) == (0, "Nothing is missing without an explanation.\n")
    assert said.err.splitlines() == [
        "stocks: nothing to ask for",
        "crypto: nothing to ask for",
        "No request is needed.",
    ]
    assert len(holed.vendor.requests) == before
    shown = holed("repair", "--explained", "--dry-run")
    assert (shown.code, lines(shown)[1:-1]) == (0, PLANNED)
    still = holed("repair", "--explained")
    assert still.code == 0
    frames = " ".join([*INTRADAY, "1d"])
    assert f"vendor_empty: 2024-03-06 to 2024-03-07 (2 sessions) of AAPL {frames}\n" in still.out
    assert "backfill repair" not in still.out
    holed.vendor.change(holes=())
    assert holed("repair", "--explained").code == 0
    assert holed("gaps").out == "Nothing is missing.\n"


def test_without_a_key_it_is_one_sentence_and_nothing_is_sent(holed, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")
    before = len(holed.vendor.requests)
    said = holed("repair", "--json")
    assert (said.code, said.out) == (1, "")
    assert said.sentence == "POLYGON_API_KEY is not set: put the key from the vendor's dashboard into it."
    assert len(holed.vendor.requests) == before
    with_words = holed("repair")
    assert with_words.code == 1
    assert with_words.err.splitlines()[-1] == f"backfill: {said.sentence}"


def test_a_vendor_that_fails_is_told_of_and_the_gap_stays(holed):
    holed.vendor.change(faults=(Fault(kind="status", status=404, ticker="AAPL"),), holes=())
    said = holed("repair")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("backfill: stocks: 2 of 2 series could not be fetched whole: AAPL 1")
    assert "missing: 2024-03-06 to 2024-03-07 (2 sessions) of AAPL" in said.out
    assert max(map(len, said.out.splitlines())) <= WIDTH
    assert {g["symbol"] for g in json.loads(holed("gaps", "--json").out)} == {"AAPL"}


def test_json_is_alone_on_standard_output(holed):
    holed.vendor.change(holes=(TWO_DAYS,))
    said = holed("repair", "--json")
    assert (said.code, said.err) == (3, "")
    found = json.loads(said.out)
    assert (found["exit_code"], found["planned_requests"]) == (3, 3)
    lacking = [(s["symbol"], s["timeframe"], s["missing"], s["explained"]) for s in found["series"] if s["missing"]]
    assert lacking == [("BTC", "1d", ["2024-03-08", "2024-03-09"], [])]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--symbols", "APPL"], "Symbol 'APPL' is not in the universe; did you mean AAPL?"),
        (["--symbols", "BTC", "--markets", "stocks"], "Symbol 'BTC' is not in the chosen markets"),
        (["--markets", "bonds"], "Market 'bonds' is not in the universe; there are stocks, crypto."),
        (["--max-concurrent", "0"], "--max-concurrent '0' is not a whole number from 1 to 50."),
        (["--timeframes", "1m"], "No such option: --timeframes"),
        (["superfluous"], "superfluous"),
    ],
)
def test_wrong_usage_is_one_line(lonely, arguments, sentence):
    said = lonely("repair", *arguments)
    assert (said.code, said.out) == (2, "")
    assert sentence in said.sentence
    assert lonely.vendor.requests == []


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("BACKFILL_RETRY_ATTEMPTS", "1", "BACKFILL_RETRY_ATTEMPTS '1' is no whole number from 2 to 20."),
        ("BACKFILL_RETRY_FIRST_PAUSE", "soon", "BACKFILL_RETRY_FIRST_PAUSE 'soon' is no number of seconds"),
        ("DAGSTER_HOME", "/tmp", "holds no dagster.yaml"),  # noqa: S108  # a folder that is there and is no project
    ],
)
def test_a_wrong_setting_is_one_line(lonely, monkeypatch, name, value, sentence):
    monkeypatch.setenv(name, value)
    said = lonely("repair")
    assert (said.code, said.out) == (2, "")
    assert sentence in said.sentence
