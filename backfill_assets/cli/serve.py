"""`backfill serve` and `backfill healthcheck`."""

from __future__ import annotations

import sys

import httpx

from backfill_assets.adapters import database
from backfill_assets.adapters.settings import Settings, http_url
from backfill_assets.cli.output import COMPLETE, FAILED
from backfill_assets.deployment.health import platform_health
from backfill_assets.deployment.services import Address
from backfill_assets.domain.api_tokens import ApiToken, Scope
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.web.server import serve

_SECONDS = 10


def serve_command(address: Address) -> int:
    """Serve the status page until it is interrupted."""
    settings = Settings.read()
    settings.require_project()
    address.require_free()
    database.ready(settings)
    sys.stdout.write(f"Status page: {address.url}\nPress Ctrl-C to stop.\n")
    sys.stdout.flush()
    serve(settings, str(address.host), address.port)
    return COMPLETE


def healthcheck_command(url: str | None) -> int:
    """Say in one line whether the platform works, or a page of one of its servers. Returns the exit code."""
    if url is None:
        health = platform_health(Settings.read())
        healthy, sentence = health.healthy, health.sentence
    else:
        healthy, sentence = _page(url)
    sys.stdout.write(f"{sentence}\n")
    return COMPLETE if healthy else FAILED


def token_command(name: str, scope: str) -> int:
    """Print a new token, and the entry that makes the server accept it."""
    if scope.upper() not in Scope.__members__:
        raise UsageMistake(f"--scope must be read or launch, not {scope!r}.")
    text, token = ApiToken.new(name, Scope[scope.upper()])
    try:
        ApiToken.parse(str(token))
    except ValueError:
        raise UsageMistake(
            f"The name {name!r} must have 1 to 40 letters, digits, dots, hyphens or underscores."
        ) from None
    sys.stdout.write(
        f"Token, shown only now: {text}\nAdd to BACKFILL_API_TOKENS of `backfill up` and `serve`:\n  {token}\n"
    )
    return COMPLETE


def _page(url: str) -> tuple[bool, str]:
    try:
        address = http_url(url)
    except ValueError as error:
        raise UsageMistake(f"--url {error}.") from None
    try:
        status = httpx.get(address, timeout=_SECONDS, trust_env=False).status_code
    except httpx.HTTPError as error:
        return False, f"{address} does not answer ({type(error).__name__})."
    return status < 400, f"{address} answers with {status}."
