"""`backfill repair`: everything that is missing, asked for at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.base import Store
from backfill_assets.cli.gaps import gaps_meant
from backfill_assets.cli.plan import show_plans
from backfill_assets.cli.result import COMPLETE, DAYS_MISSING
from backfill_assets.cli.run import run_requests
from backfill_assets.cli.selection import Options, backfill_requests
from backfill_assets.domain.gaps import Gap, unexplained
from backfill_assets.domain.retries import Retry
from backfill_assets.domain.universe import Symbol
from backfill_assets.pipelines.backfill_request import BackfillRequest, gaps_of, plan, recorded


def repair_command(options: Options, *, explained: bool, dry_run: bool, as_json: bool) -> int:
    """Carry out `backfill repair`; the exit code."""
    now = datetime.now(UTC)
    settings = Settings.read(os.environ)
    settings.require_project()
    universe = settings.universe(now.date())
    retry = Retry.EXPLAINED if explained else Retry.NOW
    chosen = [replace(request, retry=retry) for request in backfill_requests(options, universe, now, settings.retries)]

    def repairs(store: Store) -> list[BackfillRequest]:
        return [_over(request, gaps_meant(store, request), explained=explained) for request in chosen]

    if not dry_run:
        return run_requests(settings, universe, repairs, max_concurrent=options.max_concurrent, as_json=as_json)
    with BarStore(database.ready(settings)) as store:
        due = repairs(store)
        answers = [recorded(store, request) for request in due]
    plans = {request.market.name: plan(request, known) for request, known in zip(due, answers, strict=True)}
    show_plans(plans, settings, as_json=as_json)
    still_open = any(unexplained(gaps_of(request, known)) for request, known in zip(due, answers, strict=True))
    return DAYS_MISSING if still_open else COMPLETE


def _over(request: BackfillRequest, gaps: Sequence[Gap], *, explained: bool) -> BackfillRequest:
    """The request over the sessions of gaps; all of them, or those without an explanation."""
    meant = list(gaps) if explained else unexplained(gaps)
    wanted: dict[Symbol, tuple[date, ...]] = {}
    for symbol in request.wanted:
        days = {day for gap in meant if gap.symbol == symbol.name for day in request.calendar.within(gap.days)}
        if days:
            wanted[symbol] = tuple(sorted(days))
    return replace(request, wanted=wanted)
