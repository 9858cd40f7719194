"""The status page's server in this process, over HTTP, in the environment of the commands' tests."""

import threading
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from backfill_assets.adapters.settings import Settings
from backfill_assets.web.app import create_app
from backfill_assets_tests.integration.cli.conftest import (
    backfill,
    backfilled_except,
    bare_backfill,
    closed_markets,
    environment,
)
from backfill_assets_tests.support import unused_port, vendor, vendor_server

__all__ = [
    "backfill",
    "backfilled_except",
    "bare_backfill",
    "closed_markets",
    "environment",
    "vendor",
    "vendor_server",
]


@contextmanager
def serving():
    """Serve the project of the environment; yields a client."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(Settings.read()), port=unused_port(), log_config=None, timeout_graceful_shutdown=1, ws="none"
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        transport = httpx.HTTPTransport(retries=8)
        with httpx.Client(base_url=f"http://127.0.0.1:{server.config.port}", transport=transport, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(closed_markets):  # noqa: ARG001  # sets the environment
    """A client of the server over two markets that closed on 10 March 2024, nothing fetched."""
    with serving() as client:
        yield client
