"""The report on runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from backfill_assets.adapters.store.runs import Record, RecordedRun
from backfill_assets.domain.alert_rules import CheckResult
from backfill_assets.domain.timeframes import TIMEFRAMES, sources
from backfill_assets.presentation.documents import check_json


def report_json(runs: Sequence[RecordedRun], checks: Sequence[CheckResult], now: datetime) -> dict[str, Any]:
    """Return the report: times are ISO 8601 in UTC, days ISO dates."""
    gaps = [gap for run in runs for gap in run.gaps]
    series = [row for run in runs for row in run.series]
    restatements = [row for run in runs for row in run.restatements]
    return {
        "timestamp": now,
        "symbols_processed": sorted({row["symbol"] for row in series}),
        "gaps_detected": [_without(gap, "outcome", "sessions_left") for gap in gaps],
        "retry_results": [_without(gap, "sessions", "reason", "attempts") for gap in gaps],
        "summary": _summary(runs, gaps, restatements),
        "runs": [run.run for run in runs],
        "series": series,
        "restatements": restatements,
        "restatement_rates": _rates(series),
        "rejected_bars": [row for run in runs for row in run.rejected],
        "failed_checks": [check_json(check) for check in checks],
    }


def _summary(runs: Sequence[RecordedRun], gaps: Sequence[Record], restatements: Sequence[Record]) -> dict[str, int]:
    totals = (
        *("requests", "retried", "rate_limited", "bars_written", "bars_changed", "bars_unchanged", "bars_removed"),
        *("features_written", "gaps_before", "gaps_after"),
    )
    return {
        "runs": len(runs),
        **{
            status: sum(r.run["status"] == status for r in runs)
            for status in ("succeeded", "failed", "canceled", "started")
        },
        **{name: sum(r.run[name] for r in runs) for name in totals},
        "gaps_filled": sum(gap["outcome"] == "filled" for gap in gaps),
        "sessions_left": sum(gap["sessions_left"] for gap in gaps),
        "bars_restated": sum(row["bars"] for row in restatements),
        "bars_rejected": sum(row["bars_rejected"] for run in runs for row in run.series),
    }


def _rates(series: Sequence[Record]) -> list[Record]:
    """Return by source timeframe how many of the bars that were stored before a later answer changed or removed."""
    rates = []
    for timeframe in sources(TIMEFRAMES.values()):
        rows = [row for row in series if row["timeframe"] == timeframe.name]
        restated = sum(row["bars_changed"] + row["bars_removed"] for row in rows)
        if again := restated + sum(row["bars_unchanged"] for row in rows):
            rates.append(
                {"timeframe": timeframe.name, "bars_again": again, "bars_restated": restated, "rate": restated / again}
            )
    return rates


def _without(row: Record, *names: str) -> Record:
    return {name: value for name, value in row.items() if name not in names}


def json_default(value: object) -> str:
    """Format values of a report that JSON has no type for: instants as ISO 8601 in UTC, days as ISO dates."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value))
