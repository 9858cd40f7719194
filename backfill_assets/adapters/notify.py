"""Sends messages to the channels of ALERT_URLS with apprise.

Addresses contain secrets, which must not leave this module: apprise's log is not propagated, its libraries do not log
addresses, and a refusal is reported by its status code only.
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
"""Timeout of one message; apprise's default is 60 s, within which a sensor's tick must end."""

_TYPES = {
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
    Severity.WARNING: apprise.NotifyType.WARNING,
    None: apprise.NotifyType.SUCCESS,
}
# apprise escapes plain text for Slack and for mail in HTML, but not mentions, nor for services that always read Markdown.
_MENTIONS = str.maketrans({"@": "@\N{ZERO WIDTH SPACE}"})
_LINKS = str.maketrans({c: f"\\{c}" for c in "[]<`"})
_MARKDOWN = frozenset({"mmost", "mmosts", "discord"})
_STATUS = re.compile(r"error=(\d{3})\b")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel. `name` is the scheme of its address, numbered if there are several; it contains no secret."""

    name: str
    _service: apprise.Apprise | None = field(repr=False)

    def send(self, message: Message) -> str | None:
        """Send a message; return None if it was accepted, otherwise the reason, without the address."""
        if self._service is None:
            return "apprise cannot use this address."
        try:
            result = self._service.notify(
                title=self._escaped(message.title),
                body=self._escaped(message.body),
                notify_type=_TYPES[message.severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # noqa: BLE001  # any error may contain the address
            return f"apprise failed ({type(error).__name__})."
        attempts = [attempt for service in result.results for attempt in service.attempts]
        # Not the overall result: an address with `optional=yes` always succeeds.
        if attempts and all(service.attempts[-1] for service in result.results if service.attempts):
            return None
        if any(attempt.status == apprise.AppriseResultStatus.TIMEOUT for attempt in attempts):
            return f"no answer within {SEND_SECONDS:g} s."
        return _reason(" ".join(entry.message for entry in result.logs()))

    def _escaped(self, text: str) -> str:
        """Keep text of the vendor from notifying somebody, or from being a link or an image."""
        text = text.translate(_MENTIONS)
        return text.translate(_LINKS) if self.name.split()[0] in _MARKDOWN else text


def channels(urls: Sequence[str]) -> list[Channel]:
    """Return the channels of addresses as in ALERT_URLS, in this order.

    An address that apprise cannot use is a channel that accepts no message, so that the others still work.
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
        # A list, because a string is split at commas.
        found.append(Channel(name, service if service.add([url]) else None))
    return found


def channel_names(urls: Sequence[str]) -> list[str]:
    """Return the names of channels: `mailto`, `slack`, and `slack 2` for the second of that scheme."""
    schemes = [url.partition("://")[0].lower() for url in urls]
    numbers = [schemes[: place + 1].count(scheme) for place, scheme in enumerate(schemes)]
    return [scheme if number == 1 else f"{scheme} {number}" for scheme, number in zip(schemes, numbers, strict=True)]


def _reason(log: str) -> str:
    """Extract the reason from apprise's log, which contains hosts and addresses."""
    if status := _STATUS.search(log):
        return f"it answered {status[1]}."
    if "onnection error" in log:
        return "no connection, or the login was refused."
    return "it was not accepted."


def _silence() -> None:
    apprise.logger.propagate = False
    apprise.logger.setLevel(logging.WARNING)
    if not apprise.logger.handlers:
        apprise.logger.addHandler(logging.NullHandler())  # without one, warnings would go to standard error
    # At DEBUG these log paths and headers, which contain tokens.
    for name in ("urllib3", "requests_oauthlib", "oauthlib"):
        if logging.getLogger(name).getEffectiveLevel() < logging.INFO:
            logging.getLogger(name).setLevel(logging.INFO)
