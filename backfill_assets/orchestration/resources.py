"""The resources of assets and sensors: thin wrappers of the adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
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
from backfill_assets.pipelines.progress import SILENT, ExportProgress, FeatureProgress, Progress, Silent


class Clock(dg.ConfigurableResource[Any]):
    """The current time; replaced in tests."""

    def now(self) -> datetime:
        """Return the current instant, aware, UTC."""
        return datetime.now(UTC)


class Watcher(dg.ConfigurableResource[Any]):
    """Reports the progress of runs: nowhere, unless a command that executes the run in its own process replaces it."""

    def progress(self) -> Progress:
        """Return the progress reporter of a run over bars."""
        return Silent()

    def feature_progress(self) -> FeatureProgress:
        """Return the progress reporter of a run over features."""
        return Silent()

    def file_progress(self) -> ExportProgress:
        """Return the progress reporter of a run over an archive."""
        return Silent()


class MarketStore(dg.ConfigurableResource[Any]):
    """The market tables: in DATABASE_URL if it is set, otherwise in the embedded server, which is started on first use."""

    def url(self) -> str:
        """Return the URL of a database with current tables. It contains the password."""
        return database.ready(Settings.read())

    def bars(self, connections: int) -> BarStore:
        """Return the store of bars, a context manager."""
        return BarStore(self.url(), connections=connections)


class PolygonRateLimit(dg.ConfigurableResource[Any]):
    """The request rate that every process and machine on one database shares."""

    requests_per_second: float | None = Field(
        default=None, gt=0, description="Requests a second; defaults to POLYGON_REQUESTS_PER_SECOND."
    )

    def limiter(self, database_url: str, on_wait: Callable[[str], None]) -> RateLimiter:
        """Return a limiter on the shared row, for one event loop."""
        rate = self.requests_per_second or Settings.read().requests_per_second
        return RateLimiter(database_url, per_second=rate, on_wait=on_wait)


class PolygonApi(dg.ConfigurableResource[Any]):
    """Polygon.io, with the key from POLYGON_API_KEY, within the shared rate."""

    rate_limit: PolygonRateLimit
    base_url: str | None = Field(default=None, description="URL of the API; defaults to POLYGON_BASE_URL.")

    @asynccontextmanager
    async def client(self, database_url: str, progress: Progress = SILENT) -> AsyncIterator[Polygon]:
        """Open a client for the running event loop, which reports to `progress` what it waits for."""
        settings = Settings.read()
        async with (
            self.rate_limit.limiter(database_url, progress.waiting) as limiter,
            Polygon(
                settings.api_key,
                base_url=self.base_url or settings.base_url,
                limiter=limiter,
                on_wait=progress.waiting,
            ) as polygon,
        ):
            yield polygon


def default_resources() -> dict[str, dg.ConfigurableResource[Any]]:
    """Return the resources of a deployment by name."""
    return {
        "clock": Clock(),
        "watcher": Watcher(),
        "store": MarketStore(),
        "polygon": PolygonApi(rate_limit=PolygonRateLimit()),
    }
