"""The thresholds of each measure, and the findings of observations."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.domain.alert_rules import (
    MOST_ROWS,
    CheckObservation,
    CheckResult,
    FailedDaysObservation,
    Failure,
    GapObservation,
    HeartbeatObservation,
    JobObservation,
    check_incident,
    failed_checks,
)
from backfill_assets.domain.alerts import THRESHOLDS, Measure, Place, Severity, severity
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap, Reason
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import MINUTE_1
from backfill_assets.domain.universe import Market, Symbol

START = date(2025, 6, 2)
NOON = datetime(2025, 6, 30, 12, tzinfo=UTC)
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


def gap(sessions, symbol="AAPL", timeframe="1m", *, start=START, explained=False, due=NOON):
    days = DayRange(start, start + timedelta(days=sessions - 1))
    reason = Reason.VENDOR_EMPTY if explained else Reason.MISSING
    return Gap(symbol, timeframe, days, sessions, reason, explained, 2, due)


ASSETS = {"1m": "stocks/ohlcv_1m", "5m": "stocks/ohlcv_5m"}


def level(observation):
    finding = observation.finding()
    return finding and finding.severity


# --- Thresholds


@pytest.mark.parametrize(
    ("measure", "levels"),
    [
        (Measure.MISSING_SESSIONS, {0: None, 1: None, 2: WARNING, 7: WARNING, 8: CRITICAL, 500: CRITICAL}),
        (Measure.FAILED_DAYS, {0: None, 1: None, 2: None, 3: CRITICAL, 30: CRITICAL}),
        (Measure.FAILED_FEATURES, {0: None, 1: CRITICAL}),
        (Measure.CRASHES, {0: None, 1: CRITICAL}),
        (Measure.PASSING_CRASHES, {0: None, 1: WARNING}),
        (Measure.FAILED_ERROR_CHECKS, {0: None, 1: CRITICAL}),
        (Measure.FAILED_WARNING_CHECKS, {0: None, 1: WARNING}),
        (Measure.SILENT, {0: None, 1: CRITICAL}),
        (Measure.SWITCHED_OFF, {0: None, 1: WARNING}),
    ],
)
def test_each_measure_has_its_thresholds(measure, levels):
    assert {count: severity(measure, count) for count in levels} == levels
    assert set(THRESHOLDS) == set(Measure)


@given(st.sampled_from(Measure), st.integers(0, 1000), st.integers(0, 1000))
def test_more_is_never_less_severe(measure, one, other):
    fewer, more = sorted((one, other))
    assert (severity(measure, fewer) or 0) <= (severity(measure, more) or 0)


SIZES = st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from(["1m", "1d"]), st.integers(1, 12)), max_size=6)


@given(SIZES, st.integers(1, 12))
def test_another_gap_never_lowers_the_severity(sizes, extra):
    gaps = [gap(n, s, t, start=START + timedelta(days=40 * i)) for i, (s, t, n) in enumerate(sizes)]
    more = gap(extra, start=START - timedelta(days=40))
    before, after = GapObservation("stocks", tuple(gaps)), GapObservation("stocks", (*gaps, more))
    assert (level(before) or 0) <= (level(after) or 0)
    explained = GapObservation("stocks", (*gaps, gap(extra, start=START - timedelta(days=40), explained=True)))
    assert level(explained) == level(before)


# --- Gaps


def test_what_counts_is_the_worst_series_not_the_sum():
    many = tuple(gap(1, symbol) for symbol in "ABCDEFGHIJ")
    assert level(GapObservation("stocks", many)) is None
    two_of_one = (gap(1), gap(1, start=START + timedelta(days=9)))
    assert level(GapObservation("stocks", two_of_one)) is WARNING


def test_a_market_is_one_incident_whose_table_joins_timeframes_with_the_same_gap():
    seen = GapObservation("stocks", (gap(9, timeframe="1m"), gap(9, timeframe="5m"), gap(2, "MSFT", due=None)), ASSETS)
    finding = seen.finding()
    assert finding.incident == "gap:stocks"
    assert finding.sentence == "stocks: 2 symbols have unexplained missing sessions; most: AAPL, 9."
    assert finding.rows == (
        ("symbol", "timeframes", "missing", "days", "tries", "next try (UTC)"),
        ("AAPL", "1m 5m", "2025-06-02 to 2025-06-10", "9", "2", "2025-06-30 12:00"),
        ("MSFT", "1m", "2025-06-02 to 2025-06-03", "2", "2", "none"),
    )
    assert [row[-1] for row in replace(seen, now=NOON).finding().rows[1:]] == ["now", "none"]
    assert finding.repair == "backfill repair --symbols AAPL,MSFT"
    assert finding.place == Place(asset="stocks/ohlcv_1m", check="no_missing_sessions")


def test_gaps_of_many_symbols_are_repaired_by_market():
    finding = GapObservation("stocks", tuple(gap(3, f"S{n:02}") for n in range(11))).finding()
    assert finding.repair == "backfill repair --markets stocks"
    assert len(finding.rows) == 12


# --- Checks


def check(asset="stocks/ohlcv_1m", name="bars_are_valid", *, passed=False, error=True, sentence="Bad.", repair=None):
    return CheckResult(asset, name, passed, error, sentence, repair=repair)


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ((), True),
        ((("series", "n"), ("OLD", "1")), True),
        ((("symbol", "n"), ("OLD", "1"), ("AAPL", "2")), True),
        ((("symbol", "n"), ("OLD", "1")), False),
        ((("symbol", "n"), *[("OLD", "1")] * MOST_ROWS), True),  # there may be more
    ],
)
def test_a_failed_check_of_other_symbols_only_is_left_out(rows, kept):
    market = Market("stocks", Kind.STOCKS, date(2025, 1, 2), (Symbol("AAPL", "AAPL"),), (MINUTE_1,))
    failed = replace(check(), rows=rows)
    assert (failed_checks([failed], market) == [failed]) is kept
    assert failed_checks([failed], market, "ohlcv", ["OLD"]) == [failed]


def alone(**fields):
    result = check(**fields)
    return CheckObservation(result.asset, (result,))


def test_a_failed_check_has_the_severity_of_the_check():
    assert level(alone()) is CRITICAL
    assert level(alone(error=False)) is WARNING
    assert level(alone(passed=True)) is None


def test_a_check_is_an_incident_by_asset_and_name():
    finding = alone(repair="backfill x").finding()
    assert (
        finding.incident
        == "check:stocks/ohlcv_1m:bars_are_valid"
        == check_incident("stocks/ohlcv_1m", "bars_are_valid")
    )
    assert finding.sentence == "stocks/ohlcv_1m: the check bars_are_valid fails. Bad."
    assert (finding.repair, finding.place) == (
        "backfill x",
        Place(asset="stocks/ohlcv_1m", check="bars_are_valid"),
    )


def test_a_check_about_the_market_is_one_incident_of_all_timeframes():
    name = "latest_session_is_here"
    results = [
        check("stocks/ohlcv_1m", name, error=False, sentence="Missing for 1 of 2."),
        check("stocks/ohlcv_5m", name, sentence="Missing for both.", repair="backfill repair"),
        check("stocks/ohlcv_1d", name, passed=True),
    ]
    seen = CheckObservation("stocks/ohlcv", tuple(results))
    assert seen.incident == "check:stocks/ohlcv:latest_session_is_here" == check_incident("stocks/ohlcv", name)
    finding = seen.finding()
    assert finding.severity is CRITICAL
    assert finding.rows == (
        ("asset", "found"),
        ("stocks/ohlcv_1m", "Missing for 1 of 2."),
        ("stocks/ohlcv_5m", "Missing for both."),
    )
    assert finding.repair == "backfill repair"
    well = CheckObservation("stocks/ohlcv", (check("stocks/ohlcv_1m", name, passed=True),))
    assert (well.incident, well.finding()) == (seen.incident, None)


# --- Runs


@pytest.mark.parametrize(
    ("failure", "features", "expected"),
    [
        (None, False, None),
        (None, True, None),
        (Failure("r1", "It broke."), False, CRITICAL),
        (Failure("r1", "It broke.", passing=True), False, WARNING),
        (Failure("r1", "It broke."), True, CRITICAL),
        (Failure("r1", "It broke.", passing=True), True, CRITICAL),
    ],
)
def test_a_failed_run_is_critical_unless_it_passes_and_features_always_are(failure, features, expected):
    seen = JobObservation("stocks_x_job", failure, features, "backfill x")
    assert seen.incident == "run:stocks_x_job"
    assert level(seen) == expected
    if expected:
        finding = seen.finding()
        assert finding.sentence == "stocks_x_job: a run failed. It broke."
        assert (finding.repair, finding.place) == ("backfill x", Place(run="r1"))


@pytest.mark.parametrize(("days", "expected"), [(0, None), (1, None), (2, None), (3, CRITICAL), (4, CRITICAL)])
def test_three_failed_days_in_a_row_are_critical(days, expected):
    seen = FailedDaysObservation("crypto", tuple(START + timedelta(days=n) for n in range(days)), "r9")
    assert (seen.incident, level(seen)) == ("backfill:crypto", expected)
    if expected:
        finding = seen.finding()
        assert finding.sentence == (
            f"crypto: the OHLCV backfill failed on {days} consecutive days, {START} to {seen.days[-1]}."
        )
        assert (finding.repair, finding.place) == ("backfill run --markets crypto", Place(run="r9"))


# --- Heartbeats


def heartbeat(*, silent=True, switched_off=False, last=NOON, schedule=False, error=""):
    return HeartbeatObservation("gap_repair", schedule, silent, switched_off, last, error)


def test_a_silent_sensor_is_critical_with_the_reason():
    assert level(heartbeat(silent=False)) is None
    finding = heartbeat(error="No such file.").finding()
    assert (finding.incident, finding.severity, finding.reminds) == ("heartbeat:gap_repair", CRITICAL, True)
    assert finding.sentence == (
        "The sensor gap_repair does not tick; its last good tick was at 2025-06-30 12:00 UTC. Error: No such file."
    )
    assert finding.place == Place(sensor="gap_repair")
    never = heartbeat(last=None, schedule=True).finding()
    assert never.sentence == "The schedule gap_repair does not tick; it has never ticked."
    assert never.place == Place(schedule="gap_repair")


def test_a_sensor_that_was_switched_off_is_a_warning_that_is_not_repeated():
    finding = heartbeat(switched_off=True).finding()
    assert (finding.severity, finding.reminds, finding.repair) == (WARNING, False, None)
    assert "switched off in the Dagster UI" in finding.sentence
    assert heartbeat(switched_off=True, silent=False).finding().severity is WARNING
