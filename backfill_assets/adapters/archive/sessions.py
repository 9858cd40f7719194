"""The files of an archive: all tickers of one session in one timeframe.

What is known of a file is in the file itself, under the key `backfill` of its metadata. There is no shared manifest: several
processes write different sessions, and a file and what is said of it are replaced together. Files made of the same answer
by the same version of pyarrow are equal.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from backfill_assets.adapters.archive.places import Place, failing
from backfill_assets.domain.days import DayRange
from backfill_assets.domain.errors import ExportError
from backfill_assets.domain.text import plain_text

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_ROWS = 50_000
"""Of 1.5 million rows, 30 groups: fewer make the reader of one ticker decode more, more make the end of a file longer."""

PAGE_BYTES = 32 * 1024
"""Of a row group, only the pages that have the ticker are decoded. Smaller pages compress worse."""

_KEY = b"backfill"
_TYPES = {
    "ticker": "string",
    "timestamp": "timestamp[us, tz=UTC]",
    **dict.fromkeys(("open", "high", "low", "close", "volume"), "double"),
    "trades": "int64",
}
_END = 64 * 1024  # bytes; of 1.5 million rows the metadata have 15 kB
_LEFTOVER = 86_400  # seconds
_THREADS = 16  # small reads at a time, which wait for a server
_NAME = re.compile(r"archive=[a-z0-9_]+/timeframe=\w+/year=\d{4}/(\d{4}-\d{2}-\d{2})\.parquet")


class SessionFile(msgspec.Struct, frozen=True):
    """What a file says of itself. `source`, `etag` and `modified` (UTC) are those of the vendor's file.

    rejected  rows of the vendor's file that were left out
    """

    rows: int
    tickers: int
    rejected: int
    source: str
    etag: str
    modified: datetime
    version: int = 1


def name_of(archive: str, timeframe: str, session: date) -> str:
    """Return the name of a file."""
    return f"archive={archive}/timeframe={timeframe}/year={session.year}/{session}.parquet"


def sessions_in(place: Place, archive: str, timeframe: str, days: DayRange) -> dict[date, int]:
    """Return the bytes of the files of these days by session, ascending. Raises ExportError."""
    found = {}
    for year in range(days.start.year, days.end.year + 1):
        for name, size in place.sizes(f"archive={archive}/timeframe={timeframe}/year={year}").items():
            if match := _NAME.fullmatch(name):
                with suppress(ValueError):  # the name has no day
                    if (session := date.fromisoformat(match[1])) in days:
                        found[session] = size
    return dict(sorted(found.items()))


def describe(place: Place, names: Iterable[str]) -> dict[str, SessionFile]:
    """Return what files say of themselves, without those that are missing or damaged. Raises ExportError."""
    wanted = list(names)
    with ThreadPoolExecutor(_THREADS) as threads:
        described = threads.map(lambda name: _described(place, name), wanted)
        return {name: found for name, found in zip(wanted, described, strict=True) if found is not None}


def _described(place: Place, name: str) -> SessionFile | None:
    import pyarrow as pa  # noqa: PLC0415  # an extra
    from pyarrow import parquet  # noqa: PLC0415

    for whole in (False, True):  # the metadata may be longer than usual
        content = place.read(name) if whole else place.end(name, _END)
        try:
            file = parquet.ParquetFile(pa.BufferReader(content or b""))
        except (pa.ArrowInvalid, OSError):
            continue
        return _said(file.schema_arrow, file.metadata.num_rows)
    return None


def _said(schema: pa.Schema, rows: int) -> SessionFile | None:
    """Return what a file of so many rows says of itself, None if it is of another program or version."""
    try:
        found = msgspec.json.decode((schema.metadata or {}).get(_KEY, b""), type=SessionFile)
    except (msgspec.MsgspecError, ValueError):
        return None
    ours = {field.name: str(field.type) for field in schema} == _TYPES
    return found if ours and found.version == 1 and found.rows == rows else None


@contextmanager
def part_of(place: Place, session: date) -> Iterator[Path]:
    """Yield a path for a file that is not complete yet, of this process alone; it is gone at the end.

    Files that killed processes have left are deleted after a day. Raises ExportError.
    """
    folder = place.parts.with_name(f"{place.parts.name}-archive")
    part = folder / f"{session}-{uuid4().hex}.parquet"
    with failing(str(folder), "written"):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            with suppress(FileNotFoundError):  # another process deletes them too
                if time.time() - left.stat().st_mtime > _LEFTOVER:
                    left.unlink()
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def write_session(part: Path, table: pa.Table, file: SessionFile) -> str:
    """Write the rows of a session, sorted by ticker and timestamp, and return the SHA-256 of the file. Raises ExportError."""
    from pyarrow import parquet  # noqa: PLC0415

    plain = [name for name in table.schema.names if name not in {"ticker", "timestamp"}]
    with failing(str(part.parent), "written"):
        parquet.write_table(
            table.replace_schema_metadata({_KEY: msgspec.json.encode(file)}),
            part,
            row_group_size=GROUP_ROWS,
            data_page_size=PAGE_BYTES,
            compression="zstd",
            compression_level=3,
            use_dictionary=["ticker", "timestamp"],
            column_encoding=dict.fromkeys(plain, "PLAIN"),
            write_statistics=["ticker"],
            write_page_checksum=True,
            sorting_columns=parquet.SortingColumn.from_ordering(
                table.schema, [("ticker", "ascending"), ("timestamp", "ascending")]
            ),
        )
        with part.open("rb") as written:
            return hashlib.file_digest(written, "sha256").hexdigest()


def read_session(place: Place, name: str) -> pa.Table | None:
    """Return all rows of a file, None if it is missing, damaged or of another program. Raises ExportError."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    source: Any = pa.BufferReader(place.read(name) or b"")
    try:
        table = parquet.read_table(source, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowInvalid, OSError):
        return None
    return table if _said(table.schema, len(table)) else None


def scan(place: Place, names: Iterable[str], tickers: Iterable[str]) -> Any:
    """Return the rows of tickers as a polars frame, in the order of the files. Raises ExportError.

    It reads the row groups whose statistics include a ticker, and of these the pages that have one.
    """
    import polars as pl  # noqa: PLC0415  # an extra

    wanted = list(tickers)
    condition = pl.col("ticker") == wanted[0] if len(wanted) == 1 else pl.col("ticker").is_in(wanted)
    with failing(str(place), "read"):
        try:
            return pl.scan_parquet([place.url(name) for name in names], **place.polars).filter(condition).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            why = plain_text(str(error))[:200]
            raise ExportError(f"A file in {place} is damaged ({why}). `backfill archive verify` names it.") from None
