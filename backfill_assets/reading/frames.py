"""Blocks of columns as Arrow, polars and pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from backfill_assets.domain.bars import NO_TRADES
from backfill_assets.domain.errors import UsageMistake
from backfill_assets.reading.connection import Columns, has_arrow
from backfill_assets.reading.selection import one_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ENGINES = ("pandas", "polars", "arrow")

type Block = tuple[int, Columns]
"""The number of a symbol, and rows of it."""


def require_engine(engine: str) -> None:
    """Raise UsageMistake if the engine is unknown or not installed."""
    one_of("engine", engine, ENGINES)
    if engine != "pandas" and not has_arrow():
        raise UsageMistake(
            f"The extra `reading` is not installed, which {engine} needs: pip install 'backfill-assets[reading]'."
        )


def arrow_batch(symbols: Sequence[str], block: Block, tz: ZoneInfo) -> pa.RecordBatch:
    """Convert a block: `symbol` is a dictionary, `timestamp` in microseconds in the zone; NaN is null."""
    import pyarrow as pa

    number, columns = block
    codes = pa.array(np.full(len(columns["timestamp"]), number, np.int32))
    arrays: dict[str, Any] = {"symbol": pa.DictionaryArray.from_arrays(codes, pa.array(symbols, pa.string()))}
    for name, column in columns.items():
        if name == "timestamp":
            arrays[name] = pa.array(column).view(pa.timestamp("us", tz.key))
        elif name == "trades":
            arrays[name] = pa.array(column, mask=column == NO_TRADES)
        else:
            arrays[name] = pa.array(column, from_pandas=True)
    return pa.record_batch(arrays)


def frame(engine: str, symbols: Sequence[str], blocks: Iterable[Block], names: Sequence[str], tz: ZoneInfo) -> Any:
    """Collect blocks into a frame with the columns `names` after the symbol."""
    if engine == "pandas":
        return _pandas(symbols, blocks, names, tz)
    import pyarrow as pa

    empty = arrow_batch(symbols, (0, _no_rows(names)), tz)
    table = pa.Table.from_batches([arrow_batch(symbols, block, tz) for block in blocks], empty.schema)
    return polars(table) if engine == "polars" else table


def polars(table: Any) -> Any:
    """Convert an Arrow table."""
    import polars as pl

    return pl.from_arrow(table)


def _no_rows(names: Sequence[str]) -> Columns:
    return {name: np.empty(0, np.int64 if name in {"timestamp", "trades"} else np.float64) for name in names}


def _pandas(symbols: Sequence[str], blocks: Iterable[Block], names: Sequence[str], tz: ZoneInfo) -> pd.DataFrame:
    import pandas as pd

    parts = [(0, _no_rows(names)), *blocks]
    joined = {name: np.concatenate([columns[name] for _, columns in parts]) for name in names}
    codes = np.repeat([number for number, _ in parts], [len(columns["timestamp"]) for _, columns in parts])
    del parts
    data: dict[str, Any] = {"symbol": pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(list(symbols)))}
    for name in names:
        column = joined.pop(name)
        if name == "timestamp":
            data[name] = pd.DatetimeIndex(column.view("datetime64[us]")).tz_localize("UTC").tz_convert(tz)
        elif name == "trades":
            data[name] = pd.arrays.IntegerArray(column, column == NO_TRADES)
        else:
            data[name] = column
    return pd.DataFrame(data, copy=False)
