"""`/api/v1/`: the data of the commands' `--json`. Its routes and parameters are those of openapi.yaml."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backfill_assets.adapters.store import schema
from backfill_assets.adapters.store.alerts import AlertStore
from backfill_assets.adapters.store.base import Store
from backfill_assets.adapters.store.corporate_actions import CorporateActionStore
from backfill_assets.adapters.store.listings import ListingStore
from backfill_assets.adapters.store.runs import RecordedRun, RunStore
from backfill_assets.deployment.health import existing_database
from backfill_assets.domain.alert_rules import failed_checks
from backfill_assets.domain.api_tokens import ApiToken, Scope, known_token
from backfill_assets.domain.completeness import Completeness
from backfill_assets.domain.errors import NotStored, UsageMistake
from backfill_assets.domain.selection import Selection
from backfill_assets.pipelines.report import json_default, report_json
from backfill_assets.pipelines.selection import backfill_requests
from backfill_assets.pipelines.status import read_plans
from backfill_assets.presentation.calendar import grid_of
from backfill_assets.presentation.documents import gap_json, iso, plan_json, status_json, symbols_json
from backfill_assets.reading.selection import feature_columns
from backfill_assets.web.bodies import BODIES, Selected, Switch, Wanted, read_body
from backfill_assets.web.data import data_response
from backfill_assets.web.parameters import openapi, query_values, resolved
from backfill_assets.web.platform import Platform, Snapshot, symbol_details

if TYPE_CHECKING:
    from backfill_assets.web.launches import Launcher

PREFIX = "/api/v1"
_VOLATILE = frozenset({"as_of", "timestamp"})
"""When a document was made: no part of its ETag, so that a client that polls learns that nothing else has changed."""

_LONGEST = timedelta(days=31)
_CHANGES_A_MINUTE = 30


class Api:
    """The handlers, by the `operationId` of their routes. Each gets the values of the query, and of the path."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._changes: deque[float] = deque()

    def routes(self) -> Iterator[Route]:
        """Yield the routes of the OpenAPI document, and of the document itself."""
        for path, operations in openapi()["paths"].items():
            for method, operation in operations.items():
                yield Route(PREFIX + path, self._endpoint(operation), methods=[method.upper()])

    def _endpoint(self, operation: Mapping[str, Any]) -> Callable[[Request], Any]:
        name: str = operation["operationId"]
        handler: Callable[..., Any] = getattr(self, name)
        parameters = [resolved(p) for p in operation.get("parameters", ())]
        scope = Scope[operation.get("x-scope", "read").upper()]

        async def endpoint(request: Request) -> Response:
            token = self._token(request, scope)
            values = query_values(request, parameters) | request.path_params
            if name in BODIES:
                values["body"] = await read_body(request, BODIES[name])
            if name == "launch" and token is not None:
                values |= {"key": request.headers.get("idempotency-key"), "token": token.name}
            found = await run_in_threadpool(handler, **values)
            return found if isinstance(found, Response) else document_response(request, found)

        return endpoint

    def _token(self, request: Request, scope: Scope) -> ApiToken | None:
        """Return the token of a request. One is needed if there are any, and always to change something.

        Raises HTTPException.
        """
        tokens = self._platform.settings.api_tokens
        given = [value.partition(" ") for value in request.headers.getlist("authorization")]
        texts = [text.strip() for kind, _, text in given if kind.lower() == "bearer"]
        # A proxy may let requests with a token through without its login.
        if not (tokens or texts) and scope is Scope.READ:
            return None
        token = known_token(tokens, texts[0]) if len(texts) == 1 else None
        if token is None:
            sentence = "This needs the header Authorization: Bearer with a token of BACKFILL_API_TOKENS."
            raise HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"})
        if token.scope < scope:
            raise HTTPException(403, f"The token {token.name} allows to {token.scope.name.lower()} only.")
        if scope is Scope.LAUNCH:
            self._count_change()
        return token

    def _count_change(self) -> None:
        now = time.monotonic()
        while self._changes and self._changes[0] < now - 60:
            self._changes.popleft()
        if len(self._changes) >= _CHANGES_A_MINUTE:
            raise HTTPException(429, f"More than {_CHANGES_A_MINUTE} changes a minute.", {"Retry-After": "60"})
        self._changes.append(now)

    def document(self) -> object:
        """Return the OpenAPI document."""
        return openapi()

    def status(self, **names: Any) -> object:
        """Return what `backfill status --json` prints."""
        found = self._selected(**names)
        return status_json(found.found, found.checks, found.orphans)

    def completeness(self, columns: int, **names: Any) -> object:
        """Return the completeness picture of each market: per symbol the periods in the same state."""
        found = self._selected(**names)
        return {"as_of": iso(found.now), "markets": [_picture(market, columns) for market in found.found]}

    def gaps(self, timeframes: tuple[str, ...] | None, **names: Any) -> object:
        """Return what `backfill gaps --json` prints."""
        found = self._selected(timeframes=timeframes, **names)
        gaps = [gap for market in found.found for gap in market.gaps]
        return [gap_json(gap) for gap in gaps if timeframes is None or gap.timeframe in timeframes]

    def runs(self, since: date | None) -> object:
        """Return a report on the runs since a day, or on the last run of each market and kind."""
        if since is None:
            return self._report(self._platform.last_runs())
        if since < datetime.now(UTC).date() - _LONGEST:
            raise UsageMistake(f"since must be a day of the last {_LONGEST.days} days, not {since}.")
        at = datetime(since.year, since.month, since.day, tzinfo=UTC)
        return self._report(self._platform.read(lambda store: RunStore.beside(store).read(since=at)))

    def run(self, run_id: str) -> object:
        """Return the report on one run."""
        runs = self._platform.read(lambda s: RunStore.beside(s).read(run_id=run_id)) if run_id.isprintable() else []
        if not runs:
            raise NotStored(f"There is no run {run_id!r}.")
        return self._report(runs)

    def alerts(self) -> object:
        """Return what `backfill alerts --json` prints."""
        from backfill_assets.orchestration.alerts.state import alerts_json  # noqa: PLC0415  # Dagster takes seconds to load

        return alerts_json(self._platform.alerts(), self._platform.settings.dagster_ui_url)

    def schedules(self) -> object:
        """Return the schedules and sensors that the daemon has seen."""
        from backfill_assets.deployment.private_api import next_due  # noqa: PLC0415  # Dagster takes seconds to load

        now = datetime.now(UTC)
        return [
            {
                "name": name,
                "kind": "schedule" if ticks.crons else "sensor",
                "on": not ticks.switched_off,
                "cron": " and ".join(ticks.crons) or None,
                "last_tick": iso(ticks.last_good),
                "last_error": ticks.last_error or None,
                "next_tick": iso(next_due(ticks, now)),
            }
            for name, ticks in sorted(self._platform.ticking().items())
        ]

    def sources(self) -> object:
        """Return the sources of bars."""
        return [asdict(source) for source in self._platform.sources(datetime.now(UTC))]

    def archives(self) -> object:
        """Return what the archives have."""
        return [asdict(archive) for archive in self._platform.archives()]

    def symbols(self) -> object:
        """Return what `backfill symbols list --json` prints."""
        found = self._platform.snapshot()
        return symbols_json(found.universe, found.bars)

    def symbol(self, symbol: str) -> object:
        """Return all about one symbol."""
        try:
            found = self._selected(symbols=(symbol,))
        except UsageMistake as error:
            raise NotStored(str(error)) from None
        status = status_json(found.found, found.checks, found.orphans)
        return {
            "symbol": symbol,
            "as_of": iso(found.now),
            "bars": found.bars.get(symbol, 0),
            **{name: status[name] for name in ("series", "gaps")},
            **self._platform.read(lambda store: _reference(store, symbol)),
        }

    def plan(self, body: Selected) -> object:
        """Return what `backfill plan --json` prints."""
        settings, now = self._platform.settings, datetime.now(UTC)
        universe = settings.universe(now.date())
        chosen = backfill_requests(
            body.selection(), universe, now, settings.retries, flat_files=settings.has_flat_files
        )
        plans, look_ups = self._platform.read(lambda store: read_plans(store, chosen, now))
        return plan_json(plans, settings.requests_per_second, look_ups)

    def launch(self, body: Wanted, key: str | None, token: str) -> Response:
        """Launch a backfill."""
        state = self._launcher.launch(body, key, token)
        return JSONResponse(state, 202, {"Location": f"{PREFIX}/backfills/{state['id']}"})

    def backfill(self, backfill_id: str) -> object:
        """Return the state of a backfill."""
        return self._launcher.state(backfill_id)

    def cancel(self, backfill_id: str) -> Response:
        """Cancel a backfill."""
        return JSONResponse(self._launcher.cancel(backfill_id), 202)

    def switch(self, name: str, body: Switch) -> Response:
        """Switch a schedule or sensor on or off."""
        self._launcher.switch(name, on=body.on)
        return JSONResponse({"name": name, "on": body.on})

    @cached_property
    def _launcher(self) -> Launcher:
        from backfill_assets.web.launches import Launcher  # noqa: PLC0415  # Dagster takes seconds to load

        return Launcher(self._platform.settings)

    def bars(self, *, format: str, **arguments: Any) -> Response:  # noqa: A002  # the parameter's name
        """Return bars, as `read_bars` does."""
        return self._data(format, **arguments)

    def features(self, *, format: str, features: tuple[str, ...] | None, **arguments: Any) -> Response:  # noqa: A002
        """Return features, without the bars that they are of."""
        return self._data(format, columns=features or feature_columns("all"), **arguments)

    def _data(self, kind: str, **arguments: Any) -> Response:
        url = existing_database(self._platform.settings)
        schema.require_current(url)
        return data_response(kind, url=url, **arguments)

    def _selected(self, **names: Any) -> Snapshot:
        return self._platform.snapshot().selected(Selection(**names), self._platform.settings)

    def _report(self, runs: list[RecordedRun]) -> object:
        now = datetime.now(UTC)
        markets = self._platform.settings.universe(now.date()).markets
        results = self._platform.read(lambda store: AlertStore.beside(store).check_results())
        reported = {run.run["market"] for run in runs}
        checks = [check for m in markets if m.name in reported for check in failed_checks(results, m)]
        return report_json(runs, checks, now)


def document_response(request: Request, document: object) -> Response:
    """Return a JSON document, or 304 if the client has it."""
    stable = {k: v for k, v in document.items() if k not in _VOLATILE} if isinstance(document, dict) else document
    body = json.dumps(stable, default=json_default, allow_nan=False)
    headers = {"ETag": f'W/"{hashlib.sha256(body.encode()).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if stable is not document:
        body = json.dumps(document, default=json_default, allow_nan=False)
    return Response(body, headers=headers, media_type="application/json")


def _picture(found: Completeness, columns: int) -> dict[str, object]:
    grid = grid_of(found, columns)
    return {
        "market": found.market,
        "step": grid.step,
        "columns": [{"start": days.start, "end": days.end} for days in grid.columns],
        "symbols": [
            {
                "symbol": symbol,
                "states": [
                    {"first": run.first, "last": run.after - 1, "state": run.state.name.lower()}
                    for run in grid.runs(row)
                ],
            }
            for row, symbol in enumerate(grid.symbols)
        ],
    }


def _reference(store: Store, symbol: str) -> dict[str, object]:
    listing = ListingStore.beside(store).read([symbol]).get(symbol)
    actions = CorporateActionStore.beside(store).read([symbol])
    details = symbol_details(store, symbol)
    return {
        "features": [
            {"timeframe": timeframe, "newest": iso(newest), "up_to_date": not stale}
            for timeframe, newest, stale in details.features
        ],
        "restatements": [
            {"timeframe": timeframe, "day": day, "bars": bars, "changed_at": iso(at)}
            for timeframe, day, bars, at in details.restatements
        ],
        "listed": listing.listing.listed if listing else None,
        "delisted": listing.listing.delisted if listing else None,
        "corporate_actions": [asdict(a.action) | {"withdrawn_at": iso(a.withdrawn_at)} for a in actions],
    }
