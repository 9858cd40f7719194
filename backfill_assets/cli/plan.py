"""`backfill plan`: the requests that a run would send, and the least time that they take. Nothing is fetched."""

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
from backfill_assets.cli.result import COMPLETE, counted, duration
from backfill_assets.cli.selection import backfill_requests
from backfill_assets.domain.request_plan import ApiCall, floor_seconds, pages_of
from backfill_assets.pipelines.backfill_request import plan, recorded
from backfill_assets.pipelines.listings import expected


def plan_command(options: Options, *, as_json: bool) -> int:
    """Run `backfill plan` and return its exit code."""
    now = datetime.now(UTC)
    settings = Settings.read()
    chosen = backfill_requests(options, settings.universe(now.date()), now, settings.retries)
    with BarStore(database.ready(settings)) as store:
        requests = [expected(store, call) for call in chosen]
        plans = {call.market.name: plan(call, recorded(store, call)) for call in requests}
    show_plans(plans, settings, as_json=as_json)
    return COMPLETE


def show_plans(plans: Mapping[str, Sequence[ApiCall]], settings: Settings, *, as_json: bool) -> None:
    """Print the requests by market and the least time that they take."""
    requests = sum(map(pages_of, plans.values()))
    floor = floor_seconds(requests, settings.requests_per_second)
    if as_json:
        listed = [_json(market, call) for market, planned in plans.items() for call in planned]
        result = {"requests": requests, "floor_seconds": floor, "plan": listed}
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("market", "symbols", "timeframe", "days"):
        table.add_column(name)
    table.add_column("sessions", justify="right")
    table.add_column("requests", justify="right")
    for market, planned in plans.items():
        for call in planned:
            span = str(call.start) if call.start == call.end else f"{call.start} to {call.end}"
            counts = (str(len(call.sessions)), str(call.pages))
            table.add_row(market, call.label, call.timeframe.name, span, *counts)
    if table.row_count:
        output_console().print(table)
    rate = settings.requests_per_second
    sys.stdout.write(f"{counted(requests, 'request')} at {rate:g} per second: at least {duration(floor)}.\n")


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
