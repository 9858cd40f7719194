"""Bars as one block of PostgreSQL's binary COPY format.

What lives here: the byte layout. What does not: the table it goes to.
"""

from __future__ import annotations

import numpy as np

from backfill_assets.domain.bars import Bars

# PostgreSQL documentation, COPY, "Binary Format": signature, flags and extension length; -1 ends the block.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# timestamptz travels as microseconds since 2000-01-01 UTC.
_POSTGRES_EPOCH_MS = 946_684_800_000
_FLOATS = ("open", "high", "low", "close", "volume", "vwap")
_ROW = np.dtype(
    [("fields", ">i2"), ("timestamp_length", ">i4"), ("timestamp", ">i8")]
    + [part for name in _FLOATS for part in ((f"{name}_length", ">i4"), (name, ">f8"))]
    + [("trades_length", ">i4"), ("trades", ">i8")]
)


def copy_block(bars: Bars) -> bytes:
    """All rows as COPY BINARY data: timestamptz, six float8, int8. Absent vwap travels as NaN, absent trades as -1."""
    rows = np.empty(len(bars), _ROW)
    rows["fields"] = 2 + len(_FLOATS)
    rows["timestamp_length"] = 8
    rows["timestamp"] = (bars.timestamp - _POSTGRES_EPOCH_MS) * 1000
    for name in _FLOATS:
        rows[f"{name}_length"] = 8
        rows[name] = getattr(bars, name)
    rows["trades_length"] = 8
    rows["trades"] = bars.trades
    return _HEADER + rows.tobytes() + _TRAILER
