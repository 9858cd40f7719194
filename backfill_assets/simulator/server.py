"""Running the simulator: a real HTTP server on 127.0.0.1 in a thread of this process."""

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

from backfill_assets.simulator.answers import ABORT
from backfill_assets.simulator.api import build
from backfill_assets.simulator.market import Market
from backfill_assets.simulator.scenario import Scenario
from backfill_assets.simulator.sessions import trading_days
from backfill_assets.simulator.state import RequestRecord, SimulatorState

_STOP_SECONDS = 5.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which in addition lets the application reset its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own signature
        super().connection_made(transport)
        inner = cast("ASGIApp", self.app)

        def abort() -> None:
            raw: socket.socket = transport.get_extra_info("socket")
            # linger 0 turns the close into an RST, as from a crashed peer, instead of an orderly end
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

        async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = abort
            await inner(scope, receive, send)

        self.app = cast("Any", app)


class Simulator:
    """A local vendor. Use it as a context manager, or call `start` and `close`.

    scenario   what is wrong or special; a healthy vendor by default
    api_keys   accepted keys where the scenario names none; any non-empty key by default
    port       0 picks a free one
    now        the market's clock, aware datetimes; bars end with it
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
        self._office = SimulatorState(scenario or Scenario(), api_keys, now, monotonic)
        self._port = port
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end. Raises RuntimeError while it is not running."""
        if self._socket is None:
            raise RuntimeError("the simulator is not running")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def requests(self) -> list[RequestRecord]:
        """What has been asked so far, oldest first: a copy. The `/_simulator` paths are not among it."""
        return list(self._office.requests)

    @property
    def market(self) -> Market:
        """The bars behind the answers, for comparison."""
        return self._office.market

    @property
    def scenario(self) -> Scenario:
        """What the vendor acts by; setting it takes effect with the next request."""
        return self._office.scenario

    @scenario.setter
    def scenario(self, scenario: Scenario) -> None:
        self._office.adopt(scenario)

    def change(self, **fields: Any) -> None:
        """Replace some fields of the scenario. Counters of faults, holes and rate begin at zero."""
        self._office.adopt(msgspec.structs.replace(self._office.scenario, **fields))

    def reset(self) -> None:
        """Back to the first scenario, with an empty request log."""
        self._office.reset()

    def start(self) -> Self:
        """Listen and serve. Returns itself when requests are answered."""
        trading_days("stocks")  # here rather than in the first request, and in the caller's thread
        # asyncio switches Nagle's delay off only on sockets that name TCP; with it every answer takes 40 ms
        self._socket = listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._port))
            listener.listen(128)  # from here on connections queue up, so nobody has to wait for the thread
        except OSError:
            listener.close()
            self._socket = None
            raise
        config = uvicorn.Config(
            build(self._office),
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",  # cut answers are meant
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
        """Stop answering and free the port; open requests get a second. Closing twice is harmless."""
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
