"""From checks that were asked for to their results.

What lives here: what the checks of every multi-asset share. What does not: any check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import dagster as dg

from backfill_assets.domain.timeframes import Timeframe


def results_of[Found](
    timeframes: Mapping[dg.AssetKey, Timeframe],
    selected: Iterable[dg.AssetCheckKey],
    checks: Mapping[str, Callable[[Found, Timeframe], dg.AssetCheckResult]],
    found: Found,
) -> Iterator[dg.AssetCheckResult]:
    """A result for each selected check, in the order of the assets, all from what one look found."""
    for key in sorted(selected, key=lambda k: (list(timeframes).index(k.asset_key), k.name)):
        result = checks[key.name](found, timeframes[key.asset_key])
        yield result._replace(asset_key=key.asset_key, check_name=key.name)
