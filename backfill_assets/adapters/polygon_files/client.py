"""Listing and fetching flat files: https://massive.com/docs/flat-files. Access keys are not those of the REST API."""

from __future__ import annotations

import asyncio
import hashlib
import random as _random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from backfill_assets.adapters.archive.places import failing
from backfill_assets.adapters.polygon import RetryPolicy, Traffic
from backfill_assets.adapters.private_files import make_private_folder
from backfill_assets.adapters.settings import Settings
from backfill_assets.adapters.transport import proxy_of
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import (
    BadRequest,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    RateLimited,
    SettingMistake,
    UsageMistake,
    VendorError,
    VendorUnavailable,
    VendorUnreachable,
)
from backfill_assets.domain.sessions import Kind
from backfill_assets.domain.timeframes import DAY_1, MINUTE_1, Timeframe

if TYPE_CHECKING:
    from tempfile import _TemporaryFileWrapper

    from obstore import GetOptions, ObjectMeta
    from obstore.store import S3Credential

_MARKETS = {Kind.STOCKS: "us_stocks_sip", Kind.CRYPTO: "global_crypto"}
_SERIES = {MINUTE_1: "minute_aggs_v1", DAY_1: "day_aggs_v1"}
_SUFFIX = ".csv.gz"

_MOST_BYTES = 256 * 2**20  # of a file; a day of all US stocks' minutes has 15 to 30 MB
_CHUNK = 2**14  # bytes that may be lost when a transfer breaks
_SILENCE = timedelta(seconds=30)
_TOTAL_TIMEOUT = 600  # seconds; a trickle of bytes is never silent
_LEFTOVER = 86_400  # seconds after which a file that a killed process has left is deleted

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_CODES: dict[str, tuple[type[VendorError], str]] = {
    "InvalidAccessKeyId": (KeyRefused, "the access key is unknown: check POLYGON_FILES_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": (KeyRefused, "the secret is wrong: check POLYGON_FILES_SECRET_ACCESS_KEY"),
    "NoSuchBucket": (BadRequest, "the bucket does not exist: check POLYGON_FILES_BUCKET"),
    "RequestTimeTooSkewed": (BadRequest, "the clock of this machine is wrong"),
}
_NO_FILE = frozenset({"AccessDenied", "NoSuchKey"})
_MD5 = re.compile("[0-9a-f]{32}")
_REPLACED = 412
_BROKEN = "request or response body error"  # in obstore's text: the answer had begun


@dataclass(frozen=True, slots=True)
class DayFile:
    """The file of a session as listed, with its key in the bucket. `etag` and `modified` (UTC) change if it is replaced."""

    kind: Kind
    timeframe: Timeframe
    session: date
    key: str
    size: int
    etag: str
    modified: datetime


class PolygonFiles:
    """The flat files of the bucket that the settings name. Made by `of`.

    `silence`: how long the server may send nothing. `sleep` takes seconds, `random` returns a number in [0, 1), `on_wait`
    takes a sentence before a retry.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen: sharing one is harmless
        silence: timedelta = _SILENCE,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        from obstore.store import S3Store  # noqa: PLC0415  # an extra

        def credential() -> S3Credential:
            return {
                "access_key_id": settings.files_access_key_id or "",
                "secret_access_key": settings.files_secret_access_key or "",
                "token": None,
                "expires_at": None,
            }

        url = settings.files_url
        self.traffic = Traffic()
        self._scratch, self._host = settings.data / "flat-files", urlsplit(url).netloc
        self._retry, self._sleep, self._random, self._on_wait = retry, sleep, random, on_wait
        self._etags_are_hashes = True
        proxy, host = proxy_of(url), urlsplit(url).hostname or ""
        if proxy and proxy.startswith("socks"):
            raise SettingMistake(
                "Flat files cannot be read through a SOCKS proxy: name an http:// one in HTTPS_PROXY, or exclude "
                f"{host} in NO_PROXY."
            )
        # Everything that obstore would take from the AWS_ variables, which are those of another bucket.
        self._store = S3Store(
            settings.files_bucket,
            config={
                "endpoint": url,
                "aws_endpoint_url_s3": url,
                "region": "us-east-1",
                "virtual_hosted_style_request": False,
                "skip_signature": False,
                "unsigned_payload": False,
                "request_payer": False,
                "s3_express": False,
            },
            credential_provider=credential,
            client_options={
                "allow_http": url.startswith("http://"),
                "connect_timeout": "10s",
                "read_timeout": silence,
                "timeout": f"{_TOTAL_TIMEOUT}s",
                # A proxy that excludes the host is none; without one, obstore would look for it in the environment.
                "proxy_url": proxy or "http://127.0.0.1:9",
                "proxy_excludes": "" if proxy else host,
            },
            retry_config={"max_retries": 0},  # retries are counted and announced here
        )

    @classmethod
    def of(cls, settings: Settings, **arguments: Any) -> Self | None:
        """Return the files that the settings name, None without an access key. `arguments` are those of the class.

        Raises SettingMistake if one part of the key is missing or the proxy is a SOCKS one, UsageMistake without the extra
        `files`.
        """
        parts = {"ACCESS_KEY_ID": settings.files_access_key_id, "SECRET_ACCESS_KEY": settings.files_secret_access_key}
        missing = [name for name, part in parts.items() if part is None]
        if len(missing) == len(parts):
            return None
        if missing:
            raise SettingMistake(f"POLYGON_FILES_{missing[0]} is not set: an access key of flat files has both parts.")
        if not all(map(find_spec, ("obstore", "pyarrow"))):
            raise UsageMistake(
                "The extra `files` is not installed, which flat files need: pip install 'backfill-assets[files]'."
            )
        return cls(settings, **arguments)

    async def listing(self, kind: Kind, timeframe: Timeframe, days: DayRange) -> dict[date, DayFile]:
        """Return the published files of 1m or 1d bars by session, in one request for each month or year.

        A session without a file has none yet, or was no session. Raises KeyRefused, NotEntitled (the key may not list the
        market), BadRequest, and VendorUnavailable, VendorUnreachable, MalformedAnswer or RateLimited after the last attempt.
        """
        found = dict[date, DayFile]()
        folder = f"{_MARKETS[kind]}/{_SERIES[timeframe]}"
        sessions = {f"{folder}/{day:%Y/%m/%Y-%m-%d}{_SUFFIX}": day for day in days}
        for year in range(days.start.year, days.end.year + 1):
            part = days.intersect(DayRange(date(year, 1, 1), date(year, 12, 31))) or days
            prefix = f"{folder}/{year}" + (f"/{part.start:%m}" if part.start.month == part.end.month else "")
            for item in await self._retried(prefix, partial(self._objects, prefix)):
                key, etag, modified = item["path"], item["e_tag"] or "", item["last_modified"]
                if session := sessions.get(key):
                    found[session] = DayFile(kind, timeframe, session, key, item["size"], etag, modified)
        return dict(sorted(found.items()))

    async def fetch(self, file: DayFile) -> Path:
        """Return the complete file, in the scratch folder; the caller deletes it.

        A transfer that breaks off is resumed. Raises as `listing`, but never NotEntitled: the server refuses what is not
        published, not agreed to or too old in the same way, with status 403. A file that was replaced since it was listed
        is VendorUnavailable too, with status 412. Raises ExportError if the folder cannot be written.
        """
        if file.size > _MOST_BYTES:
            raise MalformedAnswer(f"{file.key} has more than {_MOST_BYTES // 2**20} MB")
        try:
            with _scratch_file(self._scratch, f"{_MARKETS[file.kind]}-{file.session}-") as out:
                part = _Part(out, file)
                await self._retried(file.key, lambda: self._transfer(part))
        except VendorUnavailable as error:
            if error.status in {403, 404}:
                raise await self._explained(file, error) from None
            raise
        return Path(out.name)

    async def _objects(self, prefix: str) -> list[Any]:
        """List a folder. obstore reads a page of HTML as an empty list: such a page is also there where no object is."""
        from obstore.exceptions import PermissionDeniedError  # noqa: PLC0415

        async with asyncio.timeout(_TOTAL_TIMEOUT):
            if found := await self._store.list(prefix).collect_async():
                return list(found)
            self.traffic.requests += 2
            with suppress(FileNotFoundError, PermissionDeniedError):
                await self._store.head_async(f"{prefix}/none")
                raise MalformedAnswer(
                    f"{self._host} has a page in place of the list of files: check the network, its proxy and "
                    f"POLYGON_FILES_URL ({prefix})"
                )
            return list(await self._store.list(prefix).collect_async())

    async def _transfer(self, part: _Part) -> None:
        """Fetch the rest of a file."""
        file = part.file
        options: GetOptions = {"if_match": file.etag} if file.etag else {}
        if part.size:
            options["range"] = {"offset": part.size}
        try:
            if part.size < file.size:
                answer = await self._store.get_async(file.key, options=options)
                part.expect(answer.meta)
                async for chunk in answer.stream(min_chunk_size=_CHUNK):
                    part.add(bytes(chunk))
            self._etags_are_hashes = part.check(by_etag=self._etags_are_hashes)
        except MalformedAnswer:
            part.restart()
            raise

    async def _retried(self, what: str, work: Callable[[], Awaitable[Any]]) -> Any:
        from obstore.exceptions import BaseError  # noqa: PLC0415

        responded, attempts = False, self._retry.attempts
        for attempt in range(1, attempts + 1):
            self.traffic.requests += 1
            self.traffic.retries += attempt > 1
            failure: VendorError
            try:
                return await work()
            except (BaseError, FileNotFoundError, TimeoutError) as error:
                failure, final = self._judged(str(error), what)
                responded |= failure.status is not None or _BROKEN in str(error)
            except MalformedAnswer as error:
                failure, final, responded = error, False, True
            self.traffic.rate_limited += isinstance(failure, RateLimited)
            if final:
                raise failure
            if attempt < attempts:
                pause = self._retry.pause(attempt) * (1 + self._random()) / 2
                reason = "gave no usable answer" if responded else "cannot be reached"
                self._on_wait(f"{self._host} {reason}; retry {attempt + 1} of {attempts} in {max(pause, 1):.0f} s.")
                await self._sleep(pause)
        if responded:
            raise failure
        raise VendorUnreachable(
            f"{self._host} cannot be reached: check the network, its proxy and POLYGON_FILES_URL, then try again"
        )

    def _judged(self, text: str, what: str) -> tuple[VendorError, bool]:
        """Return the error for obstore's text, and whether it is final. The text may contain the key: it is not repeated."""
        status = int(found[1]) if (found := _STATUS.search(text)) else None
        code = found[1] if (found := _CODE.search(text)) else ""
        kind: type[VendorError] = VendorUnavailable
        reason = "flat files cannot be read: try again later"
        if code in _CODES:
            kind, reason = _CODES[code]
        elif code == "AccessDenied" and not what.endswith(_SUFFIX):
            kind, reason = NotEntitled, "the plan does not include these flat files, or an agreement is not signed"
        elif status == _REPLACED:
            reason = "the file was replaced since it was listed: try again"
        elif status == 429:
            kind, reason = RateLimited, "the server limits the rate of requests: try again later"
        elif status in {301, 307, 400, 401, 405, 501}:
            kind, reason = (
                BadRequest,
                "the server does not accept the request: check POLYGON_FILES_URL and its bucket",
            )
        final = kind not in {VendorUnavailable, RateLimited} or status == _REPLACED or code in _NO_FILE
        place = ", ".join(filter(None, (what, f"HTTP {status}" if status else "", code)))
        return kind(f"{self._host}: {reason} ({place})", status=status), final

    async def _explained(self, file: DayFile, error: VendorError) -> VendorError:
        """Return the refusal of a file with what the list says about it."""
        listed = await self.listing(file.kind, file.timeframe, DayRange(file.session, file.session))
        reason = (
            "refuses a file that it lists: the plan may not include its date, or an agreement may have to be signed"
            if file.session in listed
            else "does not have the file (any more): it is published about 11:00 New York of the next day"
        )
        return VendorUnavailable(f"{self._host} {reason} ({file.key}, HTTP {error.status})", status=error.status)


@contextmanager
def _scratch_file(folder: Path, prefix: str) -> Iterator[_TemporaryFileWrapper[bytes]]:
    """Open a new file, and delete it if the work fails, as well as those that killed processes have left."""
    with failing(str(folder), "written"):
        for left in make_private_folder(folder).glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # its own process may delete it at this moment
                if time.time() - left.stat().st_mtime > _LEFTOVER:
                    left.unlink()
        with NamedTemporaryFile(prefix=prefix, suffix=_SUFFIX, dir=folder, delete=False) as out:
            try:
                yield out
                out.flush()
            except BaseException:
                Path(out.name).unlink(missing_ok=True)
                raise


class _Part:
    """A file that is being fetched, and what has arrived of it."""

    def __init__(self, out: _TemporaryFileWrapper[bytes], file: DayFile) -> None:
        self.file, self.size, self._out, self._hashes = file, 0, out, set[str]()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def expect(self, meta: ObjectMeta) -> None:
        """Raise MalformedAnswer unless an answer is this file: a proxy may answer with a page of its own."""
        if (meta["e_tag"] or "", meta["size"]) != (self.file.etag, self.file.size):
            raise MalformedAnswer(f"{self.file.key}: the answer is not the file that was listed")

    def add(self, chunk: bytes) -> None:
        """Append bytes. Raises MalformedAnswer if there are more than listed."""
        self.size += len(chunk)
        if self.size > self.file.size:
            raise MalformedAnswer(f"{self.file.key} has more than the {self.file.size} bytes that are listed")
        self._md5.update(chunk)
        self._out.write(chunk)

    def restart(self) -> None:
        """Drop what has arrived."""
        self._out.seek(0)
        self._out.truncate()
        self.size, self._md5 = 0, hashlib.md5(usedforsecurity=False)

    def check(self, *, by_etag: bool) -> bool:
        """Return whether ETags are MD5 hashes, as far as is known. They need not be: then a file is fetched twice, alike.

        Raises MalformedAnswer if bytes are missing, or if the hash differs for the first time.
        """
        if self.size != self.file.size:
            raise MalformedAnswer(f"{self.file.key} has {self.size} of the {self.file.size} bytes that are listed")
        etag, digest = self.file.etag.strip('"'), self._md5.hexdigest()
        if not by_etag or digest == etag or not _MD5.fullmatch(etag):  # the last: a file that was uploaded in parts
            return by_etag
        if digest in self._hashes:
            return False
        self._hashes.add(digest)
        raise MalformedAnswer(f"{self.file.key} was damaged on the way: its MD5 is not its ETag")
