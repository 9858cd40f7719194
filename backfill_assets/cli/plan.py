"""`backfill plan`: what a run would ask for, and what that takes at the least. Nothing is fetched."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.table import Table

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import output_console
from backfill_assets.cli.result import counted, spelled
from backfill_assets.cli.selection import orders
from backfill_assets.domain.request_plan import Request, floor_seconds, pages_of
from backfill_assets.pipelines.backfill_request import plan, recorded
from backfill_assets.pipelines.listings import expected


def plan_command(options: Options, *, as_json: bool) -> int:
    """Carry out `backfill plan`; the exit code."""
    now = datetime.now(UTC)
    settings = Settings.read()
    wanted = orders(options, settings.universe(now.date()), now, settings.retries)
    with BarStore(database.ready(settings)) as store:
        wanted = [expected(store, order) for order in wanted]
        plans = {order.market.name: plan(order, recorded(store, order)) for order in wanted}
    show_plans(plans, settings, as_json=as_json)
    return 0


def show_plans(plans: Mapping[str, Sequence[Request]], settings: Settings, *, as_json: bool) -> None:
    """Requests by market, and how long they take at the least, on standard output."""
    requests = sum(map(pages_of, plans.values()))
    floor = floor_seconds(requests, settings.requests_per_second)
    if as_json:
        listed = [_json(market, request) for market, planned in plans.items() for request in planned]
        told = {"requests": requests, "floor_seconds": floor, "plan": listed}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        _show(plans)
        sys.stdout.write(
            f"{counted(requests, 'request')} at {settings.requests_per_second:g} a second: {spelled(floor)} at the least.\n"
        )


def _json(market: str, request: Request) -> dict[str, object]:
    return {
        "market": market,
        "symbols": [s.name for s in request.symbols],
        "timeframe": request.timeframe.name,
        "start": request.start.isoformat(),
        "end": request.end.isoformat(),
        "sessions": len(request.sessions),
        "requests": request.pages,
    }


def _show(plans: Mapping[str, Sequence[Request]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("market", "of", "asked for", "days"):
        table.add_column(name)
    table.add_column("sessions", justify="right")
    table.add_column("requests", justify="right")
    for market, requests in plans.items():
        for request in requests:
            span = str(request.start) if request.start == request.end else f"{request.start} to {request.end}"
            counts = (str(len(request.sessions)), str(request.pages))
            table.add_row(market, request.label, request.timeframe.name, span, *counts)
    if table.row_count:
        output_console().print(table)
