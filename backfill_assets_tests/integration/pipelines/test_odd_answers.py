"""Answers that are not what they seem: the true bars are stored, or a failure or a doubt is named, and nothing else."""

import asyncio
import copy
import json
import math
import random
from dataclasses import replace
from datetime import date, datetime

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfill_assets.adapters.polygon import RetryPolicy
from backfill_assets.domain.errors import BackfillError, ContradictoryAnswer, RateLimited, VendorUnavailable
from backfill_assets.domain.retries import USUAL, Retry
from backfill_assets.domain.universe import EarlierTicker, Symbol
from backfill_assets.pipelines.backfill_request import Refresh
from backfill_assets.simulator import Fault, Simulator
from backfill_assets_tests.integration.adapters.scripted_vendor import Response, ScriptedVendor, bar, ok
from backfill_assets_tests.integration.pipelines.test_ohlcv import backfill_request, filled, sessions_of, truth
from backfill_assets_tests.support import MOMENT, SOAK, assert_same_bars, rows, stored_bars

FIRST, LAST = "2024-03-06", "2024-03-08"
TWICE = RetryPolicy(attempts=2)

REFUSED = {
    "other_ticker": (ContradictoryAnswer, "it is about 'META', not"),
    "miscount": (ContradictoryAnswer, "it counts"),
    "seconds": (ContradictoryAnswer, "is of"),
    "too_many_in_200": (RateLimited, "exceeded the maximum"),
}


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
@pytest.mark.parametrize("kind", REFUSED)
async def test_a_contradictory_answer_stores_nothing_and_fails_its_series(database_url, vendor, kind, timeframe):
    what = backfill_request("stocks", "AAPL MSFT", FIRST, LAST, timeframes=timeframe)
    vendor.change(faults=(Fault(kind=kind, ticker="AAPL"),))
    series = {s.symbol.name: s for s in await filled(database_url, vendor, what, retry=TWICE, patient=True)}
    error, words = REFUSED[kind]
    assert type(series["AAPL"].error) is error
    assert words in str(series["AAPL"].error)
    assert series["AAPL"].missing == sessions_of(what)
    assert {(a.answers, a.failures) for a in series["AAPL"].answers.values()} == {(0, 1)}
    assert (series["MSFT"].error, series["MSFT"].missing) == (None, [])


LEFT_OUT = {
    ("nulls", "1m"): "close is not a usable number",
    ("impossible", "1m"): "a price is zero or negative",
    ("off_grid", "1m"): "it does not start with a minute",
    ("junk", "1m"): "open is not a usable number",
    ("nulls", "1d"): "close is not a usable number",
    ("impossible", "1d"): "a price is zero or negative",
    ("off_grid", "1d"): "it does not start with a day",
    ("twice_a_day", "1d"): "its day has bars that differ",
}


@pytest.mark.parametrize(("kind", "timeframe"), LEFT_OUT)
async def test_rows_that_cannot_be_bars_put_their_sessions_in_doubt_and_cost_no_others(
    database_url, vendor, kind, timeframe
):
    what = backfill_request("stocks", "AAPL", FIRST, LAST, timeframes=timeframe)
    vendor.change(faults=(Fault(kind=kind, count=1),))
    (series,) = await filled(database_url, vendor, what, patient=True)
    assert series.error is None
    assert {bar.reason for bar in series.rejected} == {LEFT_OUT[kind, timeframe]}
    (doubted,) = {bar.session for bar in series.rejected}
    assert [s for s, a in series.answers.items() if not a.complete] == [doubted]
    assert LEFT_OUT[kind, timeframe] in series.answers[doubted].detail
    expected, found = truth(vendor, series.symbol, timeframe, FIRST, LAST), stored_bars(database_url, "AAPL", timeframe)
    assert set(found.timestamp.tolist()) <= set(expected.t.tolist())
    assert len(expected) - len(found) == (0 if kind == "junk" else 1)
    vendor.change(faults=())
    (series,) = await filled(database_url, vendor, replace(what, retry=Retry.NOW))
    assert all(a.complete for a in series.answers.values())
    assert_same_bars(stored_bars(database_url, "AAPL", timeframe), expected)


async def test_a_grouped_day_with_junk_costs_only_the_symbols_that_it_names(database_url, vendor):
    what = backfill_request("stocks", "AAPL MSFT NVDA ZZZZ", LAST, LAST, timeframes="1d")
    vendor.change(faults=(Fault(kind="junk", path="grouped", count=5),))
    series = {s.symbol.name: s for s in await filled(database_url, vendor, what)}
    assert [r.path.split("/")[3] for r in vendor.requests] == ["grouped"]
    found = {name: (len(s.missing), [bar.reason for bar in s.rejected]) for name, s in series.items()}
    fine = (0, [])
    assert found == dict.fromkeys(("AAPL", "MSFT", "NVDA"), fine) | {
        "ZZZZ": (1, ["the day has a row whose ticker cannot be read"])
    }
    answer = series["ZZZZ"].answers[date.fromisoformat(LAST)]
    assert answer.doubt
    assert not USUAL.explained(replace(answer, answers=9))
    vendor.change(faults=(Fault(kind="impossible", path="grouped", count=1),))  # the first ticker is AAPL
    again = replace(what, refresh=Refresh.EVERYTHING)
    series = {s.symbol.name: s for s in await filled(database_url, vendor, again)}
    assert [name for name, s in series.items() if s.rejected] == ["AAPL"]


async def test_a_bad_row_of_an_earlier_ticker_in_a_grouped_day_is_of_its_symbol(database_url):
    what = backfill_request("stocks", "META MSFT", LAST, LAST, timeframes="1d")
    meta = Symbol("META", "META", (EarlierTicker("FB", date.fromisoformat(LAST)),))
    what = replace(what, wanted={meta if s.name == "META" else s: days for s, days in what.wanted.items()})
    close = 1_709_931_600_000
    good, bad = bar(close, T="MSFT"), bar(close, T="FB", c=None)
    async with ScriptedVendor(ok(good, bad, bar(close, T="META", c=None))) as vendor:
        series = {s.symbol.name: s for s in await filled(database_url, vendor, what)}
    assert [r.path.split("/")[3] for r in vendor.requests] == ["grouped"]
    assert [one.reason for one in series["META"].rejected] == ["close is not a usable number"]
    assert series["MSFT"].missing == []


async def test_a_grouped_day_that_spells_a_ticker_otherwise_is_in_doubt(database_url):
    what = backfill_request("stocks", "AAPL MSFT NVDA", LAST, LAST, timeframes="1d")
    close = 1_709_931_600_000
    async with ScriptedVendor(ok(bar(close, T="aapl"), bar(close, T="MSFT"))) as vendor:
        series = {s.symbol.name: s for s in await filled(database_url, vendor, what)}
    day = date.fromisoformat(LAST)
    assert series["AAPL"].answers[day].doubt == "1 bar left out: the day has aapl instead of AAPL"
    assert not USUAL.explained(replace(series["AAPL"].answers[day], answers=9))
    assert (series["MSFT"].missing, series["NVDA"].answers[day].doubt) == ([], None)


@pytest.mark.parametrize("within", ["one page", "several pages"])
async def test_newest_first_is_put_in_order_or_refused(database_url, vendor, within):
    start = "2024-03-06" if within == "one page" else "2024-01-20"
    what = backfill_request("crypto", "BTC", start, LAST, timeframes="1m")
    vendor.change(faults=(Fault(kind="newest_first"),))
    (series,) = await filled(database_url, vendor, what, retry=TWICE)
    if within == "one page":
        assert (series.error, series.missing) == (None, [])
        assert_same_bars(stored_bars(database_url, "BTC", "1m"), truth(vendor, series.symbol, "1m", start, LAST))
    else:
        assert type(series.error) is ContradictoryAnswer
        assert {(a.bars, a.answers, a.failures) for a in series.answers.values()} == {(0, 0, 1)}


@pytest.mark.parametrize("status", [401, 403, 404, 407])
async def test_a_page_of_a_proxy_settles_nothing(database_url, vendor, status):
    what = backfill_request("stocks", "AAPL MSFT", FIRST, LAST, timeframes="1d")
    vendor.change(faults=(Fault(kind="html", status=status, ticker="AAPL"),))
    series = {s.symbol.name: s for s in await filled(database_url, vendor, what, retry=TWICE)}
    assert type(series["AAPL"].error) is VendorUnavailable
    assert "a proxy, firewall or gateway refused the request" in str(series["AAPL"].error)
    assert {(a.refused, a.failures) for a in series["AAPL"].answers.values()} == {(False, 1)}
    assert series["MSFT"].missing == []


# --- Random edits of a true answer


@pytest.fixture(scope="module")
def true_answers():
    """A function from a timeframe to its body; a function has a short repr, which hypothesis prints."""
    found = {}
    with Simulator(now=lambda: MOMENT) as simulator:
        for timeframe, path in (("1m", "minute"), ("1d", "day")):
            url = f"{simulator.url}/v2/aggs/ticker/AAPL/range/1/{path}/{FIRST}/{LAST}"
            body = httpx.get(url, params={"adjusted": "false", "limit": "50000"}, headers={"Authorization": "Bearer k"})
            found[timeframe] = body.json()

    def of(timeframe):
        return found[timeframe]

    return of


def row_of(chance, envelope):
    return chance.randrange(len(envelope["results"]))


def recounted(envelope):
    envelope["resultsCount"] = len(envelope["results"])


def drop(chance, envelope):
    del envelope["results"][row_of(chance, envelope)]


def double(chance, envelope):
    bar = envelope["results"][row_of(chance, envelope)]
    envelope["results"].insert(row_of(chance, envelope), bar)
    recounted(envelope)


def differ(chance, envelope):
    bar = envelope["results"][row_of(chance, envelope)]
    envelope["results"].insert(row_of(chance, envelope), {**bar, "c": bar["o"], "v": 1})
    recounted(envelope)


def swap(chance, envelope):
    bars, a, b = envelope["results"], row_of(chance, envelope), row_of(chance, envelope)
    bars[a], bars[b] = bars[b], bars[a]


def unit(chance, envelope):
    chosen = envelope["results"] if chance.choice([True, False]) else [envelope["results"][row_of(chance, envelope)]]
    factor = chance.choice([0.001, 1000, 1_000_000])
    for row in {id(row): row for row in chosen}.values():
        row["t"] = int(row["t"] * factor)


def ticker(chance, envelope):
    envelope["ticker"] = chance.choice(["META", "", "AAPL.", "X:BTCUSD", 5])


def value(chance, envelope):
    odd = [None, -1, -0.5, "1.5", True, [], {}, math.inf, -math.inf, math.nan, 10**400, "\ud800"]
    field = chance.choice("ohlcvn")
    # An absent number of trades is usual.
    envelope["results"][row_of(chance, envelope)][field] = chance.choice(odd[1:] if field == "n" else odd)


def time(chance, envelope):
    envelope["results"][row_of(chance, envelope)]["t"] += chance.choice([1, 30_000, 34_200_001, -7])


def count(chance, envelope):
    right = len(envelope["results"])
    envelope["resultsCount"] = chance.choice([0, right - 1, right + 1, -1, "3"])


def status(chance, envelope):
    odd = [{"status": "ERROR"}, {"status": ""}, {"error": "it broke"}, {"status": None}, {"status": "NOT_FOUND"}]
    envelope |= chance.choice(odd)


def junk(chance, envelope):
    envelope["results"].insert(row_of(chance, envelope), chance.choice([None, 5, "AAPL", {}, [], {"t": None}]))
    recounted(envelope)


EDITS = (drop, double, swap, unit, ticker, value, time, count, status)


@st.composite
def edits(draw):
    """Return a timeframe, and a function from the true envelope to a response."""
    # A different copy beside an original that cannot be read could not be seen.
    chosen = draw(st.lists(st.sampled_from(EDITS), max_size=3, unique=True) | st.just([differ]))
    last = draw(st.sampled_from(["", "", "", "junk", "page"]))
    seed = draw(st.integers(0, 2**32))

    def respond(envelope):
        chance, envelope = random.Random(seed), copy.deepcopy(envelope)  # noqa: S311  # repeatable, not secret
        for edit in (*chosen, *([junk] if last == "junk" else [])):
            edit(chance, envelope)
        if drop in chosen:
            envelope["resultsCount"] = len(envelope["results"]) + 1  # an honest count of fewer bars cannot be seen
        body = json.dumps(envelope).encode()
        if last != "page":
            return Response(body)
        page = chance.choice([b"<html>Forbidden</html>", body[:-30]])
        return Response(page, chance.choice([200, 401, 403, 404, 407, 500]))

    respond.__qualname__ = f"{[edit.__name__ for edit in chosen]}, {last or None}, {seed}"  # shown by hypothesis
    return draw(st.sampled_from(["1m", "1d"])), respond


@settings(max_examples=300 if SOAK else 60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits())
def test_an_edited_answer_is_true_bars_or_a_named_failure_or_doubt(database_url, true_answers, drawn):
    timeframe, respond = drawn
    with psycopg.connect(database_url) as connection:
        connection.execute("truncate market_data, session_answers, coverage")
    what = backfill_request("stocks", "AAPL", FIRST, LAST, timeframes=timeframe)
    response = respond(true_answers(timeframe))

    async def fetch():
        async with ScriptedVendor(response) as vendor:
            return await filled(database_url, vendor, what, retry=TWICE, patient=True)

    try:
        (series,) = asyncio.run(fetch())
    except BackfillError:  # of the run: nothing is recorded
        assert rows(database_url, "select from session_answers") == []
        return
    true = {bar["t"]: bar for bar in true_answers(timeframe)["results"]}
    found = stored_bars(database_url, "AAPL", timeframe)
    prices = zip(found.open, found.high, found.low, found.close, found.volume, strict=True)
    stored = dict(zip(found.timestamp.tolist(), prices, strict=True))
    for t, values in stored.items():
        assert values == tuple(true[t][key] for key in "ohlcv")
    zone = what.calendar.hours.zone
    for session in sessions_of(what):
        of_session = {t for t in true if datetime.fromtimestamp(t / 1000, zone).date() == session}
        answer = series.answers.get(session)
        assert answer is not None
        if answer.complete:
            assert of_session <= set(stored), "a wrong complete"
        else:
            assert answer.doubt or (series.error and answer.failures), "a wrong empty"
        assert not answer.refused
