"""`python -m backfill_assets.deployment.webserver`: the program `dagster-webserver`, with its options, behind the guard."""

from __future__ import annotations

from typing import Any

from dagster_webserver.cli import main as dagster_webserver
from dagster_webserver.webserver import DagsterWebserver
from starlette.types import ASGIApp

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.guard import Guard
from backfill_assets.domain.errors import SettingMistake


def main() -> None:
    """Run the webserver until it is interrupted."""
    try:
        url = Settings.read().dagster_ui_url
    except SettingMistake as error:
        raise SystemExit(str(error)) from None
    create = DagsterWebserver.create_asgi_app

    def create_guarded(self: DagsterWebserver[Any, Any], **options: object) -> ASGIApp:
        return Guard(create(self, **options), url)

    # The program has no option for a middleware.
    DagsterWebserver.create_asgi_app = create_guarded  # type: ignore[method-assign,assignment]
    dagster_webserver()  # type: ignore[no-untyped-call]  # untyped in Dagster


if __name__ == "__main__":
    main()
