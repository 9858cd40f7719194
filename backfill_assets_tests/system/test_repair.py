"""Gaps are repaired by the sensor's backfills and by one launched by hand, with a real webserver and daemon."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backfill_assets.domain.days import DayRange
from backfill_assets.domain.sessions import Kind, calendar
from backfill_assets.simulator import Hole, Scenario, Simulator
from backfill_assets_tests.support import rows
from backfill_assets_tests.system.platform import Platform, environment, platform, run_command, wait_until

RETRIES = {"BACKFILL_RETRY_FIRST_PAUSE": "1", "BACKFILL_RETRY_ATTEMPTS": "2"}

BACKFILLS = """
{
  partitionBackfillsOrError {
    ... on PartitionBackfills {
      results {
        id title isAssetBackfill tags { key value } assetSelection { path } runs(limit: 10) { status }
      }
    }
  }
}"""
MATERIALIZED = """
query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) {
    ... on AssetNode {
      assetPartitionStatuses {
        ... on MultiPartitionStatuses {
          ranges {
            primaryDimStartKey
            primaryDimEndKey
            secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions } }
          }
        }
      }
    }
  }
}"""
BARS = """
query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) {
    ... on AssetNode {
      assetMaterializations(limit: 1000) { partition metadataEntries { label ... on IntMetadataEntry { intValue } } }
    }
  }
}"""
CHECKS = """
query ($path: [String!]!) {
  assetCheckExecutions(assetKey: {path: $path}, checkName: "no_missing_sessions", limit: 20) {
    status
    evaluation {
      severity
      description
      metadataEntries {
        label
        ... on TableMetadataEntry { table { records } }
      }
    }
  }
}"""
TICKS = """
{
  sensorOrError(sensorSelector: {
    repositoryLocationName: "backfill_assets", repositoryName: "__repository__", sensorName: "gap_repair"
  }) {
    ... on Sensor { sensorState { status ticks(limit: 20) { status skipReason } } }
  }
}"""


def sessions(kind: Kind, number: int) -> tuple[str, ...]:
    """Return the last finished sessions of a kind of market."""
    now = datetime.now(UTC)
    of = calendar(kind, DayRange(now.date() - timedelta(days=40), now.date()))
    newest = of.last_finished(now)
    assert newest is not None
    return tuple(d.isoformat() for d in of.within(DayRange(of.span.start, newest))[-number:])


def both(ticker: str, first: str, last: str, requests: int | None = None) -> tuple[Hole, Hole]:
    """Return a hole in the minutes and one in the days; each heals after so many requests, or never."""
    days = {"first": datetime.fromisoformat(first).date(), "last": datetime.fromisoformat(last).date()}
    minute = Hole(ticker=ticker, base="minute", heal_after_requests=requests, **days)
    return minute, Hole(ticker=ticker, base="day", heal_after_requests=requests, **days)


def repaired(running: Platform) -> list[dict]:
    """Return the sensor's backfills, once their two runs have ended."""

    def ended() -> list[dict] | None:
        found = running.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"]
        runs = [run["status"] for backfill in found for run in backfill["runs"]]
        return found if len(runs) == 2 and {"SUCCESS", "FAILURE"}.issuperset(runs) else None

    return wait_until(ended)


def shown(running: Platform, path: tuple[str, ...], days: tuple[str, ...]) -> set[tuple[str, str]]:
    """Return the days' partitions that the Dagster UI shows as materialized: (day, symbol)."""
    statuses = running.graphql(MATERIALIZED, path=path)["assetNodeOrError"]["assetPartitionStatuses"]
    return {
        (day, symbol)
        for span in statuses["ranges"]
        for day in days
        if span["primaryDimStartKey"] <= day <= span["primaryDimEndKey"]
        for symbol in span["secondaryDim"]["materializedPartitions"]
    }


def ended(running: Platform, backfill: str) -> list[str] | None:
    """Return the statuses of a backfill's runs, once all have ended."""
    (found,) = [b for b in running.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"] if b["id"] == backfill]
    statuses = [run["status"] for run in found["runs"]]
    return statuses if statuses and {"SUCCESS", "FAILURE"}.issuperset(statuses) else None


def bars(running: Platform, timeframe: str, partitions: set[str]) -> dict[str, int]:
    """Return the number of bars in the metadata of the partitions' materializations."""
    node = running.graphql(BARS, path=["stocks", f"ohlcv_{timeframe}"])["assetNodeOrError"]
    return {
        event["partition"]: entry["intValue"]
        for event in node["assetMaterializations"]
        for entry in event["metadataEntries"]
        if entry["label"] == "bars" and event["partition"] in partitions
    }


def verdict(execution: dict) -> tuple:
    """Return status, severity, description, and the table of gaps without next attempts."""
    evaluation = execution["evaluation"]
    (table,) = [e["table"] for e in evaluation["metadataEntries"] if e["label"] == "gaps"]
    records = [json.loads(record) for record in table["records"]]
    kept = ("symbol", "from", "to", "sessions", "reason", "attempts", "repair")
    return (
        execution["status"],
        evaluation["severity"],
        evaluation["description"],
        [tuple(record[c] for c in kept) for record in records],
    )


def answered(database_url: str) -> list[tuple]:
    """Return timeframe, session and symbol of sessions with bars."""
    return rows(database_url, "select timeframe, session::text, symbol from session_answers where bars > 0")


def left(database_url: str) -> list[tuple]:
    """Return the open gaps of the timeframes that are requested from the vendor."""
    return rows(
        database_url,
        """select distinct symbol, gap_start::text, gap_end::text, reason, explained, attempts, next_attempt_at
           from backfill_gaps where not filled and timeframe in ('1m', '1d')""",
    )


def backfill_by_hand(running: Platform, days: tuple[str, ...], marked: set[tuple[str, str]]) -> None:
    """Backfill two days that were empty, of which the vendor has one by now: only that one is materialized."""
    there, not_there = days[6:8]
    running.simulator.scenario = Scenario(holes=both("AAPL", not_there, not_there))
    before = len(running.simulator.requests)
    launched = running.launch(
        [("stocks", f"ohlcv_{timeframe}") for timeframe in ("1m", "1d")],
        {f"{day}|AAPL" for day in (there, not_there)},
        {"ops": {"stocks_ohlcv": {"config": {"retry": "EXPLAINED"}}}},
    )
    assert wait_until(lambda: ended(running, launched)) == ["SUCCESS"]

    sent = [r.path.split("/")[7:10] for r in running.simulator.requests[before:] if "/range/" in r.path]
    assert sorted(sent) == [[timespan, there, not_there] for timespan in ("day", "minute")], (
        "one request for each timeframe"
    )
    assert not any(request.url_key for request in running.simulator.requests)
    for timeframe, most in (("1m", 960), ("1d", 1)):
        counts = bars(running, timeframe, {f"{day}|AAPL" for day in (there, not_there)})
        assert set(counts) == {f"{there}|AAPL"}
        assert 1 <= counts[f"{there}|AAPL"] <= most
        assert shown(running, ("stocks", f"ohlcv_{timeframe}"), days) == marked | {(there, "AAPL")}
    assert len(running.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"]) == 3, "the sensor launches no more"


def test_gaps_are_repaired_and_confirmed_empty_sessions_only_by_hand(tmp_path: Path, database_url: str) -> None:
    days = {"stocks": sessions(Kind.STOCKS, 10), "crypto": sessions(Kind.CRYPTO, 5)}
    stocks, coins = days["stocks"], days["crypto"]
    universe = f"""
markets:
  stocks: {{start: {stocks[0]}, symbols: [AAPL, SPY]}}
  crypto: {{start: {coins[0]}, symbols: [BTC]}}
"""
    late = (*both("AAPL", stocks[2], stocks[4], requests=1), *both("X:BTCUSD", coins[2], coins[2], requests=1))
    never = both("AAPL", stocks[6], stocks[7])
    with Simulator(Scenario(holes=(*late, *never))) as simulator:
        data = tmp_path / "data folder"
        variables = environment(simulator, data, database_url, universe, **RETRIES)
        first = run_command(variables, "run")
        assert first.returncode == 3, first.stderr
        with platform(simulator, data, database_url, universe, **RETRIES) as running:
            repairs = {b["title"]: b for b in repaired(running)}
            sensor = running.graphql(TICKS)["sensorOrError"]["sensorState"]
            checks = running.graphql(CHECKS, path=["stocks", "ohlcv_1d"])["assetCheckExecutions"]
            found = {
                (market, timeframe): shown(running, (market, f"ohlcv_{timeframe}"), days[market])
                for market in days
                for timeframe in ("1m", "1d")
            }
            stored, gaps = answered(database_url), left(database_url)

            backfill_by_hand(running, stocks, found["stocks", "1d"])

    # One backfill for each market, on the page of backfills like any other.
    assert set(repairs) == {"Repair of stocks gaps", "Repair of crypto gaps"}
    of_stocks = repairs["Repair of stocks gaps"]
    assert of_stocks["isAssetBackfill"]
    assert {"key": "backfill/repair", "value": "stocks"} in of_stocks["tags"]
    assert {a["path"][1] for a in of_stocks["assetSelection"]} >= {"ohlcv_1m", "ohlcv_1h", "ohlcv_1d", "ohlcv_1w"}
    assert [run["status"] for b in repairs.values() for run in b["runs"]] == ["SUCCESS"] * 2
    assert sensor["status"] == "RUNNING"
    sentence = f"stocks: backfill {of_stocks['id']} repairs AAPL {stocks[2]} to {stocks[7]}."
    assert [t for t in sensor["ticks"] if sentence in (t["skipReason"] or "")]

    # Exactly the partitions with bars are materialized.
    assert found["stocks", "1m"] == found["stocks", "1d"]
    assert found["stocks", "1d"] == {(d, s) for d in stocks for s in ("AAPL", "SPY")} - {
        (d, "AAPL") for d in stocks[6:8]
    }
    assert found["crypto", "1m"] == found["crypto", "1d"] == {(d, "BTC") for d in coins}
    for timeframe in ("1m", "1d"):
        there = {(day, symbol) for t, day, symbol in stored if t == timeframe}
        assert there == found["stocks", timeframe] | found["crypto", timeframe]

    # The vendor confirmed twice that it has nothing: no retry is due.
    assert gaps == [("AAPL", stocks[6], stocks[7], "vendor_empty", True, 2, None)]

    # The check's first and last result.
    assert verdict(checks[-1]) == (
        "FAILED",
        "WARN",
        "2 open gaps; up to 5 sessions missing per symbol.",
        [
            ("AAPL", stocks[2], stocks[4], 3, "missing", 1, "backfill repair --symbols AAPL"),
            ("AAPL", stocks[6], stocks[7], 2, "missing", 1, "backfill repair --symbols AAPL"),
        ],
    )
    assert verdict(checks[0]) == (
        "SUCCEEDED",
        "WARN",
        "No session is missing without explanation.",
        [("AAPL", stocks[6], stocks[7], 2, "vendor_empty", 2, "")],
    )
