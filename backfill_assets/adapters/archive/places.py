"""Where an export or an archive is: a folder, or a prefix of an S3 bucket.

Files are replaced at once: readers see the old or the new.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from backfill_assets.domain.errors import ExportError, UsageMistake

if TYPE_CHECKING:
    from obstore import GetOptions

S3 = "s3://"


class Place(Protocol):
    """Files by name, such as `market=stocks/timeframe=1d/year=2024/2024-01.parquet`. Methods raise ExportError.

    parts   a folder of this machine for files that are not complete yet; it belongs to one process at a time
    polars  arguments with which polars reads the URLs of files
    """

    parts: Path
    polars: dict[str, Any]

    def __str__(self) -> str:
        """Return the folder or the URL."""

    def sizes(self, below: str = "") -> dict[str, int]:
        """Return the bytes of every file, or of those in a folder."""

    def end(self, name: str, size: int) -> bytes | None:
        """Return the last bytes of a file, None if there is none."""

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""

    def take(self, part: Path, name: str) -> None:
        """Replace a file by a complete one of `parts`."""

    def delete(self, name: str) -> None:
        """Delete a file, which may be gone already."""

    def url(self, name: str) -> str:
        """Return the path or the URL of a file."""


def place_of(where: str, scratch: Path) -> Place:
    """Return the place that a user named; incomplete files of a bucket are in the folder `scratch`. Raises UsageMistake."""
    if not where.startswith(S3):
        if "://" in where or not where.strip() or "\0" in where:
            raise UsageMistake(f"{where!r} is neither a folder nor like s3://bucket/prefix.")
        try:
            return Folder(Path(where).expanduser().resolve())
        except RuntimeError:
            raise UsageMistake(f"{where!r} is not a folder: unknown home directory.") from None
    parts = urlsplit(where)
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.netloc != parts.hostname or parts.query or parts.fragment or ".." in prefix.split("/"):
        raise UsageMistake("A place in S3 must be like s3://bucket/prefix; credentials are read from AWS_ variables.")
    if find_spec("obstore") is None:
        raise UsageMistake("S3 needs the extra `reading`: pip install 'backfill-assets[reading]'.")
    return Bucket(parts.netloc, prefix, scratch)


class Folder:
    """A folder of a file system."""

    def __init__(self, path: Path) -> None:
        self._path, self.parts = path, path / ".backfill-export-parts"
        self.polars: dict[str, Any] = {}

    def __str__(self) -> str:
        return str(self._path)

    def sizes(self, below: str = "") -> dict[str, int]:
        """Return the bytes of every file, or of those in a folder."""
        with failing(str(self), "read"):
            return {
                str(folder.relative_to(self._path) / name): (folder / name).stat().st_size
                for folder, _, names in (self._path / below).walk()
                if folder != self.parts
                for name in names
            }

    def end(self, name: str, size: int) -> bytes | None:
        """Return the last bytes of a file, None if there is none."""
        with failing(str(self), "read"), suppress(FileNotFoundError), (self._path / name).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read()
        return None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none."""
        with failing(str(self), "read"), suppress(FileNotFoundError):
            return (self._path / name).read_bytes()
        return None

    def take(self, part: Path, name: str) -> None:
        """Move a complete file to its place. It survives a loss of power."""
        target = self._path / name
        with failing(str(self), "written"):
            _sync(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            _sync(target.parent)

    def delete(self, name: str) -> None:
        """Delete a file, and the folders that it leaves empty."""
        target = self._path / name
        with failing(str(self), "written"):
            target.unlink(missing_ok=True)
            with suppress(OSError):
                while target.parent != self._path:
                    target = target.parent
                    target.rmdir()

    def url(self, name: str) -> str:
        """Return the path of a file."""
        return str(self._path / name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def failing(where: str, verb: str) -> Iterator[None]:
    """Convert an error of the file system. `verb`: what cannot be done, "read" or "written"."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"{where} cannot be {verb} ({error.strerror or type(error).__name__}).") from None


@contextmanager
def emptied(place: Place) -> Iterator[None]:
    """Make the folder of incomplete files, without those that a killed process has left; remove it at the end."""
    with failing(str(place.parts.parent), "written"):
        shutil.rmtree(place.parts, ignore_errors=True)
        place.parts.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(place.parts, ignore_errors=True)


class Bucket:
    """A prefix of an S3 bucket. Credentials, region and endpoint are those of the AWS_ variables."""

    def __init__(self, bucket: str, prefix: str, scratch: Path) -> None:
        from obstore.store import S3Store  # noqa: PLC0415  # an extra

        self._url = f"{S3}{bucket}/{prefix}".rstrip("/")
        self.parts = scratch / hashlib.sha256(self._url.encode()).hexdigest()[:16]
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        self.polars: dict[str, Any] = {"storage_options": {"aws_allow_http": str(plain).lower()}}
        with self._failing():
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "allow_http": plain,
                    "connect_timeout": "10s",
                    "timeout": "600s",
                },
                retry_config={"max_retries": 4},
            )

    def __str__(self) -> str:
        return self._url

    def sizes(self, below: str = "") -> dict[str, int]:
        """Return the bytes of every object, or of those in a folder."""
        from obstore.exceptions import PermissionDeniedError  # noqa: PLC0415

        with self._failing():
            found = {item["path"]: item["size"] for page in self._store.list(below or None) for item in page}
            if not found:  # obstore reads a page of HTML as an empty list: such a page is there for any name
                with suppress(FileNotFoundError, PermissionDeniedError):
                    self._store.head(f"{below}/none")
                    raise ValueError
            return found

    def end(self, name: str, size: int) -> bytes | None:
        """Return the last bytes of an object, None if there is none."""
        return self._get(name, {"range": {"suffix": size}})

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, None if there is none."""
        return self._get(name, {})

    def _get(self, name: str, options: GetOptions) -> bytes | None:
        from obstore.exceptions import NotFoundError  # noqa: PLC0415

        with self._failing():
            try:
                return bytes(self._store.get(name, options=options).bytes())
            except (FileNotFoundError, NotFoundError) as error:
                if "NoSuchBucket" in str(error):
                    raise
                return None

    def take(self, part: Path, name: str) -> None:
        """Upload a complete file with one request."""
        with self._failing():
            self._store.put(name, part, use_multipart=False)
        part.unlink()

    def delete(self, name: str) -> None:
        """Delete an object."""
        with self._failing():
            self._store.delete(name)

    def url(self, name: str) -> str:
        """Return the URL of an object."""
        return f"{self._url}/{name}"

    @contextmanager
    def _failing(self) -> Iterator[None]:
        from obstore.exceptions import BaseError  # noqa: PLC0415

        try:
            yield
        except (BaseError, OSError, ValueError) as error:  # the text may contain the key: only its kind is shown
            raise ExportError(f"{self._url} cannot be used: {_reason(str(error))}.") from None


_REASONS = {
    "NoSuchBucket": "the bucket does not exist",
    "InvalidAccessKeyId": "the access key is unknown: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is wrong: check AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "the access key has no right to it",
    "ExpiredToken": "the session token has expired: renew AWS_SESSION_TOKEN",
    "403 Forbidden": "the credentials are refused: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "instance": "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "No space left": "this machine's disk is full",
}


def _reason(text: str) -> str:
    default = "the endpoint does not answer as S3 does: check AWS_ENDPOINT_URL and AWS_REGION"
    return next((reason for mark, reason in _REASONS.items() if mark in text), default)
