"""The command line: `backfill …`.

What lives here: options into orders, orders into runs, and what a person is shown. What does not: any work of its own.
"""

from backfill_assets.cli.app import main

__all__ = ["main"]
