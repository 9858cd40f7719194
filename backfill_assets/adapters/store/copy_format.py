"""Bars as one block of PostgreSQL's binary COPY format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from backfill_assets.domain.bars import NO_TRADES, Bars

# PostgreSQL documentation, COPY, "Binary Format": signature, flags and extension length; -1 ends the block, and as a field's
# length it stands for NULL, which has no bytes.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
# timestamptz travels as microseconds since 2000-01-01 UTC.
POSTGRES_EPOCH_MS = 946_684_800_000
_NULL = -1
_FLOATS = ("open", "high", "low", "close", "volume", "vwap")


def copy_block(bars: Bars, texts: Sequence[str] = (), *, nulls: bool = False) -> bytes:
    """All rows as COPY BINARY data: the same texts in each, timestamptz, six float8, int8.

    With `nulls`, absent vwap and absent trades are NULL. Without, rows are of one width: NaN and NO_TRADES stand for them.
    """
    encoded = [text.encode() for text in texts]
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for number, text in enumerate(encoded):
        layout += [(f"text{number}_length", ">i4"), (f"text{number}", f"S{len(text)}")]
    for name in ("timestamp", *_FLOATS, "trades"):
        layout += [(f"{name}_length", ">i4"), (name, ">f8" if name in _FLOATS else ">i8")]
    rows = np.empty(len(bars), np.dtype(layout))
    rows["fields"] = len(encoded) + 2 + len(_FLOATS)
    for number, text in enumerate(encoded):
        rows[f"text{number}_length"], rows[f"text{number}"] = len(text), text
    for name in ("timestamp", *_FLOATS, "trades"):
        rows[f"{name}_length"] = 8
    rows["timestamp"] = (bars.timestamp - POSTGRES_EPOCH_MS) * 1000
    for name in (*_FLOATS, "trades"):
        rows[name] = getattr(bars, name)
    return HEADER + (_with_nulls(rows, bars) if nulls else rows.tobytes()) + TRAILER


def _with_nulls(rows: np.ndarray[Any, Any], bars: Bars) -> bytes:
    """The rows' bytes, where absent values have the length of NULL and no bytes."""
    absent = {"vwap": np.isnan(bars.vwap), "trades": bars.trades == NO_TRADES}
    if not any(where.any() for where in absent.values()):
        return rows.tobytes()
    written = np.ones((len(rows), rows.itemsize), bool)
    for name, where in absent.items():
        rows[f"{name}_length"][where] = _NULL
        start = _offset(rows, name)
        written[where, start : start + 8] = False
    cut: bytes = rows.view(np.uint8).reshape(written.shape)[written].tobytes()
    return cut


def _offset(rows: np.ndarray[Any, Any], name: str) -> int:
    fields: Any = rows.dtype.fields
    return int(fields[name][1])
