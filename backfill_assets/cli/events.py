"""`backfill events`: splits and dividends, asked for and listed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime

import dagster as dg
from rich.table import Table

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.corporate_actions import EventStore, StoredEvent
from backfill_assets.cli.console import output_console
from backfill_assets.cli.result import COMPLETE, FAILED
from backfill_assets.cli.selection import Options, orders
from backfill_assets.deployment.runs import end_dead_runs
from backfill_assets.domain.corporate_action_history import Event
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.universe import Market
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.keys import corporate_events_key
from backfill_assets.orchestration.launch import carry_out_job, open_instance
from backfill_assets.pipelines.outcomes import Outcome


def events_command(options: Options, *, as_json: bool) -> int:
    """Carry out `backfill events`; the exit code.

    A request brings the whole market's events, so `--symbols` chooses markets, and what is shown.
    """
    settings = Settings.read(os.environ)
    settings.require_project()
    now = datetime.now(UTC)
    universe = settings.universe(now.date())
    chosen = [order for order in orders(options, universe, now) if order.market.kind is Kind.STOCKS]
    if not chosen:
        raise UsageMistake("Only stocks have splits and dividends, and none of them is chosen.")
    settings.require_key()
    names = [symbol.name for order in chosen for symbol in order.wanted]
    outcomes: dict[str, Outcome] = {}
    with EventStore(database.ready(settings), connections=1) as store, open_instance(settings) as instance:
        end_dead_runs(instance)
        defs = build_definitions(universe=universe)
        for order in chosen:
            outcomes[order.market.name] = outcome = _update(instance, defs, settings, order.market)
            if outcome.concerns_every_market:
                break
        stored = store.read(names)
    code = COMPLETE if all(outcome.succeeded for outcome in outcomes.values()) else FAILED
    if as_json:
        sys.stdout.write(json.dumps(_as_json(code, outcomes, stored), indent=2) + "\n")
    elif code == COMPLETE:
        _show(stored)
    for market, outcome in outcomes.items():
        if outcome.error:
            sys.stderr.write(f"backfill: {market}: {outcome.error}\n")
    return code


def _update(instance: dg.DagsterInstance, defs: dg.Definitions, settings: Settings, market: Market) -> Outcome:
    job = defs.resolve_job_def(f"{market.name}_events_job")
    return carry_out_job(instance, job, settings, assets=frozenset({corporate_events_key(market)}))


def _show(stored: Sequence[StoredEvent]) -> None:
    """A table, one row an event, withdrawn ones too."""
    if not stored:
        sys.stdout.write("No splits or dividends are known.\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("symbol", "kind", "ex-date"):
        table.add_column(name)
    table.add_column("ratio or amount", justify="right")
    table.add_column("withdrawn")
    for s in stored:
        colour = "green" if s.withdrawn_at is None else "yellow"
        withdrawn = "" if s.withdrawn_at is None else f"{s.withdrawn_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        event = s.event
        table.add_row(event.symbol, f"[{colour}]{event.kind}[/]", f"{event.ex_date}", _size(event), withdrawn)
    output_console().print(table)


def _size(event: Event) -> str:
    """10 for 1, or 0.25 USD."""
    if event.cash_amount is None:
        return f"{event.ratio_to:g} for {event.ratio_from:g}"
    return f"{event.cash_amount:g} {event.currency or ''}".rstrip()


def _as_json(code: int, outcomes: Mapping[str, Outcome], stored: Sequence[StoredEvent]) -> dict[str, object]:
    """The same for a program: days are ISO dates, instants ISO 8601 in UTC."""
    return {
        "exit_code": code,
        "runs": [
            {"market": market, "run_id": outcome.run_id, "succeeded": outcome.succeeded, "error": outcome.error}
            for market, outcome in outcomes.items()
        ],
        "events": [_event_json(s) for s in stored],
    }


def _event_json(stored: StoredEvent) -> dict[str, object]:
    history = {
        name: None if at is None else at.astimezone(UTC).isoformat()
        for name, at in (
            ("first_seen", stored.first_seen),
            ("changed_at", stored.changed_at),
            ("withdrawn_at", stored.withdrawn_at),
        )
    }
    facts = {n: v.isoformat() if isinstance(v, date) else v for n, v in asdict(stored.event).items()}
    return facts | history
