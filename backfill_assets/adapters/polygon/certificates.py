"""TLS certificates: certifi's, or those of SSL_CERT_FILE or SSL_CERT_DIR."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx

from backfill_assets.domain.errors import SettingMistake

if TYPE_CHECKING:
    import ssl


def certificates() -> ssl.SSLContext:
    """Load the certificates that the environment names. Raises SettingMistake."""
    try:
        return _loaded(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise SettingMistake(
            f"The certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be loaded: {' '.join(str(error).split())}."
        ) from None


@lru_cache(maxsize=1)
def _loaded(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()
