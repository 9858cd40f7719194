"""The files of an export: names, formats, and the manifest that lists them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from backfill_assets.adapters.archive.places import Place, failing
from backfill_assets.domain.errors import UsageMistake

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_manifest.json"
FORMATS = ("parquet", "csv", "feather")
GROUP_ROWS = 5_000
"""The least rows of a row group, if there are so many: a month of one symbol's minutes, which is then read alone."""

_NAME = re.compile(r"market=([a-z0-9_]+)/timeframe=(\w+)/year=\d{4}/(\d{4}-\d{2})\.(?:parquet|csv|feather)")


class Arguments(msgspec.Struct, frozen=True):
    """What every file of an export was made with. `symbols` None: all of the market."""

    adjust: str = "none"
    features: tuple[str, ...] = ()
    format: Annotated[str, msgspec.Meta(pattern="^(parquet|csv|feather)$")] = "parquet"
    symbols: tuple[str, ...] | None = None


class Partition(msgspec.Struct, frozen=True):
    """A file. `sha256` is that of its bytes; `state` identifies what the store held when it was read."""

    rows: int
    bytes: int
    sha256: str
    state: str


class Manifest(msgspec.Struct, frozen=True):
    """The files of an export by name. `revision` is that of the store's tables, `columns` are Arrow's types by name."""

    arguments: Arguments
    partitions: Mapping[str, Partition] = {}
    columns: Mapping[str, str] = {}
    revision: str | None = None
    written_at: datetime | None = None
    version: int = 1


def read_manifest(place: Place) -> Manifest | None:
    """Return the manifest of a place, None if it has none. Raises UsageMistake, ExportError."""
    content = place.read(MANIFEST)
    if content is None:
        return None
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, ValueError):
        found = None
    if found is None or found.version != 1:
        raise UsageMistake(
            f"{place.url(MANIFEST)} is not a manifest of this version: choose another place, or remove it to export again."
        )
    return found


def write_manifest(place: Place, manifest: Manifest) -> None:
    """Replace the manifest."""
    part = place.parts / MANIFEST
    with failing(str(place.parts), "written"):
        part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    place.take(part, MANIFEST)


def name_of(market: str, timeframe: str, month: date, form: str) -> str:
    """Return the name of a file; `month` is its first day."""
    return f"market={market}/timeframe={timeframe}/year={month.year}/{month:%Y-%m}.{form}"


def parse_name(name: str) -> tuple[str, str, date] | None:
    """Return market, timeframe and month of a file's name, None for other files."""
    found = _NAME.fullmatch(name)
    return (found[1], found[2], date.fromisoformat(f"{found[3]}-01")) if found else None


def schema_of(features: tuple[str, ...]) -> pa.Schema:
    """Return the columns of a file."""
    import pyarrow as pa  # noqa: PLC0415  # an extra

    floats = [(name, pa.float64()) for name in ("open", "high", "low", "close", "volume", "vwap")]
    first = [("symbol", pa.string()), ("timestamp", pa.timestamp("us", "UTC")), *floats, ("trades", pa.int64())]
    return pa.schema([*first, *((name, pa.float64()) for name in features)])


def read_rows(place: Place, name: str, arguments: Arguments) -> pa.Table:
    """Return the rows of a file; none if it is missing or damaged. Raises ExportError."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv, ipc, parquet  # noqa: PLC0415

    schema = schema_of(arguments.features)
    source = pa.BufferReader(place.read(name) or b"")
    try:
        if arguments.format == "csv":
            types = csv.ConvertOptions(column_types=schema, strings_can_be_null=False)
            return csv.read_csv(source, convert_options=types)
        return ipc.open_file(source).read_all() if arguments.format == "feather" else parquet.read_table(source)
    except pa.ArrowInvalid:
        return schema.empty_table()


class Part:
    """A file that is being written. It has no rows, and does not exist, until some are added."""

    def __init__(self, path: Path, schema: pa.Schema, form: str) -> None:
        self.path, self._schema, self._form = path, schema, form
        self.rows = 0
        self._pending: list[Any] = []
        self._open = ExitStack()
        self._write: Callable[[Any], object] | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows that follow those before them."""
        self._pending.append(rows)
        self.rows += rows.num_rows
        if sum(batch.num_rows for batch in self._pending) >= GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the last rows, and what ends the file."""
        with self._open:
            if self._pending:
                self._flush()

    def partition(self, state: str) -> Partition:
        """Describe the closed file."""
        with failing(str(self.path.parent), "read"), self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Partition(self.rows, file.tell(), digest, state)

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        pending, self._pending = self._pending, []  # what cannot be written is not tried again by `close`
        with failing(str(self.path.parent), "written"):
            if self._write is None:
                self._write = self._opened()
            self._write(pa.Table.from_batches(pending).cast(self._schema).combine_chunks())

    def _opened(self) -> Callable[[Any], object]:
        if self._form == "csv":
            from pyarrow import csv  # noqa: PLC0415

            writer: Any = csv.CSVWriter(self.path, self._schema)
        elif self._form == "feather":
            from pyarrow import ipc  # noqa: PLC0415

            writer = ipc.new_file(str(self.path), self._schema, options=ipc.IpcWriteOptions(compression="zstd"))
        else:
            from pyarrow import parquet  # noqa: PLC0415

            writer = parquet.ParquetWriter(
                self.path,
                self._schema,
                compression="zstd",
                use_dictionary=[name for name in self._schema.names if name != "timestamp"],
                column_encoding={"timestamp": "DELTA_BINARY_PACKED"},
                sorting_columns=parquet.SortingColumn.from_ordering(
                    self._schema, [("symbol", "ascending"), ("timestamp", "ascending")]
                ),
            )
        self._open.callback(self._end, writer)
        write: Callable[[Any], object] = writer.write_table
        return write

    def _end(self, writer: Any) -> None:
        with failing(str(self.path.parent), "written"):
            writer.close()
