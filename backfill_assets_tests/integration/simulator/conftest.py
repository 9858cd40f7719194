"""A running simulator with a settable clock, and a client with a key."""

from datetime import UTC, datetime

import httpx
import pytest

from backfill_assets.simulator import Simulator


class Clock:
    """A clock that is set by tests."""

    def __init__(self, moment):
        self.moment = moment
        self.seconds = 0.0

    def now(self):
        return self.moment

    def monotonic(self):
        return self.seconds


@pytest.fixture(scope="session")
def server():
    clock = Clock(datetime(2025, 7, 1, tzinfo=UTC))
    with Simulator(now=clock.now, monotonic=clock.monotonic) as running:
        running.clock = clock
        yield running


@pytest.fixture
def vendor(server):
    server.clock.moment = datetime(2025, 7, 1, tzinfo=UTC)
    server.clock.seconds = 0.0
    server.reset()
    return server


@pytest.fixture
def clock(vendor):
    return vendor.clock


@pytest.fixture(scope="session")
def connected(server):
    with httpx.Client(base_url=server.url, headers={"Authorization": "Bearer secret"}, timeout=10) as c:
        yield c


@pytest.fixture
def client(vendor, connected):  # noqa: ARG001 - resets the server
    return connected


@pytest.fixture
def bars(client):
    """GET one page of bars: `bars("AAPL", "1/minute", "2024-03-04", "2024-03-08", limit=10)` returns the decoded body."""

    def get(ticker, timeframe, start, end, **params):
        response = client.get(f"/v2/aggs/ticker/{ticker}/range/{timeframe}/{start}/{end}", params=params)
        assert response.status_code == 200, response.text
        return response.json()

    return get


@pytest.fixture
def all_bars(client):
    """Follow `next_url` with the parameters repeated; returns all bars and the number of pages."""

    def get(ticker, timeframe, start, end, **params):
        url, found, pages = f"/v2/aggs/ticker/{ticker}/range/{timeframe}/{start}/{end}", [], 0
        while url:
            page = client.get(httpx.URL(url).copy_merge_params(params)).json()
            found += page.get("results", [])
            url, pages = page.get("next_url"), pages + 1
        return found, pages

    return get
