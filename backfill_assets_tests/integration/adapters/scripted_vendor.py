"""A local HTTP server that answers from a list, and a limiter and a sleep for its clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

KEY = "sekrit-key-0123456789"


@dataclass(frozen=True)
class Response:
    body: bytes | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # sends less than Content-Length
    silent: bool = False  # closes the connection without a response
    seconds: float = 0.0


@dataclass(frozen=True)
class ReceivedRequest:
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))


def bar(t: int, **more: Any) -> dict[str, Any]:
    return {"t": t, "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 10, "vw": 1.25, "n": 3} | more


def ok(*bars: dict[str, Any], **more: Any) -> Response:
    results = {"results": list(bars)} if bars else {}
    return Response({"status": "OK", "resultsCount": len(bars), "request_id": "r1"} | results | more)


class ScriptedVendor:
    """Sends the responses in order, the last one repeatedly."""

    def __init__(self, *script: Response) -> None:
        self.script, self.requests = list(script), list[ReceivedRequest]()
        self.in_flight = self.most_in_flight = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.requests.append(
                ReceivedRequest(first.split(" ")[1], {k.lower(): v for k, v in (x.split(": ", 1) for x in lines)})
            )
            answer = self.script[min(len(self.requests), len(self.script)) - 1]
            await asyncio.sleep(answer.seconds)
            self.in_flight -= 1
            writer.write(self._bytes(answer))
            await writer.drain()
        finally:
            writer.close()
            await writer.wait_closed()

    @staticmethod
    def _bytes(answer: Response) -> bytes:
        if answer.silent:
            return b""
        body = json.dumps(answer.body).encode() if isinstance(answer.body, dict) else answer.body
        headers = {"Content-Length": str(len(body) + 100 * answer.cut), "Connection": "close"} | answer.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {answer.status} Status\r\n{head}\r\n".encode() + body


class EndlessVendor(ScriptedVendor):
    """Sends the script's answer without a length, and then `more` until the client closes the connection."""

    def __init__(self, answer: Response, more: bytes) -> None:
        super().__init__(answer)
        self._more = more

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests.append(ReceivedRequest("", {}))
        head, _, body = self._bytes(self.script[0]).partition(b"\r\n\r\n")
        writer.write(b"\r\n".join(line for line in head.split(b"\r\n") if b"Content-Length" not in line))
        writer.write(b"\r\n" if self._more.startswith(b"X-") else b"\r\n\r\n" + body)
        with suppress(ConnectionError):
            while True:
                writer.write(self._more)
                await writer.drain()
        writer.close()


class TricklingVendor(ScriptedVendor):
    """Answers paths with `trickle` in them by `start` and then a byte every hundredth of a second, without end."""

    def __init__(self, start: bytes, byte: bytes, answer: Response) -> None:
        super().__init__(answer)
        self._start, self._byte = start, byte

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.requests.append(ReceivedRequest(path, {}))
        writer.write(self._start if "trickle" in path else self._bytes(self.script[0]))
        with suppress(ConnectionError):
            while "trickle" in path and not reader.at_eof():
                await asyncio.sleep(0.01)
                writer.write(self._byte)
                await writer.drain()
        writer.close()


class CountingLimiter:
    def __init__(self) -> None:
        self.permits = 0
        self.pushed: list[float] = []

    async def acquire(self) -> None:
        self.permits += 1
        await asyncio.sleep(0)

    async def push_back(self, seconds: float) -> None:
        self.pushed.append(seconds)


class NoSleep:
    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


def strictly_increasing(times: Sequence[int]) -> bool:
    return list(times) == sorted(set(times))
