"""Encode and decode PostgreSQL's binary formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from backfill_assets.domain.bars import NO_TRADES, Bars, Float, Int

# PostgreSQL documentation, COPY, "Binary Format": signature, flags and extension length; -1 ends the data.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
POSTGRES_EPOCH_MS = 946_684_800_000
"""timestamptz is encoded as microseconds since 2000-01-01 UTC."""

_NULL = -1  # as the length of a field, which then has no bytes
_FIELD = np.dtype([("length", ">i4"), ("value", ">i8")])
_BAR = np.dtype([("timestamp", ">i8"), *((name, ">f8") for name in ("open", "high", "low", "close", "volume"))])
"""A bar as encoded by timestamptz_send and five float8send."""

_BLOCK = 1024
"""Rows encoded at a time: half a megabyte, which stays in the processor's cache."""


def copy_block(bars: Bars, texts: Sequence[str] = (), *, nulls: bool = False) -> bytes:
    """Encode bars as COPY BINARY data: the same texts in each row, timestamptz, six float8, int8.

    With `nulls`, missing vwap and trades are NULL; without, NaN and NO_TRADES.
    """
    floats = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.vwap)
    words = np.stack([*(column.view(np.int64) for column in floats), bars.trades], axis=1)
    null = np.zeros(words.shape, bool)
    if nulls:
        null[:, 5], null[:, 6] = np.isnan(bars.vwap), bars.trades == NO_TRADES
    return b"".join(_encoded(texts, bars.timestamp, words, null.__getitem__))


def feature_blocks(texts: Sequence[str], timestamps: Int, values: Float) -> Iterator[bytes]:
    """Encode rows as COPY BINARY data in blocks: the same texts in each row, timestamptz, float8 with NaN as NULL.

    `timestamps` int64 (n,) are milliseconds since the epoch UTC, `values` float64 (n, columns).
    """
    return _encoded(texts, timestamps, values.view(np.int64), lambda rows: np.isnan(values[rows]))


def bars_of_block(block: bytes) -> Bars:
    """Decode bars from (timestamptz, open, high, low, close, volume) each; vwap and trades are missing."""
    rows = np.frombuffer(block, _BAR)
    stamps: Int = rows["timestamp"].astype(np.int64) // 1000 + POSTGRES_EPOCH_MS
    prices = (rows[name].astype(np.float64) for name in ("open", "high", "low", "close", "volume"))
    columns: list[Any] = [stamps, *prices, np.full(len(rows), np.nan), np.full(len(rows), NO_TRADES, np.int64)]
    return Bars(*columns)


def _encoded(
    texts: Sequence[str], timestamps: Int, words: Int, null: Callable[[slice], npt.NDArray[np.bool_]]
) -> Iterator[bytes]:
    """Rows of texts, a timestamp and 8-byte fields: `words` (n, fields) are int8 or the bits of float8, unless `null`."""
    encoded = [text.encode() for text in texts]
    fields = words.shape[1]
    layout: list[Any] = [("fields", ">i2")]
    for number, text in enumerate(encoded):
        layout += [(f"text{number}_length", ">i4"), (f"text{number}", f"S{len(text)}")]
    layout += [("timestamp", _FIELD), ("words", _FIELD, (fields,))]
    rows = np.empty(min(len(words), _BLOCK), np.dtype(layout))
    rows["fields"], rows["timestamp"]["length"] = len(encoded) + 1 + fields, 8
    for number, text in enumerate(encoded):
        rows[f"text{number}_length"], rows[f"text{number}"] = len(text), text
    yield HEADER
    for start in range(0, len(words), _BLOCK):
        part = slice(start, start + _BLOCK)
        block, absent = rows[: len(words[part])], null(part)
        block["timestamp"]["value"] = (timestamps[part] - POSTGRES_EPOCH_MS) * 1000
        block["words"]["value"] = words[part]
        block["words"]["length"] = np.where(absent, _NULL, 8)
        if not absent.any():
            yield block.tobytes()
            continue
        written = np.ones((len(block), rows.itemsize), bool)
        written[:, -fields * _FIELD.itemsize :].reshape(len(block), fields, _FIELD.itemsize)[absent, 4:] = False
        yield block.view(np.uint8).reshape(written.shape)[written].tobytes()
    yield TRAILER
