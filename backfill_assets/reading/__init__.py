"""Read bars, features, gaps and corporate actions as Arrow, polars or pandas frames.

Only Python: no Dagster, no commands, and nothing is written.
"""

from backfill_assets.reading.bars import iterate_bars, read_bars
from backfill_assets.reading.tables import read_corporate_actions, read_features, read_gaps

__all__ = ["iterate_bars", "read_bars", "read_corporate_actions", "read_features", "read_gaps"]
