"""Fixtures and hooks for all tests."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from backfill_assets_tests.postgres import (
    _dagster_databases,
    _market_databases,
    dagster_database_url,
    dagster_template,
    database_url,
    postgres_server,
    postgres_template,
)
from backfill_assets_tests.snapshots import snapshots

__all__ = [
    "_dagster_databases",
    "_market_databases",
    "dagster_database_url",
    "dagster_template",
    "database_url",
    "postgres_server",
    "postgres_template",
    "snapshots",
]

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a defect
settings.load_profile("no deadline")

_ORDER = ("system", "integration", "unit")


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers of `--numprocesses=auto`: one more than processors, as tests wait for servers."""
    return (os.cpu_count() or 1) + 1


def pytest_configure() -> None:
    """Accept interrupts: a shell starts background jobs with SIGINT ignored, and child processes inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, and run the slow tiers first: the short files then keep all workers busy to the end."""
    for item in items:
        item.add_marker(_tier(item))
    items.sort(key=lambda item: _ORDER.index(_tier(item)))


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]
