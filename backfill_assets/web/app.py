"""The application: its routes, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.guard import Guard
from backfill_assets.deployment.health import platform_health
from backfill_assets.domain.errors import BackfillError
from backfill_assets.web.api import Api
from backfill_assets.web.metrics import Metrics
from backfill_assets.web.pages import Pages
from backfill_assets.web.platform import Platform
from backfill_assets.web.problems import refuse


def create_app(settings: Settings) -> ASGIApp:
    """Return the application of a project."""
    platform = Platform(settings)
    pages = Pages(platform)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("The server is running.\n")

    async def readyz(_request: Request) -> Response:
        health = await run_in_threadpool(platform_health, settings)
        return PlainTextResponse(f"{health.sentence}\n", 200 if health.healthy else 503)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(pages.watch())
        yield
        watching.cancel()
        platform.close()

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            *Api(platform).routes(),
            *pages.routes(),
            Route("/metrics", Metrics(platform).endpoint),
        ],
        lifespan=lifespan,
        exception_handlers=dict.fromkeys((HTTPException, BackfillError, Exception), refuse),
    )
    return Guard(app, settings.status_url, "BACKFILL_STATUS_URL")
