"""A local Polygon API over HTTP with synthetic prices and faults on demand, for the demo and for tests.

with Simulator(Scenario(holes=(Hole(ticker="AAPL", first=date(2024, 3, 4), last=date(2024, 3, 5)),))) as vendor:
httpx.get(vendor.url + "/v2/aggs/ticker/AAPL/range/1/minute/2024-03-04/2024-03-08", headers=…)
vendor.market.minute_bars("AAPL", date(2024, 3, 4), date(2024, 3, 8))   # the bars without the hole
"""

from __future__ import annotations

from backfill_assets.simulator.columns import Columns
from backfill_assets.simulator.market import Market
from backfill_assets.simulator.scenario import (
    Dividend,
    Fault,
    FileFault,
    Hole,
    OtherVendors,
    RateLimit,
    Rename,
    Restatement,
    Scenario,
    Split,
)
from backfill_assets.simulator.server import Simulator
from backfill_assets.simulator.state import RequestRecord

__all__ = [
    "Columns",
    "Dividend",
    "Fault",
    "FileFault",
    "Hole",
    "Market",
    "OtherVendors",
    "RateLimit",
    "Rename",
    "RequestRecord",
    "Restatement",
    "Scenario",
    "Simulator",
    "Split",
]
