"""`backfill features`: compute missing and outdated features through Dagster, and show how complete they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import dagster as dg
from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.feature_quality import FeatureQuality, FeatureSession
from backfill_assets.adapters.store.features import FeatureStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import (
    COMPLETE,
    DAYS_MISSING,
    FAILED,
    Cause,
    describe,
    output_console,
    plain_table,
    print_errors,
    print_json,
    progress_console,
    run_json,
    show_causes,
    show_failed_checks,
)
from backfill_assets.cli.progress import FeatureBars, watched
from backfill_assets.cli.selection import select
from backfill_assets.domain.alert_rules import CheckResult, failed_checks
from backfill_assets.domain.gaps import Gap, Reason, unexplained
from backfill_assets.domain.timeframes import TIMEFRAMES, WEEK_1, Timeframe
from backfill_assets.domain.universe import Market, Symbol, Universe
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.launch import all_features_materialized, open_for_runs, run_family
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of, recorded
from backfill_assets.pipelines.feature_health import stale_sessions
from backfill_assets.pipelines.listings import expected
from backfill_assets.pipelines.progress import Silent
from backfill_assets.presentation.documents import check_json

_SHOWN_SERIES = 12


@dataclass(frozen=True)
class FeatureResult:
    """A market's request for features and what became of it.

    outcome   of its run; None if nothing had to be computed
    sessions  the sessions of the requested days that have bars
    gaps      the requested sessions that have none, or too few
    checks    the checks of its features that failed when they were last evaluated, which a run does at its end
    """

    request: BackfillRequest
    outcome: Outcome | None
    sessions: Sequence[FeatureSession] = field(repr=False)
    gaps: Sequence[Gap]
    checks: Sequence[CheckResult]

    @cached_property
    def by_series(self) -> dict[tuple[str, str], list[FeatureSession]]:
        """The requested sessions that have bars, by symbol and timeframe name."""
        wanted = {symbol.name: frozenset(days) for symbol, days in self.request.wanted.items()}
        found: dict[tuple[str, str], list[FeatureSession]] = {}
        for s in self.sessions:
            if s.session in wanted.get(s.symbol, ()):
                found.setdefault((s.symbol, s.timeframe), []).append(s)
        return found

    def of(self, symbol: Symbol, timeframe: Timeframe) -> list[FeatureSession]:
        """Return the requested sessions of a series that have bars."""
        return self.by_series.get((symbol.name, timeframe.name), [])

    @property
    def incomplete(self) -> list[str]:
        """The series that have sessions with bars but without all their features."""
        return [f"{s} {t}" for (s, t), found in self.by_series.items() if not all(f.complete for f in found)]


def features_command(options: Options, *, full: bool, as_json: bool) -> int:
    """Run `backfill features` and return its exit code."""
    settings, universe, requests = select(options, project=True)
    results = compute(settings, universe, requests, options.max_concurrent, full=full, quiet=options.quiet)
    show_results(results, as_json=as_json)
    return exit_code(results)


def compute(
    settings: Settings,
    universe: Universe,
    requests: Sequence[BackfillRequest],
    max_concurrent: int = 5,
    *,
    full: bool = False,
    quiet: bool = False,
) -> list[FeatureResult]:
    """Compute the features of requests, one for each market, in a Dagster run for each market that has any to compute.

    A run that fails for a reason that concerns every market is the last.
    """
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        console = Console(quiet=True) if quiet else stack.enter_context(progress_console())
        store = stack.enter_context(BarStore(database.ready(settings)))
        instance = stack.enter_context(open_for_runs(settings, store))
        found = [expected(store, request) for request in requests]
        due = [request for request in found if request.days and (full or _is_due(instance, store, request))]
        for request in found:
            state = "" if request in due or not request.days else ": nothing is out of date"
            console.print(f"{request.market.name} features: {describe(request)}{state}")
        if due:
            listener = Silent() if quiet else stack.enter_context(FeatureBars(console))
            defs = build_definitions(universe=universe, resources=watched(features=listener))
            for request in due:
                if isinstance(listener, FeatureBars):
                    listener.planned(request)
                config = {"max_concurrent": max_concurrent, "full": full}
                outcome = run_family(instance, defs, settings, request, "features", config)
                outcomes[request.market.name] = outcome
                if outcome.concerns_every_market:
                    break
        checked = AlertStore.beside(store).check_results()
        return [
            FeatureResult(
                request,
                outcomes.get(request.market.name),
                _sessions(store, request),
                gaps_of(request, recorded(store, request)),
                failed_checks(checked, request.market, "features", request.names),
            )
            for request in found
        ]


def _is_due(instance: dg.DagsterInstance, store: BarStore, request: BackfillRequest) -> bool:
    """Return whether features of a request are out of date, or stored without being materialized in Dagster."""
    stale = stale_sessions(FeatureStore.beside(store), request.market, request.calendar, request.now)
    names, timeframes, days = set(request.names), {t.name for t in request.timeframes}, request.days
    return any(
        series.symbol in names and series.timeframe in timeframes and days and span.intersect(days)
        for series, span in stale
    ) or not all_features_materialized(instance, request, _sessions(store, request))


def _sessions(store: BarStore, request: BackfillRequest) -> list[FeatureSession]:
    if request.days is None:
        return []
    return FeatureQuality.beside(store).sessions(request.names, request.timeframes, request.days)


def exit_code(results: Sequence[FeatureResult]) -> int:
    """Return 0 if complete, 1 if a run failed or left something, 3 if bars are missing unexplained or data are wrong."""
    if any((r.outcome and not r.outcome.succeeded) or r.incomplete for r in results):
        return FAILED
    incomplete = any(unexplained(r.gaps) or any(c.wrong_data for c in r.checks) for r in results)
    return DAYS_MISSING if incomplete else COMPLETE


def show_results(results: Sequence[FeatureResult], *, as_json: bool = False) -> None:
    """Print results on standard output and the errors of runs on standard error."""
    if as_json:
        print_json(results_json(results))
    elif not any(r.outcome and r.outcome.ended_early for r in results):
        _show(output_console(), results)
    print_errors((r.request.market, r.outcome) for r in results)


def _show(console: Console, results: Sequence[FeatureResult]) -> None:
    """Print the rows of each symbol and timeframe with the days that have all features and bars, then what is missing."""
    shown = [t for t in TIMEFRAMES.values() if any(t in r.request.timeframes for r in results)]
    numbers = ["features", "bars", "days", *(t.name for t in shown)]
    table = plain_table("symbol", *numbers, right=numbers)
    for result in results:
        for symbol, wanted in result.request.wanted.items():
            series = {t: result.of(symbol, t) for t in result.request.timeframes}
            bars = min(map(len, series.values()), default=0)
            complete = min((sum(s.complete for s in found) for found in series.values()), default=0)
            colour = "green" if complete == len(wanted) else "yellow" if complete == bars else "red"
            rows = (f"{_rows_of(t, series[t]):,}" if t in series else "" for t in shown)
            table.add_row(symbol.name, f"[{colour}]{complete}[/]", f"{bars}", f"{len(wanted)}", *rows)
    console.print(table)
    for result in results:
        if result.incomplete:
            names = ", ".join(result.incomplete[:_SHOWN_SERIES])
            console.print(f"[red]features not computed[/]: {names}")
        _show_causes(console, result.request.market, result.gaps)
        show_failed_checks(console, (c for c in result.checks if c.wrong_data))


def _show_causes(console: Console, market: Market, gaps: Sequence[Gap]) -> None:
    def sentence(cause: Cause) -> str:
        text = f"no bars, so no features ({cause.reason})[/]: {cause.description}"
        if cause.explained:
            return text
        is_complete = len(cause.series) == len(market.symbols)
        chosen = f"--markets {market.name}" if is_complete else f"--symbols {','.join(cause.series)}"
        return f"{text}: `backfill run {chosen} --start {cause.days.start} --end {cause.days.end}`"

    show_causes(console, (gap for gap in gaps if gap.reason not in {Reason.PARTIAL, Reason.FALLBACK}), sentence)


def _rows_of(timeframe: Timeframe, sessions: Iterable[FeatureSession]) -> int:
    """Count the rows of sessions; a weekly row belongs to each of its sessions and counts once."""
    if timeframe == WEEK_1:
        return len({s.first for s in sessions if s.rows})
    return sum(s.rows for s in sessions)


def results_json(results: Sequence[FeatureResult]) -> dict[str, object]:
    """Return the results for JSON; days are ISO dates."""
    return {
        "exit_code": exit_code(results),
        "runs": [run_json(r.request.market, r.outcome) for r in results if r.outcome],
        "failed_checks": [check_json(check) for r in results for check in r.checks],
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
        "rows": _rows_of(timeframe, found),
        "without_bars": [s.isoformat() for s in wanted if s not in with_bars],
    }
