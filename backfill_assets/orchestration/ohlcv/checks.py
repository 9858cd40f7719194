"""The checks of the OHLCV assets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import dagster as dg

from backfill_assets.domain.gaps import (
    ERROR_ABOVE,
    WARN_ABOVE,
    Reason,
    missing_gaps,
    most_missing_sessions,
    unexplained,
)
from backfill_assets.domain.timeframes import MINUTE_1, Timeframe
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.check_results import gap_table, invalid_table, results_of, thin_table
from backfill_assets.orchestration.keys import ohlcv_key
from backfill_assets.pipelines.health import Health

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

_DESCRIPTIONS = {
    "no_missing_sessions": "No symbol lacks a session without an explanation: more than "
    f"{WARN_ABOVE} session is a warning, more than {ERROR_ABOVE} an error. "
    "A partial session has bars: it is listed here, and judged by minutes_are_complete.",
    "bars_are_valid": "Prices are positive and within high and low, volume is not negative, timestamps are on the grid and "
    "inside the session's hours. Examined are the last 35 days, and the days of the run where a run is checked.",
    "minutes_are_complete": "No session has far fewer minutes than its symbol's other sessions let expect.",
    "latest_session_is_here": "Every symbol has the last session that finished six hours ago or more.",
}


def ohlcv_check_specs(market: Market) -> list[dg.AssetCheckSpec]:
    """The checks of all timeframes of a market."""
    return [
        dg.AssetCheckSpec(name, asset=ohlcv_key(market, timeframe), description=_DESCRIPTIONS[name])
        for timeframe in market.timeframes
        for name in _DESCRIPTIONS
        if name != "minutes_are_complete" or timeframe == MINUTE_1
    ]


def ohlcv_check_results(
    market: Market, selected: Iterable[dg.AssetCheckKey], health: Health
) -> Iterator[dg.AssetCheckResult]:
    """A result for each selected check, from one look at the market."""
    return results_of({ohlcv_key(market, t): t for t in market.timeframes}, selected, _RESULTS, health)


def _no_missing_sessions(health: Health, timeframe: Timeframe) -> dg.AssetCheckResult:
    gaps = [g for g in health.gaps if g.timeframe == timeframe.name]
    open_gaps = unexplained(gaps)
    missing = missing_gaps(gaps)
    worst = most_missing_sessions(missing)
    metadata: dict[str, dg.RawMetadataValue] = {
        "missing_sessions": sum(g.sessions for g in missing),
        "explained_sessions": sum(g.sessions for g in gaps if g.explained),
        "symbols_lacking": len({g.symbol for g in missing}),
    }
    if gaps:
        metadata["gaps"] = gap_table(gaps)
    if open_gaps:
        metadata["repair"] = f"backfill repair --symbols {','.join(dict.fromkeys(g.symbol for g in open_gaps))}"
    return dg.AssetCheckResult(
        passed=worst <= WARN_ABOVE,
        severity=ERROR if worst > ERROR_ABOVE else WARN,
        description=_gap_sentence(len(missing), worst),
        metadata=metadata,
    )


def _gap_sentence(gaps: int, worst: int) -> str:
    if not gaps:
        return "Nothing is missing without an explanation."
    return f"{_counted(gaps, 'open gap')}; the symbol that lacks most lacks {_counted(worst, 'session')}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _bars_are_valid(health: Health, timeframe: Timeframe) -> dg.AssetCheckResult:
    examined = health.examined
    invalid = [i for i in examined.invalid if i.timeframe == timeframe.name]
    bars = examined.bars.get(timeframe.name, 0)
    metadata: dict[str, dg.RawMetadataValue] = {
        "examined_bars": f"{bars:,}",  # as text: over runs of all lengths a plot of it says nothing
        "examined_days": ", ".join(map(str, examined.days)),
        "broken_rules": sum(i.bars for i in invalid),
    }
    if invalid:
        metadata["invalid"] = invalid_table(invalid)
    broken = sum(i.bars for i in invalid)
    if broken:
        sentence = f"{_counted(broken, 'broken rule')} in {_counted(bars, 'bar')}."
    else:
        sentence = f"{bars:,} bars are valid." if bars else "There are no bars to examine."
    return dg.AssetCheckResult(passed=not invalid, severity=ERROR, description=sentence, metadata=metadata)


def _minutes_are_complete(health: Health, timeframe: Timeframe) -> dg.AssetCheckResult:
    waiting = {
        (gap.symbol, day)
        for gap in health.gaps
        if gap.timeframe == timeframe.name and gap.reason is Reason.PARTIAL and not gap.explained
        for day in gap.days
    }
    open_ones = [t for t in health.thin if (t.symbol, t.session) in waiting]
    metadata: dict[str, dg.RawMetadataValue] = {
        "partial_sessions": len(open_ones),
        "confirmed_partial_sessions": len(health.thin) - len(open_ones),
    }
    if health.thin:
        metadata["sessions"] = thin_table(health.thin)
    sentence = (
        f"Far fewer minutes than is likely in {_counted(len(open_ones), 'session')}."
        if open_ones
        else "All sessions have about as many minutes as is likely, or the vendor has confirmed that there are no more."
    )
    return dg.AssetCheckResult(passed=not open_ones, severity=WARN, description=sentence, metadata=metadata)


def _latest_session_is_here(health: Health, timeframe: Timeframe) -> dg.AssetCheckResult:
    lacking = health.without_newest(timeframe.name)
    if health.newest is None:
        return dg.AssetCheckResult(passed=True, description="No session has finished yet.")
    metadata: dict[str, dg.RawMetadataValue] = {
        "session": health.newest.isoformat(),
        "symbols_awaited": len(health.awaited),
        "symbols_lacking": len(lacking),
    }
    if lacking:
        metadata["lacking"] = ", ".join(lacking)
        metadata["repair"] = f"backfill repair --symbols {','.join(lacking)}"
    sentence = f"{health.newest} is missing for {len(lacking)} of {len(health.awaited)} symbols."
    return dg.AssetCheckResult(
        passed=not lacking,
        severity=ERROR if len(lacking) == len(health.awaited) else WARN,
        description=sentence if lacking else f"{health.newest} is here.",
        metadata=metadata,
    )


_RESULTS: dict[str, Callable[[Health, Timeframe], dg.AssetCheckResult]] = {
    "no_missing_sessions": _no_missing_sessions,
    "bars_are_valid": _bars_are_valid,
    "minutes_are_complete": _minutes_are_complete,
    "latest_session_is_here": _latest_session_is_here,
}
