"""The part of `backfill run` and `backfill repair` that needs Dagster: one run a market."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import dagster as dg
from rich.console import Console

from backfill_assets.adapters.polygon import Ahead
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli import garbage
from backfill_assets.cli.early import answered_ahead
from backfill_assets.cli.progress import ProgressBars, watched
from backfill_assets.cli.result import MarketResult
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.launch import all_shown, carry_out, open_for_runs
from backfill_assets.pipelines.backfill_request import underived
from backfill_assets.pipelines.progress import Silent


def carry_out_all(
    settings: Settings,
    universe: Universe,
    store: BarStore,
    console: Console,
    results: Sequence[MarketResult],
    max_concurrent: int,
    ahead: Ahead | None,
) -> None:
    """One run a market where there is something to do, one after the other, with its outcome noted in the result.

    They share the rate, and what concerns them all ends them at the first. Every request has sessions. `ahead` has first
    answers of the first plan.
    """
    garbage.usual_from_here()
    with ExitStack() as stack:
        instance = stack.enter_context(open_for_runs(settings, store))
        due = [r for r in results if r.plan or _has_more_to_do(instance, r)]
        if not due:
            return
        listener = Silent() if console.quiet else stack.enter_context(ProgressBars(console))
        resources = watched(listener) | (answered_ahead(ahead) if ahead else {})
        defs = build_definitions(universe=universe, resources=resources)
        for result in due:
            result.outcome = carry_out(instance, defs, settings, result.request, max_concurrent)
            if result.outcome.concerns_every_market:
                break


def _has_more_to_do(instance: dg.DagsterInstance, result: MarketResult) -> bool:
    """Whether there is something to derive or to tell Dagster, though nothing has to be asked for."""
    request, answers = result.request, result.answers
    return bool(underived(request, answers)) or not all_shown(instance, request, answers)
