"""The checks of the feature assets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import dagster as dg

from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import ERROR, WARN, CheckOutcome, Table, format_utc
from backfill_assets.orchestration.keys import features_key
from backfill_assets.pipelines.feature_health import FeatureHealth

LATE_AFTER = timedelta(hours=26)
"""A day and two hours: the nightly run should have computed it."""

VERY_LATE_AFTER = LATE_AFTER + timedelta(days=1)

_DESCRIPTIONS = {
    "features_cover_bars": "Every bar has a row of features. Missing rows that are marked as out of date are a warning, "
    "others an error.",
    "features_are_fresh": f"No row has been out of date for more than {LATE_AFTER // timedelta(hours=1)} hours; a day "
    "more is an error.",
    "values_in_range": "Values are finite and within the bounds of their definition, such as 0 to 100.",
}


def feature_check_specs(market: Market) -> list[dg.AssetCheckSpec]:
    """Return the checks of all timeframes of a market."""
    return [
        dg.AssetCheckSpec(name, asset=features_key(market, timeframe), description=_DESCRIPTIONS[name])
        for timeframe in market.timeframes
        for name in _DESCRIPTIONS
    ]


def _features_cover_bars(health: FeatureHealth, timeframe: Timeframe) -> CheckOutcome:
    covered = [c for c in health.covered if c.timeframe == timeframe.name]
    missing = [c for c in covered if c.bare]
    bars, bare = sum(c.bars for c in covered), sum(c.bare for c in missing)
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("bars", "int", "Bars of the examined days."),
        dg.TableColumn("without features", "int"),
        dg.TableColumn("first", "string", "Start of the first of them."),
        dg.TableColumn("waiting", "bool", "Whether they are marked as out of date, and so computed next."),
    )
    rows = [
        (c.symbol, c.bars, c.bare, format_utc(c.first) if c.first else "", health.waiting(c.symbol, c.timeframe))
        for c in missing
    ]
    return CheckOutcome(
        not missing,
        f"{bare:,} of {bars:,} bars have no features." if bare else f"All {bars:,} bars have features.",
        ERROR if any(not health.waiting(c.symbol, c.timeframe) for c in missing) else WARN,
        {"bars": bars, "bars_without_features": bare, "examined_days": ", ".join(map(str, health.days))},
        Table("series", columns, rows) if rows else None,
        _repair(timeframe, [c.symbol for c in missing]),
    )


def _features_are_fresh(health: FeatureHealth, timeframe: Timeframe) -> CheckOutcome:
    stale = [s for s in health.stale if s.timeframe == timeframe.name]
    late = sorted((s for s in stale if health.now - s.since > LATE_AFTER), key=lambda s: s.since)
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("first", "string", "Start of the first bar that is out of date."),
        dg.TableColumn("last", "string", "Start of the last."),
        dg.TableColumn("known since", "string"),
    )
    rows = [(s.symbol, format_utc(s.first), format_utc(s.last), format_utc(s.since)) for s in late]
    return CheckOutcome(
        not late,
        f"{len(stale)} series out of date, {len(late)} of them for more than {LATE_AFTER // timedelta(hours=1)} hours."
        if stale
        else "All features are up to date.",
        ERROR if any(health.now - s.since > VERY_LATE_AFTER for s in late) else WARN,
        {"series_waiting": len(stale), "series_late": len(late)},
        Table("series", columns, rows) if rows else None,
        _repair(timeframe, [s.symbol for s in late]),
    )


def _values_in_range(health: FeatureHealth, timeframe: Timeframe) -> CheckOutcome:
    outside = [o for o in health.outside if o.timeframe == timeframe.name]
    examined = sum(c.bars - c.bare for c in health.covered if c.timeframe == timeframe.name)
    values = sum(o.rows for o in outside)
    columns = (
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("column", "string"),
        dg.TableColumn("rows", "int"),
        dg.TableColumn("first", "string", "Start of the first bar."),
        dg.TableColumn("worst", "string", "The value that is farthest out of range."),
    )
    # `worst` is text: JSON has no infinity.
    rows = [(o.symbol, o.column, o.rows, format_utc(o.first), f"{o.worst:g}") for o in outside]
    return CheckOutcome(
        not outside,
        f"{values:,} of the values in {examined:,} rows are out of range; first {outside[0].symbol}, {outside[0].column}."
        if outside
        else f"{examined:,} rows are in range.",
        ERROR,
        {
            "examined_rows": examined,
            "examined_days": ", ".join(map(str, health.days)),
            "values_out_of_range": values,
        },
        Table("values", columns, rows) if rows else None,
    )


def _repair(timeframe: Timeframe, symbols: Sequence[str]) -> str | None:
    return f"backfill features --timeframes {timeframe} --symbols {','.join(symbols)}" if symbols else None


CHECKS: dict[str, Callable[[FeatureHealth, Timeframe], CheckOutcome]] = {
    "features_cover_bars": _features_cover_bars,
    "features_are_fresh": _features_are_fresh,
    "values_in_range": _values_in_range,
}
