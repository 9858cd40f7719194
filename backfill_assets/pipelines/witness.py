"""Fetch a witness's daily bars, and compare the stored ones with them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date

import numpy as np

from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.sources import SourceStore
from backfill_assets.domain.answers import PageCutter
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import VendorError
from backfill_assets.domain.sessions import HOURS
from backfill_assets.domain.sources import FALLBACKS
from backfill_assets.domain.timeframes import DAY_1
from backfill_assets.domain.universe import Market
from backfill_assets.domain.witness import Disagreement, disagreements
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.fallbacks import LEFT_ALONE, OpenFallback


async def ask_witness(store: Store, request: BackfillRequest, opened: OpenFallback) -> list[str]:
    """Fetch the witness's daily bars of a request's sessions before and after those that are known; return what failed.

    Sessions between known ones are not requested again: the witness has no bar of them.
    """
    witness = FALLBACKS.get(request.market.witness or "")
    if witness is None or DAY_1 not in request.timeframes:
        return []
    table, failed = SourceStore.beside(store), []
    known = await asyncio.to_thread(table.witnessed, witness.name, request.names)
    calls = [(s, days) for s, wanted in request.wanted.items() for days in _unknown(wanted, known.get(s.name))]
    if not calls:
        return []
    async with opened(witness) as client:
        for symbol, days in calls:
            try:
                answer = await client.bars(symbol, DAY_1, days[0], days[-1], now=request.now)
            except VendorError as error:
                failed.append(f"Witness {witness.name}: {error}.")
                if isinstance(error, LEFT_ALONE):
                    break
                continue
            cutter = PageCutter(days, request.calendar.hours.zone, one_bar=True)
            found = cutter.feed(answer.bars, more=False)
            if impossible := answer.dropped.get("impossible"):
                failed.append(f"Witness {witness.name}, {symbol}: left out {impossible:,} impossible bars.")
            sessions = [count.session for count in found.counts]
            await asyncio.to_thread(table.record_witness, witness.name, symbol.name, sessions, found.bars, request.now)
    return failed


def _unknown(wanted: tuple[date, ...], known: DayRange | None) -> Iterator[tuple[date, ...]]:
    if known is None:
        parts = [wanted]
    else:
        parts = [tuple(d for d in wanted if d < known.start), tuple(d for d in wanted if d > known.end)]
    return (part for part in parts if part)


def compare_with_witness(store: Store, market: Market) -> tuple[list[Disagreement], int]:
    """Return where stored daily bars and those of the witness disagree, the newest first, and of how many."""
    if not market.witness:
        return [], 0
    table, found, compared = SourceStore.beside(store), list[Disagreement](), 0
    zone = HOURS[market.kind].zone
    for symbol, rows in table.beside_witness(market.witness, [s.name for s in market.symbols], zone).items():
        both = [row for row in rows if row.close is not None]
        compared += len(rows)
        if both:
            prices = np.array([row[1:] for row in both], np.float64)
            found += disagreements(symbol, [row.session for row in both], prices[:, :3], prices[:, 3:])
        alone = (row for row in rows if row.close is None)
        found += [Disagreement(symbol, row.session, "close", None, row.witness_close, 0.0) for row in alone]
    return sorted(found, key=lambda one: (one.session, one.symbol), reverse=True), compared
