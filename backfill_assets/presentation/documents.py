"""What the commands print as JSON and the API answers: days are ISO dates, instants ISO 8601 in UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from backfill_assets.domain.alert_rules import CheckResult
from backfill_assets.domain.completeness import Completeness, Counts
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.request_plan import ApiCall, floor_seconds, pages_of
from backfill_assets.domain.universe import Universe


def iso(at: datetime | None) -> str | None:
    """Format an aware instant for JSON: ISO 8601 in UTC."""
    return at.astimezone(UTC).isoformat() if at else None


def check_json(result: CheckResult) -> dict[str, object]:
    """Return a failed check for JSON."""
    return {
        "check": result.check,
        "asset": result.asset,
        "severity": "error" if result.error else "warning",
        "sentence": result.sentence,
        "repair": result.repair,
        "checked_at": iso(result.checked_at),
    }


def gap_json(gap: Gap) -> dict[str, object]:
    """Return a gap as JSON: days are ISO dates, times ISO 8601 in UTC."""
    return {
        "symbol": gap.symbol,
        "timeframe": gap.timeframe,
        "start": gap.days.start.isoformat(),
        "end": gap.days.end.isoformat(),
        "sessions": gap.sessions,
        "reason": gap.reason.value,
        "detail": gap.detail,
        "explained": gap.explained,
        "attempts": gap.attempts,
        "next_attempt_at": iso(gap.next_attempt_at),
    }


def status_exit_code(found: Sequence[Completeness], checks: Sequence[CheckResult]) -> int:
    """Return 3 if there are unexplained gaps or data are wrong, else 0."""
    incomplete = any(unexplained(f.gaps) for f in found) or any(check.wrong_data for check in checks)
    return 3 if incomplete else 0


def status_json(
    found: Sequence[Completeness], checks: Sequence[CheckResult], not_in_universe: Sequence[str]
) -> dict[str, object]:
    """Return the status as JSON: days are ISO dates, times ISO 8601 in UTC, shares from 0 to 1."""
    return {
        "exit_code": status_exit_code(found, checks),
        "as_of": iso(max((market.at for market in found), default=None)),
        "markets": [
            {
                "market": market.market,
                "start": market.sessions[0].isoformat() if market.sessions else None,
                "end": market.sessions[-1].isoformat() if market.sessions else None,
                **_counts(market.counts),
            }
            for market in found
        ],
        "symbols": [
            {
                "market": market.market,
                "symbol": row.symbol,
                **_counts(row.counts),
                "open_gaps": len(row.open_gaps),
                "last_bar": iso(row.last_bar),
                "next_attempt_at": iso(row.next_attempt_at),
            }
            for market in found
            for row in market.rows
        ],
        "series": [
            {
                "market": market.market,
                "symbol": series.symbol,
                "timeframe": series.timeframe,
                **_counts(series.counts),
                "open_gaps": len(series.open_gaps),
                "last_bar": iso(series.last_bar),
            }
            for market in found
            for row in market.rows
            for series in row.series
        ],
        "gaps": [gap_json(gap) for market in found for gap in market.gaps],
        "failed_checks": [check_json(check) for check in checks],
        "not_in_universe": list(not_in_universe),
    }


def _counts(counts: Counts) -> dict[str, float]:
    return {
        "share_complete": counts.share,
        "expected_sessions": counts.expected,
        "complete_sessions": counts.complete,
        "fallback_sessions": counts.fallback,
        "explained_sessions": counts.explained,
        "partial_sessions": counts.partial,
        "missing_sessions": counts.missing,
    }


def symbols_json(universe: Universe, bars: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the symbols of the universe, and those that are only stored, with their number of bars."""
    rows = [(market.name, symbol.name, symbol.tickers) for market in universe.markets for symbol in market.symbols]
    rows += [("", name, "") for name in universe.without(bars)]
    return [{"market": m or None, "symbol": s, "ticker": t or None, "bars": bars.get(s, 0)} for m, s, t in rows]


def plan_json(plans: Mapping[str, Sequence[ApiCall]], per_second: float, look_ups: int) -> dict[str, object]:
    """Return the requests by market, their number, the least seconds that they take, and symbols that may be looked up."""
    requests = sum(map(pages_of, plans.values()))
    return {
        "requests": requests,
        "floor_seconds": floor_seconds(requests, per_second),
        "look_ups": look_ups,
        "plan": [
            {
                "market": market,
                "symbols": [s.name for s in call.symbols],
                "timeframe": call.timeframe.name,
                "start": call.start.isoformat(),
                "end": call.end.isoformat(),
                "sessions": len(call.sessions),
                "source": call.source,
                "requests": call.pages,
            }
            for market, planned in plans.items()
            for call in planned
        ],
    }
