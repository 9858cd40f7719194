"""Databases without migrations, and the store of a module."""

import pytest

from backfill_assets_tests.postgres import database_copy


@pytest.fixture
def empty_database(postgres_server):
    """The URL of an empty database."""
    with database_copy(postgres_server, "template1") as url:
        yield url


@pytest.fixture
def store(database_url, request):
    """The store that the test's module names STORE, open."""
    with request.module.STORE(database_url) as opened:
        yield opened
