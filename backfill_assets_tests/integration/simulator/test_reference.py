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


@pytest.mark.parametrize("details", ["inactive", "dated", "missing"])
def test_the_list_of_tickers_has_the_last_day_of_a_delisted_one(client, vendor, details):
    vendor.change(delisted={"PYPL": date(2024, 5, 3)}, delisted_details=details)
    assert "PYPL" not in {r["ticker"] for r in follow(client, "/v3/reference/tickers?limit=1000")}
    for query in ("active=false", "active=false&ticker=PYPL"):
        rows = follow(client, f"/v3/reference/tickers?{query}")
        assert [(r["ticker"], r["active"], r["delisted_utc"]) for r in rows] == [
            ("PYPL", False, "2024-05-03T00:00:00Z")
        ]


def test_details_of_a_delisted_ticker_follow_the_scenario(client, vendor):
    gone = {"delisted": {"PYPL": date(2024, 5, 3)}, "listed": {"PYPL": date(2015, 7, 7)}}
    vendor.change(**gone)
    row = client.get("/v3/reference/tickers/PYPL").json()["results"]
    assert (row["active"], row["list_date"], "delisted_utc" in row) == (False, "2015-07-07", False)
    vendor.change(**gone, delisted_details="dated")
    row = client.get("/v3/reference/tickers/PYPL").json()["results"]
    assert (row["active"], row["list_date"], row["delisted_utc"]) == (False, "2015-07-07", "2024-05-03T00:00:00Z")
    vendor.change(**gone, delisted_details="missing")
    response = client.get("/v3/reference/tickers/PYPL")
    assert (response.status_code, response.json()["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("details", ["inactive", "missing"])
def test_on_its_last_day_a_ticker_is_still_active(client, vendor, details):
    vendor.change(delisted={"PYPL": date(2024, 5, 3)}, delisted_details=details)
    row = client.get("/v3/reference/tickers/PYPL?date=2024-05-03").json()["results"]
    assert (row["active"], row["list_date"]) == (True, "2015-07-06")
    after = client.get("/v3/reference/tickers/PYPL?date=2024-05-04")
    assert after.status_code == (404 if details == "missing" else 200)
    assert client.get("/v3/reference/tickers/PYPL?date=soon").status_code == 400


def test_a_reused_ticker_is_listed_once_for_each_company(client, vendor):
    vendor.change(formerly={"PYPL": (date(2003, 5, 2), date(2009, 1, 5))})
    assert [r["active"] for r in follow(client, "/v3/reference/tickers?ticker=PYPL")] == [True]
    rows = follow(client, "/v3/reference/tickers?ticker=PYPL&active=false&limit=1")
    assert [r["delisted_utc"][:10] for r in rows] == ["2003-05-02", "2009-01-05"]
    details = client.get("/v3/reference/tickers/PYPL").json()["results"]
    assert (details["active"], "delisted_utc" in details) == (True, False)


def test_pages_can_be_smaller_than_requested(client, vendor):
    vendor.change(splits=SPLITS, reference_page=2)
    first = client.get("/stocks/v1/splits?limit=5000").json()
    assert (len(first["results"]), "next_url" in first) == (2, True)
    assert len(follow(client, "/stocks/v1/splits?limit=5000")) == 3
    assert client.get("/stocks/v1/splits?limit=5001").status_code == 400


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


def test_new_splits_have_kind_and_cumulative_factor(client, vendor):
    vendor.change(splits=SPLITS)
    rows = {r["execution_date"]: r for r in follow(client, "/stocks/v1/splits")}
    assert rows["2021-07-20"]["historical_adjustment_factor"] == pytest.approx(1 / 40)
    assert rows["2021-07-20"]["adjustment_type"] == "forward_split"
    assert rows["2021-08-02"]["adjustment_type"] == "reverse_split"
    assert "adjustment_type" not in follow(client, "/v3/reference/splits")[0]


def test_a_duplicate_record_moves_no_price(client, vendor):
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


def test_an_older_vendor_has_only_the_older_paths(client, vendor):
    vendor.change(corporate_actions_v1=False)
    for name in ("splits", "dividends"):
        assert client.get(f"/stocks/v1/{name}").status_code == 404
        assert client.get(f"/v3/reference/{name}").status_code == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=5001", "limit=x", "cursor=%21%21", "sort=colour"])
def test_bad_parameters_are_400(client, query):
    assert client.get(f"/stocks/v1/splits?{query}").status_code == 400
