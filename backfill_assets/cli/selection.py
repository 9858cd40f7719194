"""Requests for what the options of a command select."""

from __future__ import annotations

from datetime import UTC, datetime

from backfill_assets.adapters.settings import Settings
from backfill_assets.cli.options import Options
from backfill_assets.domain.universe import Universe
from backfill_assets.pipelines.backfill_request import BackfillRequest
from backfill_assets.pipelines.selection import backfill_requests


def select(options: Options, *, project: bool = False) -> tuple[Settings, Universe, list[BackfillRequest]]:
    """Return settings, universe and requests for the options of a command, as of now.

    With `project`, raise SettingMistake unless DAGSTER_HOME is the project's folder.
    """
    now, settings = datetime.now(UTC), Settings.read()
    if project:
        settings.require_project()
    universe = settings.universe(now.date())
    return (
        settings,
        universe,
        backfill_requests(options, universe, now, settings.retries, flat_files=settings.has_flat_files),
    )
