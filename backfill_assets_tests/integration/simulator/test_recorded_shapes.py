"""The simulator's answers against recorded ones of the real vendor: same fields, same types, same stamps."""

import json
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from backfill_assets.simulator import Dividend
from backfill_assets_tests.support import PROJECT

RECORDED = PROJECT.parent / "shared" / "truth" / "polygon" / "test_rest" / "mocks"

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded answers of the vendor are not on this machine"
)


def recorded(name):
    return json.loads((RECORDED / name).read_text())


def kinds(row):
    return {
        key: "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
        for key, value in row.items()
    }


def test_bars(bars):
    real = recorded("v2/aggs/ticker/AAPL/range/1/day/2005-04-01/2005-04-04.json")
    ours = bars("AAPL", "1/day", "2005-04-01", "2005-04-04")
    assert kinds(ours) == kinds(real)
    assert kinds(ours["results"][0]) == kinds(real["results"][0])
    assert [b["t"] for b in ours["results"]] == [b["t"] for b in real["results"]]  # over a change of clocks
    assert {k: ours[k] for k in ("queryCount", "resultsCount", "count")} == {
        k: real[k] for k in ("queryCount", "resultsCount", "count")
    }


def test_grouped_bars(client):
    real = recorded("v2/aggs/grouped/locale/us/market/stocks/2005-04-04&adjusted=true.json")
    day = datetime.fromtimestamp(real["results"][0]["t"] / 1000, ZoneInfo("America/New_York"))
    ours = client.get(f"/v2/aggs/grouped/locale/us/market/stocks/{day.date()}").json()
    assert kinds(ours) == kinds(real)
    complete = next(r for r in ours["results"] if len(r) == 9)
    assert kinds(complete) == kinds(real["results"][0])
    assert complete["t"] == real["results"][0]["t"]


def test_tickers(client):
    real = recorded("v3/reference/tickers.json")
    ours = client.get("/v3/reference/tickers", params={"limit": 2}).json()
    assert kinds(ours) == kinds(real)
    for name, kind in kinds(ours["results"][0]).items():
        assert kinds(real["results"][0])[name] == kind
    assert "cursor=" in ours["next_url"]


def test_ticker_details(client):
    real = recorded("v3/reference/tickers/AAPL.json")
    ours = client.get("/v3/reference/tickers/AAPL").json()
    assert kinds(ours) == kinds(real)
    for name in "ticker name market locale primary_exchange type active currency_name list_date".split():
        assert ours["results"][name] == real["results"][name]


def test_splits(client):
    real = recorded("v3/reference/splits.json")
    ours = client.get("/v3/reference/splits").json()
    assert kinds(ours) == kinds(real)
    assert kinds(ours["results"][0]).items() >= kinds(real["results"][0]).items()
    dates = [r["execution_date"] for r in real["results"]]
    assert dates == sorted(dates, reverse=True)  # the order that ours has too


def test_dividends(client, vendor):
    full = dict.fromkeys(("declaration_date", "record_date", "pay_date"), date(2024, 5, 16))
    vendor.change(dividends=(Dividend(ticker="AAPL", ex_dividend_date=date(2024, 5, 10), cash_amount=0.25, **full),))
    real = recorded("v3/reference/dividends.json")
    ours = client.get("/v3/reference/dividends").json()
    assert kinds(ours["results"][0]).items() >= kinds(real["results"][0]).items()
