"""`backfill plan`: the requests that a run would send, and the least time that they take. Nothing is fetched."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.cli.options import Options
from backfill_assets.cli.output import COMPLETE, counted, duration, output_console, plain_table, print_json
from backfill_assets.cli.selection import select
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.request_plan import ApiCall, floor_seconds, pages_of
from backfill_assets.domain.sources import FALLBACKS, POLYGON_FILES
from backfill_assets.pipelines.flat_files import key_missing
from backfill_assets.pipelines.status import read_plans
from backfill_assets.presentation.documents import plan_json


def plan_command(options: Options, *, verbose: bool, as_json: bool) -> int:
    """Run `backfill plan` and return its exit code."""
    settings, _, chosen = select(options)
    with BarStore(database.ready(settings), read_only=True) as store:
        plans, look_ups = read_plans(store, chosen, datetime.now(UTC))
    for market in (request.market for request in chosen) if not settings.has_flat_files else ():
        if any(call.source == POLYGON_FILES for call in plans[market.name]):
            raise key_missing(market)
    show_plans(plans, settings, look_ups, verbose=verbose, as_json=as_json)
    return COMPLETE


def show_plans(
    plans: Mapping[str, Sequence[ApiCall]], settings: Settings, look_ups: int = 0, *, verbose: bool, as_json: bool
) -> None:
    """Print the requests and the least time that they take: by market, or with `verbose` each of them.

    `look_ups` is the number of symbols whose listing is requested too if their first or last session has no bars.
    """
    if as_json:
        print_json(plan_json(plans, settings.requests_per_second, look_ups))
        return
    requests = sum(map(pages_of, plans.values()))
    floor = floor_seconds(requests, settings.requests_per_second)
    if not any(plans.values()):
        sys.stdout.write("Nothing to fetch.\n")
        return
    console, rate = output_console(), settings.requests_per_second
    console.print(f"{counted(requests, 'request')} at {rate:g} per second: at least {duration(floor)}.")
    if look_ups:
        listings = f"Plus up to {3 * look_ups:,} requests for the listing dates of {counted(look_ups, 'symbol')}"
        console.print(f"{listings}, if the first or last session has no bars.")
    others = Counter(c.source for planned in plans.values() for c in planned if c.source in FALLBACKS)
    for source, ranges in others.items():
        console.print(f"Then {counted(ranges, 'range')} from {source}, which the vendor does not have.")
    numbers = ("sessions", "requests")
    table = plain_table("market", "symbols", "timeframe", "days", "source", *numbers, right=numbers)
    for market, planned in plans.items():
        kinds = dict.fromkeys((c.timeframe, c.source) for c in planned)
        by_kind = [[c for c in planned if (c.timeframe, c.source) == kind] for kind in kinds]
        for calls in [[call] for call in planned] if verbose else by_kind:
            names = {symbol.name for call in calls for symbol in call.symbols}
            sessions = {day for call in calls for day in call.sessions}
            table.add_row(
                market,
                names.pop() if len(names) == 1 else f"{len(names):,} symbols",
                calls[0].timeframe.name,
                str(DayRange(min(call.start for call in calls), max(call.end for call in calls))),
                calls[0].source,
                f"{len(sessions):,}",
                f"{sum(call.pages for call in calls):,}",
            )
    console.print(table)
