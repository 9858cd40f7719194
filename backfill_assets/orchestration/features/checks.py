"""The checks of the feature assets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta

import dagster as dg

from backfill_assets.adapters.store.feature_quality import OutOfRange
from backfill_assets.adapters.store.features import Covered, StaleSeries
from backfill_assets.domain.timeframes import Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import MOST_ROWS, results_of, spelled
from backfill_assets.orchestration.keys import features_key
from backfill_assets.pipelines.feature_health import FeatureHealth

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

WAITED_LONG = timedelta(hours=26)
"""A night's run and two hours for it: what waits longer was not computed when it should have been."""

WAITED_TOO_LONG = WAITED_LONG + timedelta(days=1)

_DESCRIPTIONS = {
    "features_cover_bars": "Every bar has its row of features. Rows that are known to wait to be computed are a warning, "
    "others an error.",
    "features_are_fresh": f"No row is known to be out of date for more than {WAITED_LONG // timedelta(hours=1)} hours; a day "
    "later it is an error.",
    "values_in_range": "Values are finite, and within the bounds that their definition gives them: 0 to 100, not negative "
    "and the like.",
}


def feature_check_specs(market: Market) -> list[dg.AssetCheckSpec]:
    """The checks of all timeframes of a market."""
    return [
        dg.AssetCheckSpec(name, asset=features_key(market, timeframe), description=_DESCRIPTIONS[name])
        for timeframe in market.timeframes
        for name in _DESCRIPTIONS
    ]


def feature_check_results(
    market: Market, selected: Iterable[dg.AssetCheckKey], health: FeatureHealth
) -> Iterator[dg.AssetCheckResult]:
    """A result for each selected check, from one look at the market."""
    return results_of({features_key(market, t): t for t in market.timeframes}, selected, _RESULTS, health)


def _features_cover_bars(health: FeatureHealth, timeframe: Timeframe) -> dg.AssetCheckResult:
    of_timeframe = [c for c in health.covered if c.timeframe == timeframe.name]
    lacking = [c for c in of_timeframe if c.bare]
    bars, bare = sum(c.bars for c in of_timeframe), sum(c.bare for c in lacking)
    metadata: dict[str, dg.RawMetadataValue] = {
        "bars": bars,
        "bars_without_features": bare,
        "examined_days": ", ".join(map(str, health.days)),
    }
    if lacking:
        metadata["series"] = _bare_table(lacking, health)
        metadata["repair"] = _repair(timeframe, [c.symbol for c in lacking])
    forgotten = any(not health.waiting(c.symbol, c.timeframe) for c in lacking)
    sentence = f"{bare:,} of {bars:,} bars have no features." if bare else f"{bars:,} bars have their features."
    return dg.AssetCheckResult(
        passed=not lacking, severity=ERROR if forgotten else WARN, description=sentence, metadata=metadata
    )


def _bare_table(lacking: Sequence[Covered], health: FeatureHealth) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "symbol": c.symbol,
                "bars": c.bars,
                "without features": c.bare,
                "first": spelled(c.first) if c.first else "",
                "waiting": health.waiting(c.symbol, c.timeframe),
            }
        )
        for c in lacking[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("bars", "int", "Bars of the examined days."),
        dg.TableColumn("without features", "int"),
        dg.TableColumn("first", "string", "Start of the first of them."),
        dg.TableColumn("waiting", "bool", "Whether they are known to be computed next."),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _features_are_fresh(health: FeatureHealth, timeframe: Timeframe) -> dg.AssetCheckResult:
    waiting = [s for s in health.stale if s.timeframe == timeframe.name]
    late = [s for s in waiting if health.now - s.since > WAITED_LONG]
    metadata: dict[str, dg.RawMetadataValue] = {"series_waiting": len(waiting), "series_late": len(late)}
    if late:
        metadata["series"] = _late_table(late)
        metadata["repair"] = _repair(timeframe, [s.symbol for s in late])
    worst = any(health.now - s.since > WAITED_TOO_LONG for s in late)
    sentence = "Nothing waits to be computed."
    if waiting:
        sentence = f"{len(waiting)} series wait to be computed, {len(late)} of them for too long."
    return dg.AssetCheckResult(
        passed=not late, severity=ERROR if worst else WARN, description=sentence, metadata=metadata
    )


def _late_table(late: Sequence[StaleSeries]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {"symbol": s.symbol, "first": spelled(s.first), "last": spelled(s.last), "known since": spelled(s.since)}
        )
        for s in sorted(late, key=lambda s: s.since)[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("first", "string", "Start of the first bar that waits."),
        dg.TableColumn("last", "string", "Start of the last."),
        dg.TableColumn("known since", "string"),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _values_in_range(health: FeatureHealth, timeframe: Timeframe) -> dg.AssetCheckResult:
    outside = [o for o in health.outside if o.timeframe == timeframe.name]
    rows = sum(c.bars - c.bare for c in health.covered if c.timeframe == timeframe.name)
    values = sum(o.rows for o in outside)
    metadata: dict[str, dg.RawMetadataValue] = {
        "examined_rows": rows,
        "examined_days": ", ".join(map(str, health.days)),
        "values_out_of_range": values,
    }
    if outside:
        metadata["values"] = _outside_table(outside)
    sentence = f"{values:,} values in {rows:,} rows are out of range." if outside else f"{rows:,} rows are in range."
    return dg.AssetCheckResult(passed=not outside, severity=ERROR, description=sentence, metadata=metadata)


def _outside_table(outside: Sequence[OutOfRange]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            # As text: JSON has no infinity.
            {"symbol": o.symbol, "column": o.column, "rows": o.rows, "first": spelled(o.first), "worst": f"{o.worst:g}"}
        )
        for o in outside[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("column", "string"),
        dg.TableColumn("rows", "int"),
        dg.TableColumn("first", "string", "Start of the first bar."),
        dg.TableColumn("worst", "string", "The value that lies farthest outside."),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _repair(timeframe: Timeframe, symbols: Sequence[str]) -> str:
    return f"backfill features --timeframes {timeframe} --symbols {','.join(symbols)}"


_RESULTS: dict[str, Callable[[FeatureHealth, Timeframe], dg.AssetCheckResult]] = {
    "features_cover_bars": _features_cover_bars,
    "features_are_fresh": _features_are_fresh,
    "values_in_range": _values_in_range,
}
