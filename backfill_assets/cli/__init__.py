"""The command line: `backfill …`."""

from backfill_assets.cli.app import main

__all__ = ["main"]
