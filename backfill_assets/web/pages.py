"""The status page, the pages of symbols, and the events that keep them up to date."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from importlib.resources import files

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from backfill_assets.adapters.store.corporate_actions import CorporateActionStore, StoredAction
from backfill_assets.deployment.health import existing_database
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.errors import NotStored, UsageMistake
from backfill_assets.domain.selection import Selection
from backfill_assets.presentation.candles import Candle
from backfill_assets.presentation.page import framed
from backfill_assets.presentation.status_page import PlatformState, status_body, symbol_body
from backfill_assets.presentation.text import instant
from backfill_assets.reading import read_bars
from backfill_assets.web.platform import Platform, symbol_details
from backfill_assets.web.problems import problem

_SECONDS = 3.0
"""Between two looks for changes, while anyone watches."""

_MOST_WATCHERS = 500
_CANDLES = timedelta(days=90)
_YEARS = range(1900, 2200)


class Pages:
    """The handlers of pages."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._event = ""
        self._changed = asyncio.Condition()
        self._watchers = 0

    def routes(self) -> Iterator[Route]:
        """Yield the routes."""
        yield Route("/", self._status)
        yield Route("/symbols/{symbol}", self._symbol)
        yield Route("/events", self._events)

    async def watch(self) -> None:
        """Look for changes while anyone watches, until canceled: once for all of them."""
        while True:
            if self._watchers:
                state = await run_in_threadpool(self._platform.state, Selection())
                self._event = json.dumps({"at": instant(state.now), "version": _version(state)})
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(_SECONDS)

    async def _events(self, request: Request) -> Response:
        if self._watchers >= _MOST_WATCHERS:
            return problem(503, "Too many pages are open.", {"Retry-After": "60"})

        async def events() -> AsyncIterator[str]:
            self._watchers += 1
            try:
                yield "retry: 5000\n\n"
                while not await request.is_disconnected():
                    async with self._changed:
                        await self._changed.wait()
                    yield f"data: {self._event}\n\n"
            finally:
                self._watchers -= 1

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)

    async def _status(self, request: Request) -> Response:
        state = await run_in_threadpool(self._platform.state, Selection())
        return _page(f"Market data: {state.verdict[1]}", status_body(state, _year(request)), "events", _version(state))

    async def _symbol(self, request: Request) -> Response:
        symbol, year = request.path_params["symbol"], _year(request)
        return await run_in_threadpool(self._symbol_page, symbol, year)

    def _symbol_page(self, symbol: str, year: int | None) -> Response:
        platform = self._platform
        try:
            found = platform.snapshot()
            state = platform.state(Selection(symbols=(symbol,)))
        except UsageMistake as error:
            raise NotStored(str(error)) from None
        actions = platform.read(lambda store: CorporateActionStore.beside(store).read([symbol]))
        prices, details = self._candles(symbol, state.found), platform.read(lambda store: symbol_details(store, symbol))
        body = symbol_body(state, symbol, found.bars.get(symbol, 0), map(_sentence, actions), prices, details, year)
        version = _version(platform.state(Selection()))
        return _page(f"{symbol}: market data", body, "../events", version)

    def _candles(self, symbol: str, found: Sequence[Completeness]) -> list[Candle]:
        newest = max((row.last_bar for market in found for row in market.rows if row.last_bar), default=None)
        if newest is None:
            return []
        url, start = existing_database(self._platform.settings), newest.date() - _CANDLES
        try:
            bars = read_bars([symbol], "1d", start, url=url, timeout=10)
        except NotStored:  # other timeframes may be
            return []
        columns = [bars[name] for name in ("timestamp", "open", "high", "low", "close")]
        return [
            (f"{at:%Y-%m-%d}: open {o:g}, high {h:g}, low {low:g}, close {c:g}", o, h, low, c)
            for at, o, h, low, c in zip(*columns, strict=True)
        ]


def _page(title: str, body: str, events: str, version: str) -> Response:
    """Return a page whose policy allows its own script and style sheet only."""
    nonce = secrets.token_urlsafe(16)
    script = files("backfill_assets.web").joinpath("live.js").read_text(encoding="utf-8")
    html = framed(title, body, script=script, nonce=nonce, data={"events": events, "version": version})
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def _version(state: PlatformState) -> str:
    """Return a text that changes with what the page shows, but the time."""
    markets = [(f.market, f.counts, f.gaps, [row.last_bar for row in f.rows]) for f in state.found]
    runs = [(run["run_id"], run["status"]) for run in state.last_runs]
    running = [(run["run_id"], run["sessions"], run["requests"]) for run in state.running]
    shown = (state.failure, state.daemon, markets, state.checks, state.incidents, runs, running, state.archives)
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]


def _year(request: Request) -> int | None:
    text = request.query_params.get("year", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) == 4 and int(text) in _YEARS else None


def _sentence(stored: StoredAction) -> str:
    action = stored.action
    if action.cash_amount is None:
        size = f"split, {action.ratio_to:g} for {action.ratio_from:g}"
    else:
        size = f"dividend of {action.cash_amount:g} {action.currency or ''}".rstrip()
    return f"{action.ex_date}: {size}{' (withdrawn by the vendor)' if stored.withdrawn_at else ''}"
