"""The check of the corporate actions."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from backfill_assets.domain.alert_rules import MOST_ROWS
from backfill_assets.domain.corporate_actions import SplitJump
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import WARN, CheckOutcome, Table
from backfill_assets.orchestration.keys import corporate_events_key

_COLUMNS = (
    dg.TableColumn("symbol", "string"),
    dg.TableColumn("ex-date", "string"),
    dg.TableColumn("expected", "float", "New shares for an old one, by the splits of the day."),
    dg.TableColumn("seen", "float", "Close before divided by open: the same by the prices."),
    dg.TableColumn("close before", "float"),
    dg.TableColumn("open", "float", "The first open on or after the ex-date."),
)


def split_check_spec(market: Market) -> dg.AssetCheckSpec:
    """Return the check of a market's splits."""
    return dg.AssetCheckSpec(
        "split_is_plausible",
        asset=corporate_events_key(market),
        description="On a split's ex-date the raw daily price jumps by about its ratio, from the last close before to the "
        "open. Splits without bars on both sides, and splits closer to 1 than 5:4, are not examined.",
    )


def split_check_outcome(jumps: Sequence[SplitJump]) -> CheckOutcome:
    """Evaluate the check on all ex-dates of the market's splits."""
    judged = [jump for jump in jumps if jump.checked]
    wrong = [jump for jump in judged if not jump.plausible]
    rows = [
        (j.symbol, j.ex_date.isoformat(), round(j.expected, 4), round(j.seen or 0.0, 4), j.close, j.open) for j in wrong
    ]
    named = ", ".join(f"{jump.symbol} {jump.ex_date}" for jump in wrong[:MOST_ROWS])
    return CheckOutcome(
        not wrong,
        f"Prices do not jump by the ratio of: {named}." if wrong else f"{len(judged)} splits examined, all plausible.",
        WARN,
        {"judged": len(judged), "not_judged": len(jumps) - len(judged)},
        Table("splits", _COLUMNS, rows) if rows else None,
    )
