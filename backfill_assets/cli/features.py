"""`backfill features`: compute what is missing or out of date through Dagster, say how things stand."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import dagster as dg
from rich.console import Console

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.feature_quality import FeatureQuality, FeatureSession
from backfill_assets.adapters.store.features import FeatureStore
from backfill_assets.cli import feature_result
from backfill_assets.cli.feature_result import FeatureResult, exit_code, show
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import output_console, progress_console
from backfill_assets.cli.progress import FeatureBars, watched
from backfill_assets.cli.result import counted, print_errors
from backfill_assets.cli.selection import backfill_requests
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.launch import all_features_materialized, open_for_runs, run_family
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of, recorded
from backfill_assets.pipelines.feature_health import stale_sessions
from backfill_assets.pipelines.listings import expected
from backfill_assets.pipelines.progress import Silent

AT_ONCE = 5
"""Symbols that are worked on at a time, where nobody says how many."""


def features_command(options: Options, *, full: bool, as_json: bool) -> int:
    """Carry out `backfill features`; the exit code."""
    now = datetime.now(UTC)
    settings = Settings.read()
    settings.require_project()
    universe = settings.universe(now.date())
    wanted = backfill_requests(options, universe, now, settings.retries)
    results = compute(settings, universe, wanted, options.max_concurrent, full=full, quiet=as_json)
    tell(results, as_json=as_json)
    return exit_code(results)


def compute(
    settings: Settings,
    universe: Universe,
    wanted: Sequence[BackfillRequest],
    max_concurrent: int,
    *,
    full: bool = False,
    quiet: bool = False,
) -> list[FeatureResult]:
    """One run a market over the features of each request, where there is something to do. The project's folder was looked at.

    A market whose run fails does not stop the next, unless that would end like it.
    """
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as stack:
        console = Console(quiet=True) if quiet else stack.enter_context(progress_console())
        store = stack.enter_context(BarStore(database.ready(settings)))
        instance = stack.enter_context(open_for_runs(settings, store))
        found = [expected(store, request) for request in wanted]
        due = [request for request in found if request.days and (full or _has_to_do(instance, store, request))]
        _announce(console, found, due)
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
        return [
            FeatureResult(
                request,
                outcomes.get(request.market.name),
                _sessions(store, request),
                gaps_of(request, recorded(store, request)),
            )
            for request in found
        ]


def _has_to_do(instance: dg.DagsterInstance, store: BarStore, request: BackfillRequest) -> bool:
    """Whether something of a request is out of date, or is there and Dagster has not been told."""
    stale = stale_sessions(FeatureStore.beside(store), request.market, request.calendar, request.now)
    names, timeframes, days = {s.name for s in request.wanted}, {t.name for t in request.timeframes}, request.days
    return any(
        series.symbol in names and series.timeframe in timeframes and days and span.intersect(days)
        for series, span in stale
    ) or not all_features_materialized(instance, request, _sessions(store, request))


def _sessions(store: BarStore, request: BackfillRequest) -> list[FeatureSession]:
    if request.days is None:
        return []
    return FeatureQuality.beside(store).sessions([s.name for s in request.wanted], request.timeframes, request.days)


def _announce(console: Console, found: Sequence[BackfillRequest], due: Sequence[BackfillRequest]) -> None:
    for request in found:
        sessions = max(map(len, request.wanted.values()), default=0)
        span = (
            f"{request.days} ({counted(sessions, 'session')})" if request.days else "no finished session in this range"
        )
        frames = ", ".join(t.name for t in request.timeframes)
        told = "" if request in due or not request.days else ": nothing is out of date"
        symbols = counted(len(request.wanted), "symbol")
        console.print(f"{request.market.name} features: {symbols}, {frames}, {span}{told}")


def tell(results: Sequence[FeatureResult], *, as_json: bool = False) -> None:
    """The results on standard output, what failed on standard error."""
    if as_json:
        sys.stdout.write(json.dumps(feature_result.as_json(results), indent=2) + "\n")
    elif not any(r.outcome and r.outcome.ended_early for r in results):
        show(output_console(), results)
    print_errors((r.request.market, r.outcome) for r in results)
