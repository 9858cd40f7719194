"""`python -m backfill_assets.simulator`: run the simulator in the foreground."""

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
    """Serve until SIGTERM or SIGINT, after printing the URL.

    Exit codes: 0 after a signal, 1 if the port is taken, 2 for invalid arguments or an invalid scenario.
    """
    parser = argparse.ArgumentParser(
        "backfill_assets.simulator", description="A local Polygon API with synthetic prices."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 (default) selects a free one")
    parser.add_argument(
        "--api-key", action="append", default=[], help="accepted API key, repeatable; any key by default"
    )
    parser.add_argument("--scenario", type=Path, help="JSON file with a scenario")
    given = parser.parse_args(arguments)

    scenario = Scenario()
    if given.scenario is not None:
        try:
            scenario = read(given.scenario.read_bytes())
        except (OSError, msgspec.DecodeError, ValueError) as error:
            parser.error(f"{given.scenario}: {error}")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with Simulator(scenario, api_keys=tuple(given.api_key), port=given.port) as simulator:
            sys.stdout.write(f"{simulator.url}\n")
            sys.stdout.flush()
            while not stop.wait(0.5):  # wait() without a timeout blocks signals on some systems
                pass
    except OSError as error:
        sys.stderr.write(f"Cannot listen on 127.0.0.1:{given.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
