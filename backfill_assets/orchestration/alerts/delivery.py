"""What both alerting sensors do once they have looked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from urllib.parse import unquote, urlsplit

from backfill_assets.adapters.notify import channel_names, channels
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.domain.alert_rules import Observation
from backfill_assets.orchestration.resources import Clock
from backfill_assets.pipelines.alerts import AlertSettings, deliver, settle, told

EVERY_SECONDS = 30

_SHORTEST_SECRET = 4
"""A shorter word would be struck out of other words."""

UNHEARD = "ALERT_URLS is not set: nobody is told."


def tell(
    store: AlertStore, settings: Settings, clock: Clock, seen: Iterable[Observation], gone: Callable[[str], bool]
) -> str:
    """Write what changed, send what is due, and say how things stand."""
    settle(store, seen, terms(settings), clock.now(), gone)
    attempts = deliver(store, channels(settings.alert_urls), clock.now)
    standing = told(store.open(), store.waiting(), attempts)
    return standing if settings.alert_urls else f"{UNHEARD} {standing}"


def terms(settings: Settings) -> AlertSettings:
    """How alerts are told, by the environment's words."""
    return AlertSettings(
        tuple(channel_names(settings.alert_urls)), settings.alert_repeat, settings.dagster_ui_url, secrets(settings)
    )


def secrets(settings: Settings) -> tuple[str, ...]:
    """The words that no alert may hold, whatever an error quotes; the longest first, as one may hold another."""
    found = {settings.api_key, settings.database_url, *settings.alert_urls}
    for url in (settings.database_url, *settings.alert_urls):
        password = urlsplit(url).password if url else None
        found |= {password, unquote(password)} if password else set()
    return tuple(sorted((word for word in found if word and len(word) >= _SHORTEST_SECRET), key=len, reverse=True))
