"""A run over a market's bars, with the record that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.domain.runs import RunStart
from backfill_assets.pipelines import ohlcv
from backfill_assets.pipelines.audit import Counted, recorded_run
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.listings import ListingSource, expected, in_question, look_up_quietly
from backfill_assets.pipelines.ohlcv import SeriesFailed, SettledSeries, fetch_missing, series_failure
from backfill_assets.pipelines.progress import Progress


class Vendor(ohlcv.Vendor, ListingSource, Protocol):
    """What this needs of a vendor's client."""

    @property
    def traffic(self) -> Counted:
        """How much was asked."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a run was asked for, how its series stand, and what is to be raised once that is told."""

    order: BackfillRequest
    series: Sequence[SettledSeries]
    failure: SeriesFailed | None
    said: Sequence[str]
    """Sentences for the run's log."""


async def fetch_recorded(
    run: RunStart,
    order: BackfillRequest,
    store: BarStore,
    vendor: Vendor,
    clock: Callable[[], datetime],
    at_once: int,
    progress: Progress,
) -> Filled:
    """Fill an order as a run of its own. Raises what `fetch_missing` raises; the run is recorded however it ends."""
    with recorded_run(store, run, clock) as notes:
        notes.traffic = vendor.traffic
        series = await fetch_missing(order, store, vendor, clock=clock, at_once=at_once, progress=progress)
        said: list[str] = []
        await look_up_quietly(ListingStore.beside(store), vendor, in_question(order, series), clock, said.append)
        notes.filled(expected(store, order), series)
        failure = series_failure(series)
        notes.error = str(failure) if failure else None
    said.append(f"{vendor.traffic.requests} requests, {vendor.traffic.retries} of them retries.")
    return Filled(order, series, failure, said)
