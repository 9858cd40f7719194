"""`backfill plan`: the requests that a run would send, and the least time that they take. Nothing is fetched."""

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
from backfill_assets.cli.result import COMPLETE, counted, duration
from backfill_assets.cli.selection import Options, orders
from backfill_assets.domain.request_plan import Request, floor_seconds, pages_of
from backfill_assets.pipelines.backfill_request import plan, recorded
from backfill_assets.pipelines.listings import expected


def plan_command(options: Options, *, as_json: bool) -> int:
    """Run `backfill plan` and return its exit code."""
    now = datetime.now(UTC)
    settings = Settings.read(os.environ)
    chosen = orders(options, settings.universe(now.date()), now, settings.retries)
    with BarStore(database.ready(settings)) as store:
        requests = [expected(store, request) for request in chosen]
        plans = {request.market.name: plan(request, recorded(store, request)) for request in requests}
    show_plans(plans, settings, as_json=as_json)
    return COMPLETE


def show_plans(plans: Mapping[str, Sequence[Request]], settings: Settings, *, as_json: bool) -> None:
    """Print the requests by market and the least time that they take."""
    requests = sum(map(pages_of, plans.values()))
    floor = floor_seconds(requests, settings.requests_per_second)
    if as_json:
        listed = [_json(market, request) for market, planned in plans.items() for request in planned]
        result = {"requests": requests, "floor_seconds": floor, "plan": listed}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("market", "symbols", "timeframe", "days"):
        table.add_column(name)
    table.add_column("sessions", justify="right")
    table.add_column("requests", justify="right")
    for market, planned in plans.items():
        for request in planned:
            span = str(request.start) if request.start == request.end else f"{request.start} to {request.end}"
            counts = (str(len(request.sessions)), str(request.pages))
            table.add_row(market, request.label, request.timeframe.name, span, *counts)
    if table.row_count:
        output_console().print(table)
    rate = settings.requests_per_second
    sys.stdout.write(f"{counted(requests, 'request')} at {rate:g} per second: at least {duration(floor)}.\n")


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
