"""`backfill events`: fetch and list splits and dividends."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date

from rich.markup import escape

from backfill_assets.adapters import database
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, StoredAction
from backfill_assets.adapters.store.runs import RunStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import (
    COMPLETE,
    output_console,
    plain_table,
    print_errors,
    print_json,
    progress_console,
    run_json,
    worst,
)
from backfill_assets.cli.progress import ProgressBars, watched
from backfill_assets.cli.selection import select
from backfill_assets.deployment.runs import end_dead_runs
from backfill_assets.domain.corporate_actions import CorporateAction
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.keys import corporate_events_key
from backfill_assets.orchestration.launch import open_instance, run_job
from backfill_assets.pipelines.audit import Outcome
from backfill_assets.pipelines.progress import SILENT
from backfill_assets.presentation.documents import iso


def events_command(options: Options, *, as_json: bool) -> int:
    """Fetch and list splits and dividends. Returns the exit code.

    A request returns all symbols of a market, so `--symbols` only selects markets and what is listed.
    """
    settings, universe, requests = select(options, project=True)
    chosen = [request for request in requests if request.market.kind is Kind.STOCKS]
    if not chosen:
        raise UsageMistake("Only stocks have splits and dividends: select a market of stocks.")
    settings.require_key()
    names = [symbol.name for request in chosen for symbol in request.wanted]
    outcomes: dict[Market, Outcome] = {}
    with (
        CorporateActionStore(database.ready(settings), connections=1) as store,
        open_instance(settings) as instance,
        progress_console() as console,
    ):
        end_dead_runs(instance, RunStore.beside(store))
        progress = SILENT if as_json else ProgressBars(console)  # bars are never shown
        defs = build_definitions(universe=universe, resources=watched(progress))
        for request in chosen:
            market = request.market
            job = defs.resolve_job_def(f"{market.name}_events_job")
            outcome = run_job(instance, job, settings, assets=frozenset({corporate_events_key(market)}))
            outcomes[market] = outcome
            if outcome.concerns_every_market:
                break
        stored = store.read(names)
    code = worst(*(outcome.exit_code for outcome in outcomes.values()))
    if as_json:
        print_json(_json(code, outcomes, stored))
    elif code == COMPLETE:
        _show(stored)
    print_errors(outcomes.items())
    return code


def _show(stored: Sequence[StoredAction]) -> None:
    """Print a table with a row for each split and dividend, including withdrawn ones."""
    if not stored:
        sys.stdout.write("No splits or dividends are known.\n")
        return
    table = plain_table("symbol", "kind", "ex-date", "ratio or amount", "withdrawn", right=["ratio or amount"])
    for s in stored:
        colour = "green" if s.withdrawn_at is None else "yellow"
        withdrawn = "" if s.withdrawn_at is None else f"{s.withdrawn_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        event = s.action
        table.add_row(event.symbol, f"[{colour}]{event.kind}[/]", f"{event.ex_date}", _size(event), withdrawn)
    output_console().print(table)


def _size(event: CorporateAction) -> str:
    """Return a size like `10 for 1` or `0.25 USD`."""
    if event.cash_amount is None:
        return f"{event.ratio_to:g} for {event.ratio_from:g}"
    return f"{event.cash_amount:g} {escape(event.currency or '')}".rstrip()


def _json(code: int, outcomes: Mapping[Market, Outcome], stored: Sequence[StoredAction]) -> dict[str, object]:
    """Return the result as JSON: days are ISO dates, times ISO 8601 in UTC."""
    return {
        "exit_code": code,
        "runs": [run_json(market, outcome) for market, outcome in outcomes.items()],
        "events": [_event_json(s) for s in stored],
    }


def _event_json(stored: StoredAction) -> dict[str, object]:
    return {n: v.isoformat() if isinstance(v, date) else v for n, v in asdict(stored.action).items()} | {
        "first_seen": iso(stored.first_seen),
        "changed_at": iso(stored.changed_at),
        "withdrawn_at": iso(stored.withdrawn_at),
    }
