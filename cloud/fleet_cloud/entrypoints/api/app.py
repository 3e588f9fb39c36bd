"""The HTTP API as a FastAPI application over the use cases."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from fleet_cloud import __version__
from fleet_cloud.client.views import (
    HealthView,
    LabelRequest,
    Page,
    RolloutRequest,
)
from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.entrypoints.api import problems, views
from fleet_cloud.entrypoints.api.access import check_operator
from fleet_cloud.entrypoints.api.blobs import blob_routes
from fleet_cloud.entrypoints.api.bodies import Body, answer, parse
from fleet_cloud.entrypoints.api.identity import identity_routes
from fleet_cloud.entrypoints.api.paging import page_of
from fleet_cloud.errors import Invalid, NotFound
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.drafts import VersionDraft
from fleet_cloud.services.identities import Identities
from fleet_cloud.services.models import Registry
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.rollouts import Rollouts, RolloutStatus
from fleet_cloud.services.telemetry import Readings
from fleet_shared.limits import ENROLMENT_BYTES
from fleet_shared.messages.enrolment import EnrolRequest
from fleet_shared.names import AssignmentId, DeviceId, parse_model_name
from fleet_shared.version import ModelRef, Version
from fleet_shared.wire import decode

Limit = Annotated[int, Query(ge=1, le=10_000)]
Since = Annotated[int, Query(ge=-(2**63), lt=2**63)]
Word = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
"""What a name or an id looks like; anything else would reach the database for nothing."""

ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
RELEASE_PATH: Final = re.compile(r"(?:metadata|targets)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){1,3}")
ROLLOUTS_LISTED: Final = 10_000


class Services:
    """What the routes need. ``wake`` tells the tick that there is work; ``broker`` how the
    connection is."""

    def __init__(
        self,
        *,
        identities: Identities,
        inventory: Inventory,
        registry: Registry,
        blobs: Blobs,
        rollouts: Rollouts,
        readings: Readings,
        overview: Overview,
        releases: Path,
        api_token: str,
        wake: Callable[[], None],
        broker: Callable[[], str],
    ) -> None:
        self.identities, self.inventory, self.registry, self.blobs = identities, inventory, registry, blobs
        self.rollouts, self.readings, self.overview = rollouts, readings, overview
        self.releases, self.api_token, self.wake, self.broker = releases, api_token, wake, broker


def create_app(services: Services) -> FastAPI:
    app = FastAPI(title="Fleet", version=__version__, docs_url="/api/docs", redoc_url=None)
    app.state.api_token = services.api_token
    problems.install(app)

    def operator(request: Request) -> None:
        check_operator(request, services.api_token)

    guarded = [Depends(operator)]
    app.include_router(_public_routes(services))
    app.include_router(blob_routes(services.blobs, services.api_token))
    for routes in (_device_routes, _model_routes, _rollout_routes, _telemetry_routes):
        app.include_router(routes(services), prefix="/api/v1", dependencies=guarded)
    app.include_router(identity_routes(services.identities), prefix="/api/v1", dependencies=guarded)
    return app


def _public_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["public"])

    @router.get("/api/v1/health")
    def health() -> Response:
        broker = services.broker()
        status = "ok" if broker == "connected" else "degraded"
        return answer(HealthView(status=status, broker=broker, version=__version__))

    @router.post("/api/v1/enrolments")
    def enrol(request: Request, body: Body) -> Response:
        if len(body) > ENROLMENT_BYTES:
            raise Invalid(
                f"the enrolment request has more than {ENROLMENT_BYTES} bytes",
                hint="is it made by fleet-agent enrol?",
                code="request.too_large",
            )
        origin = request.client.host if request.client else "unknown"
        return answer(services.identities.enrolling.enrol(decode(EnrolRequest, body), origin))

    @router.get("/api/v1/authorities")
    def authorities(sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None) -> Response:
        """The certificates (PEM) by which to know this controller. Whoever fetches them over a connection
        that proves nothing compares their sha256 with the one of a token, and asks for those by it: while an
        authority is replaced, a token may name the older one alone."""
        pem = services.identities.enrolling.find_authorities(sha256)
        return Response(pem, media_type="application/x-pem-file")

    @router.get("/releases/{path:path}")
    def release(path: str) -> Response:
        """Release metadata and targets: public and signed."""
        file = services.releases / path
        if not RELEASE_PATH.fullmatch(path) or not file.is_file():
            raise NotFound(
                f"nothing is released at {path!r}",
                hint="clients begin with metadata/timestamp.json",
                code="release.unknown",
            )
        return Response(file.read_bytes(), media_type="application/json")

    return router


def _device_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["devices"])

    @router.get("/devices")
    def devices(selector: str = "all", after: Word = None, limit: Limit = 200) -> Response:
        if selector == "all":
            found = list(services.inventory.page(DeviceId(after) if after else None, limit))
        else:
            matching = services.inventory.select(selector)
            found = [device for device in matching if after is None or device.id > after][:limit]
        following = found[-1].id if len(found) == limit else None
        return answer(Page(items=[views.show_device(d) for d in found], next=following))

    @router.get("/devices/{device}")
    def device(device: str) -> Response:
        return answer(views.show_device(services.inventory.get(device)))

    @router.get("/devices/{device}/measurements")
    def measurements(device: str) -> Response:
        """What devices like this one measured of variants, newest first."""
        return answer([views.show_measurement(one) for one in services.inventory.measurements(device)])

    @router.patch("/devices/{device}/labels")
    def label(device: str, body: Body) -> Response:
        request = parse(LabelRequest, body)
        return answer(views.show_device(services.inventory.label(device, request.set, request.remove)))

    @router.get("/status")
    def status() -> Response:
        return answer(views.show_status(services.overview.status()))

    return router


def _model_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/models")
    def models(after: Word = None, limit: Limit = 200) -> Response:
        """The newest version of each model, by name."""
        newest: dict[str, ModelVersion] = {}
        for version in services.registry.versions(None):
            newest.setdefault(version.model, version)
        page = page_of(list(newest.values()), lambda version: version.model, after, limit)
        return answer(Page(items=[views.show_version(v) for v in page.items], next=page.next))

    @router.get("/models/{model}")
    def versions(model: str, after: Word = None, limit: Limit = 200) -> Response:
        """All versions of a model, newest first."""
        found = services.registry.versions(parse_model_name(model))
        page = page_of(found, lambda version: str(version.version), after, limit)
        return answer(Page(items=[views.show_version(v) for v in page.items], next=page.next))

    @router.get("/models/{model}/versions/{version}")
    def version(model: str, version: str) -> Response:
        reference = ModelRef(parse_model_name(model), Version.parse(version))
        return answer(views.show_version(services.registry.get(reference)))

    @router.post("/models/{model}/versions")
    def register(model: str, body: Body) -> Response:
        registered = services.registry.register(model, parse(VersionDraft, body))
        view = views.show_version(registered.version, created=registered.created)
        return answer(view, 201 if registered.created else 200)

    return router


def _rollout_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["rollouts"])

    @router.post("/rollouts")
    def create(body: Body) -> Response:
        request = parse(RolloutRequest, body)
        status = services.rollouts.create(
            ModelRef.parse(request.model), request.selector, request.variant, request.policy.as_policy()
        )
        services.wake()
        return answer(views.show_rollout(status), 201)

    @router.get("/rollouts")
    def rollouts(after: Word = None, limit: Limit = 100) -> Response:
        """Newest first, without their assignments."""
        found = services.rollouts.page(limit + 1 if after is None else ROLLOUTS_LISTED)
        page = page_of(found, lambda rollout: rollout.id, after, limit)
        items = [views.show_rollout(RolloutStatus(rollout, ())) for rollout in page.items]
        return answer(Page(items=items, next=page.next))

    @router.get("/rollouts/{rollout}")
    def rollout(rollout: str) -> Response:
        return answer(views.show_rollout(services.rollouts.get(_clean_id(rollout))))

    @router.get("/assignments/{assignment}/history")
    def history(
        assignment: str, after: Annotated[int, Query(ge=0, lt=2**31)] = 0, limit: Limit = 1000
    ) -> Response:
        """Changes, oldest first; ``after`` is how many to skip."""
        changes = services.rollouts.history(AssignmentId(_clean_id(assignment)))
        if not changes:
            raise NotFound(
                f"no assignment {assignment!r}",
                hint="fleet rollout show lists them",
                code="assignment.unknown",
            )
        end = after + limit
        items = [views.show_change(change) for change in changes[after:end]]
        return answer(Page(items=items, next=str(end) if end < len(changes) else None))

    return router


def _clean_id(text: str) -> str:
    """Return an id that a database can look up, if it can be one: none has such characters."""
    return text if ID.fullmatch(text) else "-"


def _telemetry_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["telemetry"])

    @router.get("/devices/{device}/telemetry")
    def series(
        device: str,
        metric: str | None = None,
        source: Word = None,
        since_ms: Since = 0,
        limit: Limit = 1000,
    ) -> Response:
        found = services.readings.series(device, metric, source, since_ms, limit)
        return answer([views.show_series(one) for one in found])

    @router.get("/devices/{device}/events")
    def events(device: str, since_ms: Since = 0, limit: Limit = 1000) -> Response:
        return answer(views.show_events(list(services.readings.events(device, since_ms, limit))))

    @router.get("/devices/{device}/telemetry/totals")
    def totals(device: str) -> Response:
        return answer(views.show_totals(services.readings.totals(device)))

    return router
