"""`backfill features`: exit codes, output, and the runs."""

import json
from datetime import date

import dagster as dg
import psycopg
import pytest

from backfill_assets.deployment.runs import HOST_TAG, TRIGGER_TAG
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.simulator import Fault, Hole, Split
from backfill_assets_tests.support import backdate_answers

WEEK = ("--start", "2024-03-04", "--end", "2024-03-08")
DAYS = [f"2024-03-0{d}" for d in range(4, 9)]
STOCKS = ("--markets", "stocks", *WEEK)


@pytest.fixture
def fetched(backfill, snapshots):
    def fetch():
        assert backfill("run", *STOCKS).code == 0

    snapshots.restore_or_make((__name__, "fetched"), backfill.database_url, fetch)
    return backfill


def table(result):
    return [line.split() for line in result.out.splitlines()]


def runs(backfill, job="stocks_features_job"):
    with backfill.instance() as instance:
        return [run for run in instance.get_runs() if run.job_name == job]


def test_features_are_computed_in_a_run_and_the_next_command_has_nothing_to_do(fetched, monkeypatch):
    monkeypatch.delenv("POLYGON_API_KEY")  # none is needed
    sent = len(fetched.vendor.requests)
    first = fetched("features", *STOCKS)
    assert first.code == 0
    counts = dict(
        fetched.rows("select symbol || timeframe, count(*) from market_features group by 1"),
    )
    assert counts == dict(fetched.rows("select symbol || timeframe, count(*) from market_data group by 1"))
    assert table(first) == [
        ["symbol", "features", "bars", "days", *TIMEFRAMES],
        *([s, "5", "5", "5", *(f"{counts[s + t]:,}" for t in TIMEFRAMES)] for s in ("AAPL", "MSFT")),
    ]
    assert "stocks features: 2 symbols" in first.err
    assert f"AAPL 1m: {counts['AAPL1m']:,} rows" in first.err
    (run,) = runs(fetched)
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags[TRIGGER_TAG] == "command line"
    assert HOST_TAG in run.tags
    with fetched.instance() as instance:
        shown = instance.get_materialized_partitions(dg.AssetKey(["stocks", "features_1m"]))
    assert shown == {f"{day}|{symbol}" for day in DAYS for symbol in ("AAPL", "MSFT")}

    again = fetched("features", *STOCKS)
    assert (again.code, again.out) == (0, first.out)
    assert "nothing is out of date" in again.err
    assert len(runs(fetched)) == 1
    assert len(fetched.vendor.requests) == sent


def test_missing_bars_are_listed_with_the_command_that_fetches_them(fetched):
    result = fetched("features", "--start", "2024-03-07", "--end", "2024-03-11")
    assert result.code == 3
    lines = [line for line in result.out.splitlines() if line.startswith("no bars")]
    stocks = "2024-03-11 (1 session) of AAPL 1m-1w, MSFT 1m-1w"
    crypto = "2024-03-07 to 2024-03-11 (5 sessions) of BTC 1m-1w"
    assert lines == [
        f"no bars, so no features (missing): {stocks}: `backfill run --markets stocks --start 2024-03-11 --end 2024-03-11`",
        f"no bars, so no features (missing): {crypto}: `backfill run --markets crypto --start 2024-03-07 --end 2024-03-11`",
    ]
    rows = {row[0]: row[1:4] for row in table(result)}
    assert rows["AAPL"] == ["2", "2", "3"]
    assert rows["BTC"] == ["0", "0", "5"]
    assert runs(fetched, "crypto_features_job") == []
    for line in lines:
        assert fetched(*line.split("`")[1].split()[1:]).code == 0
    assert fetched("features", "--start", "2024-03-07", "--end", "2024-03-11").code == 0


def test_an_explained_hole_is_not_a_failure(backfill, monkeypatch):
    hole = date(2024, 3, 6)
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    backfill.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole, base="minute"),))
    assert backfill("run", *STOCKS).code == 3
    backdate_answers(backfill.database_url)
    assert backfill("run", *STOCKS).code == 0
    result = backfill("features", *STOCKS)
    assert result.code == 0
    assert "): 2024-03-06 (1 session) of AAPL 1m-4h\n" in result.out
    assert "backfill run" not in result.out
    assert {row[0]: row[1:4] for row in table(result)}["AAPL"] == ["4", "4", "5"]


def test_without_any_bars_there_is_nothing_to_run(backfill):
    assert backfill("features", "--symbols", "MSFT", "--timeframes", "1d", *WEEK).code == 3
    assert runs(backfill) == []


def test_symbols_and_timeframes_narrow_what_is_computed(fetched):
    assert fetched("features", "--symbols", "MSFT", "--timeframes", "1d", *STOCKS).code == 0
    assert fetched.rows("select distinct symbol, timeframe from market_features") == [("MSFT", "1d")]


def test_full_computes_what_is_up_to_date_again(fetched):
    fetched("features", *STOCKS)
    (before,) = fetched.rows("select min(computed_at), max(computed_at) from market_features where timeframe = '1d'")
    assert fetched("features", "--full", "--timeframes", "1d", "--max-concurrent", "1", *STOCKS).code == 0
    (after,) = fetched.rows("select min(computed_at), max(computed_at) from market_features where timeframe = '1d'")
    assert after[0] > before[1]
    config = runs(fetched)[0].run_config["ops"]["stocks_features"]["config"]
    assert config == {"max_concurrent": 1, "full": True}


def test_json_is_alone_on_standard_output(fetched):
    result = fetched("features", "--timeframes", "1d", "--start", "2024-03-07", "--end", "2024-03-11", "--json")
    assert (result.code, result.err) == (3, "")
    found = json.loads(result.out)
    assert found["exit_code"] == 3
    assert [(r["market"], r["succeeded"], r["error"]) for r in found["runs"]] == [("stocks", True, None)]
    assert found["series"][0] == {
        "market": "stocks",
        "symbol": "AAPL",
        "timeframe": "1d",
        "expected_sessions": 3,
        "sessions_with_bars": 2,
        "sessions_with_features": 2,
        "rows": 2,
        "without_bars": ["2024-03-11"],
    }


def test_bars_that_cannot_be_used_are_named_beside_what_was_computed(fetched):
    fetched.rows("update market_data set close = 'NaN' where symbol = 'AAPL' and timeframe = '1d' returning 1")
    result = fetched("features", *STOCKS)
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith(
        "backfill: stocks: AAPL 1d: the bar of 2024-03-04 05:00 UTC has a price"
    )
    assert "Traceback" not in result.out + result.err
    rows = {row[0]: row[1:4] for row in table(result)}
    assert (rows["AAPL"], rows["MSFT"]) == (["0", "5", "5"], ["5", "5", "5"])
    assert "features not computed: AAPL 1d" in result.out


# --- After a run


def test_a_run_with_features_computes_them(backfill):
    result = backfill("run", "--features", *STOCKS)
    assert result.code == 0
    bars, features = result.out.split("\n\n")
    assert bars.split()[:2] == ["symbol", "days"]
    assert features.split()[:4] == ["symbol", "features", "bars", "days"]
    with backfill.instance() as instance:
        assert [r.job_name for r in instance.get_runs()] == ["stocks_features_job", "stocks_ohlcv_job"]


def test_a_run_with_features_prints_one_json_document(backfill):
    hole = date(2024, 3, 6)
    backfill.vendor.change(holes=(Hole(ticker="AAPL", first=hole, last=hole, base="day"),))
    result = backfill("run", "--features", "--timeframes", "1d", *STOCKS, "--json")
    assert (result.code, result.err) == (3, "")
    found = json.loads(result.out)
    assert (found["exit_code"], found["features"]["exit_code"]) == (3, 3)
    assert found["features"]["series"][0]["without_bars"] == ["2024-03-06"]
    assert found["planned_requests"] == 2


def test_no_features_are_computed_after_a_run_that_ended_early(fetched):
    fetched.vendor.change(api_keys=("another",))
    result = fetched("run", "--features", "--start", "2024-03-04", "--end", "2024-03-11")
    assert result.code == 1
    assert "POLYGON_API_KEY" in result.err.splitlines()[-1]
    assert runs(fetched) == []


def test_features_are_computed_although_a_series_failed(backfill):
    backfill.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/day/"),))
    result = backfill("run", "--features", *STOCKS)
    assert result.code == 1
    assert backfill.rows("select count(*) from market_features where symbol = 'AAPL' and timeframe = '1d'") == [(5,)]
    assert "no bars, so no features" in result.out


def test_a_server_that_ends_idle_transactions_ends_no_command(backfill):
    with psycopg.connect(backfill.database_url, autocommit=True) as admin:
        admin.execute(f"alter database {admin.info.dbname} set idle_in_transaction_session_timeout = '500ms'")
    backfill.vendor.change(splits=(Split(ticker="AAPL", execution_date=date(2024, 3, 6), split_to=4),))
    spring = ("--symbols", "AAPL", "--start", "2024-03-01", "--end", "2024-04-30")
    assert backfill("run", "--features", *spring).code == 0
    assert backfill("events", "--symbols", "AAPL").code == 0
    assert backfill("features", *spring).code == 0
    assert backfill("status").code == 3
    assert backfill("gaps").code == 3
    assert backfill("alerts").code == 3
    bare = """select symbol, timeframe, "timestamp"
      from market_data left join market_features f using (symbol, timeframe, "timestamp")
      where f.symbol is null and "timestamp" between '2024-03-01 05:00' and '2024-04-30'"""
    assert backfill.rows(bare) == []
