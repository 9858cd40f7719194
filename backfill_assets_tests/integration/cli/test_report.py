import json
from datetime import date

import jsonschema
import psycopg
import pytest

from backfill_assets.simulator import Fault, Hole, Restatement
from backfill_assets_tests.support import PROJECT

SCHEMA = json.loads((PROJECT / "docs" / "reference" / "report.schema.json").read_text(encoding="utf-8"))
WEEK = ("--symbols", "AAPL,MSFT", "--start", "2024-03-04", "--end", "2024-03-08")


@pytest.fixture
def week(backfill, snapshots):
    """Run commands after a run over WEEK."""
    snapshots.restore_or_make((__name__, "week"), backfill.database_url, lambda: backfill("run", *WEEK))
    return backfill


def reported(backfill, *options):
    result = backfill("report", *options, "--json")
    assert (result.code, result.err) == (0, "")
    report = json.loads(result.out)
    jsonschema.validate(report, SCHEMA, format_checker=jsonschema.FormatChecker())
    return report


def test_the_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_report_without_runs_is_empty(backfill):
    report = reported(backfill)
    assert (report["runs"], report["symbols_processed"], report["summary"]["runs"]) == ([], [], 0)


def test_a_run_reports_its_gaps_and_their_outcomes(backfill):
    backfill.vendor.change(holes=(Hole(ticker="MSFT", first=date(2024, 3, 6), last=date(2024, 3, 6), base="minute"),))
    assert backfill("run", *WEEK).code == 3
    report = reported(backfill, "--last")
    (run,) = report["runs"]
    assert (run["kind"], run["market"], run["trigger"], run["status"]) == (
        "ohlcv",
        "stocks",
        "command line",
        "succeeded",
    )
    assert report["symbols_processed"] == ["AAPL", "MSFT"]
    assert run["requests"] == len(backfill.vendor.requests) == 4
    assert {(g["gap_start"], g["attempts"], g["reason"]) for g in report["gaps_detected"]} == {
        ("2024-03-04", 0, "missing")
    }
    gap_outcomes = {(r["symbol"], r["timeframe"]): (r["outcome"], r["sessions_left"]) for r in report["retry_results"]}
    assert gap_outcomes["AAPL", "1m"] == gap_outcomes["MSFT", "1d"] == gap_outcomes["MSFT", "1w"] == ("filled", 0)
    assert gap_outcomes["MSFT", "1m"] == gap_outcomes["MSFT", "4h"] == ("partly filled", 1)
    bars = backfill.rows("select count(*) from market_data where source = 'polygon'")[0][0]
    assert report["summary"]["bars_written"] == bars
    assert report["summary"]["gaps_before"] == 16
    assert report["summary"]["gaps_after"] == report["summary"]["sessions_left"] == 6


def test_restated_bars_are_counted_and_listed(week):
    week.vendor.change(restatements=(Restatement(ticker="AAPL", day=date(2024, 3, 5), factor=1.01),))
    with psycopg.connect(week.database_url) as connection:  # requested again as if it were partial
        connection.execute("update session_answers set partial = true where symbol = 'AAPL' and timeframe = '1m'")
        connection.execute("update session_answers set answered_at = answered_at - interval '1 day'")
    week("run", *WEEK)
    report = reported(week)
    restated = report["restatements"]
    assert {(r["symbol"], r["timeframe"]) for r in restated} == {("AAPL", "1m")}
    # A New York day ends after midnight UTC.
    assert [r["first_bar"][:10] for r in restated] == ["2024-03-05", "2024-03-06"]
    assert restated[1]["last_bar"] <= "2024-03-06T01:00"
    assert (
        sum(r["bars"] for r in restated)
        == report["summary"]["bars_restated"]
        == report["summary"]["bars_changed"]
        > 300
    )


def test_a_correction_and_a_withdrawal_are_followed_to_history_features_and_report(backfill):
    days = ("--symbols", "AAPL", "--start", "2024-03-05", "--end", "2024-03-06")
    assert backfill("run", *days, "--features").code == 0
    backfill.vendor.change(
        restatements=(Restatement(ticker="AAPL", day=date(2024, 3, 5), factor=1.01),),
        holes=(
            Hole(
                ticker="AAPL", first=date(2024, 3, 6), last=date(2024, 3, 6), start="12:00", end="12:10", base="minute"
            ),
        ),
    )
    with psycopg.connect(backfill.database_url) as connection:  # requested again as if they were partial
        connection.execute("update session_answers set partial = true, answered_at = answered_at - interval '1 day'")
    backfill("run", *days, "--features")
    report = reported(backfill)
    removed = [row for row in report["restatements"] if row["bars_removed"]]
    assert [(row["timeframe"], row["first_bar"][:16], row["bars"], row["bars_removed"]) for row in removed] == [
        ("1m", "2024-03-06T17:00", 10, 10)
    ]
    summary = report["summary"]
    assert summary["bars_removed"] == 10
    assert summary["bars_restated"] == summary["bars_changed"] + 10
    run = next(run for run in report["runs"] if run["kind"] == "ohlcv")
    history = backfill.rows(
        "select timeframe, removed, run_id, count(*) from market_data_history group by 1, 2, 3 order by 1, 2"
    )
    in_minutes = summary["bars_changed"] - 1
    assert history == [
        ("1d", False, run["run_id"], 1),
        ("1m", False, run["run_id"], in_minutes),
        ("1m", True, run["run_id"], 10),
    ]
    again = backfill.rows("select count(*) from market_data where timeframe = '1m'")[0][0] + 10
    assert report["restatement_rates"][0] == {
        "timeframe": "1m",
        "bars_again": again,
        "bars_restated": in_minutes + 10,
        "rate": pytest.approx((in_minutes + 10) / again),
    }
    bars_and_features = """select count(*) filter (where m.symbol is null), count(*) filter (where f.symbol is null)
      from market_data m full join market_features f using (symbol, timeframe, timestamp)
      where timeframe <> '1d'"""  # the other days of the week are stored, but not among the run's days
    assert backfill.rows(bars_and_features) == [(0, 0)]
    assert backfill.rows(
        "select count(*) from market_data m join feature_marks f using (symbol, timeframe) "
        "where stale @> timestamp and timeframe <> '1d'"
    ) == [(0,)]


def test_a_failed_run_is_reported_with_its_error(backfill):
    backfill.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT"),))
    assert backfill("run", *WEEK).code == 1
    (run,) = reported(backfill)["runs"]
    assert run["status"] == "failed"
    assert "series could not be fetched completely" in run["error"]
    assert run["finished_at"] is not None


def test_a_refused_key_is_reported_without_the_key(backfill):
    backfill.vendor.change(api_keys=("another",))
    assert backfill("run", *WEEK).code == 1
    result = backfill("report", "--json")
    assert json.loads(result.out)["runs"][0]["requests"] == 1
    assert "sekrit" not in result.out


def test_runs_of_features_and_corporate_actions_are_reported(backfill):
    assert backfill("run", *WEEK, "--features").code == 0
    assert backfill("events", "--markets", "stocks").code == 0
    report = reported(backfill, "--last")
    told = {run["kind"]: run for run in report["runs"]}
    assert {kind: (run["market"], run["status"], run["trigger"]) for kind, run in told.items()} == dict.fromkeys(
        ("ohlcv", "features", "events"), ("stocks", "succeeded", "command line")
    )
    rows = backfill.rows("select count(*) from market_features")[0][0]
    assert (told["features"]["requests"], told["features"]["features_written"]) == (0, rows)
    assert (told["events"]["requests"], told["ohlcv"]["features_written"]) == (2, 0)
    computed = [row for row in report["series"] if row["kind"] == "features"]
    assert sum(row["features_written"] for row in computed) == rows
    assert {(row["symbol"], row["sessions"], row["missing_before"], row["missing_after"]) for row in computed} == {
        ("AAPL", 5, 5, 0),
        ("MSFT", 5, 5, 0),
    }


def test_a_series_without_features_is_reported_with_the_reason(week):
    with psycopg.connect(week.database_url) as connection:
        connection.execute("update market_data set close = 'NaN' where symbol = 'AAPL' and timeframe = '1d'")
    days = WEEK[2:]
    assert week("features", "--symbols", "AAPL", *days).code == 1
    report = reported(week, "--last")
    features = next(run for run in report["runs"] if run["kind"] == "features")
    (failed,) = [row for row in report["series"] if row["error"]]
    assert (failed["timeframe"], failed["missing_before"], failed["missing_after"]) == ("1d", 5, 5)
    assert failed["error"].startswith("AAPL 1d: the bar of 2024-03-04 05:00 UTC has a price or a volume")
    assert (features["status"], features["error"]) == ("failed", failed["error"])


def test_runs_are_found_by_id_and_by_day(week):
    week("run", "--symbols", "BTC", "--start", "2024-03-04", "--end", "2024-03-05")
    both = reported(week)
    assert sorted(r["market"] for r in both["runs"]) == ["crypto", "stocks"]
    crypto = next(r for r in both["runs"] if r["market"] == "crypto")
    assert reported(week, "--run", crypto["run_id"])["runs"] == [crypto]
    assert reported(week, "--since", "2020-01-01")["summary"]["runs"] == 2
    assert reported(week, "--since", "2999-01-01")["summary"]["runs"] == 0


def test_a_report_is_written_to_a_file(week, tmp_path):
    file = tmp_path / "report.json"
    assert week("report", "--output", str(file)).out == ""
    jsonschema.validate(json.loads(file.read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--run", "no-such"), "There is no run 'no-such'"),
        (("--run", "a", "--since", "2024-01-01"), "--run and --since exclude each other"),
        (("--last", "--since", "2024-01-01"), "exclude each other"),
        (("--since", "2024-13-01"), "'--since': '2024-13-01' is not a date"),
        (("--output", "/no/such/folder/report.json"), "--output '/no/such/folder/report.json' cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence(backfill, options, sentence):
    result = backfill("report", *options, "--json")
    assert result.code == 2
    assert sentence in result.error


def test_people_see_a_row_for_each_run_and_the_errors(backfill):
    assert backfill("report").out == "No run is recorded.\n"
    backfill.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT"),))
    assert backfill("run", *WEEK).code == 1
    shown = backfill("report")
    head, row, error, *_ = shown.out.splitlines()
    assert head.split()[:5] == ["started", "(UTC)", "market", "kind", "status"]
    assert row.split()[2:5] == ["stocks", "ohlcv", "failed"]
    assert error.startswith("stocks ohlcv: ")
    assert "series could not be fetched completely" in error
