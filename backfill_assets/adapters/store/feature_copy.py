"""Encode feature rows for, and decode bars from, PostgreSQL's binary formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from backfill_assets.adapters.store.copy_format import HEADER, POSTGRES_EPOCH_MS, TRAILER
from backfill_assets.domain.bars import NO_TRADES, Bars, Float, Int

_BAR = np.dtype([("timestamp", ">i8"), *((name, ">f8") for name in ("open", "high", "low", "close", "volume"))])
"""A bar as encoded by timestamptz_send and five float8send: eight bytes each, big-endian."""

_AT_ONCE = 1024
"""Rows encoded at a time: half a megabyte, which stays in the processor's cache while it is filled and sent."""

_ABSENT = -1  # the length of a NULL field, after which no bytes follow


def feature_blocks(texts: Sequence[str], timestamps: Int, values: Float) -> Iterator[bytes]:
    """Encode rows as COPY BINARY data, in blocks: the same texts in each row, timestamptz, then float8 with NaN as NULL.

    `timestamps` int64 (n,) are milliseconds since the epoch UTC, `values` float64 (n, columns).
    """
    total, columns = values.shape
    encoded = [text.encode() for text in texts]
    head: list[tuple[str, str]] = [("fields", ">i2")]
    for number, text in enumerate(encoded):
        head += [(f"text{number}_length", ">i4"), (f"text{number}", f"S{len(text)}")]
    field = np.dtype([("length", ">i4"), ("value", ">f8")])
    layout: list[Any] = [*head, ("timestamp_length", ">i4"), ("timestamp", ">i8"), ("features", field, (columns,))]
    rows = np.empty(min(total, _AT_ONCE), np.dtype(layout))
    rows["fields"], rows["timestamp_length"] = len(encoded) + 1 + columns, 8
    for number, text in enumerate(encoded):
        rows[f"text{number}_length"], rows[f"text{number}"] = len(text), text
    yield HEADER
    for start in range(0, total, _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        block = rows[: len(part)]
        block["timestamp"] = (timestamps[start : start + _AT_ONCE] - POSTGRES_EPOCH_MS) * 1000
        absent = np.isnan(part)
        block["features"]["length"] = np.where(absent, _ABSENT, 8)
        block["features"]["value"] = part
        if not absent.any():
            yield block.tobytes()
            continue
        written = np.ones((len(part), rows.itemsize), bool)
        written[:, -columns * field.itemsize :].reshape(len(part), columns, field.itemsize)[absent, 4:] = False
        yield block.view(np.uint8).reshape(written.shape)[written].tobytes()
    yield TRAILER


def bars_of_block(block: bytes) -> Bars:
    """Decode bars of (timestamptz, open, high, low, close, volume) each; vwap and trades are unknown."""
    rows = np.frombuffer(block, _BAR)
    stamps: Int = rows["timestamp"].astype(np.int64) // 1000 + POSTGRES_EPOCH_MS
    prices = (rows[name].astype(np.float64) for name in ("open", "high", "low", "close", "volume"))
    columns: list[Any] = [stamps, *prices, np.full(len(rows), np.nan), np.full(len(rows), NO_TRADES, np.int64)]
    return Bars(*columns)
