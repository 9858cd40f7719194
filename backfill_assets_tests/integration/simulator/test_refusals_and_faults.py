from datetime import UTC, date, datetime

import httpx
import pytest

from backfill_assets.simulator import Fault, Hole, RateLimit

PATH = "/v2/aggs/ticker/AAPL/range/1/day/2024-03-04/2024-03-08"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("headers", "params"),
    [({}, {}), ({"Authorization": "Bearer"}, {}), ({}, {"apiKey": ""}), ({"Authorization": "Basic x"}, {})],
)
@pytest.mark.parametrize("path", [PATH, "/v3/reference/tickers/AAPL", "/stocks/v1/splits"])
def test_no_key_is_401(vendor, headers, params, path):
    response = httpx.get(vendor.url + path, headers=headers, params=params)
    assert response.status_code == 401
    assert response.json() == {"status": "ERROR", "error": "Unknown API Key"}


def test_only_the_given_key_is_accepted(vendor):
    vendor.change(api_keys=("right",))
    status = [httpx.get(vendor.url + PATH, headers=bearer(k)).status_code for k in ("wrong", "right")]
    assert status == [401, 200]
    assert httpx.get(vendor.url + PATH, params={"apiKey": "right"}).status_code == 200


def test_the_log_records_how_a_key_was_sent_but_not_the_key(vendor):
    httpx.get(vendor.url + PATH, params={"apiKey": "s3cret", "limit": "7"})
    httpx.get(vendor.url + PATH, headers=bearer("s3cret"))
    first, second = vendor.requests
    assert (first.url_key, first.header_key, second.url_key, second.header_key) == (True, False, False, True)
    assert (first.path, first.query, first.status, first.method) == (PATH, {"limit": "7"}, 200, "GET")
    log = httpx.get(vendor.url + "/_simulator/requests")
    assert "s3cret" not in log.text
    assert len(log.json()) == 2
    assert set(log.json()[0]) >= {"monotonic", "wall", "method", "path", "query", "status", "header_key", "url_key"}


def test_a_range_across_the_plans_edge_is_clipped_and_one_before_it_refused(vendor, client):
    vendor.change(history_edge=date(2024, 3, 6))
    assert client.get(PATH).json()["resultsCount"] == 3
    before = client.get("/v2/aggs/ticker/AAPL/range/1/day/2024-03-01/2024-03-05")
    assert before.status_code == 403
    assert before.json()["status"] == "NOT_AUTHORIZED"
    assert before.json()["message"].startswith("Your plan doesn't include this data timeframe")
    assert client.get("/v2/aggs/grouped/locale/us/market/stocks/2024-03-05").status_code == 403


@pytest.mark.parametrize("forbidden", ["stocks", "AAPL"])
def test_what_the_plan_forbids_is_403(vendor, client, forbidden):
    vendor.change(forbidden=(forbidden,))
    refused = client.get(PATH)
    assert (refused.status_code, refused.json()["status"]) == (403, "NOT_AUTHORIZED")
    assert client.get(PATH.replace("AAPL", "X:BTCUSD")).status_code == 200


def test_a_free_plan_excludes_today(vendor, client, clock):
    clock.moment = datetime(2024, 3, 8, 18, tzinfo=UTC)
    vendor.change(today_forbidden=True)
    assert client.get(PATH).status_code == 403
    assert client.get(PATH.replace("03-08", "03-07")).json()["resultsCount"] == 4


def test_delayed_responses_have_status_delayed(vendor, client):
    vendor.change(delayed=True)
    assert client.get(PATH).json()["status"] == "DELAYED"


def test_the_rate_limit_is_a_sliding_window(vendor, client, clock):
    vendor.change(rate_limit=RateLimit(requests=2, seconds=60))
    assert [client.get(PATH).status_code for _ in range(3)] == [200, 200, 429]
    clock.seconds = 59.9
    refused = client.get(PATH)
    assert refused.status_code == 429
    assert refused.json()["error"].startswith("You've exceeded the maximum requests per minute")
    assert "retry-after" not in refused.headers
    clock.seconds = 60
    assert client.get(PATH).status_code == 200


def test_retry_after_only_if_the_scenario_says_so(vendor, client):
    vendor.change(rate_limit=RateLimit(requests=0, retry_after=12))
    assert client.get(PATH).headers["retry-after"] == "12"


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        (Fault(kind="status", status=500), [500, 500, 500, 500, 500]),
        (Fault(kind="status", status=502, times=2), [502, 502, 200, 200, 200]),
        (Fault(kind="status", status=503, nth=2), [200, 503, 200, 200, 200]),
        (Fault(kind="status", status=504, every=2), [200, 504, 200, 504, 200]),
        (Fault(kind="status", status=500, ticker="MSFT"), [200] * 5),
        (Fault(kind="status", status=500, path="/v3/"), [200] * 5),
        (Fault(kind="status", status=500, path="/range/1/day", ticker="AAPL", times=1), [500, 200, 200, 200, 200]),
    ],
)
def test_faults_count_their_requests(vendor, client, fault, statuses):
    vendor.change(faults=(fault,))
    assert [client.get(PATH).status_code for _ in range(5)] == statuses


def test_probability_is_repeatable(vendor, client):
    runs = []
    for _ in range(2):
        vendor.change(faults=(Fault(kind="status", status=500, probability=0.4, seed=7),))
        runs.append([client.get(PATH).status_code for _ in range(30)])
    assert runs[0] == runs[1]
    assert 4 < runs[0].count(500) < 20


def test_429_with_and_without_retry_after(vendor, client):
    vendor.change(
        faults=(Fault(kind="status", status=429, retry_after=3, nth=1), Fault(kind="status", status=429, nth=2))
    )
    with_header, without = client.get(PATH), client.get(PATH)
    assert (with_header.status_code, with_header.headers["retry-after"]) == (429, "3")
    assert (without.status_code, "retry-after" in without.headers) == (429, False)
    assert without.json()["status"] == "ERROR"


def test_a_cut_body_breaks_the_connection(vendor, client):
    vendor.change(faults=(Fault(kind="cut_body", times=1),))
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(PATH)
    assert client.get(PATH).status_code == 200
    assert [r.fault for r in vendor.requests] == ["cut_body", None]


def test_a_reset_resets_the_connection(vendor, client):
    vendor.change(faults=(Fault(kind="reset", times=1),))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        client.get(PATH)
    assert client.get(PATH).status_code == 200
    assert [r.status for r in vendor.requests] == [0, 200]


def test_invalid_responses(vendor, client):
    vendor.change(
        faults=(
            Fault(kind="html", status=200, nth=1),
            Fault(kind="error_in_200", nth=2),
            Fault(kind="malformed_json", nth=3),
            Fault(kind="empty", nth=4),
        )
    )
    html, mistaken, broken, empty = (client.get(PATH) for _ in range(4))
    assert html.headers["content-type"].startswith("text/html")
    assert (mistaken.status_code, mistaken.json()["status"]) == (200, "ERROR")
    assert broken.status_code == 200
    with pytest.raises(ValueError, match=r"line 1|Unterminated|delimiter"):
        broken.json()
    assert (empty.json()["resultsCount"], "results" in empty.json()) == (0, False)


def test_damaged_bars(vendor, client):
    complete = client.get(PATH).json()["results"]
    stamps = [b["t"] for b in complete]
    kinds = ("duplicates", "disorder", "out_of_range", "nulls")
    vendor.change(faults=tuple(Fault(kind=k, nth=i + 1, count=2) for i, k in enumerate(kinds)))
    doubled, mixed, wide, nulls = (client.get(PATH).json()["results"] for _ in kinds)
    assert sorted(b["t"] for b in doubled) == sorted(stamps + stamps[:2])
    assert [b["t"] for b in mixed] != stamps
    assert sorted(b["t"] for b in mixed) == stamps
    assert wide[2:-2] == complete
    start, end = 1709528400000, 1709960400000  # New York's midnights of 2024-03-04 and 2024-03-09
    assert all(b["t"] < start for b in wide[:2])
    assert all(b["t"] >= end for b in wide[-2:])
    assert [b["c"] is None for b in nulls] == [True, True, False, False, False]


def test_odd_answers(vendor, client):
    complete = client.get(PATH).json()
    kinds = ("other_ticker", "miscount", "seconds", "off_grid", "twice_a_day", "newest_first", "impossible", "junk")
    vendor.change(faults=tuple(Fault(kind=k, nth=i + 1, count=2) for i, k in enumerate(kinds)))
    odd = {kind: client.get(PATH, params={"sort": "asc"}).json() for kind in kinds}
    assert odd["other_ticker"]["ticker"] == "META"
    counts = {kind: answer["resultsCount"] - len(answer["results"]) for kind, answer in odd.items()}
    assert counts == dict.fromkeys(kinds, 0) | {"miscount": 2}
    stamps = [b["t"] for b in complete["results"]]
    found = {kind: [b["t"] if isinstance(b, dict) else b for b in answer["results"]] for kind, answer in odd.items()}
    assert found["seconds"] == [t // 1000 for t in stamps]
    assert found["off_grid"] == [t + 30_000 for t in stamps[:2]] + stamps[2:]
    assert found["twice_a_day"] == sorted(stamps + [t + 34_200_000 for t in stamps[:2]])
    assert found["newest_first"] == stamps[::-1]
    assert found["junk"] == [*stamps, stamps[0], 5]
    assert [b["l"] for b in odd["impossible"]["results"][:2]] == [0, -6]
    vendor.change(faults=(Fault(kind="too_many_in_200"),))
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (200, "ERROR")
    assert "exceeded the maximum requests" in answer.json()["error"]


def test_a_slow_response_is_otherwise_good(vendor, client):
    vendor.change(faults=(Fault(kind="slow", seconds=0.05, times=1),))
    assert client.get(PATH).json()["resultsCount"] == 5
    vendor.change(faults=(Fault(kind="slow", seconds=0.5, times=1),))
    with pytest.raises(httpx.ReadTimeout):
        client.get(PATH, timeout=0.05)


def test_a_hole_hides_days_until_it_heals_by_requests(vendor, bars):
    vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 5), last=date(2024, 3, 6), heal_after_requests=2),))
    assert bars("AAPL", "1/day", "2024-03-01", "2024-03-04")["resultsCount"] == 2  # elsewhere: does not count
    assert bars("MSFT", "1/day", "2024-03-04", "2024-03-08")["resultsCount"] == 5
    counts = [bars("AAPL", "1/day", "2024-03-04", "2024-03-08")["resultsCount"] for _ in range(3)]
    assert counts == [3, 3, 5]


def test_a_grouped_day_counts_as_a_request(vendor, client, bars):
    vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 5), last=date(2024, 3, 5), heal_after_requests=1),))
    client.get("/v2/aggs/grouped/locale/us/market/stocks/2024-03-05")
    assert len(vendor.market.daily_bars("AAPL", date(2024, 3, 5), date(2024, 3, 5), holes=True)) == 1
    assert bars("AAPL", "1/day", "2024-03-05", "2024-03-05")["resultsCount"] == 1


def test_a_hole_heals_at_its_time(vendor, bars, clock):
    at = datetime(2024, 5, 1, tzinfo=UTC)
    vendor.change(holes=(Hole(ticker="AAPL", first=date(2024, 3, 5), last=date(2024, 3, 5), base="day", heal_at=at),))
    clock.moment = datetime(2024, 4, 30, tzinfo=UTC)
    assert bars("AAPL", "1/day", "2024-03-04", "2024-03-08")["resultsCount"] == 4
    clock.moment = at
    assert bars("AAPL", "1/day", "2024-03-04", "2024-03-08")["resultsCount"] == 5


def test_holes_are_limited_to_their_base_and_hours(vendor, bars, client):
    day = {"first": date(2024, 3, 5), "last": date(2024, 3, 5)}
    vendor.change(
        holes=(
            Hole(ticker="AAPL", base="minute", start="10:00", end="11:30", **day),
            Hole(ticker="MSFT", base="day", **day),
            Hole(ticker="IBM", base="minute", **day),
        )
    )
    span = ("2024-03-05", "2024-03-05")
    full = vendor.market.minute_bars("AAPL", date(2024, 3, 5), date(2024, 3, 5))
    assert bars("AAPL", "1/minute", *span)["resultsCount"] == len(full) - 90
    assert bars("AAPL", "1/day", *span)["resultsCount"] == 1
    assert bars("MSFT", "1/day", *span)["resultsCount"] == 0
    assert bars("MSFT", "1/minute", *span)["resultsCount"] > 900
    assert bars("IBM", "4/hour", *span)["resultsCount"] == 0
    grouped = client.get("/v2/aggs/grouped/locale/us/market/stocks/2024-03-05").json()["results"]
    assert {"AAPL", "IBM"} <= {r["T"] for r in grouped}
    assert "MSFT" not in {r["T"] for r in grouped}


def test_an_unknown_path_is_404_and_logged(vendor, client):
    assert client.get("/v9/nothing").status_code == 404
    assert vendor.requests[-1].path == "/v9/nothing"
