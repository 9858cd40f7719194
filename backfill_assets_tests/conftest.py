"""What several test folders share."""

import signal

import pytest
from hypothesis import settings

from backfill_assets_tests.postgres import (
    dagster_database_url,
    dagster_template,
    database_url,
    postgres_server,
    postgres_template,
)
from backfill_assets_tests.snapshots import snapshots

__all__ = [
    "dagster_database_url",
    "dagster_template",
    "database_url",
    "postgres_server",
    "postgres_template",
    "snapshots",
]

settings.register_profile("without a clock", deadline=None)  # a busy machine is no defect
settings.load_profile("without a clock")


def pytest_configure() -> None:
    """Let interrupts through: a shell starts a background job with them ignored, and programs inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that start whole platforms first: the many short ones then keep every process busy to the end."""
    items.sort(key=lambda item: "system" not in item.path.parts)
