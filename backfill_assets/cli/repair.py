"""`backfill repair`: fetch everything that is missing now, without waiting for the next retry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from backfill_assets.adapters import database
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.base import Store
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import COMPLETE, DAYS_MISSING
from backfill_assets.cli.plan import show_plans
from backfill_assets.cli.run import exit_code, run_markets, show_results
from backfill_assets.cli.selection import select
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.retries import Retry
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of, plan, recorded
from backfill_assets.pipelines.status import requested_gaps


def repair_command(options: Options, *, explained: bool, dry_run: bool, as_json: bool) -> int:
    """Run `backfill repair` and return its exit code."""
    settings, universe, chosen = select(options, project=True)
    retry = Retry.EXPLAINED if explained else Retry.NOW

    def repairs(store: Store) -> list[BackfillRequest]:
        found = [(replace(request, retry=retry), requested_gaps(store, request)) for request in chosen]
        return [_narrowed(request, gaps if explained else unexplained(gaps)) for request, gaps in found]

    if not dry_run:
        results = run_markets(settings, universe, repairs, max_concurrent=options.max_concurrent, quiet=options.quiet)
        show_results(results, as_json=as_json)
        return exit_code(results)
    with BarStore(database.ready(settings)) as store:
        requests = repairs(store)
        answers = [recorded(store, request) for request in requests]
    plans = {request.market.name: plan(request, known) for request, known in zip(requests, answers, strict=True)}
    show_plans(plans, settings, verbose=True, as_json=as_json)
    is_open = any(unexplained(gaps_of(request, known)) for request, known in zip(requests, answers, strict=True))
    return DAYS_MISSING if is_open else COMPLETE


def _narrowed(request: BackfillRequest, gaps: Sequence[Gap]) -> BackfillRequest:
    """Narrow a request to the sessions of gaps."""
    wanted: dict[Symbol, tuple[date, ...]] = {}
    for symbol in request.wanted:
        days = {day for gap in gaps if gap.symbol == symbol.name for day in request.calendar.within(gap.days)}
        if days:
            wanted[symbol] = tuple(sorted(days))
    return replace(request, wanted=wanted)
