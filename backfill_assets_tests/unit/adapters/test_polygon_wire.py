import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_assets.adapters.polygon.wire import decode_grouped, decode_page
from backfill_assets.domain.bars import NO_TRADES
from backfill_assets.domain.errors import (
    ContradictoryAnswer,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    RateLimited,
    VendorError,
    VendorUnavailable,
)
from backfill_assets_tests.integration.adapters.scripted_vendor import bar
from backfill_assets_tests.support import PROJECT

RECORDED = PROJECT.parent / "shared" / "truth" / "polygon" / "test_rest" / "mocks" / "v2" / "aggs"
COLUMNS = {
    "timestamp": "t",
    "open": "o",
    "high": "h",
    "low": "l",
    "close": "c",
    "volume": "v",
    "vwap": "vw",
    "trades": "n",
}


def body(*results, status="OK", **more):
    return json.dumps({"status": status, "results": list(results)} | more).encode()


def raw_bar(**fields):
    """A body with one bar whose fields are JSON as written."""
    written = {k: str(v) for k, v in bar(1_600_000_000_000).items()} | fields
    inside = ",".join(f'"{name}":{value}' for name, value in written.items() if value)
    return f'{{"status":"OK","results":[{{{inside}}}]}}'.encode()


def assert_holds(bars, results):
    for column, key in COLUMNS.items():
        absent = math.nan if key == "vw" else NO_TRADES
        np.testing.assert_array_equal(getattr(bars, column), [row.get(key, absent) for row in results], err_msg=column)
        assert getattr(bars, column).dtype == (np.int64 if key in "tn" else np.float64)


def recorded(pattern):
    if not RECORDED.is_dir():
        pytest.skip("the recorded vendor answers are not on this machine")
    found = sorted(RECORDED.glob(pattern))
    assert found
    return [path.read_bytes() for path in found]


@pytest.mark.parametrize(
    "results",
    [
        [bar(1), bar(2, l=1e-9, v=6.42e08)],
        [{k: v for k, v in bar(5).items() if k not in ("vw", "n")}, bar(3)],
        [bar(7), bar(7, c=2.0)],
        [],
    ],
)
def test_bars_arrive_as_they_were_sent(results):
    page = decode_page(body(*results, next_url="https://x/y?cursor=1", adjusted=False))
    assert_holds(page.bars, results)
    assert (page.next_url, page.more, page.status, page.adjusted) == ("https://x/y?cursor=1", True, "OK", False)


def test_recorded_pages():
    for text in recorded("ticker/**/*.json"):
        page = decode_page(text)
        assert_holds(page.bars, json.loads(text)["results"])
        assert not page.more


def test_recorded_grouped_days():
    for text in recorded("grouped/**/*.json"):
        results = json.loads(text)["results"]
        day = decode_grouped(text)
        assert day.tickers == [row["T"] for row in results]
        assert_holds(day.bars, results)


@pytest.mark.parametrize("text", [b'{"status":"OK"}', b'{"status":"DELAYED","results":null,"resultsCount":0}'])
def test_absent_results_are_an_empty_page(text):
    page = decode_page(text)
    assert len(page.bars) == 0
    assert not page.more


@pytest.mark.parametrize(
    ("fields", "column", "value"),
    [
        ({"t": "1.6e12"}, "timestamp", 1_600_000_000_000),
        ({"t": "1600000000000.0"}, "timestamp", 1_600_000_000_000),
        ({"n": "5.0"}, "trades", 5),
        ({"n": "null"}, "trades", NO_TRADES),
        ({"n": "", "t": "1.6e12"}, "trades", NO_TRADES),
        ({"vw": "null"}, "vwap", math.nan),
        ({"vw": ""}, "vwap", math.nan),
        ({"v": "6.42e+08"}, "volume", 6.42e8),
        ({"v": "0.00012"}, "volume", 0.00012),
        ({"h": "7"}, "high", 7.0),
    ],
)
def test_numbers_in_every_spelling(fields, column, value):
    np.testing.assert_array_equal(getattr(decode_page(raw_bar(**fields)).bars, column), [value])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"results":[]}',
        b'{"message":"hello"}',
        b'{"status":"OK","results":{}}',
        b'{"status":"OK","next_url":5}',
        b"<html><body>502 Bad Gateway</body></html>",
        body(bar(1))[:-20],
        b"\xff\xfe",
        b"[" * 200_000,
    ],
)
@pytest.mark.parametrize("decode", [decode_page, decode_grouped])
def test_another_format_is_malformed(text, decode):
    with pytest.raises(MalformedAnswer):
        decode(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b'{"status":"ERROR","error":"Unknown API Key"}', KeyRefused),
        (b'{"status":"OK","error":"Unknown API Key","results":[]}', KeyRefused),
        (b'{"status":"OK","message":"Too many requests, please upgrade your plan"}', RateLimited),
        (b'{"error":"Too many requests for this API key"}', RateLimited),
        (b'{"status":"OK","message":"The query was cut short","resultsCount":0}', VendorUnavailable),
        (b'{"status":"ERROR","error":"You are not authorized. Upgrade your browser"}', VendorUnavailable),
        (b'{"status":"ERROR","error":"You\'ve exceeded the maximum requests per minute, please wait"}', RateLimited),
        (b'{"status":"NOT_AUTHORIZED","message":"Your plan doesn\'t include this data timeframe."}', NotEntitled),
        (b'{"status":"ERROR","error":"You are not entitled to this data."}', NotEntitled),
        (b'{"status":"ERROR","error":"Internal failure","request_id":"r9"}', VendorUnavailable),
        (b'{"status":"ERROR","results":"of some other shape","error":5}', VendorUnavailable),
        (b'{"status":"","results":[]}', VendorUnavailable),
    ],
)
@pytest.mark.parametrize("decode", [decode_page, decode_grouped])
def test_a_failure_inside_a_200_is_recognized_by_its_text(text, error, decode):
    with pytest.raises(error) as caught:
        decode(text)
    assert type(caught.value) is error
    assert caught.value.request_id == ("r9" if b"r9" in text else None)


def test_of_a_repeated_ticker_equal_rows_are_one_bar_and_different_ones_none():
    rows = [bar(1, T="A"), bar(1, T="B", c=2.0), bar(1, T="A"), bar(1, T="C", c=1.25), bar(1, T="B", c=1.0)]
    day = decode_grouped(body(*rows))
    assert dict(zip(day.tickers, day.bars.close.tolist(), strict=True)) == {"A": 1.5, "C": 1.25}
    assert day.bad == {"B": "the day has two bars of the ticker that differ"}


# --- Rows that cannot be bars

UNREADABLE = {
    **{(k, v): "is not a usable number" for k in "ohlcv" for v in ("null", "", '"1"', "true", "1e400", "NaN", "[]")},
    **{("t", v): "timestamp is not" for v in ("null", "", "1.5", '"1600000000000"', "1" * 30, "1e400", "-Infinity")},
    **{("n", v): "trades is not" for v in ("2.5", "9" * 25, '"3"')},
}
IMPOSSIBLE = {
    ("o", "0"): "zero or negative",
    ("c", "-6"): "zero or negative",
    ("h", "0.4"): "high is below low",
    ("l", "1.75"): "not between low and high",
    ("c", "2.5"): "not between low and high",
    ("v", "-1"): "volume is negative",
    ("n", "-1"): "trades is negative",
    ("n", "-7.0"): "trades is negative",
}


@pytest.mark.parametrize(("field", "reason"), [*UNREADABLE.items(), *IMPOSSIBLE.items()])
def test_a_row_that_cannot_be_a_bar_costs_itself_only(field, reason):
    name, value = field
    bad = raw_bar(T='"B"', t="1600000060000", **{name: value}) if name != "t" else raw_bar(T='"B"', t=value)
    good = [raw_bar(T=f'"{ticker}"', t=str(t)) for ticker, t in (("A", 1_600_000_000_000), ("C", 1_600_000_120_000))]
    rows = b",".join(text[text.index(b"[") + 1 : text.rindex(b"]")] for text in (good[0], bad, good[1]))
    text = b'{"status":"OK","resultsCount":3,"results":[' + rows + b"]}"
    page = decode_page(text)
    assert page.bars.timestamp.tolist() == [1_600_000_000_000, 1_600_000_120_000]
    (row,) = page.bad
    assert reason in row.reason.replace("the number of ", "").replace("a price is ", "")
    before, after = 1_600_000_000_000, 1_600_000_120_000
    unknown = before, (before, after)
    assert (row.timestamp, row.between) == (unknown if name == "t" else (1_600_000_060_000, None))
    day = decode_grouped(text)
    assert (day.tickers, list(day.bad), day.nameless) == (["A", "C"], ["B"], 0)


@pytest.mark.parametrize(
    "row", [b"5", b"null", b'"x"', b"[]", rb'{"T":"A\ud800","o":1}', b'{"T":"A\xff","o":null}', b'{"T":7,"t":60000}']
)
def test_a_row_without_a_readable_ticker_is_counted(row):
    day = decode_grouped(b'{"status":"OK","resultsCount":2,"results":[' + row + b"," + body(bar(1, T="A"))[29:])
    assert (day.tickers, day.nameless, day.bad) == (["A"], 1, {})


def test_a_row_without_a_time_is_between_the_rows_before_and_after_it():
    page = decode_page(body(5, bar(60_000), {"t": None}, None, bar(120_000, c=9.0), {"t": 180_000}, []))
    ever = 2**62
    assert [row.between for row in page.bad if row.between] == [
        *((-ever, 60_000), (60_000, 120_000), (60_000, 120_000), (180_000, ever)),
    ]
    assert [row.timestamp for row in page.bad if not row.between] == [180_000, 120_000]


@pytest.mark.parametrize(("value", "vwap"), [("-1", math.nan), ("-0.5", math.nan), ("99", 99.0)])
def test_a_negative_vwap_is_absent_and_one_outside_of_low_to_high_is_usual(value, vwap):
    page = decode_page(raw_bar(vw=value))
    assert page.bad == ()
    np.testing.assert_array_equal(page.bars.vwap, [vwap])


@pytest.mark.parametrize("decode", [decode_page, decode_grouped])
@pytest.mark.parametrize("odd", [{"c": "1.5"}, {"c": -1.5}, {"o": None}])
def test_ten_rows_that_are_all_unusable_have_another_format(decode, odd):
    rows = [bar(60_000 * i, T=f"A{i}") | odd for i in range(10)]
    with pytest.raises(MalformedAnswer, match="none of its 10 rows can be used"):
        decode(body(*rows))
    assert len(decode(body(*rows, bar(1, T="B"))).bars) == 1
    assert len(decode(body(*rows[:9])).bad) == 9


@pytest.mark.parametrize("decode", [decode_page, decode_grouped])
@pytest.mark.parametrize(("count", "rows"), [(7, 0), (0, 1), (3, 2), (1, 2), (-1, 0)])
def test_another_number_of_rows_than_it_counts_is_a_contradiction(decode, count, rows):
    with pytest.raises(ContradictoryAnswer, match=f"counts {count} results"):
        decode(body(*(bar(60_000 * i, T=f"A{i}") for i in range(rows)), resultsCount=count))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("OK"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*COLUMNS.values(), "T", "x"]), inner),
)
ENVELOPES = st.fixed_dictionaries(
    {"status": st.sampled_from(["OK", "DELAYED", "ERROR", ""]) | JSON},
    optional={
        "results": JSON | st.lists(JSON),
        "next_url": JSON,
        "resultsCount": JSON,
        "error": JSON,
        "adjusted": JSON,
    },
)


@given(st.binary() | (ENVELOPES | JSON).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_result_or_a_typed_error(text):
    for decode in (decode_page, decode_grouped):
        try:
            bars = decode(text).bars
        except VendorError as error:
            assert type(error) is not VendorError  # noqa: PT017  # either outcome is right
        else:
            assert {len(getattr(bars, name)) for name in COLUMNS} == {len(bars)}


@given(
    st.lists(
        st.fixed_dictionaries(
            {"t": st.integers(0, 2**53), "v": st.floats(0, 1e12)},
            optional={"vw": st.floats(0, 1e12), "n": st.integers(0, 2**31)},
        ).flatmap(lambda row: st.floats(1e-9, 1e12).map(lambda price: row | dict.fromkeys("ohlc", price))),
        max_size=20,
    ),
    st.booleans(),
)
def test_both_spellings_of_whole_numbers_read_alike(rows, spelled_as_floats):
    sent = [{k: float(v) for k, v in row.items()} for row in rows] if spelled_as_floats else rows
    assert_holds(decode_page(body(*sent)).bars, rows)


def test_a_full_page_is_read_quickly_enough_to_hide_behind_the_network():
    rows = [bar(1_600_000_000_000 + 60_000 * i, v=6.42e8 + i / 3) for i in range(50_000)]
    text = body(*rows)
    took = []
    for _ in range(5):
        begun = time.process_time()
        decode_page(text)
        took.append(time.process_time() - begun)
    assert min(took) < 0.4  # 0.4 s is what 2.5 requests a second leave; it takes about 0.05
