"""A channel for the alerts."""

import pytest

from backfill_assets_tests.receivers import webhook


@pytest.fixture
def hook(monkeypatch):
    with webhook() as running:
        monkeypatch.setenv("ALERT_URLS", running.url)
        yield running
