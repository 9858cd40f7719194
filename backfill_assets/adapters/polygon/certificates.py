"""By which certificates the vendor is known to be itself: certifi's, or those that SSL_CERT_FILE or SSL_CERT_DIR name."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx

from backfill_assets.domain.errors import SettingMistake

if TYPE_CHECKING:
    import ssl


def certificates() -> ssl.SSLContext:
    """What the environment names now. Raises SettingMistake where it cannot be loaded."""
    try:
        return _loaded(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise SettingMistake(
            f"The certificates that SSL_CERT_FILE or SSL_CERT_DIR name cannot be loaded: {' '.join(str(error).split())}."
        ) from None


@lru_cache(maxsize=1)
def _loaded(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()
