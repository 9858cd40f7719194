"""A browser: Debian's chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"),
    "--host-resolver-rules=MAP *.example 127.0.0.1",  # a hostile site, and one whose name is rebound to this machine
)
_TIMEOUT_MILLISECONDS = 60_000


@contextmanager
def browser_page() -> Iterator[Page]:
    """Open a page tall enough to render long lists completely. Skip the test if chromium is not installed."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=_TIMEOUT_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 3200})
            page.set_default_timeout(_TIMEOUT_MILLISECONDS)
            yield page
        finally:
            browser.close()
