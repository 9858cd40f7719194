"""The Python of the pages on exports, run as it is printed, over an export of the store."""

import numpy as np
import pandas as pd
import pytest

from backfill_assets.adapters.archive.files import Arguments
from backfill_assets.adapters.archive.places import Folder
from backfill_assets.adapters.store.exports import ExportStore
from backfill_assets.pipelines.export import Scope, export
from backfill_assets_tests.integration.reading.conftest import DAYS
from backfill_assets_tests.integration.reading.test_pages import blocks
from backfill_assets_tests.support import market, rows


@pytest.fixture(scope="module")
def exported(filled, tmp_path_factory):
    """The folder in which `bars` is an export of all markets."""
    folder = tmp_path_factory.mktemp("exported")
    markets = market("stocks", "AAPL", "MSFT"), market("crypto", "BTC")
    scopes = [Scope(m, tuple(s.name for s in m.symbols), ("1m", "1d"), DAYS) for m in markets]
    with ExportStore(filled, read_only=True) as store:
        export(store, Folder(folder / "bars"), scopes, Arguments())
    return folder


@pytest.fixture
def run(exported, monkeypatch):
    """Run the block of a page that has a word; return the names that it defines."""
    monkeypatch.chdir(exported)

    def run(page, word):
        (code,) = (code for code in blocks("howto", page) if word in code)
        names = {}
        exec(code, names)  # noqa: S102  # our own page
        return names

    return run


def stored(url, symbol, timeframe, columns="close"):
    query = f'select {columns} from market_data where symbol = %s and timeframe = %s order by "timestamp"'  # noqa: S608
    return rows(url, query, symbol, timeframe)


def test_polars_duckdb_pyarrow_and_pandas_read_an_export(run, filled):
    aapl = run("export.md", "import polars")["aapl"]
    assert aapl.select("timestamp", "open", "high", "low", "close", "volume", "vwap", "trades").rows() == stored(
        filled, "AAPL", "1m", '"timestamp", open, high, low, close, volume, vwap, trades'
    )
    volumes = dict(run("export.md", "import duckdb")["volumes"])
    assert volumes == {
        symbol: pytest.approx(sum(v for (v,) in stored(filled, symbol, "1d", "volume")), rel=1e-12)
        for symbol in ("AAPL", "BTC", "MSFT")
    }
    days = run("export.md", "import pyarrow")["days"]
    assert days["close"].to_pylist() == [close for (close,) in stored(filled, "AAPL", "1d")]
    coins = run("export.md", "import pandas")["days"]
    assert coins["close"].tolist() == [close for (close,) in stored(filled, "BTC", "1d")]


def test_a_frame_is_what_nautilus_traders_wrangler_takes(run, filled):
    frame = run("backtesting.md", '("symbol", "=", "AAPL")')["frame"]
    # persistence/wranglers.pyx: the rows of `data.values` are five doubles; `as_utc_index` localizes or converts the index.
    assert frame.index.name == "timestamp"
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.tz) == "UTC"
    assert frame.index.is_monotonic_increasing
    assert frame.index.is_unique
    assert frame.to_numpy().dtype == np.float64
    assert [tuple(row) for row in frame.to_numpy()] == stored(filled, "AAPL", "1m", "open, high, low, close, volume")


def test_a_frame_is_what_vectorbts_portfolio_takes(run, filled):
    names = run("backtesting.md", "pivot")
    for frame, column in ((names["close"], "close"), (names["opens"], "open")):
        assert list(frame.columns) == ["AAPL", "MSFT"]
        assert isinstance(frame.index, pd.DatetimeIndex)
        assert frame.index.tz is None
        assert (frame.index == frame.index.normalize()).all()
        assert frame.dtypes.tolist() == [np.float64] * 2
        assert frame["MSFT"].tolist() == [value for (value,) in stored(filled, "MSFT", "1d", column)]
