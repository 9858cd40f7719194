"""How complete the requested series are, their gaps and failed checks. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.alert_rules import CheckResult, failed_checks
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.gaps import Gap
from backfill_assets.domain.request_plan import ApiCall
from backfill_assets.domain.universe import Universe
from backfill_assets.pipelines.backfill_request import BackfillRequest, plan, recorded
from backfill_assets.pipelines.fallbacks import fallback_calls
from backfill_assets.pipelines.gaps import Watched, current_gaps, measure
from backfill_assets.pipelines.listings import expected, known_listings, stale


def read_status(
    store: Store, universe: Universe, requests: Iterable[BackfillRequest], now: datetime
) -> tuple[list[Completeness], list[CheckResult], list[str]]:
    """Return the completeness of the requested symbols by market, failed checks, and stored symbols not in the universe."""
    found, checks, results = [], list[CheckResult](), AlertStore.beside(store).check_results()
    for request in requests:
        market = replace(request.market, symbols=tuple(request.wanted))
        watched = Watched(market, request.calendar, known_listings(store, market), request.retries)
        found.append(measure(store, watched, now))
        checks += failed_checks(results, request.market, symbols=request.names)
    return found, checks, universe.without(SeriesStore.beside(store).bars_by_symbol())


def read_plans(
    store: Store, requests: Iterable[BackfillRequest], now: datetime
) -> tuple[dict[str, list[ApiCall]], int]:
    """Return the calls of requests by market, and the number of symbols whose listing may be looked up besides."""
    bars, known = BarStore.beside(store), [expected(store, request) for request in requests]
    plans = {
        request.market.name: [*plan(request, recorded(bars, request)), *fallback_calls(bars, request)]
        for request in known
    }
    symbols = {symbol for calls in plans.values() for call in calls for symbol in call.symbols}
    listings = ListingStore.beside(store).read([symbol.name for symbol in symbols])
    return plans, len(stale(symbols, listings, now))


def requested_gaps(store: Store, request: BackfillRequest) -> list[Gap]:
    """Return the gaps of the request's market, over all its sessions, in the requested symbols and timeframes."""
    market = request.market
    watched = Watched(market, request.calendar, known_listings(store, market), request.retries)
    names, timeframes = set(request.names), {t.name for t in request.timeframes}
    found = current_gaps(store, watched, request.now)
    return [gap for gap in found if gap.symbol in names and gap.timeframe in timeframes]
