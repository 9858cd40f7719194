import asyncio
import gzip
import json
import logging
import socket
import subprocess
import sys

import httpx
import pytest

from backfill_assets.adapters import transport
from backfill_assets.adapters.polygon.failures import WORDS
from backfill_assets.adapters.polygon.wire import decode_page
from backfill_assets.adapters.transport import RetryPolicy, Transport
from backfill_assets.domain.errors import (
    BadRequest,
    ContradictoryAnswer,
    DatabaseUnavailable,
    KeyRefused,
    MalformedAnswer,
    NotEntitled,
    NotFound,
    RateLimited,
    SettingMistake,
    VendorUnavailable,
    VendorUnreachable,
)
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    KEY,
    CountingLimiter,
    NoSleep,
    Response,
    ScriptedVendor,
    TricklingVendor,
    bar,
    ok,
)
from backfill_assets_tests.support import PROJECT

PATH = "/v2/aggs/ticker/X/range/1/minute/2024-01-02/2024-01-03"
UNKNOWN_KEY = Response({"status": "ERROR", "error": "Unknown API Key", "request_id": "r7"}, 401)
TOO_FAST = Response({"status": "ERROR", "error": "You've exceeded the maximum requests per minute"}, 429)


@pytest.fixture
def limiter():
    return CountingLimiter()


@pytest.fixture
def sleep():
    return NoSleep()


@pytest.fixture
def connect(limiter, sleep):
    def made(url, key=KEY, **more):
        settings = {
            "limiter": limiter,
            "retry": RetryPolicy(),
            "sleep": sleep,
            "random": lambda: 0.0,
        }
        return Transport(key, words=WORDS, base_url=url, **settings | more)

    return made


async def fetch(transport, path=PATH, decode=decode_page):
    try:
        return await transport.fetch(path, {"limit": "5"}, decode)
    finally:
        await transport.close()


async def test_the_key_is_only_in_the_header(connect, limiter, caplog, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    caplog.set_level(logging.DEBUG)
    async with ScriptedVendor(TOO_FAST, ok(bar(1))) as vendor:
        page = await fetch(connect(vendor.url))
    assert page.bars.timestamp.tolist() == [1]
    assert [request.target for request in vendor.requests] == [f"{PATH}?limit=5"] * 2
    for request in vendor.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["accept-encoding"] == "gzip"
        assert request.headers["user-agent"].startswith("backfill-assets/")
    assert KEY not in caplog.text
    assert limiter.permits == 2


async def test_get_returns_the_body(connect):
    async with ScriptedVendor(Response(b"anything")) as vendor:
        transport = connect(vendor.url + "/prefix/")
        assert await transport.fetch(PATH, {"a": "b c"}, bytes) == b"anything"
        await transport.close()
    assert vendor.requests[0].target == f"/prefix{PATH}?a=b+c"


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (UNKNOWN_KEY, KeyRefused, "set POLYGON_API_KEY"),
        (Response({"status": "ERROR", "error": "Unknown API Key"}), KeyRefused, "Unknown API Key"),
        (Response({"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this"}, 403), NotEntitled, "this"),
        (Response({"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this"}), NotEntitled, "this"),
        (Response({"status": "ERROR", "error": "API Key was not provided"}, 403), KeyRefused, "not provided"),
        (Response({"status": "ERROR", "error": "You are not entitled to this data."}, 403), NotEntitled, "HTTP 403"),
        (Response({"status": "NOT_FOUND", "message": "Ticker not found."}, 404), NotFound, "Ticker not found."),
        (Response({"status": "ERROR", "error": "'to' before 'from'"}, 400), BadRequest, "'to' before 'from'"),
        (Response(b"", 301, {"Location": "https://elsewhere.invalid/"}), BadRequest, "redirect"),
        (Response(b"", 307, {"Location": "/v2/other"}), BadRequest, "redirect"),
    ],
)
async def test_a_refusal_is_not_retried(connect, sleep, answer, error, words):
    async with ScriptedVendor(answer) as vendor:
        transport = connect(vendor.url)
        with pytest.raises(error) as caught:
            await fetch(transport)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert PATH in str(caught.value)
    assert caught.value.status == answer.status
    assert (transport._limiter.permits, transport._limiter.pushed, sleep.slept) == (1, [], [])
    assert (len(vendor.requests), transport.traffic.retries) == (1, 0)


async def test_a_refusal_has_the_request_id_and_no_key(connect):
    echo = Response({"status": "ERROR", "error": f"Unknown API Key {KEY}"}, 401, {"X-Request-Id": "r8"})
    async with ScriptedVendor(echo) as vendor:
        with pytest.raises(KeyRefused) as caught:
            await fetch(connect(vendor.url))
    assert KEY not in str(caught.value)
    assert "Unknown API Key ***" in str(caught.value)
    assert caught.value.request_id == "r8"


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        *((Response(b"oops", status), VendorUnavailable) for status in (500, 502, 503, 504, 520, 408, 425)),
        (Response(b"{}", cut=True), VendorUnavailable),
        (Response(silent=True), VendorUnreachable),
        (Response(b"plain", headers={"Content-Encoding": "gzip"}), VendorUnavailable),
        (
            Response(gzip.compress(json.dumps(ok(bar(1)).body).encode())[:-30], headers={"Content-Encoding": "gzip"}),
            None,
        ),
        (Response({"status": "ERROR", "error": "Internal failure"}), VendorUnavailable),
        *((Response(b"<html>Access denied</html>", status), VendorUnavailable) for status in (401, 403, 404, 407, 451)),
        (Response({"message": "Your API key is forbidden: upgrade your plan"}, 403), VendorUnavailable),
        (Response({"status": "ERROR", "error": "Forbidden by policy"}, 403), VendorUnavailable),
        (Response({"status": 404, "error": "Not Found"}, 404), VendorUnavailable),
        (Response({"status": "NOT_AUTHORIZED", "message": "Your plan"}, 500), VendorUnavailable),
        (Response(b"<html>Bad Gateway</html>"), MalformedAnswer),
        (Response(b""), MalformedAnswer),
        (Response(b"", 204), MalformedAnswer),
        (Response({"status": "OK", "results": [bar(i, o=None) for i in range(10)]}), MalformedAnswer),
        (Response({"status": "OK", "results": [bar(1)], "resultsCount": 2}), ContradictoryAnswer),
    ],
)
async def test_temporary_failures_are_retried_with_growing_pauses(connect, limiter, sleep, failure, error):
    async with ScriptedVendor(failure, failure, ok(bar(4))) as vendor:
        transport = connect(vendor.url)
        page = await fetch(transport)
    assert page.bars.timestamp.tolist() == [4]
    assert (len(vendor.requests), limiter.permits, limiter.pushed) == (3, 3, [])
    assert sleep.slept == [1.0, 2.0]  # half of 2 s and 4 s: chance gave its least
    assert (transport.traffic.requests, transport.traffic.retries, transport.traffic.rate_limited) == (3, 2, 0)
    async with ScriptedVendor(failure) as vendor:
        with pytest.raises(error or MalformedAnswer) as caught:
            await fetch(connect(vendor.url, retry=RetryPolicy(attempts=2)))
    assert len(vendor.requests) == 2
    assert type(caught.value) is (error or MalformedAnswer)


async def test_pauses_double_up_to_the_maximum_with_jitter(connect, sleep):
    async with ScriptedVendor(Response(b"", 500)) as vendor:
        with pytest.raises(VendorUnavailable):
            await fetch(connect(vendor.url, retry=RetryPolicy(attempts=8), random=lambda: 0.5))
    assert sleep.slept == [0.75 * pause for pause in (2, 4, 8, 16, 32, 60, 60)]


async def test_retry_after_of_a_503_is_respected(connect, sleep, limiter):
    async with ScriptedVendor(Response(b"", 503, {"Retry-After": "40"}), ok()) as vendor:
        await fetch(connect(vendor.url))
    assert (sleep.slept, limiter.pushed) == ([40.0], [])


@pytest.mark.parametrize(
    ("headers", "pushed"),
    [
        ({}, [2.0, 4.0]),
        ({"Retry-After": "17"}, [17.0, 17.0]),
        ({"Retry-After": "0"}, [2.0, 4.0]),
        ({"Retry-After": "86400"}, [300.0, 300.0]),
        ({"Retry-After": "-3"}, [2.0, 4.0]),
        ({"Retry-After": "nan"}, [2.0, 4.0]),
        ({"Retry-After": "soon"}, [2.0, 4.0]),
        ({"Retry-After": "Tue, 02 Jan 2024 10:00:09 GMT", "Date": "Tue, 02 Jan 2024 10:00:00 GMT"}, [9.0, 9.0]),
        ({"Retry-After": "Tue, 02 Jan 2024 10:00:00 GMT", "Date": "Tue, 02 Jan 2024 10:00:05 GMT"}, [2.0, 4.0]),
        ({"Retry-After": "Tue, 02 Jan 2024 10:00:09 GMT"}, [2.0, 4.0]),
    ],
)
@pytest.mark.parametrize("status", [429, 200, 403])
async def test_a_429_pushes_back_the_limiter(connect, limiter, headers, pushed, status):
    failure = Response(TOO_FAST.body, status, headers)
    async with ScriptedVendor(failure, failure, ok()) as vendor:
        transport = connect(vendor.url)
        await fetch(transport)
    assert (limiter.pushed, limiter.permits, transport._sleep.slept) == (pushed, 3, [])
    assert (transport.traffic.rate_limited, transport.traffic.retries) == (2, 2)


async def test_retries_of_a_429_outlast_the_vendors_minute(connect, limiter):
    async with ScriptedVendor(TOO_FAST) as vendor:
        with pytest.raises(RateLimited, match="exceeded the maximum"):
            await fetch(connect(vendor.url))
    assert len(vendor.requests) == limiter.permits == 6
    assert sum(limiter.pushed[:-1]) > 60
    assert limiter.pushed[-1] == 60.0


async def test_a_refused_connection_is_unreachable(connect, limiter, sleep):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(VendorUnreachable, match="ConnectError") as caught:
        await fetch(connect(f"http://127.0.0.1:{port}"))
    assert str(caught.value).startswith(f"127.0.0.1:{port} cannot be reached (")
    assert (limiter.permits, len(sleep.slept)) == (6, 5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(silent=True), "Cannot reach {host}"),
        (Response(status=503), "{host} answered HTTP 503"),
        (Response(b"<html>"), "{host} gave no usable answer"),
        (TOO_FAST, "{host} limits the rate of requests"),
    ],
)
async def test_each_retry_is_announced_once_for_all_requests(connect, answer, reason):
    said = []
    async with ScriptedVendor(answer, answer, ok(), *[answer] * 9, ok()) as vendor:
        transport = connect(vendor.url, on_wait=said.append)
        await transport.fetch(PATH, {}, decode_page)
        alone = len(said)
        await asyncio.gather(*(transport.fetch(PATH, {}, decode_page) for _ in range(3)))
        await transport.close()
    start = f"{reason.format(host=f'127.0.0.1:{vendor.port}')}; retry"
    assert all(sentence.startswith(start) for sentence in said)
    numbers = [int(sentence.removeprefix(start).split()[0]) for sentence in said]
    assert said[0].endswith(" retry 2 of 6 in 2 s." if answer is TOO_FAST else " retry 2 of 6 in 1 s.")
    assert numbers[:alone] == [2, 3]
    assert numbers[alone:] == list(range(2, max(numbers[alone:]) + 1))


async def test_a_host_that_responded_once_is_not_unreachable(connect):
    for script in ((Response(b"", 503), Response(silent=True)), (Response(silent=True), Response(b"{}", cut=True))):
        async with ScriptedVendor(*script) as vendor:
            with pytest.raises(VendorUnavailable) as caught:
                await fetch(connect(vendor.url, retry=RetryPolicy(attempts=2)))
        assert type(caught.value) is VendorUnavailable


async def test_a_timeout_is_retried(connect, monkeypatch):
    monkeypatch.setattr(transport, "_TIMEOUT", httpx.Timeout(5, read=0.05, pool=None))
    async with ScriptedVendor(Response(seconds=0.3), ok()) as vendor:
        await fetch(connect(vendor.url))
        assert len(vendor.requests) == 2
        await asyncio.sleep(0.3)


async def test_an_endless_response_is_retried(connect, monkeypatch):
    monkeypatch.setattr(transport, "_TOTAL_TIMEOUT", 0.05)
    async with ScriptedVendor(Response(seconds=0.3), ok()) as vendor:
        with pytest.raises(VendorUnavailable, match="TimeoutError"):
            await fetch(connect(vendor.url, retry=RetryPolicy(attempts=1)))
        await asyncio.sleep(0.3)


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("start", "byte"),
    [(b"", b""), (b"", b"H"), (HEAD + b"X-Filler: ", b"x"), (HEAD + b"Content-Length: 5000\r\n\r\n{", b" ")],
    ids=["silence", "status", "headers", "body"],
)
async def test_a_trickle_is_announced_and_ends_while_other_requests_go_on(connect, monkeypatch, start, byte):
    monkeypatch.setattr(transport, "_TOTAL_TIMEOUT", 0.5)
    monkeypatch.setattr(transport, "_LONG", 0.1)
    said, ended = [], []

    async def fetch(path):
        await client.fetch(path, {}, bytes)
        ended.append(path)

    async with TricklingVendor(start, byte, ok()) as vendor:
        client = connect(vendor.url, retry=RetryPolicy(attempts=2), on_wait=said.append)
        await fetch("/first")  # the key is accepted
        slow = asyncio.gather(*(fetch("/trickle") for _ in range(3)), return_exceptions=True)
        await asyncio.gather(*(fetch("/other") for _ in range(20)))
        assert {type(error) for error in await slow} == {VendorUnreachable}, "three in a row end the run"
        await client.close()
    assert ended == ["/first", *["/other"] * 20]
    waiting = f"Waiting for 127.0.0.1:{vendor.port}, which has not answered for 0 s."
    assert set(said) == {waiting, f"Cannot reach 127.0.0.1:{vendor.port}; retry 2 of 2 in 1 s."}
    assert said.count(waiting) == 1


@pytest.mark.parametrize("refusal", [UNKNOWN_KEY, Response(UNKNOWN_KEY.body)])
async def test_a_refused_key_costs_one_request_for_many_tasks(connect, limiter, refusal):
    async with ScriptedVendor(refusal) as vendor:
        transport = connect(vendor.url)
        results = await asyncio.gather(*(transport.fetch(PATH, {}, bytes) for _ in range(2)), return_exceptions=True)
        if refusal.status == 200:  # `bytes` reads nothing, so it cannot know
            assert results == [json.dumps(refusal.body).encode()] * 2
            transport, vendor.requests = connect(vendor.url), []
        results = await asyncio.gather(
            *(transport.fetch(PATH, {}, decode_page) for _ in range(10)), return_exceptions=True
        )
        assert {type(result) for result in results} == {KeyRefused}
        assert len({id(result) for result in results}) == 10
        permits = limiter.permits
        with pytest.raises(KeyRefused, match="Unknown API Key"):
            await fetch(transport)
    assert len(vendor.requests) == transport.traffic.requests == 1
    assert limiter.permits == permits


@pytest.mark.parametrize(
    "first", [ok(), Response({"status": "NOT_AUTHORIZED"}, 403), Response({"status": "NOT_FOUND"}, 404)]
)
async def test_requests_are_concurrent_after_the_first_accepted_one(connect, first):
    async with ScriptedVendor(
        Response(first.body, first.status, seconds=0.4), Response(ok().body, seconds=0.1)
    ) as vendor:
        transport = connect(vendor.url)
        tasks = [asyncio.create_task(transport.fetch(PATH, {}, decode_page)) for _ in range(12)]
        await asyncio.sleep(0.2)
        assert vendor.most_in_flight == 1
        await asyncio.gather(*tasks, return_exceptions=True)
        await transport.close()
    assert vendor.most_in_flight == 8
    assert len(vendor.requests) == 12


@pytest.mark.parametrize("first", [Response(b"", 503), TOO_FAST, Response(b"<html>log in to this network</html>")])
async def test_requests_stay_single_until_the_key_is_accepted(connect, first):
    async with ScriptedVendor(first, first, first, UNKNOWN_KEY) as vendor:
        transport = connect(vendor.url)
        results = await asyncio.gather(
            *(transport.fetch(PATH, {}, decode_page) for _ in range(10)), return_exceptions=True
        )
        await transport.close()
    assert {type(result) for result in results} == {KeyRefused}
    assert len(vendor.requests) == 4
    assert vendor.most_in_flight == 1


async def test_a_key_that_is_revoked_midway_stops_waiting_tasks(connect):
    async with ScriptedVendor(ok(), UNKNOWN_KEY) as vendor:
        transport = connect(vendor.url)
        await transport.fetch(PATH, {}, decode_page)
        results = await asyncio.gather(
            *(transport.fetch(PATH, {}, decode_page) for _ in range(40)), return_exceptions=True
        )
        await transport.close()
    assert {type(result) for result in results} == {KeyRefused}
    assert len(vendor.requests) <= 1 + 8


@pytest.mark.parametrize("key", [None, "", "  ", "two words", "line\nbreak", "clé"])
async def test_an_invalid_key_sends_nothing(connect, limiter, key):
    async with ScriptedVendor(ok()) as vendor:
        with pytest.raises(KeyRefused, match="POLYGON_API_KEY") as caught:
            await fetch(connect(vendor.url, key))
    assert (vendor.requests, limiter.permits) == ([], 0)
    assert not (key and key.strip() and key in str(caught.value))


async def test_whitespace_around_a_key_is_stripped(connect):
    async with ScriptedVendor(ok()) as vendor:
        await fetch(connect(vendor.url, f" {KEY}\n"))
    assert vendor.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_this_machine_is_reached_without_a_proxy(connect, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with ScriptedVendor(ok()) as vendor:
        await fetch(connect(vendor.url))
        await fetch(connect(vendor.url.replace("127.0.0.1", "localhost")))
    assert len(vendor.requests) == 2


async def test_other_machines_are_reached_through_the_proxy(connect, monkeypatch):
    async with ScriptedVendor(ok()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        await fetch(connect("http://vendor.invalid"))
    assert proxy.requests[0].target == f"http://vendor.invalid{PATH}?limit=5"


class SocksProxy(ScriptedVendor):
    """Answers requests itself, after a SOCKS5 handshake for the host `name`."""

    async def _serve(self, reader, writer):
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        _, _, _, kind, length = await reader.readexactly(5)
        self.name = (await reader.readexactly(length + 2))[:-2].decode()
        assert kind == 3, "the proxy looks the name up"
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await super()._serve(reader, writer)


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_socks_proxy_is_used(connect, monkeypatch, scheme):
    async with SocksProxy(ok()) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        await fetch(connect("http://vendor.invalid"))
    assert (proxy.name, len(proxy.requests)) == ("vendor.invalid", 1)


@pytest.mark.parametrize(
    ("host", "excluded", "proxied"),
    [
        ("vendor.invalid", "other.invalid, fe80::/10 ,[::1],10.0.0.0/8", True),
        ("vendor.invalid", ".invalid", False),
        ("vendor.invalid", "*", False),
        ("10.1.2.3", "10.0.0.0/8", False),
        ("11.1.2.3", "10.0.0.0/8,nonsense/8", True),
        ("[fe80::1]", "fe80::/10", False),
        ("[fe80::1]", "[fe80::1]", False),
        ("[fe81::1]", "[fe80::1],::1", True),
    ],
)
def test_no_proxy_excludes_names_addresses_and_ranges(monkeypatch, host, excluded, proxied):
    monkeypatch.setenv("https_proxy", "proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", excluded)
    assert (transport.proxy_of(f"https://{host}/v2") is not None) is proxied


@pytest.mark.parametrize(
    "address", ["http://me:pa55@proxy:port", "ftp://me:pa55@proxy", "socks9://pa55", "http://", "//"]
)
def test_a_malformed_proxy_is_one_sentence_without_its_password(connect, monkeypatch, address):
    monkeypatch.setenv("https_proxy", address)
    with pytest.raises(SettingMistake, match=r"^HTTPS_PROXY must be an address like") as caught:
        connect("https://vendor.invalid")
    assert "pa55" not in str(caught.value)


async def test_without_a_permit_nothing_is_sent(connect):
    class Closed(CountingLimiter):
        async def acquire(self):
            raise DatabaseUnavailable("the server does not answer")

    async with ScriptedVendor(ok()) as vendor:
        with pytest.raises(DatabaseUnavailable):
            await fetch(connect(vendor.url, limiter=Closed()))
    assert vendor.requests == []


@pytest.mark.parametrize(
    "url",
    ["", "api.polygon.io", "ftp://host", "http://", "http://me:secret@host", "http://host?x=1", "http://[", "/v2"],
)
def test_an_invalid_base_url_is_rejected(connect, url):
    with pytest.raises(SettingMistake) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def test_a_policy_needs_an_attempt():
    with pytest.raises(ValueError, match="attempts 0"):
        RetryPolicy(attempts=0)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_loaded_are_one_sentence(connect, monkeypatch, tmp_path, content):
    if content:
        (tmp_path / "named.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "named.pem"))
    with pytest.raises(SettingMistake, match="certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be loaded"):
        connect("https://vendor.example")


LOADED_AFTER_THE_PERMIT = """
import asyncio, sys
import concurrent.futures.thread  # what reads the answer, after it has come
from contextlib import suppress
from datetime import date
from backfill_assets.domain.errors import MalformedAnswer
from backfill_assets.adapters.polygon import Polygon, RetryPolicy
from backfill_assets_tests.integration.adapters.scripted_vendor import CountingLimiter, Response, ScriptedVendor

class Looking(CountingLimiter):
    async def acquire(self):
        self.loaded = set(sys.modules)

async def first_request():
    limiter = Looking()
    async with ScriptedVendor(Response(b"{}")) as vendor:
        async with Polygon("a-key", base_url=vendor.url, limiter=limiter, retry=RetryPolicy(attempts=1)) as client:
            with suppress(MalformedAnswer):  # there is nothing in it
                await client.grouped_daily("stocks", date(2024, 3, 4))
    print(*sorted(set(sys.modules) - limiter.loaded))

asyncio.run(first_request())
"""


def test_nothing_is_loaded_between_a_permit_and_its_request():
    """While a program loads other things beside it, each module would make the request later than its permit."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_AFTER_THE_PERMIT], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.split() == []


LARGEST_ANSWERS = """
import asyncio, gzip, resource, sys, zlib
from backfill_assets.domain.errors import VendorError
from backfill_assets.adapters.polygon.failures import WORDS
from backfill_assets.adapters.transport import RetryPolicy, Transport
from backfill_assets.adapters.polygon.wire import decode_page
from backfill_assets_tests.integration.adapters.scripted_vendor import (
    KEY, CountingLimiter, EndlessVendor, NoSleep, Response, ScriptedVendor
)

GZIP = {"Content-Encoding": "gzip"}
START = b'{"status":"OK","results":['
bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
start = bomb.compress(START) + bomb.flush(zlib.Z_FULL_FLUSH)
block = bomb.compress(b" " * 2**24) + bomb.flush(zlib.Z_FULL_FLUSH)  # 16 MB in 16 kB, which may be repeated
cases = {
    "bomb": EndlessVendor(Response(start, headers=GZIP), block),
    "refusal": EndlessVendor(Response(start, 401, GZIP), block),
    "endless": EndlessVendor(Response(START), b"1," * 2**15),
    "chunked": EndlessVendor(Response(headers={"Transfer-Encoding": "chunked"}), b"10000\\r\\n" + b" " * 2**16 + b"\\r\\n"),
    "after its end": EndlessVendor(Response(gzip.compress(b"{}"), headers=GZIP), bytes(2**16)),
    "headers": EndlessVendor(Response(), b"X-More: and more\\r\\n" * 2**10),
    "values": ScriptedVendor(Response(gzip.compress(START + b"1," * 2**24 + b"1]}"), headers=GZIP)),
    "twice": ScriptedVendor(Response(gzip.compress(gzip.compress(b"{}")), headers={"Content-Encoding": "gzip, gzip"})),
    "deep": ScriptedVendor(Response(gzip.compress(b"[" * 2**25), headers=GZIP)),
    "deep rows": ScriptedVendor(Response(gzip.compress(START + b"[" * 2**25), headers=GZIP)),
    "deep error": ScriptedVendor(Response(gzip.compress(b'{"status":"ERROR","error":' + b"[" * 2**25), 400, GZIP)),
}

async def ask(server):
    async with server as vendor:
        transport = Transport(KEY, words=WORDS, base_url=vendor.url, limiter=CountingLimiter(), retry=RetryPolicy(attempts=1),
            sleep=NoSleep(), random=lambda: 0.0)
        try:
            await transport.fetch("/v2/x", {}, decode_page)
        except VendorError as error:
            return type(error).__name__, str(error)
        finally:
            await transport.close()

async def main():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, server in cases.items():
        print(name, *await ask(server), sep="|")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)

asyncio.run(main())
"""


def test_the_largest_answers_take_little_memory():
    done = subprocess.run(
        [sys.executable, "-c", LARGEST_ANSWERS], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    *lines, megabytes = done.stdout.splitlines()
    outcomes = {name: outcome for name, *outcome in (line.split("|") for line in lines)}
    reasons = {
        **dict.fromkeys(["bomb", "refusal", "endless", "chunked", "after its end"], "it has more than 64 MB"),
        "values": "it has more than 2,000,000 values",
        "twice": "its encoding was not requested",
    }
    for name in (*reasons, "deep", "deep rows"):
        assert outcomes[name][0] == "MalformedAnswer", name
        assert reasons.get(name, "") in outcomes[name][1]
    assert (outcomes["headers"][0], outcomes["deep error"][0]) == ("VendorUnreachable", "VendorUnavailable")
    assert int(megabytes) < 300, "twice 64 MB, and the tests' own bodies"
