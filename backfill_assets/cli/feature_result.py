"""How features stand after a run over them, as a table for a person and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from rich.console import Console
from rich.table import Table

from backfill_assets.adapters.store.feature_quality import FeatureSession
from backfill_assets.cli.result import COMPLETE, DAYS_MISSING, FAILED, SHOWN_CAUSES, Cause, causes, run_json
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1, Timeframe
from backfill_assets.domain.universe import Market, Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.outcomes import Outcome


@dataclass(frozen=True)
class FeatureResult:
    """A market's request for features and what became of it.

    outcome   of its run; None if nothing had to be computed
    sessions  the sessions of the requested days that have bars
    gaps      the requested sessions that have none, or too few
    """

    request: BackfillRequest
    outcome: Outcome | None
    sessions: Sequence[FeatureSession] = field(repr=False)
    gaps: Sequence[Gap]

    @cached_property
    def by_series(self) -> dict[tuple[str, str], dict[date, FeatureSession]]:
        """By symbol and timeframe name the wanted sessions that have bars."""
        wanted = {symbol.name: frozenset(days) for symbol, days in self.request.wanted.items()}
        found: dict[tuple[str, str], dict[date, FeatureSession]] = {}
        for s in self.sessions:
            if s.session in wanted.get(s.symbol, ()):
                found.setdefault((s.symbol, s.timeframe), {})[s.session] = s
        return found

    def of(self, symbol: Symbol, timeframe: Timeframe) -> Sequence[FeatureSession]:
        """The wanted sessions of a series that have bars."""
        return list(self.by_series.get((symbol.name, timeframe.name), {}).values())

    @property
    def lacking(self) -> list[str]:
        """The series that have sessions with bars whose features are not all there, for a person."""
        return [
            f"{symbol} {timeframe}"
            for (symbol, timeframe), found in self.by_series.items()
            if not all(s.complete for s in found.values())
        ]


def exit_code(results: Iterable[FeatureResult]) -> int:
    """0 complete, 1 a run failed or left something, 3 bars are missing for no reason that is known."""
    results = list(results)
    if any((r.outcome and not r.outcome.succeeded) or r.lacking for r in results):
        return FAILED
    return DAYS_MISSING if any(unexplained(r.gaps) for r in results) else COMPLETE


def show(console: Console, results: Sequence[FeatureResult]) -> None:
    """Rows a symbol and timeframe, and of how many sessions all features, all bars are there; then which bars are missing."""
    shown = [t for t in TIMEFRAMES.values() if any(t in r.request.timeframes for r in results)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("symbol")
    for name in ("features", "bars", "days", *(t.name for t in shown)):
        table.add_column(name, justify="right")
    for result in results:
        for symbol, wanted in result.request.wanted.items():
            series = {t: result.of(symbol, t) for t in result.request.timeframes}
            bars = min(map(len, series.values()), default=0)
            whole = min((sum(s.complete for s in found) for found in series.values()), default=0)
            colour = "green" if whole == len(wanted) else "yellow" if whole == bars else "red"
            rows = (f"{rows_of(t, series[t]):,}" if t in series else "" for t in shown)
            table.add_row(symbol.name, f"[{colour}]{whole}[/]", f"{bars}", f"{len(wanted)}", *rows)
    console.print(table)
    for result in results:
        _show_causes(console, result)


def rows_of(timeframe: Timeframe, sessions: Iterable[FeatureSession]) -> int:
    """How many rows the sessions have; a weekly one, which each of its sessions has, counts once."""
    if timeframe == WEEK_1:
        return len({s.first for s in sessions if s.rows})
    return sum(s.rows for s in sessions)


def _show_causes(console: Console, result: FeatureResult) -> None:
    if result.lacking:
        console.print(f"[red]not computed though there are bars[/]: {', '.join(result.lacking[:SHOWN_CAUSES])}")
    found = causes(result.gaps)
    for cause in found[:SHOWN_CAUSES]:
        if cause.explained:
            console.print(f"[yellow]no bars, so no features ({cause.reason})[/]: {cause.description}")
        else:
            command = _fetch(result.request.market, cause)
            # A command is to be copied: it is not wrapped.
            console.print(
                f"[red]no bars, so no features ({cause.reason})[/]: {cause.description}: {command}", soft_wrap=True
            )
    if len(found) > SHOWN_CAUSES:
        console.print(f"… and {len(found) - SHOWN_CAUSES} more: see `backfill gaps`.")


def _fetch(market: Market, cause: Cause) -> str:
    """The command that asks for the bars."""
    whole = len(cause.series) == len(market.symbols)
    chosen = f"--markets {market.name}" if whole else f"--symbols {','.join(cause.series)}"
    return f"`backfill run {chosen} --start {cause.days.start} --end {cause.days.end}`"


def as_json(results: Sequence[FeatureResult]) -> dict[str, object]:
    """The same for a program; days are ISO dates."""
    return {
        "exit_code": exit_code(results),
        "runs": [run_json(r.request.market, r.outcome) for r in results if r.outcome],
        "series": [
            _series_json(r, symbol, timeframe, wanted)
            for r in results
            for symbol, wanted in r.request.wanted.items()
            for timeframe in r.request.timeframes
        ],
    }


def _series_json(
    result: FeatureResult, symbol: Symbol, timeframe: Timeframe, wanted: Sequence[date]
) -> dict[str, object]:
    found = result.of(symbol, timeframe)
    with_bars = {s.session for s in found}
    return {
        "market": result.request.market.name,
        "symbol": symbol.name,
        "timeframe": timeframe.name,
        "expected_sessions": len(wanted),
        "sessions_with_bars": len(found),
        "sessions_with_features": sum(s.complete for s in found),
        "rows": rows_of(timeframe, found),
        "without_bars": [s.isoformat() for s in wanted if s not in with_bars],
    }
