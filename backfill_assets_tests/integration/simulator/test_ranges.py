import json
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import pytest

NEW_YORK = ZoneInfo("America/New_York")
HOUR = 3_600_000


def new_york(t):
    return datetime.fromtimestamp(t / 1000, NEW_YORK)


def test_a_response_has_the_documented_envelope(bars):
    page = bars("AAPL", "1/day", "2024-03-04", "2024-03-08")
    assert list(page) == "ticker queryCount resultsCount adjusted results status request_id count".split()
    assert (page["ticker"], page["queryCount"], page["resultsCount"], page["count"]) == ("AAPL", 5, 5, 5)
    assert page["adjusted"] is True
    assert page["status"] == "OK"


def test_body_and_header_have_the_same_request_id(client):
    answers = [client.get("/v2/aggs/ticker/AAPL/range/1/day/2024-03-04/2024-03-08") for _ in range(2)]
    numbers = [a.json()["request_id"] for a in answers]
    assert numbers == [a.headers["x-request-id"] for a in answers]
    assert len(set(numbers)) == 2


@pytest.mark.parametrize("ticker", ["NOPE", "aapl", "X:NOPEUSD"])
def test_an_unknown_ticker_is_empty_not_an_error(bars, ticker):
    page = bars(ticker, "1/minute", "2024-03-04", "2024-03-08")
    assert "results" not in page
    assert (page["status"], page["resultsCount"], page["queryCount"]) == ("OK", 0, 0)


@pytest.mark.parametrize(("start", "end"), [("0001-01-01", "1969-12-31"), ("2090-01-01", "9999-12-31")])
@pytest.mark.parametrize("ticker", ["AAPL", "X:BTCUSD"])
def test_ranges_at_the_ends_of_time_are_empty(bars, ticker, start, end):
    assert "results" not in bars(ticker, "1/minute", start, end)
    assert (
        bars(ticker, "1/day", start.replace("2090", "2025"), end.replace("1969", "2014"), limit=1)["resultsCount"] == 1
    )


def test_btc_without_prefix_is_a_stock(bars):
    week = ("1/day", "2024-09-02", "2024-09-08")
    assert bars("BTC", *week)["resultsCount"] == 4  # Labor Day and a weekend
    assert bars("X:BTCUSD", *week)["resultsCount"] == 7


def test_bars_equal_the_market_behind_them(bars, vendor):
    for ticker, timeframe, ask in (
        ("NVDA", "1/minute", vendor.market.minute_bars),
        ("NVDA", "1/day", vendor.market.daily_bars),
        ("X:ETHUSD", "1/minute", vendor.market.minute_bars),
        ("X:SHIBUSD", "1/day", vendor.market.daily_bars),
    ):
        for adjusted in (False, True):
            truth = ask(ticker, date(2024, 6, 6), date(2024, 6, 12), adjusted=adjusted)
            got = bars(ticker, timeframe, "2024-06-06", "2024-06-12", adjusted=str(adjusted).lower(), limit=50000)
            rows = got["results"]
            for key, column in (
                ("t", truth.t),
                ("o", truth.open),
                ("h", truth.high),
                ("l", truth.low),
                ("c", truth.close),
            ):
                assert [r[key] for r in rows] == column.tolist()
            assert [float(r["v"]) for r in rows] == truth.volume.tolist()
            np.testing.assert_array_equal([r.get("vw", np.nan) for r in rows], truth.vwap)
            assert [r.get("n", -1) for r in rows] == truth.trades.tolist()


def test_volumes_come_in_scientific_notation_and_fractions(client):
    text = client.get("/v2/aggs/ticker/AAPL/range/1/day/2024-03-04/2024-03-04").text
    raw = text.split('"v":')[1].split(",")[0]
    assert "e+07" in raw
    assert json.loads(raw) > 1e7
    coins = client.get("/v2/aggs/ticker/X:BTCUSD/range/1/day/2024-03-04/2024-03-04").json()["results"]
    assert coins[0]["v"] % 1 != 0


def test_dates_are_in_the_markets_zone(bars):
    day = bars("AAPL", "1/day", "2024-03-08", "2024-03-11")["results"]
    assert [d["t"] for d in day] == [1709874000000, 1710129600000]  # 05:00Z, then 04:00Z
    coin = bars("X:BTCUSD", "1/day", "2024-03-09", "2024-03-11")["results"]
    assert [d["t"] % 86_400_000 for d in coin] == [0, 0, 0]
    minutes = bars("AAPL", "1/minute", "2024-03-08", "2024-03-08")["results"]
    assert {new_york(m["t"]).date() for m in minutes} == {date(2024, 3, 8)}


def test_milliseconds_are_extended_to_complete_bars(bars):
    start, end = 1709650920000, 1709651100000  # minutes 15:02 and 15:05 UTC of 2024-03-05
    assert [b["t"] for b in bars("AAPL", "1/minute", start + 1, end + 1)["results"]] == [
        start + k * 60_000 for k in range(4)
    ]
    five = bars("AAPL", "5/minute", start, end)["results"]
    assert [b["t"] for b in five] == [1709650800000, 1709651100000]
    assert five[1]["v"] == pytest.approx(
        sum(b["v"] for b in bars("AAPL", "1/minute", 1709651100000, 1709651100000 + 299_999)["results"])
    )


@pytest.mark.parametrize("day", ["2024-01-10", "2024-07-10"])
def test_hours_lie_on_the_utc_grid_in_winter_and_summer(bars, day):
    for hours in (1, 4):
        stamps = [b["t"] for b in bars("SPY", f"{hours}/hour", day, day, limit=50000)["results"]]
        assert all(t % (hours * HOUR) == 0 for t in stamps)
        assert len(stamps) == {1: 16, 4: 5 if day == "2024-01-10" else 4}[hours]


def test_aggregates_are_built_from_minutes(bars):
    minutes = bars("AAPL", "1/minute", "2024-03-05", "2024-03-05")["results"]
    for frame, size in (("5/minute", HOUR // 12), ("30/minute", HOUR // 2), ("1/hour", HOUR)):
        for bar in bars("AAPL", frame, "2024-03-05", "2024-03-05", limit=50000)["results"]:
            inside = [m for m in minutes if bar["t"] <= m["t"] < bar["t"] + size]
            assert (bar["o"], bar["c"]) == (inside[0]["o"], inside[-1]["c"])
            assert (bar["h"], bar["l"]) == (max(m["h"] for m in inside), min(m["l"] for m in inside))
            assert bar["v"] == sum(m["v"] for m in inside)


def test_weeks_start_on_sunday_midnight_and_are_built_from_days(bars):
    weeks = bars("AAPL", "1/week", "2024-03-06", "2024-03-20")["results"]  # Wednesday to Wednesday
    assert [new_york(w["t"]).strftime("%a %F %H:%M") for w in weeks] == [
        "Sun 2024-03-03 00:00",
        "Sun 2024-03-10 00:00",
        "Sun 2024-03-17 00:00",
    ]
    days = bars("AAPL", "1/day", "2024-03-11", "2024-03-15")["results"]
    assert (weeks[1]["o"], weeks[1]["c"]) == (days[0]["o"], days[-1]["c"])
    assert weeks[1]["v"] == sum(d["v"] for d in days)
    coin = bars("X:BTCUSD", "1/week", "2024-03-10", "2024-03-16")["results"]
    assert [w["t"] for w in coin] == [int(datetime(2024, 3, 10, tzinfo=UTC).timestamp() * 1000)]


def test_months_start_on_the_first(bars):
    months = bars("AAPL", "1/month", "2024-01-15", "2024-04-02")["results"]
    assert [new_york(m["t"]).isoformat()[:16] for m in months] == [f"2024-0{k}-01T00:00" for k in (1, 2, 3, 4)]


def test_limit_counts_minutes_whatever_the_timeframe(bars):
    """A page of quarter hours reaches no further than a page of minutes; 5000 is the default."""
    pages = {
        frame: bars("AAPL", frame, "2024-03-04", "2024-05-31")
        for frame in ("1/minute", "15/minute", "1/hour", "4/hour")
    }
    last = {frame: page["results"][-1]["t"] for frame, page in pages.items()}
    assert pages["1/minute"]["queryCount"] == 5000
    assert pages["15/minute"]["resultsCount"] < 5000 / 14
    for frame, size in (("15/minute", HOUR // 4), ("1/hour", HOUR), ("4/hour", 4 * HOUR)):
        assert last[frame] + size <= last["1/minute"] + 60_000
        assert last["1/minute"] - last[frame] < 2 * size


def test_a_full_page_of_minutes_reaches_about_52_sessions(bars):
    page = bars("AAPL", "1/minute", "2023-01-03", "2024-01-03", limit=50000, adjusted="false")
    assert page["resultsCount"] == 50000
    assert 50 <= len({new_york(b["t"]).date() for b in page["results"]}) <= 56


@pytest.mark.parametrize("frame", ["1/minute", "7/minute", "15/minute", "4/hour"])
def test_pages_join_without_gaps_or_duplicates(all_bars, frame):
    once, one = all_bars("AAPL", frame, "2024-03-04", "2024-03-08", limit=50000)
    paged, many = all_bars("AAPL", frame, "2024-03-04", "2024-03-08", limit=700)
    assert (one, many > 5) == (1, True)
    assert paged == once


@pytest.mark.parametrize("frame", ["1/minute", "1/hour", "1/day", "1/week"])
def test_descending_pages_join(all_bars, frame):
    limit = 900 if "minute" in frame or "hour" in frame else 3 if "day" in frame else 8
    up, _ = all_bars("NVDA", frame, "2024-06-03", "2024-06-28", limit=50000)
    down, pages = all_bars("NVDA", frame, "2024-06-03", "2024-06-28", limit=limit, sort="desc")
    assert pages > 2
    assert down == up[::-1]


def test_weeks_are_paged_by_days(all_bars, bars):
    page = bars("AAPL", "1/week", "2024-03-03", "2024-03-23", limit=7)
    assert page["resultsCount"] == 1  # five days, and two of the next week, which is dropped
    found, pages = all_bars("AAPL", "1/week", "2024-03-03", "2024-03-23", limit=7)
    assert (len(found), pages) == (3, 3)


def test_a_limit_below_one_bar_returns_one_bar(all_bars):
    found, _ = all_bars("AAPL", "1/hour", "2024-03-05", "2024-03-05", limit=10)
    assert found == all_bars("AAPL", "1/hour", "2024-03-05", "2024-03-05", limit=50000)[0]


def test_next_url_starts_one_interval_later_and_has_no_key(bars, client):
    page = bars("AAPL", "15/minute", "2024-03-04", "2024-03-08", limit=1000, adjusted="false", apiKey="secret")
    url = httpx.URL(page["next_url"])
    assert url.path == f"/v2/aggs/ticker/AAPL/range/15/minute/{page['results'][-1]['t'] + HOUR // 4}/2024-03-08"
    assert list(url.params) == ["cursor"]
    assert "secret" not in str(url)
    assert httpx.get(url).status_code == 401
    assert client.get(url).json()["results"][0]["t"] >= page["results"][-1]["t"] + HOUR // 4


def test_no_next_url_on_the_last_page(bars):
    assert "next_url" not in bars("AAPL", "1/day", "2024-03-04", "2024-03-08", limit=5)
    assert "next_url" in bars("AAPL", "1/day", "2024-03-04", "2024-03-08", limit=4)


def test_a_client_that_does_not_repeat_adjusted_mixes_prices(client, bars):
    first = bars("NVDA", "1/day", "2024-06-03", "2024-06-14", adjusted="false", limit=2)
    careless = client.get(first["next_url"]).json()
    careful = client.get(httpx.URL(first["next_url"]).copy_merge_params({"adjusted": "false", "limit": "2"})).json()
    assert (first["adjusted"], careless["adjusted"], careful["adjusted"]) == (False, True, False)
    assert first["results"][-1]["c"] / careless["results"][0]["o"] == pytest.approx(10, rel=0.15)
    assert first["results"][-1]["c"] / careful["results"][0]["o"] == pytest.approx(1, rel=0.15)
    assert (careless["resultsCount"], careful["resultsCount"]) == (8, 2)


def test_adjusted_is_the_default(bars):
    raw, adjusted, default = (
        bars("NVDA", "1/minute", "2024-06-07", "2024-06-07", **p)["results"]
        for p in ({"adjusted": "false"}, {"adjusted": "true"}, {})
    )
    assert default == adjusted
    assert raw[0]["c"] == pytest.approx(adjusted[0]["c"] * 10)


def test_the_clock_ends_the_data(bars, clock):
    clock.moment = datetime(2024, 3, 5, 15, 2, 59, tzinfo=UTC)
    got = bars("AAPL", "1/minute", "2024-03-05", "2024-03-05")["results"]
    assert got[-1]["t"] == int(datetime(2024, 3, 5, 15, 1, tzinfo=UTC).timestamp() * 1000)
    hour = bars("AAPL", "1/hour", "2024-03-05", "2024-03-05")["results"][-1]
    assert hour["v"] == sum(b["v"] for b in got if b["t"] >= hour["t"])


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("1/minute/2024-3-4/2024-03-08", {}),
        ("1/minute/2024-02-30/2024-03-08", {}),
        ("1/minute/2024-03-08/2024-03-04", {}),
        ("0/minute/2024-03-04/2024-03-08", {}),
        ("1/decade/2024-03-04/2024-03-08", {}),
        ("1/minute/2024-03-04/2024-03-08", {"limit": 50001}),
        ("1/minute/2024-03-04/2024-03-08", {"limit": 0}),
        ("1/minute/2024-03-04/2024-03-08", {"sort": "up"}),
    ],
)
def test_bad_parameters_are_400(client, path, params):
    response = client.get(f"/v2/aggs/ticker/AAPL/range/{path}", params=params)
    assert response.status_code == 400
    assert response.json()["status"] == "ERROR"


def test_grouped_days_have_every_ticker_at_four_in_the_afternoon(client, bars):
    page = client.get("/v2/aggs/grouped/locale/us/market/stocks/2024-06-07", params={"adjusted": "false"}).json()
    rows = {r["T"]: r for r in page["results"]}
    assert page["resultsCount"] == len(rows) > 55
    assert not any(t.startswith("X:") for t in rows)
    assert {new_york(r["t"]).isoformat() for r in rows.values()} == {"2024-06-07T16:00:00-04:00"}
    day = bars("NVDA", "1/day", "2024-06-07", "2024-06-07", adjusted="false")["results"][0]
    assert {k: v for k, v in rows["NVDA"].items() if k not in "Tt"} == {k: v for k, v in day.items() if k != "t"}
    adjusted = client.get("/v2/aggs/grouped/locale/us/market/stocks/2024-06-07").json()
    assert adjusted["adjusted"] is True
    assert next(r for r in adjusted["results"] if r["T"] == "NVDA")["c"] == pytest.approx(day["c"] / 10)


def test_grouped_coins_and_closed_days(client):
    coins = client.get("/v2/aggs/grouped/locale/global/market/crypto/2024-06-08").json()
    assert coins["resultsCount"] == 15
    assert {r["t"] % 86_400_000 for r in coins["results"]} == {0}
    closed = client.get("/v2/aggs/grouped/locale/us/market/stocks/2024-06-08")
    assert closed.status_code == 200
    assert "results" not in closed.json()
    assert (closed.json()["status"], closed.json()["resultsCount"]) == ("OK", 0)
