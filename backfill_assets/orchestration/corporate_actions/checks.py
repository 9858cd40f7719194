"""The check of the corporate events."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from backfill_assets.domain.corporate_actions import SplitJump
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import MOST_ROWS
from backfill_assets.orchestration.keys import events_key

SPLIT_IS_PLAUSIBLE = "split_is_plausible"


def split_check_spec(market: Market) -> dg.AssetCheckSpec:
    """The check of a market's corporate events."""
    return dg.AssetCheckSpec(
        SPLIT_IS_PLAUSIBLE,
        asset=events_key(market),
        description="On a split's ex-date the raw daily price jumps by about its ratio, from the last close before to the "
        "open. Splits without bars on both sides, and those nearer to 1 than 5:4, are not judged.",
    )


def split_check_result(market: Market, jumps: Sequence[SplitJump]) -> dg.AssetCheckResult:
    """The result from all days on which the market's splits act."""
    judged = [jump for jump in jumps if jump.checked]
    wrong = [jump for jump in judged if not jump.plausible]
    metadata: dict[str, dg.RawMetadataValue] = {"judged": len(judged), "not_judged": len(jumps) - len(judged)}
    if wrong:
        metadata["splits"] = _table(wrong)
    named = ", ".join(f"{jump.symbol} {jump.ex_date}" for jump in wrong[:MOST_ROWS])
    return dg.AssetCheckResult(
        check_name=SPLIT_IS_PLAUSIBLE,
        asset_key=events_key(market),
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Prices do not jump by the ratio of: {named}."
        if wrong
        else f"{len(judged)} judged, all plausible.",
        metadata=metadata,
    )


def _table(jumps: Sequence[SplitJump]) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "symbol": jump.symbol,
                "ex-date": jump.ex_date.isoformat(),
                "expected": round(jump.expected, 4),
                "seen": round(jump.seen or 0.0, 4),
                "close before": jump.close,
                "open": jump.open,
            }
        )
        for jump in jumps[:MOST_ROWS]
    ]
    columns = [
        dg.TableColumn("symbol", "string"),
        dg.TableColumn("ex-date", "string"),
        dg.TableColumn("expected", "float", "New shares for an old one, by the day's splits."),
        dg.TableColumn("seen", "float", "Close before over open: the same by the prices."),
        dg.TableColumn("close before", "float"),
        dg.TableColumn("open", "float", "The first from the ex-date on."),
    ]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))
