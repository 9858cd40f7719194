"""A browser for a test: Debian's chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
_PATIENCE_MILLISECONDS = 60_000


@contextmanager
def browser_page() -> Iterator[Page]:
    """A page high enough that long lists are drawn whole. Skips the test where no chromium is installed."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=_PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 3200})
            page.set_default_timeout(_PATIENCE_MILLISECONDS)
            yield page
        finally:
            browser.close()
