"""What assets are given to work with: thin Dagster resources over the adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from backfill_assets.adapters import database
from backfill_assets.adapters.polygon import Polygon
from backfill_assets.adapters.rate_limit import RateLimiter
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.bars import BarStore
from backfill_assets.pipelines.progress import FeatureProgress, Progress, Silent


class Clock(dg.ConfigurableResource[Any]):
    """The present. Tests give another one."""

    def now(self) -> datetime:
        """The current instant, aware, UTC."""
        return datetime.now(UTC)


class Watcher(dg.ConfigurableResource[Any]):
    """Who is told how a run goes on: nobody, unless a front end that runs it in its own process says otherwise."""

    def progress(self) -> Progress:
        """The listener to a run over bars."""
        return Silent()

    def feature_progress(self) -> FeatureProgress:
        """The listener to a run over features."""
        return Silent()


class MarketStore(dg.ConfigurableResource[Any]):
    """The market tables: DATABASE_URL where it is set, else the embedded server, which is started on first use."""

    def url(self) -> str:
        """The URL of a database whose tables are current; it holds the password."""
        return database.ready(Settings.read())

    def bars(self, connections: int) -> BarStore:
        """The store of bars, to be used as a context manager."""
        return BarStore(self.url(), connections=connections)


class PolygonRateLimit(dg.ConfigurableResource[Any]):
    """The request rate that every process and machine on one database shares."""

    requests_per_second: float | None = Field(
        default=None, gt=0, description="Requests a second; POLYGON_REQUESTS_PER_SECOND where it is left out."
    )

    def limiter(self, database_url: str) -> RateLimiter:
        """A limiter over the shared row, for one event loop."""
        rate = self.requests_per_second or Settings.read().requests_per_second
        return RateLimiter(database_url, per_second=rate)


class PolygonApi(dg.ConfigurableResource[Any]):
    """Polygon.io, with the key from POLYGON_API_KEY, within the shared rate."""

    rate_limit: PolygonRateLimit
    base_url: str | None = Field(default=None, description="The API's address; POLYGON_BASE_URL where it is left out.")

    @asynccontextmanager
    async def client(self, database_url: str) -> AsyncIterator[Polygon]:
        """A client for the running event loop, closed with its limiter afterwards."""
        settings = Settings.read()
        async with (
            self.rate_limit.limiter(database_url) as limiter,
            Polygon(settings.api_key, base_url=self.base_url or settings.base_url, limiter=limiter) as polygon,
        ):
            yield polygon


def default_resources() -> dict[str, dg.ConfigurableResource[Any]]:
    """The resources of a real deployment, by the names that assets ask for."""
    return {
        "clock": Clock(),
        "watcher": Watcher(),
        "store": MarketStore(),
        "polygon": PolygonApi(rate_limit=PolygonRateLimit()),
    }
