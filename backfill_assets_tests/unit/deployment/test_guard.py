"""Which requests the guard passes to the application, and which it refuses. No server: plain ASGI calls."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfill_assets.deployment.guard import Guard

PUBLIC = "https://market.example.org"
LOOPBACK, LAN = ("127.0.0.1", 3000), ("192.0.2.7", 3000)
OWN = {
    "127.0.0.1:3000": "http://127.0.0.1:3000",
    "localhost:3000": "http://localhost:3000",
    "[::1]:3000": "http://[::1]:3000",
    "market.example.org": PUBLIC,
    "market.example.org:443": PUBLIC,
}
"""The origin of each value of the header Host that means the server at LOOPBACK, behind the proxy at PUBLIC."""

GRAPHQL = {"method": "POST", "path": "/graphql"}
JSON = {"content-type": "application/json"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
SITES = ("same-site", "cross-site", "something-new")
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain")


async def call(guard, scope):
    """Return the messages that the server gets from the guarded application."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    await guard(scope, receive, send)
    return sent


async def application(scope, _receive, send):
    """Accept everything."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        headers = [(b"x-frame-options", b"ALLOWALL"), (b"content-security-policy", b"script-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def request(*pairs, kind="http", method="GET", path="/", query="", server=LOOPBACK, url=PUBLIC, **_ignored):
    """Send a request with these headers through the guard; return the messages."""
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "server": server,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
    }
    return asyncio.run(call(Guard(application, url), scope))


def status(headers, **options):
    """Return the status of a request of these headers, by default with an own Host: 403 for a refused WebSocket."""
    sent = request(*({"host": "127.0.0.1:3000"} | headers).items(), **options)
    return {"websocket.accept": 101, "websocket.close": 403}.get(sent[0]["type"]) or sent[0]["status"]


@pytest.mark.parametrize(("host", "origin"), OWN.items())
def test_the_servers_own_addresses_pass(host, origin):
    for headers in ({}, {"origin": origin}, {"origin": origin, "sec-fetch-site": "same-origin"}):
        assert status({"host": host} | headers) == 200
        assert status({"host": host.upper()} | headers | JSON, **GRAPHQL) == 200
    assert status({"host": host, "origin": origin}, kind="websocket", path="/graphql") == 101


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:3000", "127.0.0.1", "127.0.0.1:3001", "localhost", "localhost.:3000", ""),
        *("127.0.0.1:3000.evil.example", "evil.127.0.0.1:3000", "market.example.org:80", "192.0.2.7:3000", "::1"),
    ],
)
def test_another_host_is_refused(host):
    for headers in ({}, LINK, {"origin": f"http://{host}"}, {"origin": "http://127.0.0.1:3000"}):
        assert status({"host": host} | headers) == 421
        assert status({"host": host} | headers, kind="websocket") == 403


@pytest.mark.parametrize("hosts", [(), ("127.0.0.1:3000",) * 2, ("evil.example", "127.0.0.1:3000")])
def test_a_request_has_one_host(hosts):
    assert request(*(("host", host) for host in hosts))[0]["status"] == 421


@pytest.mark.parametrize(
    "origin", ["null", "", "http://evil.example", "https://127.0.0.1:3000", "http://localhost:3000"]
)
def test_a_foreign_origin_is_refused(origin):
    """Also that of another program of this machine: one may listen on port 3000 of ::1, which is localhost too."""
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        assert status({"origin": origin} | JSON, method=method, path="/report_asset_check/x") == 403
        assert status({"origin": origin} | JSON, method=method, path="/graphql") == 403
    assert status({"origin": origin}, kind="websocket") == 403
    assert (
        request(("host", "127.0.0.1:3000"), ("origin", "http://127.0.0.1:3000"), ("origin", origin))[0]["status"] == 403
    )


def test_a_websocket_needs_an_origin():
    assert status({}, kind="websocket", path="/graphql") == 403
    # Browsers differ in whether they send this, and in the value.
    assert status({"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-site"}, kind="websocket") == 101


@pytest.mark.parametrize("site", SITES)
def test_pages_of_others_may_link_here_and_nothing_else(site):
    link = LINK | {"sec-fetch-site": site}
    assert status(link, path="/assets/stocks/ohlcv_1d") == 200
    assert status(link | JSON, **GRAPHQL) == 403
    assert status(link, path="/graphql") == 403
    assert status(link, method="POST") == 403
    for changed in (
        *({"sec-fetch-dest": "iframe"}, {"sec-fetch-dest": "object"}, {"sec-fetch-mode": "no-cors"}),
        *({"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, {"sec-fetch-dest": ""}),
    ):
        assert status(link | changed) == 403


@pytest.mark.parametrize("path", ["/graphql", "/prefix/graphql", "/graphql\n", "/graphql \n"])
def test_graphql_is_json_by_post(path):
    def post(content_type):
        return status({"content-type": content_type}, method="POST", path=path, query="query={version}")

    assert {
        post(kind) for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON ;x=y")
    } == {200}
    assert {
        post(kind)
        for kind in (*FORM_TYPES, "text/plain; application/json", "application/jsonp", "application/graphql", "")
    } == {415}
    assert status({}, method="POST", path=path) == 415
    for query in ("query=mutation{x}", "query=", "a=b&query={version}", "%71uery={version}", "variables=1&query"):
        assert status({}, path=path, query=query) == 405
        assert status({"accept": "text/html"}, path=path, query=query) == 405
    assert status({"accept": "text/html"}, path=path) == 200, "the page GraphiQL"


def test_other_pages_may_have_a_query():
    assert status({}, path="/assets", query="query=x") == 200


@pytest.mark.parametrize(
    ("server", "url", "passes", "refused"),
    [
        (LAN, PUBLIC, ["192.0.2.7:3000", "market.example.org"], ["localhost:3000", "127.0.0.1:3000", "192.0.2.8:3000"]),
        (("::1", 3000), "http://[::1]:3000", ["[::1]:3000", "localhost:3000"], ["market.example.org", "[::2]:3000"]),
        (("2001:db8::7", 80), "http://Proxy:8080/ui", ["[2001:db8::7]", "proxy:8080"], ["proxy", "[::1]", "localhost"]),
        (("127.8.0.1", 80), "http://proxy:80", ["127.8.0.1", "127.8.0.1:80", "localhost", "proxy"], ["proxy:8080"]),
        (("/run/web.sock", None), PUBLIC, ["market.example.org"], ["localhost", ""]),
        (None, PUBLIC, ["market.example.org"], ["localhost", ""]),
    ],
)
def test_the_address_is_the_one_that_accepted_the_connection(server, url, passes, refused):
    assert {host: status({"host": host}, server=server, url=url) for host in passes + refused} == (
        dict.fromkeys(passes, 200) | dict.fromkeys(refused, 421)
    )


def test_every_response_has_the_headers_also_a_refusal():
    for host in ("127.0.0.1:3000", "evil.example"):
        start, body = request(("host", host))
        headers = dict(start["headers"])
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"x-frame-options"] == b"SAMEORIGIN"
        assert headers[b"referrer-policy"] == b"same-origin"
        policies = [value for name, value in start["headers"] if name == b"content-security-policy"]
        assert policies == [b"script-src 'self'"] * (start["status"] == 200) + [b"frame-ancestors 'self'"]
        assert body["body"].decode().count("\n") == (start["status"] != 200), "one sentence"


def test_other_kinds_of_connection_pass():
    assert request(kind="lifespan")[0]["status"] == 200


HOSTS, ORIGINS = (
    st.sampled_from([*OWN, "evil.example"]) | st.text("a.:[]1038\n"),
    st.sampled_from([*OWN.values(), "null", "http://evil.example"]) | st.text("htp:/a.103"),
)
HEADERS = st.lists(
    st.tuples(st.just("host"), HOSTS)
    | st.tuples(st.just("origin"), ORIGINS)
    | st.tuples(st.just("sec-fetch-site"), st.sampled_from(["none", "same-origin", *SITES]))
    | st.sampled_from([pair for pair in LINK.items() if pair[0] != "sec-fetch-site"])
    | st.tuples(st.just("content-type"), st.sampled_from(["application/json", *FORM_TYPES])),
    max_size=7,
)


@given(
    HEADERS,
    st.sampled_from(["http", "websocket"]),
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]),
    st.sampled_from(["/", "/graphql", "/graphql\n", "/x/graphql"]),
    st.sampled_from(["", "query=x"]),
)
@example([("host", "127.0.0.1:3000"), *JSON.items()], "http", "POST", "/graphql", "")
def test_nothing_passes_without_an_own_host_and_with_a_foreign_origin(headers, kind, method, path, query):
    sent = request(*headers, kind=kind, method=method, path=path, query=query)
    if sent[0].get("status") != 200 and sent[0]["type"] != "websocket.accept":
        return
    values = {name: [value for key, value in headers if key == name] for name in ("host", "origin", "content-type")}
    (host,) = values["host"]
    assert set(values["origin"]) <= {OWN[host.lower()]}
    if kind == "websocket":
        assert values["origin"]
        return
    foreign = {value for key, value in headers if key == "sec-fetch-site"} - {"none", "same-origin"}
    if "graphql" in path:
        assert not foreign
        assert values["content-type"] == ["application/json"] if method != "GET" else not query
    elif foreign:
        assert method == "GET"
        assert set(LINK.items()) - {("sec-fetch-site", "cross-site")} <= set(headers)
