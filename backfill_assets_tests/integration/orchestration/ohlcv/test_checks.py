"""The checks of the OHLCV assets, run by Dagster: results, severities and metadata."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.domain.alert_rules import MOST_ROWS
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.retries import FIRST_PAUSE
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.orchestration.ohlcv.checks import gap_table, ohlcv_check_specs
from backfill_assets.simulator import Fault, Hole, Rename
from backfill_assets_tests.support import MOMENT, market

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
SESSIONS = [date(2025, 6, d) for d in (16, 17, 18, 20, 23, 24, 25, 26, 27, 30)]  # without Juneteenth
NEWEST = SESSIONS[-1]
OF_ALL = {"no_missing_sessions", "bars_are_valid", "latest_session_is_here"}
OF_MINUTES = OF_ALL | {"minutes_are_complete", "ticker_is_known", "prices_are_plausible"}
OF_DAYS = OF_ALL | {"one_company", "prices_are_plausible"}
OF_STOCKS = {(t, name) for t, names in (("1m", OF_MINUTES), ("1d", OF_DAYS)) for name in names}
"""Of a market of stocks with 1m and 1d."""


def verdicts(result):
    """Return the results of a run by timeframe and check."""
    found = result.get_asset_check_evaluations()
    by_key = {(e.asset_key.path[-1].rpartition("_")[2], e.check_name): e for e in found}
    assert len(by_key) == len(found)
    return by_key


def metadata_of(evaluation):
    """Return a result's metadata as plain values, tables as lists of rows."""
    return {
        name: [record.data for record in value.records] if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in evaluation.metadata.items()
    }


def hole(ticker, first, last=None, **fields):
    return Hole(ticker=ticker, first=first, last=last or first, **fields)


def everything(harness, last=NEWEST, **options):
    return harness.run(f"{SESSIONS[0]}|AAPL", f"{last}|MSFT", **options)


def missing(harness, *holes, now=MOMENT):
    """Run all daily bars with these holes; return the result for missing sessions, and its metadata."""
    harness.vendor.change(holes=holes)
    result = everything(harness, only=["1d"], now=now)
    assert result.success
    verdict = verdicts(result)["1d", "no_missing_sessions"]
    return verdict, metadata_of(verdict)


# --- Runs


def test_checks_run_with_every_run_and_are_stored_in_the_instance(harness):
    result = everything(harness)
    assert {key: e.passed for key, e in verdicts(result).items()} == dict.fromkeys(OF_STOCKS, True)
    stored = harness.instance.all_logs(result.run_id, of_type={dg.DagsterEventType.ASSET_CHECK_EVALUATION})
    assert len(stored) == len(OF_STOCKS)
    found = metadata_of(verdicts(result)["1m", "no_missing_sessions"])
    assert found == {"missing_sessions": 0, "explained_sessions": 0, "symbols_affected": 0}


def test_a_run_of_one_timeframe_evaluates_only_its_checks(harness):
    assert set(verdicts(everything(harness, only=["1d"]))) == {("1d", name) for name in OF_DAYS}


@pytest.mark.parametrize(("of", "symbols"), [("stocks", 2), ("crypto", 1)])
def test_checks_that_run_alone_fetch_and_materialize_nothing(harness, of, symbols):
    result = harness.check(of)
    assert result.success
    found = verdicts(result)
    assert set(found) == OF_STOCKS - ({("1d", "one_company")} if of == "crypto" else set())
    assert {e.asset_key.path[0] for e in found.values()} == {of}
    assert metadata_of(found["1m", "no_missing_sessions"])["symbols_affected"] == symbols
    assert harness.vendor.requests == []
    assert not [e for e in result.all_events if e.is_step_materialization]
    assert harness.materialized("1m", of) == harness.materialized("1d", of) == set()


def test_a_failed_run_is_checked_too(harness):
    harness.vendor.change(faults=(Fault(kind="status", status=404, ticker="MSFT", path="/minute/"),))
    result = everything(harness)
    assert not result.success
    found = verdicts(result)
    assert len(found) == len(OF_STOCKS)
    assert metadata_of(found["1m", "no_missing_sessions"])["missing_sessions"] == len(SESSIONS)
    assert found["1d", "no_missing_sessions"].passed


def test_every_timeframe_has_its_checks():
    specs = ohlcv_check_specs(market("stocks", "AAPL", timeframes=" ".join(TIMEFRAMES)))
    by_timeframe = {t: {s.name for s in specs if s.asset_key.path[-1] == f"ohlcv_{t}"} for t in TIMEFRAMES}
    assert by_timeframe == dict.fromkeys(TIMEFRAMES, OF_ALL) | {"1m": OF_MINUTES, "1d": OF_DAYS}
    assert not any(spec.blocking for spec in specs)


# --- Missing sessions


@pytest.mark.parametrize(
    ("sessions", "passed", "severity"), [(1, True, WARN), (2, False, WARN), (7, False, WARN), (8, False, ERROR)]
)
def test_the_severity_depends_on_the_missing_sessions_of_a_symbol(harness, sessions, passed, severity):
    verdict, metadata = missing(harness, hole("AAPL", SESSIONS[1], SESSIONS[sessions]))
    assert (verdict.passed, verdict.severity) == (passed, severity)
    assert verdict.description == f"1 open gap; up to {sessions} session{'s'[: sessions - 1]} missing per symbol."
    assert metadata["missing_sessions"] == sessions
    assert metadata["repair"] == "backfill repair --symbols AAPL"


def test_one_missing_session_of_each_symbol_passes(harness):
    verdict, metadata = missing(harness, hole("AAPL", SESSIONS[1]), hole("MSFT", SESSIONS[3]))
    assert verdict.passed
    assert (metadata["missing_sessions"], metadata["symbols_affected"]) == (2, 2)


def test_gaps_are_listed_in_a_table_with_repair_commands(harness):
    verdict, metadata = missing(
        harness, hole("MSFT", SESSIONS[5]), hole("AAPL", SESSIONS[2], SESSIONS[3]), hole("AAPL", SESSIONS[7])
    )
    assert metadata["gaps"] == [
        {
            "symbol": symbol,
            "from": first,
            "to": last,
            "sessions": sessions,
            "reason": "missing",
            "detail": "",
            "attempts": 1,
            "next attempt": "2025-07-01 12:02 UTC",
            "repair": f"backfill repair --symbols {symbol}",
        }
        for symbol, first, last, sessions in (
            ("AAPL", "2025-06-18", "2025-06-20", 2),  # over Juneteenth, which is no session
            ("AAPL", "2025-06-26", "2025-06-26", 1),
            ("MSFT", "2025-06-24", "2025-06-24", 1),
        )
    ]
    columns = [c.name for c in verdict.metadata["gaps"].schema.columns]
    assert columns == list(metadata["gaps"][0])
    assert metadata["repair"] == "backfill repair --symbols AAPL,MSFT"


def test_sessions_confirmed_as_empty_do_not_fail(harness, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    holes = [hole("AAPL", SESSIONS[1], SESSIONS[8])]
    verdict, _ = missing(harness, *holes)
    assert (verdict.passed, verdict.severity) == (False, ERROR)
    verdict, metadata = missing(harness, *holes, now=MOMENT + FIRST_PAUSE)
    assert verdict.passed
    assert verdict.description == "No session is missing without explanation."
    (row,) = metadata.pop("gaps")
    assert metadata == {"missing_sessions": 0, "explained_sessions": 8, "symbols_affected": 0}
    assert [row[c] for c in ("sessions", "reason", "attempts", "next attempt", "repair")] == [
        8,
        "vendor_empty",
        2,
        "none",
        "",
    ]


def test_days_before_a_listing_and_before_the_plans_history_do_not_fail(harness):
    """The first are not gaps; the second are explained."""
    harness.vendor.change(listed={"AAPL": SESSIONS[4]}, history_edge=SESSIONS[3])
    assert harness.run(f"{SESSIONS[3]}|AAPL", f"{NEWEST}|MSFT", only=["1d"]).success
    result = harness.run(f"{SESSIONS[0]}|AAPL", f"{SESSIONS[2]}|MSFT", only=["1d"])
    assert result.success
    verdict = verdicts(result)["1d", "no_missing_sessions"]
    assert verdict.passed
    assert [(r["symbol"], r["sessions"], r["reason"]) for r in metadata_of(verdict)["gaps"]] == [
        ("MSFT", 3, "not_entitled")
    ]


def test_a_session_that_was_never_requested_is_due_six_hours_after_its_end(harness):
    row = metadata_of(verdicts(harness.check())["1d", "no_missing_sessions"])["gaps"][0]
    assert (row["attempts"], row["next attempt"]) == (0, "2025-06-17 06:15 UTC")


def test_instants_are_shown_in_utc(harness, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"{harness.database_url}?options=-ctimezone%3DAsia/Tokyo")
    _, metadata = missing(harness, hole("AAPL", SESSIONS[1]))
    assert metadata["gaps"][0]["next attempt"] == "2025-07-01 12:02 UTC"


def test_a_table_shows_at_most_a_hundred_gaps_unexplained_ones_first():
    def gap(number, *, explained):
        days = DayRange(SESSIONS[0], SESSIONS[0])
        return Gap(f"S{number:03}", "1d", days, 1, Reason.MISSING, explained, 1, MOMENT)

    table = gap_table([gap(n, explained=n % 2 == 0) for n in range(300)])
    assert [row[0] for row in table.text()[1:]] == [r.data["symbol"] for r in table.metadata().records]
    assert [r.data["symbol"] for r in table.metadata().records] == [f"S{n:03}" for n in range(1, 2 * MOST_ROWS, 2)]


# --- Invalid bars


@pytest.fixture
def fetched(harness):
    """A harness with all bars of the stocks."""
    harness.start_from("fetched", lambda: everything(harness))
    return harness


CORRUPT = """
update market_data set high = low / 2
where symbol = 'AAPL' and timeframe = '1m' and timestamp = (
  select min(timestamp) from market_data where symbol = 'AAPL' and timeframe = '1m')
returning timestamp"""


def test_a_corrupted_bar_is_found(fetched):
    ((stamp,),) = fetched.rows(CORRUPT)
    found = verdicts(fetched.check())
    verdict = found["1m", "bars_are_valid"]
    (bars,) = fetched.rows("select count(*) from market_data where timeframe = '1m'")[0]
    assert (verdict.passed, verdict.severity) == (False, ERROR)
    assert metadata_of(verdict) == {
        "examined_bars": f"{bars:,}",
        "examined_days": "2025-06-16 to 2025-07-01",
        "broken_rules": 1,
        "invalid": [
            {
                "symbol": "AAPL",
                "rule": "high is below open, close or low",
                "bars": 1,
                "first": f"{stamp.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
            }
        ],
    }
    assert verdict.description.startswith(f"1 broken rule in {bars:,} bars; first AAPL at 2025-06-16 ")
    assert found["1d", "bars_are_valid"].passed


def test_checks_examine_the_last_five_weeks_and_the_days_of_the_run(fetched):
    fetched.rows(CORRUPT)
    later = MOMENT + timedelta(days=60)
    verdict = verdicts(fetched.check(now=later))["1m", "bars_are_valid"]
    assert (verdict.passed, verdict.description) == (True, "There are no bars to examine.")
    assert metadata_of(verdict)["examined_days"] == "2025-07-26 to 2025-08-30"
    of_run = verdicts(fetched.run(f"{SESSIONS[0]}|AAPL", f"{SESSIONS[1]}|MSFT", now=later))
    assert not of_run["1m", "bars_are_valid"].passed
    assert (
        metadata_of(of_run["1m", "bars_are_valid"])["examined_days"]
        == "2025-06-16 to 2025-06-17, 2025-07-26 to 2025-08-30"
    )


# --- Sessions with too few minutes

THIN = hole("AAPL", SESSIONS[4], base="minute", start="04:00", end="15:30")


def minutes(result):
    verdict = verdicts(result)["1m", "minutes_are_complete"]
    return verdict, metadata_of(verdict)


def test_a_thin_session_is_a_warning_until_its_minutes_arrive(harness):
    harness.vendor.change(holes=(THIN,))
    verdict, metadata = minutes(everything(harness))
    assert (verdict.passed, verdict.severity) == (False, WARN)
    assert verdict.description == (
        "Minutes are missing within 1 session; first AAPL on 2025-06-23: no minutes from 04:00 to 15:30."
    )
    assert (metadata["partial_sessions"], metadata["confirmed_partial_sessions"]) == (1, 0)
    counts = dict(harness.rows("select session, bars from session_answers where symbol = 'AAPL' and timeframe = '1m'"))
    (row,) = metadata["sessions"]
    assert (row["symbol"], row["session"], row["minutes"]) == ("AAPL", "2025-06-23", counts.pop(SESSIONS[4]))
    assert min(counts.values()) <= row["likely"] <= max(counts.values())
    assert row["because"] == "no minutes from 04:00 to 15:30"
    ((reason, detail, attempts),) = {
        (r["reason"], r["detail"], r["attempts"])
        for r in metadata_of(verdicts(harness.check())["1m", "no_missing_sessions"])["gaps"]
    }
    assert (reason, detail, attempts) == ("partial", row["because"], 1)

    harness.vendor.change(holes=())
    verdict, metadata = minutes(everything(harness, now=MOMENT + FIRST_PAUSE))
    assert verdict.passed
    assert verdict.description == "No session is missing minutes."
    assert metadata == {"partial_sessions": 0, "confirmed_partial_sessions": 0, "unjudged_sessions": 0}


def test_a_thin_session_that_a_retry_does_not_change_is_confirmed(harness, monkeypatch):
    monkeypatch.setenv("BACKFILL_RETRY_ATTEMPTS", "2")
    harness.vendor.change(holes=(THIN,))
    everything(harness)
    verdict, metadata = minutes(everything(harness, now=MOMENT + FIRST_PAUSE))
    assert verdict.passed
    assert (metadata["partial_sessions"], metadata["confirmed_partial_sessions"]) == (0, 1)
    assert [r["session"] for r in metadata["sessions"]] == ["2025-06-23"]


def test_sessions_without_enough_others_are_counted_as_not_judged(harness):
    verdict, metadata = minutes(everything(harness, last=SESSIONS[3], now=datetime(2025, 6, 21, 12, tzinfo=UTC)))
    assert verdict.passed
    sentence = "No session that can be judged is missing minutes. 8 sessions cannot be judged yet:"
    assert verdict.description.startswith(sentence)
    assert (metadata["unjudged_sessions"], metadata["unjudged"]) == (8, "AAPL: 4, MSFT: 4")


# --- Implausible prices


def test_a_price_far_from_all_around_it_is_a_warning_and_stays(harness):
    assert verdicts(everything(harness))["1m", "prices_are_plausible"].passed
    ((stamp, high),) = harness.rows(
        """update market_data set high = high * 7 where symbol = 'AAPL' and timeframe = '1m' and timestamp = (
             select min(timestamp) from market_data where symbol = 'AAPL' and timeframe = '1m')
           returning timestamp, high"""
    )
    found = verdicts(harness.check())
    verdict = found["1m", "prices_are_plausible"]
    assert (verdict.passed, verdict.severity) == (False, WARN)
    (row,) = metadata_of(verdict)["outliers"]
    assert (row["symbol"], row["time"]) == ("AAPL", f"{stamp.astimezone(UTC):%Y-%m-%d %H:%M} UTC")
    assert row["value"] == high > 5 * row["highest"] > 5 * row["lowest"] > 0
    assert verdict.description.startswith(f"AAPL has {high:g} at ")
    assert found["1d", "prices_are_plausible"].passed


# --- The newest session


def newest(result, timeframe="1d"):
    verdict = verdicts(result)[timeframe, "latest_session_is_here"]
    return verdict, metadata_of(verdict)


@pytest.mark.parametrize(("symbols", "severity"), [(["MSFT"], WARN), (["AAPL", "MSFT"], ERROR)])
def test_the_newest_session_missing_for_one_is_a_warning_and_for_all_an_error(harness, symbols, severity):
    harness.vendor.change(holes=tuple(hole(s, NEWEST) for s in symbols))
    verdict, metadata = newest(everything(harness, only=["1d"]))
    assert (verdict.passed, verdict.severity) == (False, severity)
    assert verdict.description == f"2025-06-30 is missing for {len(symbols)} of 2 symbols."
    assert metadata == {
        "session": "2025-06-30",
        "symbols_expected": 2,
        "symbols_missing": len(symbols),
        "symbols_partial": 0,
        "missing": ", ".join(symbols),
        "repair": f"backfill repair --symbols {','.join(symbols)}",
    }


def test_a_newest_session_with_some_of_its_minutes_is_partial_and_not_missing(harness):
    harness.vendor.change(
        holes=(hole("AAPL", NEWEST), *(hole("MSFT", NEWEST, base="minute", start="05:00", end="20:00"),))
    )
    result = everything(harness)
    verdict, metadata = newest(result, "1m")
    assert not verdict.passed
    assert verdict.description == "2025-06-30 is missing for 1 of 2 symbols and partial for 1 of 2 symbols."
    assert (metadata["missing"], metadata["partial"], metadata["symbols_partial"]) == ("AAPL", "MSFT", 1)
    assert metadata["repair"] == "backfill repair --symbols AAPL,MSFT"
    assert metadata_of(verdicts(result)["1m", "no_missing_sessions"])["missing_sessions"] == 1
    harness.vendor.change(holes=(hole("MSFT", NEWEST, base="minute", start="05:00", end="20:00"),))
    verdict, _ = newest(everything(harness, now=MOMENT + FIRST_PAUSE), "1m")
    assert (verdict.severity, verdict.description) == (WARN, "2025-06-30 is partial for 1 of 2 symbols.")


def test_before_the_first_session_nothing_is_missing(harness):
    found = verdicts(harness.check(now=datetime(2025, 6, 16, 12, tzinfo=UTC)))
    assert all(e.passed for e in found.values())
    assert found["1d", "latest_session_is_here"].description == "No session has finished yet."


def test_a_delisted_symbol_is_not_expected(harness):
    harness.vendor.change(delisted={"MSFT": SESSIONS[6]}, delisted_details="dated")
    verdict, metadata = newest(everything(harness, only=["1d"]))
    assert verdict.passed
    assert (metadata["symbols_expected"], metadata["symbols_missing"]) == (1, 0)


# --- Tickers


def test_a_ticker_that_the_vendor_does_not_know_is_an_error_until_it_is_known(harness):
    harness.vendor.change(known=("AAPL",))
    result = everything(harness)
    assert result.success
    verdict = verdicts(result)["1m", "ticker_is_known"]
    assert (verdict.passed, verdict.severity) == (False, ERROR)
    finding = "Polygon does not know the ticker of MSFT: correct it in the universe file"
    assert verdict.description == f"MSFT: {finding}."
    assert metadata_of(verdict)["symbols"] == [{"symbol": "MSFT", "finding": finding}]
    (gap,) = metadata_of(verdicts(result)["1d", "no_missing_sessions"])["gaps"]
    assert (gap["symbol"], gap["sessions"], gap["reason"]) == ("MSFT", len(SESSIONS), "missing")
    harness.vendor.change(known=("AAPL", "MSFT"))
    harness.materialize("stocks", "listings")
    assert verdicts(everything(harness))["1m", "ticker_is_known"].passed


def test_bars_from_before_a_symbol_took_its_ticker_are_a_warning(harness):
    day = SESSIONS[5]
    harness.vendor.change(renames=(Rename(ticker="MSFT", earlier="OLD", day=day, other_until=SESSIONS[4]),))
    assert verdicts(everything(harness))["1d", "one_company"].passed
    harness.materialize("stocks", "listings")
    verdict = verdicts(harness.check())["1d", "one_company"]
    assert (verdict.passed, verdict.severity) == (False, WARN)
    assert verdict.description.startswith(
        f"MSFT: bars since {SESSIONS[0]}; before {day} the ticker was OLD; to fetch it,"
    )
