"""`backfill plan`: the requests that a run would send, and the least time that they take. Nothing is fetched."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import COMPLETE, counted, duration, output_console, plain_table, print_json
from backfill_assets.cli.selection import select
from backfill_assets.domain.gaps import MOST_NAMED
from backfill_assets.domain.request_plan import ApiCall, floor_seconds, pages_of
from backfill_assets.pipelines.backfill_request import plan, recorded
from backfill_assets.pipelines.listings import expected


def plan_command(options: Options, *, as_json: bool) -> int:
    """Run `backfill plan` and return its exit code."""
    settings, _, chosen = select(options)
    with BarStore(database.ready(settings), read_only=True) as store:
        requests = [expected(store, request) for request in chosen]
        plans = {request.market.name: plan(request, recorded(store, request)) for request in requests}
    show_plans(plans, settings, as_json=as_json)
    return COMPLETE


def show_plans(plans: Mapping[str, Sequence[ApiCall]], settings: Settings, *, as_json: bool) -> None:
    """Print the requests by market, many alike in one line, and the least time that they take."""
    requests = sum(map(pages_of, plans.values()))
    floor = floor_seconds(requests, settings.requests_per_second)
    if as_json:
        listed = [_json(market, call) for market, planned in plans.items() for call in planned]
        print_json({"requests": requests, "floor_seconds": floor, "plan": listed})
        return
    numbers = ("sessions", "requests")
    table = plain_table("market", "symbols", "timeframe", "days", *numbers, right=numbers)
    for market, planned in plans.items():
        alike: dict[tuple[object, ...], list[ApiCall]] = {}
        for call in planned:
            alike.setdefault((call.timeframe, call.start, call.end, len(call.sessions), call.pages), []).append(call)
        for (_, start, end, *_), calls in alike.items():
            span = f"{start}" if start == end else f"{start} to {end}"
            if len(calls) > MOST_NAMED:
                rows = [(counted(len(calls), "symbol"), calls)]
            else:
                rows = [(call.label, [call]) for call in calls]
            for label, some in rows:
                counts = (str(len(some[0].sessions)), str(pages_of(some)))
                table.add_row(market, label, some[0].timeframe.name, span, *counts)
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
