"""Stored bars, from which features are computed."""

import pytest


@pytest.fixture
def fetched(harness, request):
    """A harness with all bars between the CORNERS of the test's module, and no features."""

    def fetch():
        assert harness.run(*request.module.CORNERS).success

    harness.start_from("fetched", fetch)
    return harness
