"""Bars and features as streams of bytes, in the memory of a few batches."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from backfill_assets.reading import iterate_bars, read_bars
from backfill_assets.reading.bars import BARS

if TYPE_CHECKING:
    import pyarrow as pa

TYPES = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
_ROWS = 100_000
"""Of a batch, which is also a row group of Parquet."""

_SECONDS = 3600.0
"""The most that a client may take."""

_STREAMS = threading.BoundedSemaphore(2)


def data_response(kind: str, *, columns: tuple[str, ...] = (), **arguments: Any) -> Response:
    """Return what `iterate_bars` reads in one of TYPES: only timestamps and features if `columns` names any.

    Raises its errors, and HTTPException if two clients are being sent data already.
    """
    if columns:
        arguments["features"] = columns
    if not _STREAMS.acquire(blocking=False):
        raise HTTPException(429, "Two clients are being sent data: try again later.", {"Retry-After": "10"})
    chunks = _chunks(kind, arguments, dropped=set(BARS) - {"timestamp"} if columns else set())
    first = next(chunks)  # raises what is wrong with the request
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(chain((first,), chunks), headers=headers, media_type=TYPES[kind])


def _chunks(kind: str, arguments: dict[str, Any], dropped: set[str]) -> Iterator[bytes]:
    """Yield the bytes of a format, and let the next client in at the end."""
    try:
        batches = iterate_bars(**arguments, rows=_ROWS, timeout=_SECONDS)
        first = next(batches, None)
        if first is None:
            first = _empty_batch(read_bars(**arguments, engine="arrow").schema)
        kept = (batch.drop_columns([*dropped & {*batch.schema.names}]) for batch in chain((first,), batches))
        yield from (_json(kept) if kind == "json" else _written(kind, kept))
    finally:
        _STREAMS.release()


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa  # noqa: PLC0415  # of the extra `reading`

    return pa.record_batch([pa.array([], field.type) for field in schema], schema)


def _json(batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    between = b"["
    for batch in batches:
        if batch.num_rows:
            yield between + msgspec.json.encode(batch.to_pylist())[1:-1]
            between = b","
    yield b"]" if between == b"," else b"[]"


class _Sink(io.RawIOBase):
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Keep a part."""
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return the parts, and forget them."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _written(kind: str, batches: Iterator[pa.RecordBatch]) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415  # of the extra `reading`
    import pyarrow.csv as pa_csv  # noqa: PLC0415  # the same
    import pyarrow.parquet as pq  # noqa: PLC0415  # the same

    first = next(batches)
    sink = _Sink()
    writers = {"csv": pa_csv.CSVWriter, "arrow": pa.ipc.new_stream, "parquet": pq.ParquetWriter}
    plain = _without_dictionary if kind == "csv" else lambda batch: batch
    with writers[kind](pa.PythonFile(sink, mode="w"), plain(first).schema) as writer:
        for batch in chain((first,), batches):
            writer.write_batch(plain(batch))
            if chunk := sink.take():
                yield chunk
    yield sink.take()


def _without_dictionary(batch: pa.RecordBatch) -> pa.RecordBatch:
    symbols = batch.column("symbol").dictionary_decode()
    return batch.set_column(batch.schema.get_field_index("symbol"), "symbol", symbols)
