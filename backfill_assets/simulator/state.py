"""The state of a running simulator: scenario, counters, request log, access."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import date, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from backfill_assets.simulator import responses
from backfill_assets.simulator.faults import FaultRules
from backfill_assets.simulator.flat_files import FlatFiles
from backfill_assets.simulator.market import Market
from backfill_assets.simulator.scenario import Scenario
from backfill_assets.simulator.sessions import market_of


class RequestRecord(msgspec.Struct):
    """A received request.

    monotonic   seconds of the server's monotonic clock at arrival, comparable within one simulator
    wall        seconds since 1970 UTC at arrival
    query       parameters without the key
    status      the response's status; 0 for a reset, None during the request
    header_key, url_key  whether the key was in the bearer header, or in the URL
    fault       kind of the fault that hit it
    """

    monotonic: float
    wall: float
    method: str
    path: str
    query: dict[str, str]
    header_key: bool
    url_key: bool
    status: int | None = None
    fault: str | None = None


class SimulatorState:
    """The state of the endpoints. `now` is the market's clock, `monotonic` that of the rate limit, in seconds."""

    def __init__(
        self, scenario: Scenario, api_keys: tuple[str, ...], now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        self._initial = scenario
        self._api_keys = api_keys
        self.now = now
        self.monotonic = monotonic
        self._lock = threading.Lock()
        self.requests: list[RequestRecord] = []
        self.scenario = scenario
        self.adopt(scenario)

    def adopt(self, scenario: Scenario) -> None:
        """Apply a scenario from the next request on, with new counters. The request log stays."""
        with self._lock:
            self.scenario = scenario
            self.market = Market(scenario, self.now)
            self.files = FlatFiles(scenario, self.market, self.now)
            self.faults = FaultRules(scenario.faults)
            self._answered: deque[float] = deque()

    def reset(self) -> None:
        """Restore the first scenario and clear the request log."""
        self.adopt(self._initial)
        self.requests.clear()

    def record(self, request: Request, wall: float) -> RequestRecord:
        """Log a request; the caller sets status and fault."""
        query = {name: value for name, value in request.query_params.items() if name != "apiKey"}
        entry = RequestRecord(
            monotonic=self.monotonic(),
            wall=wall,
            method=request.method,
            path=request.url.path,
            query=query,
            header_key=bool(_bearer(request)),
            url_key="apiKey" in request.query_params,
        )
        self.requests.append(entry)
        return entry

    def refusal(self, request: Request) -> Response | None:
        """Return 401 for an invalid key, 429 over the rate limit, or None."""
        key = _bearer(request) or request.query_params.get("apiKey", "")
        accepted = self.scenario.api_keys or self._api_keys
        if not key or (accepted and key not in accepted):
            return responses.Json(responses.UNKNOWN_KEY, 401)
        limit = self.scenario.rate_limit
        if limit is None:
            return None
        with self._lock:
            now = self.monotonic()
            while self._answered and self._answered[0] <= now - limit.seconds:
                self._answered.popleft()
            if len(self._answered) < limit.requests:
                self._answered.append(now)
                return None
        return responses.Json(responses.too_many(), 429, retry_after(limit.retry_after))

    def unentitled(self, ticker: str | None, market: str, first: date, last: date, today: date) -> Response | None:
        """Return 403 if the plan does not include a ticker, a market or any of the days, or None."""
        upgrade = "Please upgrade your plan at https://polygon.io/pricing"
        s = self.scenario
        if market in s.forbidden or ticker in s.forbidden:
            return responses.Json(responses.not_entitled(f"You are not entitled to this data. {upgrade}"), 403)
        if s.history_edge is not None and last < s.history_edge:
            return responses.Json(
                responses.not_entitled(f"Your plan doesn't include this data timeframe. {upgrade}"), 403
            )
        if s.today_forbidden and first <= last and last >= today:
            message = f"Attempted to request today's data before end of day. {upgrade}"
            return responses.Json(responses.not_entitled(message), 403)
        return None

    def forbids(self, ticker: str) -> bool:
        """Return whether the plan excludes this ticker."""
        return ticker in self.scenario.forbidden or market_of(ticker) in self.scenario.forbidden


def retry_after(seconds: float | None) -> dict[str, str]:
    """Return the Retry-After header, or none."""
    return {} if seconds is None else {"Retry-After": f"{seconds:g}"}


def _bearer(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
