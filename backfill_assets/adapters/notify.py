"""Sending messages to the channels of ALERT_URLS, by apprise.

An address holds secrets. None of it leaves this module: apprise's log does not reach the process's, those of the libraries
under it do not tell addresses, and of an answer only its number is told.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import apprise

from backfill_assets.domain.alert_messages import Message
from backfill_assets.domain.alerts import Severity

SEND_SECONDS = 10.0
"""How long one message may take; apprise's own limit is 60 s, and a sensor's tick must end within that."""

_TYPES = {
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
    Severity.WARNING: apprise.NotifyType.WARNING,
    None: apprise.NotifyType.SUCCESS,
}
_STATUS = re.compile(r"error=(\d{3})\b")


@dataclass(frozen=True, slots=True)
class Channel:
    """Somewhere to send to. `name` is the address's scheme, with a number where there are several; it holds no secret."""

    name: str
    _service: apprise.Apprise | None = field(repr=False)

    def send(self, message: Message) -> str | None:
        """Send a message; None where it was accepted, else a sentence that says why not, without the address."""
        if self._service is None:
            return "apprise cannot use this address."
        try:
            result = self._service.notify(
                title=message.title,
                body=message.body,
                notify_type=_TYPES[message.severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # noqa: BLE001  # whatever a service's module raises may hold its address
            return f"apprise failed ({type(error).__name__})."
        attempts = [attempt for service in result.results for attempt in service.attempts]
        # Not the result as a whole: an address with `optional=yes` succeeds whatever happens.
        if attempts and all(service.attempts[-1] for service in result.results if service.attempts):
            return None
        if any(attempt.status == apprise.AppriseResultStatus.TIMEOUT for attempt in attempts):
            return f"no answer within {SEND_SECONDS:g} s."
        return _reason(" ".join(entry.message for entry in result.logs()))


def channels(urls: Sequence[str]) -> list[Channel]:
    """The channels of addresses as ALERT_URLS names them, in this order.

    One that apprise cannot use is a channel that accepts nothing, so that the others are served.
    """
    _silence()
    asset = apprise.AppriseAsset(
        app_id="backfill_assets",
        app_desc="backfill_assets",
        storage_mode="memory",
        service_timeout=SEND_SECONDS,
        allow_templates=False,
        interpret_emojis=False,
        language="en",
    )
    found = []
    for name, url in zip(channel_names(urls), urls, strict=True):
        service = apprise.Apprise(asset=asset)
        # As a list: a string would be taken apart at its commas.
        found.append(Channel(name, service if service.add([url]) else None))
    return found


def channel_names(urls: Sequence[str]) -> list[str]:
    """What channels are called: `mailto`, `slack`, and `slack 2` for the second of that scheme."""
    schemes = [url.partition("://")[0].lower() for url in urls]
    numbers = [schemes[: place + 1].count(scheme) for place, scheme in enumerate(schemes)]
    return [scheme if number == 1 else f"{scheme} {number}" for scheme, number in zip(schemes, numbers, strict=True)]


def _reason(said: str) -> str:
    """What may be told of what apprise said: it quotes hosts and addresses."""
    if status := _STATUS.search(said):
        return f"it answered {status[1]}."
    if "onnection error" in said:
        return "no connection, or the login was refused."
    return "it was not accepted."


def _silence() -> None:
    apprise.logger.propagate = False
    apprise.logger.setLevel(logging.WARNING)
    if not apprise.logger.handlers:
        apprise.logger.addHandler(logging.NullHandler())  # without one, warnings would go to standard error
    # These write paths and headers, which are tokens with many services, at DEBUG.
    for name in ("urllib3", "requests_oauthlib", "oauthlib"):
        if logging.getLogger(name).getEffectiveLevel() < logging.INFO:
            logging.getLogger(name).setLevel(logging.INFO)
