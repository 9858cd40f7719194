"""`python -m backfill_assets.simulator`: the simulator in the foreground, for the demo and for tests of other processes."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

import msgspec

from backfill_assets.simulator.scenario import Scenario, read
from backfill_assets.simulator.server import Simulator


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Prints the URL as its first line.

    Exit codes: 0 after a signal, 1 if the port is taken, 2 if arguments or scenario cannot be used.
    """
    parser = argparse.ArgumentParser("backfill_assets.simulator", description="A local Polygon with made-up prices.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, picks a free one")
    parser.add_argument("--api-key", action="append", default=[], help="accepted key, repeatable; any key by default")
    parser.add_argument("--scenario", type=Path, help="JSON file that says what is wrong or special")
    given = parser.parse_args(arguments)

    scenario = Scenario()
    if given.scenario is not None:
        try:
            scenario = read(given.scenario.read_bytes())
        except (OSError, msgspec.DecodeError, ValueError) as mistake:
            parser.error(f"{given.scenario}: {mistake}")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Simulator(scenario, api_keys=tuple(given.api_key), port=given.port) as simulator:
            sys.stdout.write(f"{simulator.url}\n")
            sys.stdout.flush()
            while not stop.wait(0.5):  # a bare wait() would not let signals through on every system
                pass
    except OSError as mistake:
        sys.stderr.write(f"Cannot listen on 127.0.0.1:{given.port}: {mistake}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
