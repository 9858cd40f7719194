"""Bars as one block of PostgreSQL's binary COPY format.

What lives here: the byte layout. What does not: the table it goes to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backfill_assets.domain.bars import NO_TRADES, Bars

# PostgreSQL documentation, COPY, "Binary Format": signature, flags and extension length; -1 ends the block, and as a field's
# length it stands for NULL, which has no bytes.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
# timestamptz travels as microseconds since 2000-01-01 UTC.
POSTGRES_EPOCH_MS = 946_684_800_000
_FLOATS = ("open", "high", "low", "close", "volume", "vwap")


def copy_block(bars: Bars, texts: Sequence[str] = ()) -> bytes:
    """All rows as COPY BINARY data: the same texts in each, timestamptz, six float8, int8.

    Rows are of one width, so nothing is NULL: absent vwap travels as NaN, absent trades as NO_TRADES.
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
    return HEADER + rows.tobytes() + TRAILER


def without_nulls(bars: Bars) -> bool:
    """Whether every bar has a vwap and a trade count, so that its block says nothing that the table must not hold."""
    return not (np.isnan(bars.vwap).any() or (bars.trades == NO_TRADES).any())
