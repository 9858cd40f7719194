"""`backfill run`: plan, announce the requests, fetch as a Dagster run for each market, show what is stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli import feature_result
from backfill_assets.cli import result as market_result
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import output_console, progress_console
from backfill_assets.cli.result import (
    MarketResult,
    counted,
    duration,
    exit_code,
    print_errors,
    show,
    worst,
)
from backfill_assets.cli.selection import backfill_requests
from backfill_assets.domain.request_plan import floor_seconds
from backfill_assets.domain.universe import Universe
from backfill_assets.pipelines.backfill_request import BackfillRequest, plan, recorded, underived
from backfill_assets.pipelines.listings import expected
from backfill_assets.pipelines.progress import Silent


def run_command(options: Options, *, features: bool = False, as_json: bool = False) -> int:
    """Run `backfill run` and return its exit code; with `features`, compute those of the range unless a run ended early."""
    now = datetime.now(UTC)
    settings = Settings.read()
    settings.require_project()
    universe = settings.universe(now.date())
    chosen = backfill_requests(options, universe, now, settings.retries)
    results = run_markets(
        settings,
        universe,
        lambda store: [expected(store, request) for request in chosen],
        max_concurrent=options.max_concurrent,
        quiet=as_json,
    )
    if not features or _ended_early(results):
        show_results(results, as_json=as_json)
        return exit_code(results)
    if not as_json:
        show_results(results, as_json=False)
    from backfill_assets.cli import features as features_command  # noqa: PLC0415  # loads Dagster

    computed = features_command.compute(settings, universe, chosen, features_command.AT_ONCE, quiet=as_json)
    code = worst(exit_code(results), feature_result.exit_code(computed))
    if as_json:
        both = market_result.as_json(results) | {"exit_code": code, "features": feature_result.as_json(computed)}
        sys.stdout.write(json.dumps(both, indent=2) + "\n")
        print_errors((r.request.market, r.outcome) for r in results)
        print_errors((r.request.market, r.outcome) for r in computed)
    else:
        sys.stdout.write("\n")
        features_command.tell(computed)
    return code


def run_markets(
    settings: Settings,
    universe: Universe,
    requests: Callable[[BarStore], Sequence[BackfillRequest]],
    *,
    max_concurrent: int,
    quiet: bool,
) -> list[MarketResult]:
    """Fetch what requests, one for each market, need: a Dagster run for each market, one after the other.

    A run that fails for a reason that concerns every market is the last.
    """
    with ExitStack() as stack:
        console = Console(quiet=True) if quiet else stack.enter_context(progress_console())
        for warning in universe.warnings():
            console.print(f"[yellow]{warning}[/]")
        store = stack.enter_context(BarStore(database.ready(settings)))
        results = [_planned(store, request) for request in requests(store)]
        _announce(console, settings, results)
        if any(r.plan for r in results):
            settings.require_key()
        _run(settings, universe, store, console, [r for r in results if r.request.days], max_concurrent)
        for result in results:
            request = expected(store, result.request)  # the run may have looked up listings
            result.update(request, recorded(store, request))
    return results


def _run(
    settings: Settings,
    universe: Universe,
    store: BarStore,
    console: Console,
    results: Sequence[MarketResult],
    max_concurrent: int,
) -> None:
    # Loaded after the plan is announced: Dagster takes two seconds.
    from backfill_assets.cli.progress import ProgressBars, watched  # noqa: PLC0415
    from backfill_assets.orchestration.build import build_definitions  # noqa: PLC0415
    from backfill_assets.orchestration.launch import all_materialized, open_for_runs, run_family  # noqa: PLC0415

    with ExitStack() as stack:
        instance = stack.enter_context(open_for_runs(settings, store))
        # Without requests there may still be bars to derive, or to report to Dagster.
        due = [
            r
            for r in results
            if r.plan or any(underived(r.request, r.answers)) or not all_materialized(instance, r.request, r.answers)
        ]
        if not due:
            return
        listener = Silent() if console.quiet else stack.enter_context(ProgressBars(console))
        defs = build_definitions(universe=universe, resources=watched(listener))
        for result in due:
            request = result.request
            config = {
                "max_concurrent": max_concurrent,
                "refresh": request.refresh.name,
                "retry": request.retry.name,
            }
            result.outcome = run_family(instance, defs, settings, request, "ohlcv", config)
            if result.outcome.concerns_every_market:
                break


def _planned(store: BarStore, request: BackfillRequest) -> MarketResult:
    answers = recorded(store, request)
    return MarketResult(request, plan=plan(request, answers), answers=answers)


def _announce(console: Console, settings: Settings, results: Sequence[MarketResult]) -> None:
    for result in results:
        request, days = result.request, result.request.days
        if not request.wanted:  # a repair without gaps
            console.print(f"{request.market.name}: nothing to fetch")
            continue
        sessions = max(map(len, request.wanted.values()), default=0)
        span = f"{days} ({counted(sessions, 'session')})" if days else "no finished session in this range"
        frames = ", ".join(t.name for t in request.timeframes)
        symbols, planned = counted(len(request.wanted), "symbol"), counted(result.planned_requests, "request")
        console.print(f"{request.market.name}: {symbols}, {frames}, {span}: {planned}")
    total, rate = sum(r.planned_requests for r in results), settings.requests_per_second
    if not total:
        console.print("No requests needed.")
    else:
        least = f": at least {duration(floor_seconds(total, rate))}" if total > rate else ""
        console.print(f"{counted(total, 'request')} at {rate:g} per second{least}.")


def show_results(results: Sequence[MarketResult], *, as_json: bool) -> None:
    """Print results on standard output and the errors of runs on standard error."""
    if as_json:
        sys.stdout.write(json.dumps(market_result.as_json(results), indent=2) + "\n")
    elif not any(r.request.wanted for r in results):
        sys.stdout.write("No unexplained gaps.\n")
    elif not _ended_early(results):
        show(output_console(), results)
    print_errors((r.request.market, r.outcome) for r in results)


def _ended_early(results: Sequence[MarketResult]) -> bool:
    return any(r.outcome and r.outcome.ended_early for r in results)
