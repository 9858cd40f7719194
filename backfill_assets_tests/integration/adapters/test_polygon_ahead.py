"""Answers that are asked for before anybody takes them, over real HTTP, in the thread that asks for them."""

import asyncio
import gc
import socket
import threading
from contextlib import asynccontextmanager
from datetime import date

import pytest

from backfill_assets.adapters.polygon import Ahead, Polygon, RetryPolicy, Traffic
from backfill_assets.domain.errors import DatabaseUnavailable, KeyRefused, SettingMistake
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    KEY,
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
)

ONE, OTHER, UNASKED = ("/one", {"a": "1"}), ("/other", {}), ("/unasked", {})
BODY = Response(b'{"status": "OK"}')


class Refusing(CountingLimiter):
    """A limiter whose database is away."""

    async def acquire(self):
        raise DatabaseUnavailable("PostgreSQL is away.")


class Telling(CountingLimiter):
    """A limiter that tells another thread of its first permit."""

    def __init__(self):
        super().__init__()
        self.permitted = threading.Event()

    async def acquire(self):
        self.permitted.set()


def polygon(url, **more):
    return Polygon(KEY, base_url=url, limiter=CountingLimiter(), sleep=NoSleep(), **more)


def ahead(url, *addresses, limiter=None):
    @asynccontextmanager
    async def connect():
        async with Polygon(
            KEY, base_url=url, limiter=limiter or CountingLimiter(), retry=RetryPolicy(attempts=1)
        ) as client:
            yield client

    return Ahead(addresses, connect)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "asked ahead"]


async def test_each_body_is_handed_over_once():
    async with ScriptedVendor(BODY) as vendor:
        with ahead(vendor.url, ONE, OTHER) as early:
            assert await early.take(("/%6Fne", {"a": "1"})) == BODY.body  # the same address, spelled otherwise
            assert await early.take(OTHER) == BODY.body
            assert [await early.take(address) for address in (ONE, OTHER, UNASKED)] == [None] * 3
    assert [asked.target for asked in vendor.requests] == ["/one?a=1", "/other"]
    assert threads() == []


async def test_what_was_sent_is_told_once():
    async with ScriptedVendor(BODY) as vendor:
        with ahead(vendor.url, ONE, OTHER) as early:
            await early.take(ONE)
            await early.take(OTHER)
            assert early.news() == Traffic(requests=2)
            assert early.news() == Traffic()


async def test_a_client_takes_what_is_there_and_asks_for_the_rest():
    async with ScriptedVendor(BODY) as vendor:
        with ahead(vendor.url, ONE) as early:
            async with polygon(vendor.url, ahead=early) as client:
                assert await client.body(ONE) == BODY.body
                assert len(vendor.requests) == 1
                assert await client.body(ONE) == await client.body(OTHER) == BODY.body
                assert client.traffic == Traffic(requests=3)
    assert [asked.path for asked in vendor.requests] == ["/one", "/one", "/other"]


@pytest.mark.parametrize("failure", [Response(b"", 503), Response(b"{}", cut=True), Response(b"", 404)])
async def test_what_failed_is_asked_again_by_whoever_needs_it(failure):
    async with ScriptedVendor(failure, BODY) as vendor:
        with ahead(vendor.url, ONE) as early:
            async with polygon(vendor.url, ahead=early) as client:
                assert await client.body(ONE) == BODY.body
                assert client.traffic == Traffic(requests=2)
    assert len(vendor.requests) == 2


async def test_too_fast_pushes_everybody_back():
    limiter = CountingLimiter()
    async with ScriptedVendor(Response(b"", 429, {"Retry-After": "7"}), BODY) as vendor:
        with ahead(vendor.url, ONE, limiter=limiter) as early:
            async with polygon(vendor.url, ahead=early) as client:
                assert await client.body(ONE) == BODY.body
                assert client.traffic == Traffic(requests=2, rate_limited=1)
    assert limiter.pushed == [7.0]


async def test_an_answer_that_cannot_be_read_is_asked_for_again():
    async with ScriptedVendor(Response(b'{"status": "OK", "resu'), BODY) as vendor:
        with ahead(vendor.url, ("/v2/aggs/grouped/locale/us/market/stocks/2024-01-02", {"adjusted": "false"})) as early:
            async with polygon(vendor.url, ahead=early) as client:
                day = await client.grouped_daily("stocks", date(2024, 1, 2))
    assert day.tickers == []
    assert len(vendor.requests) == 2


async def test_a_refused_key_costs_one_request():
    async with ScriptedVendor(Response({"status": "ERROR", "error": "Unknown API Key"}, 401)) as vendor:
        with ahead(vendor.url, ONE, OTHER) as early:
            async with polygon(vendor.url, ahead=early) as client:
                for address in (ONE, OTHER, UNASKED):
                    with pytest.raises(KeyRefused, match="POLYGON_API_KEY"):
                        await client.body(address)
    assert len(vendor.requests) == 1


async def test_without_a_permit_nothing_is_sent_and_nothing_handed_over():
    async with ScriptedVendor(BODY) as vendor:
        with ahead(vendor.url, ONE, limiter=Refusing()) as early:
            assert await early.take(ONE) is None
    assert vendor.requests == []


async def test_leaving_ends_what_is_under_way():
    limiter = Telling()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never says a word
        early = ahead(f"http://127.0.0.1:{silent.getsockname()[1]}", ONE, OTHER, limiter=limiter)
        with early:
            await asyncio.to_thread(limiter.permitted.wait)
    assert [await early.take(address) for address in (ONE, OTHER)] == [None, None]
    assert threads() == []


async def test_entered_and_left_at_once_it_is_gone():
    async with ScriptedVendor(BODY) as vendor:
        for _ in range(20):
            with ahead(vendor.url, ONE):
                pass
    assert threads() == []


@pytest.mark.parametrize("wrong", [SettingMistake("No address."), FileNotFoundError("certificates")])
async def test_what_cannot_be_opened_is_left_to_whoever_needs_it(wrong, capfd):
    @asynccontextmanager
    async def connect():
        raise wrong
        yield

    with Ahead([ONE], connect) as early:
        assert await early.take(ONE) is None
        assert early.news() == Traffic()
    assert capfd.readouterr().err == ""


async def test_leaving_while_it_closes_leaves_no_connection_behind():
    """Whoever has taken the last answer leaves at once, while the connections are being closed."""
    async with ScriptedVendor(Response(BODY.body, headers={"Connection": "keep-alive"})) as vendor:
        for _ in range(30):
            with ahead(vendor.url, ONE, OTHER) as early:
                await early.take(ONE)
                await early.take(OTHER)
    gc.collect()  # an open one would be told of here, which is an error
