"""The features that are computed for every bar."""

from backfill_assets.domain.features.catalog import COLUMNS, FEATURES, Column, Feature, Scaling
from backfill_assets.domain.features.compute import LOOK_BACK, compute, compute_range, look_back, rescaled

__all__ = [
    "COLUMNS",
    "FEATURES",
    "LOOK_BACK",
    "Column",
    "Feature",
    "Scaling",
    "compute",
    "compute_range",
    "look_back",
    "rescaled",
]
