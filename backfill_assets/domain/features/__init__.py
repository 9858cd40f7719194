"""The feature set: what is computed of every bar, and the computing of it."""

from backfill_assets.domain.features.catalog import COLUMNS, FEATURES
from backfill_assets.domain.features.compute import LOOK_BACK, compute, compute_range, look_back, rescaled
from backfill_assets.domain.features.feature import Column, Feature, Scaling

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
