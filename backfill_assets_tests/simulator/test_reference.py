from datetime import date

import httpx
import pytest

from backfill_assets.simulator import Dividend, Split


def follow(client, url):
    found = []
    while url:
        page = client.get(url).json()
        found += page["results"]
        url = page.get("next_url")
        assert "secret" not in (url or "")
    return found


def test_ticker_details(client):
    apple = client.get("/v3/reference/tickers/AAPL").json()
    assert apple["status"] == "OK"
    assert (apple["results"]["list_date"], apple["results"]["active"]) == ("1980-12-12", True)
    coin = client.get("/v3/reference/tickers/X:BTCUSD").json()["results"]
    assert (coin["market"], coin["base_currency_symbol"], "list_date" in coin) == ("crypto", "BTC", False)
    unknown = client.get("/v3/reference/tickers/NOPE")
    assert (unknown.status_code, unknown.json()["status"]) == (404, "NOT_FOUND")


def test_tickers_by_pages(client, vendor):
    every = follow(client, "/v3/reference/tickers?limit=7")
    names = [r["ticker"] for r in every]
    assert names == sorted(vendor.scenario.known)
    assert {r["ticker"] for r in follow(client, "/v3/reference/tickers?limit=4&market=crypto")} == {
        n for n in names if n.startswith("X:")
    }
    assert [r["ticker"] for r in follow(client, "/v3/reference/tickers?ticker=MSFT")] == ["MSFT"]
    assert httpx.get(vendor.url + "/v3/reference/tickers?limit=7").status_code == 401


def test_a_delisted_ticker(client, vendor):
    vendor.change(delisted={"PYPL": date(2024, 5, 3)}, listed={"PYPL": date(2015, 7, 7)})
    details = client.get("/v3/reference/tickers/PYPL").json()["results"]
    assert (details["active"], details["delisted_utc"][:10], details["list_date"]) == (
        False,
        "2024-05-03",
        "2015-07-07",
    )
    assert "PYPL" not in {r["ticker"] for r in follow(client, "/v3/reference/tickers?limit=1000")}
    assert [r["ticker"] for r in follow(client, "/v3/reference/tickers?active=false")] == ["PYPL"]


SPLITS = (
    Split(ticker="NVDA", execution_date=date(2021, 7, 20), split_to=4),
    Split(ticker="NVDA", execution_date=date(2024, 6, 10), split_to=10),
    Split(ticker="GE", execution_date=date(2021, 8, 2), split_from=8, split_to=1),
)


@pytest.mark.parametrize("path", ["/stocks/v1/splits", "/v3/reference/splits"])
def test_splits(client, vendor, path):
    vendor.change(splits=SPLITS)
    assert [r["execution_date"] for r in follow(client, f"{path}?limit=1")] == [
        "2024-06-10",
        "2021-08-02",
        "2021-07-20",
    ]
    assert len(follow(client, f"{path}?ticker=NVDA")) == 2
    assert len(follow(client, f"{path}?ticker=NVDA&execution_date.gte=2021-07-20&execution_date.lte=2021-12-31")) == 1
    assert len(follow(client, f"{path}?execution_date.gt=2021-07-20")) == 2
    row = follow(client, f"{path}?ticker=GE")[0]
    assert (row["split_from"], row["split_to"]) == (8, 1)


def test_the_new_splits_carry_kind_and_cumulative_factor(client, vendor):
    vendor.change(splits=SPLITS)
    rows = {r["execution_date"]: r for r in follow(client, "/stocks/v1/splits")}
    assert rows["2021-07-20"]["historical_adjustment_factor"] == pytest.approx(1 / 40)
    assert rows["2021-07-20"]["adjustment_type"] == "forward_split"
    assert rows["2021-08-02"]["adjustment_type"] == "reverse_split"
    assert "adjustment_type" not in follow(client, "/v3/reference/splits")[0]


def test_a_record_entered_twice_moves_no_price(client, vendor):
    before = vendor.market.daily_bars("NVDA", date(2024, 6, 3), date(2024, 6, 14))
    twin = Split(ticker="NVDA", execution_date=date(2024, 6, 12), split_to=10, happened=False)
    vendor.change(splits=(*vendor.scenario.splits, twin))
    assert len(follow(client, "/stocks/v1/splits?ticker=NVDA")) == 2
    after = vendor.market.daily_bars("NVDA", date(2024, 6, 3), date(2024, 6, 14))
    assert after.close.tolist() == before.close.tolist()


@pytest.mark.parametrize(
    ("path", "kind"), [("/stocks/v1/dividends", "distribution_type"), ("/v3/reference/dividends", "dividend_type")]
)
def test_dividends(client, vendor, path, kind):
    dividends = [Dividend(ticker="NVDA", ex_dividend_date=date(2024, m, 5), cash_amount=0.04) for m in (3, 9)]
    dividends.append(
        Dividend(ticker="AAPL", ex_dividend_date=date(2024, 5, 10), cash_amount=0.25, pay_date=date(2024, 5, 16))
    )
    vendor.change(dividends=tuple(dividends))
    assert len(follow(client, f"{path}?limit=1")) == 3
    apple = follow(client, f"{path}?ticker=AAPL")[0]
    assert (apple["cash_amount"], apple["pay_date"], apple["ex_dividend_date"]) == (0.25, "2024-05-16", "2024-05-10")
    assert kind in apple
    assert len(follow(client, f"{path}?ex_dividend_date.gte=2024-05-01")) == 2
    assert len(follow(client, f"{path}?ex_dividend_date.lte=2024-05-01")) == 1
    if path.startswith("/stocks"):
        assert {r["split_adjusted_cash_amount"] for r in follow(client, f"{path}?ticker=NVDA")} == {0.004, 0.04}


def test_an_older_vendor_has_the_older_paths_only(client, vendor):
    vendor.change(corporate_actions_v1=False)
    for name in ("splits", "dividends"):
        assert client.get(f"/stocks/v1/{name}").status_code == 404
        assert client.get(f"/v3/reference/{name}").status_code == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=5001", "limit=x", "cursor=%21%21", "sort=colour"])
def test_bad_parameters_are_400(client, query):
    assert client.get(f"/stocks/v1/splits?{query}").status_code == 400
