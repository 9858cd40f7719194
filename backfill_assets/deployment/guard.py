"""An ASGI middleware that refuses what the pages of other web sites make a browser send to this server.

A browser sends requests of any page to any address, also to one that only this machine reaches, and with a proxy's login
that it has kept.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "frame-ancestors 'self'"
"""The Dagster UI shows notebooks in a frame. Added as a second Content-Security-Policy: a browser enforces each."""


class Guard:
    """Passes requests of this server's own pages, of programs, and links to its pages; refuses the rest with a sentence.

    The server's addresses are the one that the connection was accepted on, the names of loopback if it is one of these,
    and `url`, under which people reach it through a proxy: the value of the environment variable `setting`. GraphQL, at a
    path that ends in `/graphql`, is JSON by POST.
    """

    def __init__(self, app: ASGIApp, url: str, setting: str = "DAGSTER_UI_URL") -> None:
        self._app, self._setting = app, setting
        self._public = _origins(url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", ())))
                headers.update(_HEADERS)
                headers.append("Content-Security-Policy", _POLICY)
                message = {**message, "headers": headers.raw}
            await send(message)

        refusal = self._refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)  # before it is accepted: the server responds with 403
        else:
            status, sentence = refusal
            await PlainTextResponse(f"{sentence}\n", status)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        own = (self._public | _server_origins(scope)).get(hosts[0].lower()) if len(hosts) == 1 else None
        if own is None:
            return 421, f"Unknown host name: use the server's own address, or set {self._setting} to this one."
        websocket, origins = scope["type"] == "websocket", headers.getlist("origin")
        if set(origins) - {own} or (websocket and not origins):
            return 403, f"Requests of pages from elsewhere than {own} are refused."
        # Not every browser sends Sec-Fetch-Site for a WebSocket.
        return None if websocket else _http_refusal(scope, headers)


def _http_refusal(scope: Scope, headers: Headers) -> tuple[int, str] | None:
    graphql = scope["path"].rstrip().endswith("/graphql")  # `$` in Starlette's routes also matches before a line feed
    fetch = scope["method"], headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    follows_a_link = fetch == ("GET", "navigate", "document") and not graphql
    # Browsers send no Origin with a GET, as of an image or a script.
    if set(headers.getlist("sec-fetch-site")) - {"same-origin", "none"} and not follows_a_link:
        return 403, "Requests of pages from elsewhere are refused; links to pages of this server work."
    if graphql and scope["method"] == "GET" and "query" in QueryParams(scope["query_string"]):
        return 405, "GraphQL queries are accepted by POST only."
    types = [kind.partition(";")[0].strip().lower() for kind in headers.getlist("content-type")]
    if graphql and scope["method"] != "GET" and types != ["application/json"]:
        return 415, "GraphQL queries are accepted with the Content-Type application/json only."
    return None


def _server_origins(scope: Scope) -> dict[str, str]:
    """Return the origins of the address that a connection was accepted on, by value of the header Host."""
    host, port = scope.get("server") or ("", None)
    if port is None:  # a Unix socket
        return {}
    names = {f"[{host}]" if ":" in host else host}
    if host.startswith("127.") or host == "::1":
        names |= {"localhost", "127.0.0.1", "[::1]"}
    return {host: origin for name in names for host, origin in _origins(f"http://{name}:{port}").items()}


def _origins(url: str) -> dict[str, str]:
    """Return the origin of a URL by each value of the header Host that means it."""
    parts = urlsplit(url.lower())
    name = parts.netloc.removesuffix(f":{parts.port}")
    default = 443 if parts.scheme == "https" else 80
    port = parts.port or default
    if port != default:
        return {f"{name}:{port}": f"{parts.scheme}://{name}:{port}"}
    return dict.fromkeys((name, f"{name}:{port}"), f"{parts.scheme}://{name}")
