"""What the API changes: it launches and cancels backfills, and switches schedules. Loads Dagster and the definitions."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime

import dagster as dg
import msgspec

from backfill_assets.adapters.settings import Settings
from backfill_assets.deployment.private_api import BackfillState, backfill_state, cancel_backfill, switch
from backfill_assets.domain.errors import NotStored, UsageMistake
from backfill_assets.domain.universe import Universe
from backfill_assets.orchestration.build import build_definitions
from backfill_assets.orchestration.launch import open_instance
from backfill_assets.orchestration.requested_backfills import launch_requested
from backfill_assets.pipelines.selection import backfill_requests
from backfill_assets.presentation.documents import iso
from backfill_assets.web.bodies import Wanted

REQUEST_TAG = "backfill/api_request"
"""A hash of the request, so that an Idempotency-Key cannot be reused for another one."""


class Launcher:
    """Launches, follows and cancels backfills of the universe. Threads share it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._loaded: tuple[tuple[Universe, date], dg.RepositoryDefinition] | None = None

    def launch(self, wanted: Wanted, key: str | None, token: str) -> dict[str, object]:
        """Launch a backfill, once for each `key`; return its state."""
        now = datetime.now(UTC)
        requests = backfill_requests(wanted.selection(), self._universe(now), now, self._settings.retries)
        if len(requests) != 1:
            raise UsageMistake(f"markets must name one of {', '.join(r.market.name for r in requests)}.")
        if requests[0].days is None:
            raise UsageMistake("No session of this range has finished.")
        digest = hashlib.sha256(msgspec.json.encode(wanted)).hexdigest()[:32]
        backfill_id = None if key is None else f"api{hashlib.sha256(f'{token} {key}'.encode()).hexdigest()[:16]}"
        with self._lock, open_instance(self._settings) as instance:
            repository = self._repository(now)
            known = backfill_state(instance, repository, backfill_id) if backfill_id else None
            if known is None:
                launched = launch_requested(
                    instance,
                    repository,
                    requests[0],
                    features=wanted.features,
                    backfill_id=backfill_id,
                    trigger=f"API, token {token}",
                    tags={REQUEST_TAG: digest},
                )
                known = backfill_state(instance, repository, launched)
            if known is None or known.tags.get(REQUEST_TAG) != digest:
                raise UsageMistake("This Idempotency-Key was used for another backfill.")
        return _document(known, now)

    def state(self, backfill_id: str) -> dict[str, object]:
        """Return the state of a backfill. Raises NotStored."""
        return self._with(backfill_id, lambda _: None)

    def cancel(self, backfill_id: str) -> dict[str, object]:
        """Cancel a backfill, and return its state. Raises NotStored."""
        return self._with(backfill_id, lambda instance: cancel_backfill(instance, backfill_id))

    def switch(self, name: str, *, on: bool) -> None:
        """Switch a schedule or sensor on or off. Raises NotStored."""
        with open_instance(self._settings) as instance:
            if not switch(instance, name, on=on, at=datetime.now(UTC)):
                raise NotStored(f"The daemon has seen no schedule or sensor {name!r}.")

    def _with(self, backfill_id: str, change: Callable[[dg.DagsterInstance], None]) -> dict[str, object]:
        now = datetime.now(UTC)
        with open_instance(self._settings) as instance:
            repository = self._repository(now)
            found = backfill_state(instance, repository, backfill_id) if backfill_id.isprintable() else None
            if found is not None:
                change(instance)
                found = backfill_state(instance, repository, backfill_id)
        if found is None:
            raise NotStored(f"There is no backfill {backfill_id!r}.")
        return _document(found, now)

    def _universe(self, now: datetime) -> Universe:
        return self._settings.universe(now.date())

    def _repository(self, now: datetime) -> dg.RepositoryDefinition:
        """Return the definitions as of today, loaded again when the universe changes."""
        loaded = self._universe(now), now.date()
        if self._loaded is None or self._loaded[0] != loaded:
            definitions = build_definitions(universe=loaded[0], today=loaded[1])
            self._loaded = loaded, definitions.get_repository_def()
        return self._loaded[1]


def _document(state: BackfillState, now: datetime) -> dict[str, object]:
    share = state.materialized / state.targeted if state.targeted else 1.0
    seconds = ((state.ended or now) - state.started).total_seconds()
    going_on = state.ended is None and state.status == "requested"
    return {
        "id": state.backfill_id,
        "status": state.status,
        "started_at": iso(state.started),
        "ended_at": iso(state.ended),
        "partitions": state.targeted,
        "materialized": state.materialized,
        "failed": state.failed,
        "day_reached": state.newest,
        "percent": round(100 * share, 1),
        "seconds_left": round(seconds * (1 - share) / share) if going_on and share else None,
    }
