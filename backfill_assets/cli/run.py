"""`backfill run`: plan, say what it will cost, carry it out through Dagster, say how things stand."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli import feature_result
from backfill_assets.cli import result as results_of
from backfill_assets.cli.console import output_console, progress_console
from backfill_assets.cli.result import MarketResult, counted, exit_code, show, spelled, tell_errors, worst
from backfill_assets.cli.selection import Options, backfill_requests
from backfill_assets.cli.turns import short_turns
from backfill_assets.domain.request_plan import floor_seconds
from backfill_assets.domain.universe import Universe
from backfill_assets.pipelines.backfill_request import BackfillRequest, plan, recorded
from backfill_assets.pipelines.head_start import head_start
from backfill_assets.pipelines.listings import expected


def run_command(options: Options, *, features: bool = False, as_json: bool = False) -> int:
    """Carry out `backfill run`; the exit code. `features`: those of the same range afterwards, if the run went through."""
    now = datetime.now(UTC)
    settings = Settings.read(os.environ)
    settings.require_project()
    universe = settings.universe(now.date())
    wanted = backfill_requests(options, universe, now, settings.retries)
    results = _ran(
        settings,
        universe,
        lambda store: [expected(store, request) for request in wanted],
        max_concurrent=options.max_concurrent,
        quiet=as_json,
    )
    if not features or _ended_early(results):
        _tell(results, as_json=as_json)
        return exit_code(results)
    if not as_json:
        _tell(results)
    from backfill_assets.cli import features as features_of  # noqa: PLC0415  # loads Dagster

    computed = features_of.compute(settings, universe, wanted, features_of.AT_ONCE, quiet=as_json)
    code = worst(exit_code(results), feature_result.exit_code(computed))
    if as_json:
        both = results_of.as_json(results) | {"exit_code": code, "features": feature_result.as_json(computed)}
        sys.stdout.write(json.dumps(both, indent=2) + "\n")
        tell_errors(results)
        tell_errors(computed)
    else:
        sys.stdout.write("\n")
        features_of.tell(computed)
    return code


def run_requests(
    settings: Settings,
    universe: Universe,
    wanted: Callable[[BarStore], Sequence[BackfillRequest]],
    *,
    max_concurrent: int,
    as_json: bool,
) -> int:
    """Carry out one request a market, and say how things then stand; the exit code. The project's folder was looked at."""
    results = _ran(settings, universe, wanted, max_concurrent=max_concurrent, quiet=as_json)
    _tell(results, as_json=as_json)
    return exit_code(results)


def _ran(
    settings: Settings,
    universe: Universe,
    wanted: Callable[[BarStore], Sequence[BackfillRequest]],
    *,
    max_concurrent: int,
    quiet: bool,
) -> list[MarketResult]:
    with ExitStack() as stack:
        console = Console(quiet=True) if quiet else stack.enter_context(progress_console())
        for warning in universe.warnings():
            console.print(f"[yellow]{warning}[/]")
        url = database.ready(settings)
        store = stack.enter_context(BarStore(url))
        results = [_planned(store, request) for request in wanted(store)]
        _announce(console, settings, results)
        due = [r for r in results if r.request.days]
        ahead = None
        if first := next((r for r in due if r.plan), None):
            settings.require_key()
            ahead = stack.enter_context(head_start(settings, url, first.request.market, first.plan))
        with short_turns():
            from backfill_assets.cli.carry_out import carry_out_all  # noqa: PLC0415  # loads Dagster while answers come in

        carry_out_all(settings, universe, store, console, due, max_concurrent, ahead)
        for result in results:
            request = expected(store, result.request)  # the run may have looked up listings
            result.standing(request, recorded(store, request))
    return results


def _planned(store: BarStore, request: BackfillRequest) -> MarketResult:
    answers = recorded(store, request)
    return MarketResult(request, plan=plan(request, answers), answers=answers)


def _announce(console: Console, settings: Settings, results: Sequence[MarketResult]) -> None:
    for result in results:
        request, days = result.request, result.request.days
        if not request.wanted:  # a repair, with nothing to repair
            console.print(f"{request.market.name}: nothing to ask for")
            continue
        sessions = max(map(len, request.wanted.values()), default=0)
        span = f"{days} ({counted(sessions, 'session')})" if days else "no finished session in this range"
        frames = ", ".join(t.name for t in request.timeframes)
        symbols, asked = counted(len(request.wanted), "symbol"), counted(result.requests, "request")
        console.print(f"{request.market.name}: {symbols}, {frames}, {span}: {asked}")
    requests = sum(r.requests for r in results)
    if requests:
        rate = settings.requests_per_second
        told = f": {spelled(floor_seconds(requests, rate))} at the least" if requests > rate else ""
        console.print(f"{counted(requests, 'request')} at {rate:g} a second{told}.")
    else:
        console.print("No request is needed.")


def _tell(results: Sequence[MarketResult], *, as_json: bool = False) -> None:
    if as_json:
        sys.stdout.write(json.dumps(results_of.as_json(results), indent=2) + "\n")
    elif not any(r.request.wanted for r in results):
        sys.stdout.write("Nothing is missing without an explanation.\n")
    elif not _ended_early(results):
        show(output_console(), results)
    tell_errors(results)


def _ended_early(results: Sequence[MarketResult]) -> bool:
    return any(r.outcome and r.outcome.ended_early for r in results)
