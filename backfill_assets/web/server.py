"""`python -m backfill_assets.web.server HOST PORT`: the server, as `backfill up` starts it."""

from __future__ import annotations

import logging
import sys

import uvicorn

from backfill_assets.adapters.settings import Settings
from backfill_assets.domain.errors import SettingMistake
from backfill_assets.web.app import create_app

_STOP_SECONDS = 2
"""How long open responses, such as the status page's events, may go on after SIGTERM."""


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises SystemExit if the address cannot be listened on."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # addresses of requests may hold what a user typed
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )


if __name__ == "__main__":
    try:
        serve(Settings.read(), sys.argv[1], int(sys.argv[2]))
    except SettingMistake as error:
        raise SystemExit(str(error)) from None
