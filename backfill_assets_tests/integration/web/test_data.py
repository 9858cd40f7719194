"""`/api/v1/bars` and `features`: each format has what `read_bars` reads; wrong arguments; streams are bounded."""

import io
import json

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from backfill_assets.reading import read_bars, read_features
from backfill_assets.web import data
from backfill_assets.web.api import PREFIX
from backfill_assets_tests.integration.reading.conftest import filled
from backfill_assets_tests.integration.web.conftest import serving

__all__ = ["filled"]

READERS = {
    "json": lambda content: pa.Table.from_pylist(json.loads(content)).to_pandas(),
    "csv": lambda content: pa_csv.read_csv(io.BytesIO(content)).to_pandas(),
    "arrow": lambda content: pa.ipc.open_stream(content).read_all().to_pandas(),
    "parquet": lambda content: pq.read_table(io.BytesIO(content)).to_pandas(),
}


@pytest.fixture
def reader(filled, environment, monkeypatch):  # noqa: ARG001  # sets the environment
    """A client of a server over the store of the reading functions' tests."""
    monkeypatch.setenv("DATABASE_URL", filled)
    with serving() as client:
        yield client


def rows(reply):
    """The rows of a reply, with the types of a pandas frame."""
    assert reply.status_code == 200, reply.text
    found = READERS[reply.request.url.params["format"]](reply.content)
    found["timestamp"] = pd.to_datetime(found["timestamp"], utc=True).astype("datetime64[us, UTC]")
    found["symbol"] = found["symbol"].astype(str)
    return found


def expected(frame):
    return frame.assign(symbol=frame["symbol"].astype(str), timestamp=frame["timestamp"].astype("datetime64[us, UTC]"))


@pytest.mark.parametrize("kind", data.TYPES)
def test_each_format_has_what_the_reading_functions_read(reader, filled, monkeypatch, kind):
    monkeypatch.setattr(data, "_ROWS", 500)  # several batches a symbol
    for query, frame in (
        (
            {"symbols": "MSFT,AAPL", "timeframe": "1m", "start": "2024-07-01", "adjust": "all"},
            read_bars(["MSFT", "AAPL"], "1m", "2024-07-01", adjust="all", url=filled),
        ),
        (
            {"symbols": "BTC", "timeframe": "1d", "start": "2024-07-01", "end": "2024-07-03", "features": "rsi_14"},
            read_bars(["BTC"], "1d", "2024-07-01", "2024-07-03", features=["rsi_14"], url=filled),
        ),
    ):
        reply = reader.get(f"{PREFIX}/bars", params={**query, "format": kind})
        assert reply.headers["content-type"] == data.TYPES[kind]
        pd.testing.assert_frame_equal(rows(reply), expected(frame), check_dtype=False)
    query = {"symbols": "BTC", "timeframe": "1d", "features": "rsi_14,atr_14", "format": kind}
    wanted = read_features(["BTC"], "1d", features=["rsi_14", "atr_14"], url=filled)
    found = rows(reader.get(f"{PREFIX}/features", params=query))
    assert list(found) == list(wanted)
    pd.testing.assert_frame_equal(found.iloc[:3], expected(wanted).iloc[:3], check_dtype=False)
    nothing = {"symbols": "BTC", "timeframe": "1d", "start": "2020-01-01", "end": "2020-01-02", "format": kind}
    assert len(READERS[kind](reader.get(f"{PREFIX}/bars", params=nothing).content)) == 0


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("timeframe=1d", 400, "symbols is missing: symbols, separated by commas."),
        ("symbols=BTC", 400, "timeframe is missing: one timeframe."),
        ("symbols=BTX&timeframe=1d", 404, None),
        ("symbols=BTC&timeframe=1d&start=yesterday", 400, None),
        ("symbols=BTC&timeframe=1d&start=", 400, None),
        ("symbols=B%00&timeframe=1d", 404, None),
        ("symbols=BTC&timeframe=1d&source=%00", None, None),
        ("symbols=BTC&timeframe=1d&features=x", 404, None),
        ("symbols=BTC&timeframe=1d&known_at=2024-13-01", 400, None),
        ("symbols=BTC&timeframe=1d&start=2024-07-03&end=2024-07-01", None, None),
        ("symbols=BTC&timeframe=1d&as_of=0000", 400, None),
        ("symbols=BTC&timeframe=1d&format=xml", 400, "format must be one of json, csv, arrow, parquet, not 'xml'."),
    ],
)
def test_wrong_arguments_get_one_sentence_and_leave_room_for_others(reader, query, status, sentence):
    for _ in range(3):
        reply = reader.get(f"{PREFIX}/bars?{query}")
        assert reply.status_code < 500
        assert status is None or reply.status_code == status, reply.text
        assert sentence is None or reply.json()["detail"] == sentence
    assert reader.get(f"{PREFIX}/bars?symbols=BTC&timeframe=1d").status_code == 200


def test_two_clients_at_a_time_are_sent_data_and_ones_that_leave_make_room(reader, monkeypatch):
    monkeypatch.setattr(data, "_ROWS", 1)
    query = f"{PREFIX}/bars?symbols=BTC&timeframe=1m"
    with reader.stream("GET", query) as first, reader.stream("GET", query) as second:
        assert (first.status_code, second.status_code) == (200, 200)
        refused = reader.get(query)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    monkeypatch.setattr(data, "_ROWS", 100_000)
    for _ in range(100):
        reply = reader.get(query)
        if reply.status_code == 200:
            break
    assert reply.status_code == 200
