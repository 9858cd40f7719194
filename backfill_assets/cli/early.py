"""The resource by which a run of this process takes answers that were asked for before it began."""

from __future__ import annotations

from typing import Self

import dagster as dg
from pydantic import PrivateAttr

from backfill_assets.adapters.polygon import Ahead
from backfill_assets.orchestration.resources import PolygonApi, PolygonRateLimit


class EarlyAnswers(PolygonApi):
    """The vendor, some of whose answers are on their way."""

    _ahead: Ahead = PrivateAttr()

    @classmethod
    def of(cls, ahead: Ahead) -> Self:
        """The vendor that the environment names."""
        polygon = cls(rate_limit=PolygonRateLimit())
        polygon._ahead = ahead
        return polygon

    def ahead(self) -> Ahead:
        """The answers."""
        return self._ahead


def answered_ahead(ahead: Ahead) -> dict[str, dg.ResourceDefinition]:
    """Resource overrides for `build_definitions` by which the answers are taken."""
    return {"polygon": dg.ResourceDefinition.hardcoded_resource(EarlyAnswers.of(ahead))}
