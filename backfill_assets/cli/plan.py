"""`backfill plan`: what a run would ask for, and what that takes at the least. Nothing is fetched."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.table import Table

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli.console import output_console
from backfill_assets.cli.result import counted, spelled
from backfill_assets.cli.selection import Options, backfill_requests
from backfill_assets.domain.request_plan import ApiCall, floor_seconds, pages_of
from backfill_assets.pipelines.backfill_request import plan, recorded
from backfill_assets.pipelines.listings import expected


def plan_command(options: Options, *, as_json: bool) -> int:
    """Carry out `backfill plan`; the exit code."""
    now = datetime.now(UTC)
    settings = Settings.read(os.environ)
    wanted = backfill_requests(options, settings.universe(now.date()), now, settings.retries)
    with BarStore(database.ready(settings)) as store:
        wanted = [expected(store, request) for request in wanted]
        plans = {request.market.name: plan(request, recorded(store, request)) for request in wanted}
    show_plans(plans, settings, as_json=as_json)
    return 0


def show_plans(plans: Mapping[str, Sequence[ApiCall]], settings: Settings, *, as_json: bool) -> None:
    """Requests by market, and how long they take at the least, on standard output."""
    requests = sum(map(pages_of, plans.values()))
    floor = floor_seconds(requests, settings.requests_per_second)
    if as_json:
        listed = [_json(market, call) for market, planned in plans.items() for call in planned]
        told = {"requests": requests, "floor_seconds": floor, "plan": listed}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        _show(plans)
        sys.stdout.write(
            f"{counted(requests, 'request')} at {settings.requests_per_second:g} a second: {spelled(floor)} at the least.\n"
        )


def _json(market: str, call: ApiCall) -> dict[str, object]:
    return {
        "market": market,
        "symbols": [s.name for s in call.symbols],
        "timeframe": call.timeframe.name,
        "start": call.start.isoformat(),
        "end": call.end.isoformat(),
        "sessions": len(call.sessions),
        "requests": call.pages,
    }


def _show(plans: Mapping[str, Sequence[ApiCall]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("market", "of", "asked for", "days"):
        table.add_column(name)
    table.add_column("sessions", justify="right")
    table.add_column("requests", justify="right")
    for market, calls in plans.items():
        for call in calls:
            span = str(call.start) if call.start == call.end else f"{call.start} to {call.end}"
            counts = (str(len(call.sessions)), str(call.pages))
            table.add_row(market, call.label, call.timeframe.name, span, *counts)
    if table.row_count:
        output_console().print(table)
