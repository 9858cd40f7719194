"""HTTP requests to a vendor, with retries.

The key is only sent in a header; errors and log lines contain a path but no query. Proxies and certificates
from the environment are used, proxies not for this machine itself. A `.netrc` file is not read.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import anyio.lowlevel
import httpx

from backfill_assets.adapters.settings import http_url, valid_key
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    NotFound,
    RateLimited,
    SettingMistake,
    VendorError,
    VendorUnavailable,
    VendorUnreachable,
)
from backfill_assets.domain.text import plain_text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Generator, Mapping


_LOG = logging.getLogger(__name__)
_CONNECTIONS = 8
_SHORTEST_KEY = 8  # characters; a shorter one is part of ordinary words, which would be masked too
_TIMEOUT = httpx.Timeout(connect=10, read=30, write=10, pool=None)  # seconds; `_slots` limits the connections
_TOTAL_TIMEOUT = 120.0  # seconds; `read` above restarts with every byte, so a trickle would never time out
_LONG = 10.0  # seconds; a longer wait for an answer is announced
_REPEAT = 60.0  # seconds after a wait that was announced, in which no other is
_MOST_BYTES = 64 * 2**20  # of a body, received or decoded; the largest page, 50,000 bars, has about 5 MB
_MOST_VALUES = 2_000_000  # commas in a body: a value of JSON takes up to 100 bytes when decoded; that page has 400,000
_GZIP = frozenset({"gzip", "x-gzip"})
_MAX_RETRY_AFTER = 300.0  # seconds; the vendor counts by the minute, more is a mistake of a gateway
_RETRYABLE = (RateLimited, VendorUnavailable, MalformedAnswer)
_NOT_PROXIED = ("localhost", "127.0.0.1", "::1")


class Limiter(Protocol):
    """A rate limiter, such as `adapters.rate_limit.RateLimiter`."""

    async def acquire(self) -> object:
        """Wait until one request may be sent."""

    async def push_back(self, seconds: float) -> object:
        """Send no request for so many seconds, in any process."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The number of attempts, and the pauses between them in seconds: each twice the one before, up to a maximum.

    With the defaults a request that is always rate limited fails after 62 s, more than the vendor's minute.
    """

    attempts: int = 6
    first_pause: float = 2.0
    longest_pause: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts {self.attempts} must be at least 1")

    def pause(self, attempt: int) -> float:
        """Return the seconds after attempt 1, 2, …, before jitter."""
        return min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 60))


@dataclass(slots=True)
class Traffic:
    """Counts since the start: requests sent, how many of them were retries, and rate-limited responses."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0


@dataclass(frozen=True, slots=True)
class VendorWords:
    """How a vendor is named in sentences, and how its refusals are told apart.

    setting    the variable with the address of its API
    of_status  returns the error for a status other than 200 with a body; its text is the vendor's, or empty
    key_setting  the variable with its key; None if it takes none
    meanings   sentences in place of the general ones
    secrets    headers with its keys, if they are not a bearer's
    longest_retry_after  the longest Retry-After that is obeyed, seconds
    """

    name: str
    setting: str
    of_status: Callable[[int, bytes], VendorError]
    key_setting: str | None = None
    meanings: Mapping[type[VendorError], str] = field(default_factory=dict)
    longest_retry_after: float = _MAX_RETRY_AFTER
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    user_agent: str = f"backfill-assets/{version('backfill-assets')}"

    def sentence(self, kind: type[VendorError], place: str, reason: str) -> str:
        """Return what went wrong and what to do, with a path and HTTP status and the vendor's own text."""
        meaning = self.meanings.get(kind) or _MEANINGS[kind].format(name=self.name)
        return f"{meaning} ({place}{': ' if reason else ''}{reason})"


_MEANINGS: dict[type[VendorError], str] = {
    KeyRefused: "{name} refuses the API key",
    NotEntitled: "{name} does not give this data",
    NotFound: "{name} does not know the requested resource",
    BadRequest: "{name} does not accept the request",
    RateLimited: "{name}'s rate limit is exceeded",
    VendorUnavailable: "{name} gave no usable answer: try again later",
    MalformedAnswer: "{name}'s answer cannot be read",
    ContradictoryAnswer: "{name}'s answer contradicts itself or the request",
}


class _Bearer(httpx.Auth):
    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


class _RetryableError(Exception):
    """A failure that is worth another attempt. `retry_after` is the vendor's, in seconds."""

    def __init__(self, error: VendorError, *, retry_after: float | None = None, responded: bool = True) -> None:
        super().__init__(str(error))
        self.error, self.retry_after, self.responded = error, retry_after, responded


class Transport:
    """Requests to one base URL with one key, in one event loop.

    `sleep` takes seconds; `random` returns a number in [0, 1); `on_wait` takes a sentence before a retry. Raises
    SettingMistake if `base_url` is not a plain http(s) URL or a proxy or certificates that the environment names cannot be
    used.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        words: VendorWords,
        base_url: str,
        limiter: Limiter,
        retry: RetryPolicy,
        sleep: Callable[[float], Awaitable[object]],
        random: Callable[[], float],
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        try:
            self.base_url = str(httpx.URL(http_url(base_url)))
        except (ValueError, httpx.InvalidURL):
            raise SettingMistake(
                f"{words.name}'s base URL must be http(s)://host/path without login, query or fragment"
            ) from None
        self.traffic = Traffic()
        self._words, self._key = words, (api_key or "").strip()
        self._limiter, self._retry, self._sleep, self._random = limiter, retry, sleep, random
        self._on_wait, self._announced, self._silent_until = on_wait, 0, -math.inf
        self._refused = _invalid(self._key, words.key_setting) if words.key_setting else None
        self._admitted = words.key_setting is None
        self._door = asyncio.Lock()
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._http = httpx.AsyncClient(
            verify=_certificates(),
            proxy=proxy_of(self.base_url),
            trust_env=False,  # httpx stops at a range or an IPv6 address in NO_PROXY
            auth=_Bearer(self._key) if self._key else None,
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": words.user_agent}
            | dict(words.secrets),
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Close the connections; requests in flight fail."""
        await self._http.aclose()

    async def fetch[T](self, path: str, params: Mapping[str, str], decode: Callable[[bytes], T]) -> T:
        """Return the body, decoded in a thread. `path` is quoted and starts with a slash.

        Raises KeyRefused, NotEntitled, NotFound and BadRequest at once, RateLimited, VendorUnavailable and MalformedAnswer
        after the last attempt, also if `decode` raised them, and VendorUnreachable if no attempt got a response. Once the key
        was refused, every call raises KeyRefused without sending anything.
        """
        responded, attempts = False, self._retry.attempts
        for attempt in range(1, attempts + 1):
            try:
                return await self._attempt(path, params, decode, again=attempt > 1)
            except _RetryableError as error:
                failure = error
            responded |= failure.responded
            pause = self._pause(failure, attempt)
            if limited := isinstance(failure.error, RateLimited):
                await self._limiter.push_back(pause)
                if pause > _MAX_RETRY_AFTER:
                    break
            if attempt < attempts:
                _LOG.warning("attempt %d of %d: %s; next in %.1f s or later", attempt, attempts, failure, pause)
                self._announce(failure, attempt + 1, pause)
                if not limited:  # the limiter has made everybody wait
                    await self._sleep(pause)
        raise (failure.error if responded else self._unreachable(failure)) from failure.__cause__

    def _announce(self, failure: _RetryableError, attempt: int, pause: float) -> None:
        """Say that a retry is waited for: once for all requests that fail at the same time."""
        if attempt <= self._announced:
            return
        self._announced = attempt
        host, error = urlsplit(self.base_url).netloc, failure.error
        if not failure.responded:
            reason = f"Cannot reach {host}"
        elif isinstance(error, RateLimited):
            reason = f"{host} limits the rate of requests"
        else:
            failed = error.status and error.status != HTTPStatus.OK
            reason = f"{host} answered HTTP {error.status}" if failed else f"{host} gave no usable answer"
        self._on_wait(f"{reason}; retry {attempt} of {self._retry.attempts} in {max(pause, 1):.0f} s.")

    def _announce_wait(self) -> None:
        """Say that the vendor has kept an answer waiting."""
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + _REPEAT
            self._on_wait(f"Waiting for {urlsplit(self.base_url).netloc}, which has not answered for {_LONG:.0f} s.")

    def _pause(self, failure: _RetryableError, attempt: int) -> float:
        pause, requested = self._retry.pause(attempt), min(failure.retry_after or 0.0, self._words.longest_retry_after)
        if isinstance(failure.error, RateLimited):
            return requested or pause  # a Retry-After of 0 s counts as none
        return max(pause * (1 + self._random()) / 2, requested)

    async def _attempt[T](
        self, path: str, params: Mapping[str, str], decode: Callable[[bytes], T], *, again: bool
    ) -> T:
        async with self._slots:  # before the permit, which would be used too late after waiting for a connection
            if not self._admitted:
                async with self._door:  # one at a time until the key is accepted, so that a bad one costs one request
                    if not self._admitted:
                        return await self._send(path, params, decode, again=again)
            return await self._send(path, params, decode, again=again)

    async def _send[T](self, path: str, params: Mapping[str, str], decode: Callable[[bytes], T], *, again: bool) -> T:
        self._stop_if_refused()
        # Loads the backend with which httpx connects; loading it after the permit would delay the request.
        await anyio.lowlevel.checkpoint()
        await self._limiter.acquire()
        self._stop_if_refused()
        self.traffic.requests += 1
        self.traffic.retries += again
        query = f"?{urlencode(params)}" if params else ""
        responded = False
        late = asyncio.get_running_loop().call_later(_LONG, self._announce_wait)
        try:
            async with (
                asyncio.timeout(_TOTAL_TIMEOUT),
                self._http.stream("GET", f"{self.base_url}{path}{query}") as answer,
            ):
                responded = True
                body = await _body(answer)
        except (httpx.TransportError, zlib.error, TimeoutError) as error:
            restated = self._restated(VendorUnavailable(_reason(error)), f"GET {path}")
            responded &= not isinstance(error, (TimeoutError, httpx.TimeoutException))  # a trickle is no response
            raise _RetryableError(restated, responded=responded) from error
        except MalformedAnswer as error:
            raise self._judged(error, answer, path) from None
        finally:
            late.cancel()
        try:
            if answer.status_code != HTTPStatus.OK:
                raise self._words.of_status(answer.status_code, body)
            result = await asyncio.to_thread(decode, body)
        except VendorError as error:
            raise self._judged(error, answer, path) from error.__cause__
        self._admitted, self._announced = True, 0
        return result

    def _judged(self, error: VendorError, answer: httpx.Response, path: str) -> Exception:
        restated = self._restated(error, f"GET {path}, HTTP {answer.status_code}", answer)
        if isinstance(restated, RateLimited):
            self.traffic.rate_limited += 1
        if isinstance(restated, _RETRYABLE):
            return _RetryableError(restated, retry_after=retry_after(answer.headers))
        if isinstance(restated, KeyRefused):
            self._refused = restated
        else:
            self._admitted = True
        return restated

    def _restated(self, error: VendorError, place: str, answer: httpx.Response | None = None) -> VendorError:
        text = plain_text(self._words.sentence(type(error), place, self._masked(str(error))))
        if answer is None:
            return type(error)(text)
        request_id = error.request_id or plain_text(answer.headers.get("x-request-id", "")) or None
        return type(error)(text, status=answer.status_code, request_id=request_id)

    def _unreachable(self, failure: _RetryableError) -> VendorUnreachable:
        host = urlsplit(self.base_url).netloc
        reason = self._masked(_reason(failure.__cause__))
        return VendorUnreachable(
            f"{host} cannot be reached ({reason}): check the network, its proxy and {self._words.setting}, then try again"
        )

    def _masked(self, text: str) -> str:
        for secret in (self._key, *self._words.secrets.values()):
            text = text.replace(secret, "***") if len(secret) >= _SHORTEST_KEY else text
        return text

    @property
    def has_secrets(self) -> bool:
        """Whether requests have a key."""
        return bool(self._key or self._words.secrets)

    def _stop_if_refused(self) -> None:
        if error := self._refused:  # a new one each time, as tasks must not share a traceback
            raise KeyRefused(str(error), status=error.status, request_id=error.request_id)


def proxy_of(base_url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or None. Raises SettingMistake, which does not repeat it."""
    url, known = urlsplit(base_url), getproxies()
    host, name = url.hostname or "", url.scheme if known.get(url.scheme) else "all"
    if not known.get(name) or host in _NOT_PROXIED or proxy_bypass(url.netloc):
        return None
    for entry in known.get("no", "").split(","):
        with suppress(ValueError):  # names of hosts
            if ip_address(host) in ip_network(entry.strip().strip("[]"), strict=False):
                return None
    try:
        proxy = known[name].strip() if "://" in known[name] else f"http://{known[name].strip()}"
        if httpx.Proxy(proxy).url.host:
            return proxy
    except (ValueError, httpx.InvalidURL):
        pass
    raise SettingMistake(f"{name.upper()}_PROXY must be an address like http://host:3128 or socks5://host:1080.")


def _certificates() -> ssl.SSLContext:
    """Load certifi's certificates, or those of SSL_CERT_FILE or SSL_CERT_DIR. Raises SettingMistake."""
    try:
        return _loaded(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise SettingMistake(
            f"The certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be loaded: {' '.join(str(error).split())}."
        ) from None


@lru_cache(maxsize=1)
def _loaded(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def _body(answer: httpx.Response) -> bytes:
    """Read and decode a body. Raises MalformedAnswer if it is larger or has more values than any page can have.

    httpx decodes each 64 kB from the network in one piece, which may be 64 MB, and again for each further encoding.
    """
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _GZIP | {"identity", ""}:
        raise MalformedAnswer("its encoding was not requested")
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding in _GZIP else None
    body = bytearray()
    async for chunk in answer.aiter_raw():
        if unzip is None:
            body += chunk
        elif not unzip.eof:  # zlib would copy all that follows the end with each chunk
            body += unzip.decompress(chunk, _MOST_BYTES + 1 - len(body))
        if max(len(body), answer.num_bytes_downloaded) > _MOST_BYTES:
            raise MalformedAnswer(f"it has more than {_MOST_BYTES // 2**20} MB")
    if body.count(b",") > _MOST_VALUES:
        raise MalformedAnswer(f"it has more than {_MOST_VALUES:,} values")
    return bytes(body)


def _reason(error: BaseException | None) -> str:
    return " ".join(f"{type(error).__name__} {error or ''}".split())


def _invalid(key: str, setting: str) -> KeyRefused | None:
    if not key:
        return KeyRefused(f"{setting} is not set: set it to the key from the vendor's dashboard")
    try:
        valid_key(key)
    except ValueError as error:
        return KeyRefused(f"{setting} {error}")
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header (a number or an HTTP date), or None.

    A date is relative to the response's own Date header, so that this machine's clock does not matter.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        until, now = _http_date(value), _http_date(headers.get("date", ""))
        if until is None or now is None:
            return None
        seconds = (until - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
