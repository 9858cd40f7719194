"""Run the simulator as an HTTP server on 127.0.0.1 in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

import msgspec
import uvicorn
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope
from uvicorn.protocols.http.h11_impl import H11Protocol

from backfill_assets.simulator.api import build
from backfill_assets.simulator.market import Market
from backfill_assets.simulator.responses import ABORT
from backfill_assets.simulator.scenario import Scenario
from backfill_assets.simulator.sessions import trading_days
from backfill_assets.simulator.state import RequestRecord, SimulatorState

_STOP_SECONDS = 5.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with an extension to reset the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn has this signature
        super().connection_made(transport)
        inner = cast("ASGIApp", self.app)

        def abort() -> None:
            raw: socket.socket = transport.get_extra_info("socket")
            # with linger 0, closing sends an RST, as if the peer had crashed
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

        async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = abort
            await inner(scope, receive, send)

        self.app = cast("Any", app)


class Simulator:
    """A local vendor. Use it as a context manager, or call `start` and `close`.

    scenario   the vendor's behaviour; no faults by default
    api_keys   accepted keys if the scenario has none; any non-empty key by default
    port       0 selects a free one
    now        the market's clock, returns aware datetimes; the end of all bars
    monotonic  the clock of the rate limit and of the request log, seconds

    Raises OSError from `start` if the port is taken.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        api_keys: tuple[str, ...] = (),
        port: int = 0,
        now: Callable[[], datetime] = _utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = SimulatorState(scenario or Scenario(), api_keys, now, monotonic)
        self._port = port
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash. Raises RuntimeError if the simulator is not running."""
        if self._socket is None:
            raise RuntimeError("the simulator is not running")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def requests(self) -> list[RequestRecord]:
        """A copy of the log of requests, oldest first, without those to `/_simulator`."""
        return list(self._state.requests)

    @property
    def market(self) -> Market:
        """The simulated market."""
        return self._state.market

    @property
    def scenario(self) -> Scenario:
        """The current scenario; a new one applies from the next request on."""
        return self._state.scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._state.adopt(scenario)

    def change(self, **fields: Any) -> None:
        """Replace some fields of the scenario. Counters of faults, holes and the rate limit restart."""
        self._state.adopt(msgspec.structs.replace(self._state.scenario, **fields))

    def reset(self) -> None:
        """Restore the first scenario and clear the request log."""
        self._state.reset()

    def start(self) -> Self:
        """Start the server; returns when it accepts requests."""
        trading_days("stocks")  # load the calendar before the first request, in the caller's thread
        # asyncio disables Nagle's algorithm only on sockets with IPPROTO_TCP; with it, every response takes 40 ms
        self._socket = listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
            listener.listen(128)  # connections queue from here on, before the thread runs
        except OSError:
            listener.close()
            self._socket = None
            raise
        config = uvicorn.Config(
            build(self._state),
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",  # broken responses are intended
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, listener), name="simulator", daemon=True
        )
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop the server and free the port; open requests get a second. May be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)
            self._server = self._thread = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
        asyncio.run(server.serve(sockets=[listener]))
