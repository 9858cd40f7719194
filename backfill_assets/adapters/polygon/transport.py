"""GET against the vendor, until there is an answer or no hope of one.

The key goes into the Authorization header and nowhere else; errors and log lines name a path, never a query. Proxies and
certificates named by the environment are used, as a company's network may leave no other way out, but not to reach this
machine itself. A `.netrc` file is not: httpx reads one only when told to, and the explicit `auth` here would win.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urlsplit

import anyio
import anyio.lowlevel
import httpx

from backfill_assets.adapters.polygon import failures
from backfill_assets.adapters.polygon.certificates import certificates
from backfill_assets.domain.errors import (
    KeyRefused,
    RateLimited,
    SettingMistake,
    VendorError,
    VendorUnavailable,
    VendorUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

_LOG = logging.getLogger(__name__)
_CONNECTIONS = 8
_SHORTEST_KEY = 8  # characters; a shorter one is no secret, and a part of ordinary words
_TIMEOUT = httpx.Timeout(
    connect=10, read=60, write=10, pool=None
)  # seconds; connections are counted out before the pool
_WHOLE_ANSWER = 300.0  # seconds; `read` above is renewed by every byte, so a trickle would never end
_LONGEST_RETRY_AFTER = 300.0  # seconds; the vendor counts by the minute, more is a mistake of some gateway
_NOT_PROXIED: dict[str, httpx.AsyncBaseTransport | None] = {
    f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")
}


class Limiter(Protocol):
    """What the transport needs of a rate limiter; `adapters.rate_limit.RateLimiter` is one."""

    async def acquire(self) -> object:
        """Return when one request may be sent."""

    async def push_back(self, seconds: float) -> object:
        """Let nobody send for that long."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is sent at most, and the pauses between, in seconds: each twice the one before, up to a longest.

    With the defaults a request that is always told to slow down gives up after 62 s, past the vendor's minute.
    """

    attempts: int = 6
    first_pause: float = 2.0
    longest_pause: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts {self.attempts} must be at least 1")

    def pause(self, attempt: int) -> float:
        """Seconds after attempt 1, 2, …, before jitter."""
        return min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 60))


@dataclass(slots=True)
class Traffic:
    """Requests sent, those of them that were retries, and answers that said "too many requests"."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0


class _Bearer(httpx.Auth):
    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = self._header
        yield request


class _AnotherTryError(Exception):
    """A failure that may pass; `wait` is what the vendor asked for, in seconds, `heard` whether it said anything at all."""

    def __init__(self, error: VendorError, wait: float | None = None, *, heard: bool = True) -> None:
        super().__init__(str(error))
        self.error, self.wait, self.heard = error, wait, heard


class Transport:
    """Requests to one base URL with one key. Use it in the event loop it was first used in, and close it.

    `sleep` takes seconds; `random` gives a number in [0, 1). SettingMistake when `base_url` is no plain http(s) address, or
    the environment names certificates that cannot be loaded.
    """

    def __init__(  # each is one thing of the world outside, and tests replace all of them
        self,
        api_key: str | None,
        *,
        base_url: str,
        limiter: Limiter,
        retry: RetryPolicy,
        sleep: Callable[[float], Awaitable[object]],
        random: Callable[[], float],
        user_agent: str,
    ) -> None:
        self.base_url = _checked(base_url)
        self.traffic = Traffic()
        self._key = (api_key or "").strip()
        self._limiter, self._retry, self._sleep, self._random = limiter, retry, sleep, random
        self._refused = _refused_unseen(self._key)
        self._admitted = False
        self._door = asyncio.Lock()
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._http = httpx.AsyncClient(
            verify=certificates(),
            auth=_Bearer(self._key),
            headers={"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": user_agent},
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
            mounts=_NOT_PROXIED,
            follow_redirects=False,
        )

    async def close(self) -> None:
        """Close the connections. Requests under way fail."""
        await self._http.aclose()

    async def fetch[T](self, path: str, params: Mapping[str, str], decode: Callable[[bytes], T]) -> T:
        """What `decode` makes of the body, in a thread. `path` is quoted already and starts with a slash.

        Raises what the vendor's refusal means (KeyRefused, NotEntitled, NotFound, BadRequest) at once; RateLimited,
        VendorUnavailable and MalformedAnswer after the last attempt, the last two also when `decode` raised them;
        VendorUnreachable where no attempt was answered at all. Once the key was refused, every call raises KeyRefused and
        sends nothing.
        """
        heard = False
        for attempt in range(1, self._retry.attempts + 1):
            try:
                return await self._attempt(path, params, decode, again=attempt > 1)
            except _AnotherTryError as failure:
                last = failure
            heard |= last.heard
            pause = await self._agree_on_pause(last, attempt)
            if attempt < self._retry.attempts:
                _LOG.warning(
                    "attempt %d of %d: %s; next in %.1f s or later", attempt, self._retry.attempts, last.error, pause
                )
                if not isinstance(last.error, RateLimited):  # the limiter makes everybody wait already
                    await self._sleep(pause)
        raise (last.error if heard else self._unreachable(last)) from last.__cause__

    async def _agree_on_pause(self, failure: _AnotherTryError, attempt: int) -> float:
        pause = self._retry.pause(attempt)
        asked = min(failure.wait or 0.0, _LONGEST_RETRY_AFTER)
        if isinstance(failure.error, RateLimited):
            await self._limiter.push_back(asked or pause)  # "0 s" is no time to wait, so it counts as unsaid
            return asked or pause
        return max(pause * (1 + self._random()) / 2, asked)

    async def _attempt[T](
        self, path: str, params: Mapping[str, str], decode: Callable[[bytes], T], *, again: bool
    ) -> T:
        async with self._slots:  # before the permit: one that waits for a connection would be used too late
            if not self._admitted:
                async with self._door:  # one at a time until the key is known to be good: a bad one costs one request
                    if not self._admitted:
                        return await self._send(path, params, decode, again=again)
            return await self._send(path, params, decode, again=again)

    async def _send[T](self, path: str, params: Mapping[str, str], decode: Callable[[bytes], T], *, again: bool) -> T:
        self._stop_if_refused()
        # Loads what httpx connects with, which would else be loaded after the permit, and make the request late.
        await anyio.lowlevel.checkpoint()
        await self._limiter.acquire()
        self._stop_if_refused()
        self.traffic.requests += 1
        self.traffic.retries += again
        query = f"?{urlencode(params)}" if params else ""
        heard = False
        try:
            async with (
                asyncio.timeout(_WHOLE_ANSWER),
                self._http.stream("GET", f"{self.base_url}{path}{query}") as answer,
            ):
                heard = True
                await answer.aread()
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
            restated = self._restated(VendorUnavailable(_reason(error)), f"GET {path}")
            raise _AnotherTryError(restated, heard=heard) from error
        try:
            if answer.status_code != HTTPStatus.OK:
                raise failures.of_status(answer.status_code, failures.read(answer.content))
            result = await asyncio.to_thread(decode, answer.content)
        except VendorError as error:
            raise self._judged(error, answer, path) from error.__cause__
        self._admitted = True
        return result

    def _judged(self, error: VendorError, answer: httpx.Response, path: str) -> Exception:
        restated = self._restated(error, f"GET {path}, HTTP {answer.status_code}", answer)
        if isinstance(restated, RateLimited):
            self.traffic.rate_limited += 1
        if isinstance(restated, failures.WORTH_ANOTHER_TRY):
            return _AnotherTryError(restated, failures.retry_after(answer.headers))
        if isinstance(restated, KeyRefused):
            self._refused = restated
        else:
            self._admitted = True
        return restated

    def _restated(self, error: VendorError, place: str, answer: httpx.Response | None = None) -> VendorError:
        text = failures.sentence(type(error), place, self._masked(str(error)))
        if answer is None:
            return type(error)(text)
        request_id = error.request_id or answer.headers.get("x-request-id")
        return type(error)(text, status=answer.status_code, request_id=request_id)

    def _unreachable(self, failure: _AnotherTryError) -> VendorUnreachable:
        host = urlsplit(self.base_url).netloc
        reason = self._masked(_reason(failure.__cause__))
        return VendorUnreachable(
            f"{host} cannot be reached ({reason}): check the network, its proxy and POLYGON_BASE_URL, then try again"
        )

    def _masked(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= _SHORTEST_KEY else text

    def _stop_if_refused(self) -> None:
        if error := self._refused:  # a fresh one each time: tasks must not share a traceback
            raise KeyRefused(str(error), status=error.status, request_id=error.request_id)


def _reason(error: BaseException | None) -> str:
    return " ".join(f"{type(error).__name__} {error or ''}".split())


def _refused_unseen(key: str) -> KeyRefused | None:
    if not key:
        return KeyRefused("POLYGON_API_KEY is not set: put the key from the vendor's dashboard into it")
    if not (key.isascii() and key.isprintable() and " " not in key):
        return KeyRefused("POLYGON_API_KEY holds characters that no key has: copy it again from the vendor's dashboard")
    return None


def _checked(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        plain = bool(parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0)
        plain = plain and not (parts.username or parts.password or parts.query or parts.fragment)
        url = httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL):
        plain = False
    if not plain:
        raise SettingMistake("The base URL of Polygon must be http(s)://host/path, without login, query or fragment")
    return str(url).rstrip("/")
