"""The vendor's flat files: the bars of every ticker of a market, one file a day, over S3.

Which sessions are fetched from files and where bars are stored does not belong here.
"""

from backfill_assets.adapters.polygon_files.client import DayFile, PolygonFiles
from backfill_assets.adapters.polygon_files.decode import MarketDay, read_day, table_bars

__all__ = ["DayFile", "MarketDay", "PolygonFiles", "read_day", "table_bars"]
