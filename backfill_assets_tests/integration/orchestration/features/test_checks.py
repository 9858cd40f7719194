"""The checks of the feature assets, run by Dagster: results, severities and metadata."""

import math
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from backfill_assets.adapters.store.feature_quality import FeatureQuality
from backfill_assets.domain.features import COLUMNS
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.orchestration.features.checks import LATE_AFTER, VERY_LATE_AFTER, feature_check_specs
from backfill_assets_tests.integration.orchestration.ohlcv.test_checks import SESSIONS, metadata_of, verdicts
from backfill_assets_tests.support import MOMENT, market

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
ALL = {"features_cover_bars", "features_are_fresh", "values_in_range"}
CORNERS = (f"{SESSIONS[0]}|AAPL", f"{SESSIONS[-1]}|MSFT")
FIRST_DAY = datetime(2025, 6, 16, 4, tzinfo=UTC)  # midnight in New York


@pytest.fixture
def computed(harness):
    """A harness with all bars and features of the stocks."""

    def compute():
        assert harness.run(*CORNERS).success
        assert harness.run(*CORNERS, family="features").success

    harness.start_from("computed", compute)
    return harness


def check(harness, **options):
    """Run the checks alone, and return their results."""
    result = harness.check(family="features", **options)
    assert result.success
    return verdicts(result)


def spoil(harness, column, value, timeframe="1d", symbol="AAPL"):
    """Set a value in the first row of a series."""
    assert column in {c.name for c in COLUMNS}
    assert harness.rows(
        f"update market_features set {column} = %s "  # noqa: S608  # a column of the catalog
        "where symbol = %s and timeframe = %s and timestamp = "
        "(select min(timestamp) from market_features where symbol = %s and timeframe = %s) returning 1",
        value,
        symbol,
        timeframe,
        symbol,
        timeframe,
    )  # fmt: skip - arguments in the order of the query


# --- Runs


def test_checks_run_with_every_run_and_pass_if_everything_is_computed(fetched):
    result = fetched.run(*CORNERS, family="features")
    found = verdicts(result)
    assert {key: e.passed for key, e in found.items()} == {(t, n): True for t in ("1m", "1d") for n in ALL}
    ((bars,),) = fetched.rows("select count(*) from market_data where timeframe = '1m'")
    days = f"{SESSIONS[0]} to {MOMENT.date()}"
    assert metadata_of(found["1m", "features_cover_bars"]) == {
        "bars": bars,
        "bars_without_features": 0,
        "examined_days": days,
    }
    assert metadata_of(found["1m", "features_are_fresh"]) == {"series_waiting": 0, "series_late": 0}
    assert metadata_of(found["1m", "values_in_range"]) == {
        "examined_rows": bars,
        "examined_days": days,
        "values_out_of_range": 0,
    }


def test_a_run_of_one_timeframe_evaluates_only_its_checks(fetched):
    assert set(verdicts(fetched.run(*CORNERS, family="features", only=["1d"]))) == {("1d", name) for name in ALL}


def test_checks_that_run_alone_compute_and_materialize_nothing(fetched):
    result = fetched.check(family="features")
    assert set(verdicts(result)) == {(t, n) for t in ("1m", "1d") for n in ALL}
    assert not [e for e in result.all_events if e.is_step_materialization]
    assert fetched.rows("select count(*) from market_features") == [(0,)]


def test_every_timeframe_has_its_checks():
    specs = feature_check_specs(market("stocks", "AAPL", timeframes=" ".join(TIMEFRAMES)))
    assert [(s.asset_key.path[-1].removeprefix("features_"), s.name) for s in specs] == [
        (t, n) for t in TIMEFRAMES for n in ("features_cover_bars", "features_are_fresh", "values_in_range")
    ]
    assert not any(spec.blocking for spec in specs)


# --- Missing rows


def test_bars_that_are_marked_for_computation_are_a_warning(fetched):
    verdict = check(fetched)["1d", "features_cover_bars"]
    assert (verdict.passed, verdict.severity) == (False, WARN)
    assert verdict.description == f"{2 * len(SESSIONS)} of {2 * len(SESSIONS)} bars have no features."
    metadata = metadata_of(verdict)
    assert metadata["series"] == [
        {"symbol": s, "bars": 10, "without features": 10, "first": "2025-06-16 04:00 UTC", "waiting": True}
        for s in ("AAPL", "MSFT")
    ]
    assert metadata["repair"] == "backfill features --timeframes 1d --symbols AAPL,MSFT"


def test_a_missing_row_that_is_not_marked_is_an_error(computed):
    gone = SESSIONS[3]
    computed.rows(
        "delete from market_features where symbol = 'MSFT' and timeframe = '1d' and timestamp = %s returning 1",
        datetime(gone.year, gone.month, gone.day, 4, tzinfo=UTC),
    )
    verdict = check(computed)["1d", "features_cover_bars"]
    assert (verdict.passed, verdict.severity) == (False, ERROR)
    assert metadata_of(verdict)["series"] == [
        {"symbol": "MSFT", "bars": 10, "without features": 1, "first": f"{gone} 04:00 UTC", "waiting": False}
    ]


def test_checks_that_run_alone_examine_the_last_35_days(computed):
    computed.rows("delete from market_features returning 1")
    later = check(computed, now=MOMENT + timedelta(days=30))
    metadata = metadata_of(later["1d", "features_cover_bars"])
    assert (metadata["bars"], metadata["examined_days"]) == (6, "2025-06-26 to 2025-07-31")
    assert check(computed, now=MOMENT + timedelta(days=40))["1d", "features_cover_bars"].passed


def test_checks_of_a_run_examine_its_days_too(fetched):
    later = MOMENT + timedelta(days=60)
    result = fetched.run(f"{SESSIONS[1]}|AAPL", f"{SESSIONS[2]}|AAPL", family="features", now=later)
    metadata = metadata_of(verdicts(result)["1d", "features_cover_bars"])
    days = f"{SESSIONS[1]} to {SESSIONS[2]}, 2025-07-26 to 2025-08-30"
    assert (metadata["bars"], metadata["examined_days"]) == (4, days)
    assert [(row["symbol"], row["bars"]) for row in metadata["series"]] == [("MSFT", 2)]


def test_findings_of_separate_days_are_reported_together(computed):
    """A run over old days, so much later that the last 35 days begin in the middle of the stored ones."""
    late = MOMENT + timedelta(days=28)
    first, last = SESSIONS[0], SESSIONS[-1]
    for day, value in ((first, 101.0), (last, float("nan"))):
        computed.rows(
            "update market_features set rsi_14 = %s "
            "where symbol = 'AAPL' and timeframe = '1d' and timestamp = %s returning 1",
            value,
            datetime(day.year, day.month, day.day, 4, tzinfo=UTC),
        )
    result = computed.run(f"{first}|AAPL", f"{first}|MSFT", family="features", now=late)
    verdict = verdicts(result)["1d", "values_in_range"]
    assert metadata_of(verdict)["examined_days"] == f"{first}, {(late - timedelta(days=35)).date()} to {late.date()}"
    assert metadata_of(verdict)["values"] == [
        {"symbol": "AAPL", "column": "rsi_14", "rows": 2, "first": f"{first} 04:00 UTC", "worst": "nan"}
    ]


# --- Stale rows


@pytest.mark.parametrize(
    ("waited", "passed", "severity"),
    [
        (LATE_AFTER - timedelta(minutes=1), True, WARN),
        (LATE_AFTER + timedelta(minutes=1), False, WARN),
        (VERY_LATE_AFTER + timedelta(minutes=1), False, ERROR),
    ],
)
def test_stale_rows_are_a_warning_after_26_hours_and_an_error_a_day_later(fetched, waited, passed, severity):
    fetched.rows("update feature_marks set marked_at = %s returning 1", MOMENT - waited)
    verdict = check(fetched)["1d", "features_are_fresh"]
    assert (verdict.passed, verdict.severity) == (passed, severity)
    metadata = metadata_of(verdict)
    assert (metadata["series_waiting"], metadata["series_late"]) == (2, 0 if passed else 2)
    if not passed:
        assert [row["symbol"] for row in metadata["series"]] == ["AAPL", "MSFT"]
        assert metadata["series"][0]["first"] == "2025-06-16 04:00 UTC"
        assert metadata["series"][0]["last"] == "2025-06-30 04:00 UTC"
        assert metadata["repair"].startswith("backfill features --timeframes 1d --symbols AAPL,MSFT")


def test_rows_are_stale_again_after_a_change(computed):
    assert metadata_of(check(computed)["1d", "features_are_fresh"])["series_waiting"] == 0
    computed.rows(
        "insert into feature_marks (symbol, timeframe, stale, marked_at) values ('AAPL', '1d', tstzrange(%s, null), %s) "
        "returning 1",
        FIRST_DAY,
        MOMENT,
    )
    found = check(computed)
    assert metadata_of(found["1d", "features_are_fresh"]) == {"series_waiting": 1, "series_late": 0}
    assert found["1d", "features_are_fresh"].description == "1 series out of date, 0 of them for more than 26 hours."
    assert metadata_of(found["1m", "features_are_fresh"])["series_waiting"] == 0


def test_bars_before_the_markets_first_day_are_never_stale(computed):
    long_ago = datetime(2025, 6, 2, 4, tzinfo=UTC)
    computed.rows(
        """insert into market_data (symbol, timeframe, "timestamp", open, high, low, close, volume, source)
           values ('AAPL', '1d', %s, 1, 1, 1, 1, 1, 'polygon') returning 1""",
        long_ago,
    )
    computed.rows(
        "insert into feature_marks (symbol, timeframe, stale) values ('AAPL', '1d', tstzrange(%s, %s)) returning 1",
        long_ago,
        long_ago + timedelta(days=1),
    )
    assert metadata_of(check(computed)["1d", "features_are_fresh"])["series_waiting"] == 0


# --- Values


def test_a_value_outside_its_bounds_is_an_error(computed):
    spoil(computed, "rsi_14", 100.1)
    found = check(computed)
    verdict = found["1d", "values_in_range"]
    assert (verdict.passed, verdict.severity) == (False, ERROR)
    assert metadata_of(verdict)["values"] == [
        {"symbol": "AAPL", "column": "rsi_14", "rows": 1, "first": "2025-06-16 04:00 UTC", "worst": "100.1"}
    ]
    assert verdict.description == "1 of the values in 20 rows are out of range; first AAPL, rsi_14."
    assert found["1m", "values_in_range"].passed


@pytest.mark.parametrize(
    ("column", "value", "out_of_range"),
    [
        *(("rsi_14", 100.1, True), ("rsi_14", -0.1, True), ("rsi_14", 100 + 1e-12, False)),
        *(("stoch_k_14", -1e-12, False), ("williams_r_14", 1.0, True), ("log_return", math.inf, True)),
        *(("macd", math.nan, True), ("macd", -1e12, False), ("atr_14", -1e-6, True), ("atr_14", None, False)),
    ],
)
def test_bounds_allow_for_rounding_and_null_and_never_for_infinity(computed, column, value, out_of_range):
    spoil(computed, column, value)
    with FeatureQuality(computed.database_url) as quality:
        found = quality.out_of_range(["AAPL", "MSFT"], TIMEFRAMES["1d"], FIRST_DAY, MOMENT)
    assert [(f.symbol, f.column, f.rows, f.first, str(f.worst)) for f in found] == (
        [("AAPL", column, 1, FIRST_DAY, str(value))] if out_of_range else []
    )


def test_the_worst_value_and_the_first_bar_are_reported(computed):
    for value, since in ((101, FIRST_DAY), (-7, datetime(2025, 6, 30, 15, tzinfo=UTC))):
        update = "update market_features set rsi_14 = %s where (symbol, timeframe) = ('MSFT', '1m') and timestamp >= %s"
        assert computed.rows(f"{update} returning 1", value, since)
    query = "select count(*), min(timestamp) from market_data where (symbol, timeframe) = ('MSFT', '1m')"
    ((bars, first),) = computed.rows(query)
    with FeatureQuality(computed.database_url) as quality:
        (found,) = quality.out_of_range(["AAPL", "MSFT"], TIMEFRAMES["1m"], FIRST_DAY, MOMENT)
    assert (found.symbol, found.column, found.rows, found.first, found.worst) == ("MSFT", "rsi_14", bars, first, -7)
