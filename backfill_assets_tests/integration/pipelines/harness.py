"""Pipelines over one market, database and simulated vendor, with a clock that tests advance."""

from __future__ import annotations

import atexit
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.adapters.store.gaps import GapStore
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.adapters.store.series import SeriesStore
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.gaps import Gap
from backfill_assets.domain.retries import USUAL
from backfill_assets.domain.timeframes import TIMEFRAMES
from backfill_assets.domain.universe import Market
from backfill_assets.pipelines.backfill_request import BackfillRequest, market_calendar
from backfill_assets.pipelines.gaps import ThinSession, Watched, current_gaps, find_gaps, judge_minutes
from backfill_assets.pipelines.listings import in_question, known_listings, look_up
from backfill_assets.pipelines.ohlcv import SettledSeries, fetch_missing
from backfill_assets.simulator import Simulator
from backfill_assets_tests.integration.adapters.scripted_vendor import NoSleep
from backfill_assets_tests.support import KEY, MOMENT, market

ALL = " ".join(TIMEFRAMES)
INTRADAY = ("1m", "5m", "15m", "30m", "1h", "4h")


class Clock:
    """A clock that moves only when it is advanced."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **time: float) -> None:
        self.now += timedelta(**time)


@cache
def _clock_and_server() -> tuple[Clock, Simulator]:
    """Start the simulator that all tests of a process share: to stop one takes a fifth of a second."""
    clock = Clock(MOMENT)
    vendor = Simulator(now=clock).start()
    atexit.register(vendor.close)
    return clock, vendor


@contextmanager
def clock_and_vendor(moment: datetime) -> Iterator[tuple[Clock, Simulator]]:
    """Use a healthy simulator without any request so far, on a clock of the test."""
    clock, vendor = _clock_and_server()
    clock.now = moment
    vendor.reset()
    yield clock, vendor


def full_market(kind: str, names: str, start: str, *, timeframes: str = ALL) -> Market:
    """Make a market since `start`, by default with all timeframes."""
    return market(kind, *names.split(), start=date.fromisoformat(start), timeframes=timeframes)


async def fetched(
    request: BackfillRequest, store: BarStore, vendor: Polygon, clock: Callable[[], datetime], **options: Any
) -> list[SettledSeries]:
    """Fetch what is missing; return the settled series by symbol and timeframe, in the request's order."""
    async with aclosing(fetch_missing(request, store, vendor, clock=clock, **options)) as settled:
        series = [one async for one in settled]
    symbols = list(request.wanted)
    return sorted(series, key=lambda one: (symbols.index(one.symbol), one.timeframe.seconds))


@dataclass(frozen=True)
class PipelineHarness:
    """The pipelines of one market."""

    market: Market
    clock: Clock
    vendor: Simulator
    store: BarStore
    client: Polygon

    def request(
        self, start: str | None = None, end: str | None = None, *, timeframes: str | None = None, **terms: object
    ) -> BackfillRequest:
        """Return a request for all finished sessions, or for the given range, without what the listings exclude."""
        calendar = market_calendar(self.market, self.clock.now.date())
        newest = calendar.last_finished(self.clock.now)
        first, last = date.fromisoformat(start or f"{self.market.start}"), date.fromisoformat(end or f"{newest}")
        sessions = calendar.within(DayRange(first, min(last, newest)))
        wanted = dict.fromkeys(self.market.symbols, sessions)
        chosen = tuple(t for t in self.market.timeframes if timeframes is None or t.name in timeframes.split())
        request = BackfillRequest(self.market, calendar, wanted, chosen, self.clock.now, **terms)
        return request.within(known_listings(self.store, self.market))

    async def fetch(self, *days: str, **terms: object) -> list[SettledSeries]:
        """Fetch all finished sessions, or those of the given range."""
        return await self.fetch_request(self.request(*days, **terms))

    async def fetch_request(self, request: BackfillRequest) -> list[SettledSeries]:
        """Fetch what a request needs."""
        return await fetched(request, self.store, self.client, self.clock)

    async def look_up(self, request: BackfillRequest, series: Iterable[SettledSeries]) -> list[str]:
        """Look up listings as a run does at its end; return the names of the symbols."""
        symbols = in_question(request, list(series))
        await look_up(ListingStore.beside(self.store), self.client, symbols, self.clock)
        return [s.name for s in symbols]

    def watched(self) -> Watched:
        calendar = market_calendar(self.market, self.clock.now.date())
        return Watched(self.market, calendar, known_listings(self.store, self.market), USUAL)

    def gaps(self) -> list[Gap]:
        """Find the current gaps and store them."""
        return find_gaps(GapStore.beside(self.store), self.watched(), self.clock.now)

    def read_gaps(self) -> list[Gap]:
        """Judge the minutes and find the current gaps without writing."""
        with GapStore(self.store.url, read_only=True) as store:
            return current_gaps(store, self.watched(), self.clock.now)

    def judge(self) -> list[ThinSession]:
        """Judge all stored minutes."""
        names = [s.name for s in self.market.symbols]
        return list(judge_minutes(SeriesStore.beside(self.store), names, self.watched().calendar).thin)

    def of(self, market: Market) -> PipelineHarness:
        """Return the harness for another market."""
        return replace(self, market=market)


@asynccontextmanager
async def pipeline_harness(url: str, vendor: Simulator, clock: Clock, market: Market) -> AsyncIterator[PipelineHarness]:
    """Open store and client, which do not wait, and try a request twice."""
    async with (
        RateLimiter(url, per_second=1000, sleep=NoSleep()) as limiter,
        Polygon(
            KEY,
            base_url=vendor.url,
            limiter=limiter,
            sleep=NoSleep(),
            random=lambda: 0.5,
            retry=RetryPolicy(attempts=2),
        ) as client,
    ):
        with BarStore(url) as store:
            yield PipelineHarness(market, clock, vendor, store, client)


@asynccontextmanager
async def simulated(
    url: str, moment: datetime, kind: str, names: str, start: str, *, timeframes: str = ALL
) -> AsyncIterator[PipelineHarness]:
    """Open the pipelines of a market over a simulator, on a clock of the test."""
    with clock_and_vendor(moment) as (clock, vendor):
        async with pipeline_harness(url, vendor, clock, full_market(kind, names, start, timeframes=timeframes)) as one:
            yield one


def as_tuples(gaps: Iterable[Gap]) -> set[tuple[str, str, str, int, str]]:
    """Return symbol, timeframe, days, sessions and reason of each gap."""
    return {(g.symbol, g.timeframe, str(g.days), g.sessions, g.reason.value) for g in gaps}


def gap_tuples(
    symbol: str, timeframes: Iterable[str], days: str, sessions: int, reason: str
) -> set[tuple[str, str, str, int, str]]:
    """Return the same gap for several timeframes."""
    return {(symbol, timeframe, days, sessions, reason) for timeframe in timeframes}


def only_gap(gaps: Iterable[Gap], timeframe: str) -> Gap:
    """Return the only gap of a timeframe."""
    found = [g for g in gaps if g.timeframe == timeframe]
    assert len(found) == 1, found
    return found[0]
