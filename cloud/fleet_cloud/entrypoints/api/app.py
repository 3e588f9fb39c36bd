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
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api import problems, views
from fleet_cloud.entrypoints.api.access import Access, address_of
from fleet_cloud.entrypoints.api.artifacts import artifact_routes
from fleet_cloud.entrypoints.api.blobs import blob_routes
from fleet_cloud.entrypoints.api.bodies import Body, BodyOf, answer, parse
from fleet_cloud.entrypoints.api.builds import build_routes
from fleet_cloud.entrypoints.api.identity import identity_routes
from fleet_cloud.entrypoints.api.paging import page_of
from fleet_cloud.entrypoints.api.people import people_routes
from fleet_cloud.entrypoints.api.roles import anybody, declare, needs
from fleet_cloud.entrypoints.api.trust import trust_routes
from fleet_cloud.errors import NotFound
from fleet_cloud.services.audit import AuditTrail
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.builds import BuildJobs
from fleet_cloud.services.devices import Inventory
from fleet_cloud.services.drafts import VersionDraft
from fleet_cloud.services.fetching import RELEASE_PATH
from fleet_cloud.services.identities import Identities
from fleet_cloud.services.models import Registry
from fleet_cloud.services.overview import Overview
from fleet_cloud.services.releases import Releases
from fleet_cloud.services.rollouts import Rollouts, RolloutStatus
from fleet_cloud.services.telemetry import Readings
from fleet_cloud.services.tokens import Tokens
from fleet_shared.messages.enrolment import EnrolRequest
from fleet_shared.names import AssignmentId, DeviceId, parse_model_name
from fleet_shared.version import ModelRef, Version
from fleet_shared.wire import decode

Limit = Annotated[int, Query(ge=1, le=10_000)]
Since = Annotated[int, Query(ge=-(2**63), lt=2**63)]
Word = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
"""What a name or an id looks like; anything else would reach the database for nothing."""

Operator = Annotated[Actor, needs(Role.OPERATOR)]
"""Who asks, and may change what runs."""

ENROLMENT_REQUEST_BYTES: Final = 16 * 1024
"""Enough for a key of any kind. Anybody may send one: thousands at once must not fill the memory."""
EnrolmentBody: Final = BodyOf(ENROLMENT_REQUEST_BYTES)
ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
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
        signing: Releases,
        releases: Path,
        tokens: Tokens,
        audit: AuditTrail,
        builds: BuildJobs,
        access: Access,
        wake: Callable[[], None],
        broker: Callable[[], str],
    ) -> None:
        self.identities, self.inventory, self.registry, self.blobs = identities, inventory, registry, blobs
        self.rollouts, self.readings, self.overview = rollouts, readings, overview
        self.signing, self.builds = signing, builds
        self.tokens, self.audit, self.access = tokens, audit, access
        self.releases, self.wake, self.broker = releases, wake, broker


def create_app(services: Services) -> FastAPI:
    app = FastAPI(title="Fleet", version=__version__, docs_url="/api/docs", redoc_url=None)
    app.state.access = services.access
    problems.install(app)
    for router in (_public_routes(services), blob_routes(services.blobs)):
        app.include_router(declare(router))
    for routes in (_device_routes, _model_routes, _rollout_routes, _telemetry_routes):
        app.include_router(declare(routes(services)), prefix="/api/v1")
    app.include_router(declare(artifact_routes(services.registry, services.blobs)), prefix="/api/v1")
    app.include_router(declare(people_routes(services.tokens, services.audit)), prefix="/api/v1")
    app.include_router(declare(build_routes(services.builds)), prefix="/api/v1")
    app.include_router(declare(identity_routes(services.identities)), prefix="/api/v1")
    app.include_router(declare(trust_routes(services.signing)))
    return app


def _public_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["public"])

    @router.get("/api/v1/health", dependencies=[anybody("it tells only whether the controller works")])
    def health() -> Response:
        broker = services.broker()
        status = "ok" if broker == "connected" else "degraded"
        return answer(HealthView(status=status, broker=broker, version=__version__))

    @router.post("/api/v1/enrolments", dependencies=[anybody("the enrolment token is in the body")])
    def enrol(request: Request, body: Annotated[bytes, Depends(EnrolmentBody)]) -> Response:
        return answer(services.identities.enrolling.enrol(decode(EnrolRequest, body), address_of(request)))

    @router.get("/api/v1/authorities", dependencies=[anybody("certificates are no secret")])
    def authorities(sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None) -> Response:
        """The certificates (PEM) by which to know this controller. Whoever fetches them over a connection
        that proves nothing compares their sha256 with the one of a token, and asks for those by it: while an
        authority is replaced, a token may name the older one alone."""
        pem = services.identities.enrolling.find_authorities(sha256)
        return Response(pem, media_type="application/x-pem-file")

    @router.get("/releases/{path:path}", dependencies=[anybody("it is signed, and no secret")])
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

    @router.get("/devices", dependencies=[needs(Role.VIEWER)])
    def devices(selector: str = "all", after: Word = None, limit: Limit = 200) -> Response:
        if selector == "all":
            found = list(services.inventory.page(DeviceId(after) if after else None, limit))
        else:
            matching = services.inventory.select(selector)
            found = [device for device in matching if after is None or device.id > after][:limit]
        following = found[-1].id if len(found) == limit else None
        return answer(Page(items=[views.show_device(d) for d in found], next=following))

    @router.get("/devices/{device}", dependencies=[needs(Role.VIEWER)])
    def device(device: str) -> Response:
        return answer(views.show_device(services.inventory.get(device)))

    @router.get("/devices/{device}/measurements", dependencies=[needs(Role.VIEWER)])
    def measurements(device: str) -> Response:
        """What devices like this one measured of variants, newest first."""
        return answer([views.show_measurement(one) for one in services.inventory.measurements(device)])

    @router.patch("/devices/{device}/labels")
    def label(by: Operator, device: str, body: Body) -> Response:
        request = parse(LabelRequest, body)
        return answer(views.show_device(services.inventory.label(device, request.set, request.remove, by)))

    @router.get("/status", dependencies=[needs(Role.VIEWER)])
    def status() -> Response:
        return answer(views.show_status(services.overview.status()))

    return router


def _model_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/models", dependencies=[needs(Role.VIEWER)])
    def models(after: Word = None, limit: Limit = 200) -> Response:
        """The newest version of each model, by name."""
        newest: dict[str, ModelVersion] = {}
        for version in services.registry.versions(None):
            newest.setdefault(version.model, version)
        page = page_of(list(newest.values()), lambda version: version.model, after, limit)
        unsigned = services.registry.find_unsigned(*page.items)
        return answer(
            Page(items=[views.show_version(v, unsigned=unsigned) for v in page.items], next=page.next)
        )

    @router.get("/models/{model}", dependencies=[needs(Role.VIEWER)])
    def versions(model: str, after: Word = None, limit: Limit = 200) -> Response:
        """All versions of a model, newest first."""
        found = services.registry.versions(parse_model_name(model))
        page = page_of(found, lambda version: str(version.version), after, limit)
        unsigned = services.registry.find_unsigned(*page.items)
        return answer(
            Page(items=[views.show_version(v, unsigned=unsigned) for v in page.items], next=page.next)
        )

    @router.get("/models/{model}/versions/{version}", dependencies=[needs(Role.VIEWER)])
    def version(model: str, version: str) -> Response:
        reference = ModelRef(parse_model_name(model), Version.parse(version))
        found = services.registry.get(reference)
        return answer(views.show_version(found, unsigned=services.registry.find_unsigned(found)))

    @router.post("/models/{model}/versions")
    def register(by: Operator, model: str, body: Body) -> Response:
        registered = services.registry.register(model, parse(VersionDraft, body), by)
        unsigned = services.registry.find_unsigned(registered.version)
        view = views.show_version(registered.version, created=registered.created, unsigned=unsigned)
        return answer(view, 201 if registered.created else 200)

    return router


def _rollout_routes(services: Services) -> APIRouter:
    router = APIRouter(tags=["rollouts"])

    @router.post("/rollouts")
    def create(by: Operator, body: Body) -> Response:
        request = parse(RolloutRequest, body)
        status = services.rollouts.create(
            ModelRef.parse(request.model), request.selector, request.variant, request.policy.as_policy(), by
        )
        services.wake()
        return answer(views.show_rollout(status), 201)

    @router.get("/rollouts", dependencies=[needs(Role.VIEWER)])
    def rollouts(after: Word = None, limit: Limit = 100) -> Response:
        """Newest first, without their assignments."""
        found = services.rollouts.page(limit + 1 if after is None else ROLLOUTS_LISTED)
        page = page_of(found, lambda rollout: rollout.id, after, limit)
        items = [views.show_rollout(RolloutStatus(rollout, ())) for rollout in page.items]
        return answer(Page(items=items, next=page.next))

    @router.get("/rollouts/{rollout}", dependencies=[needs(Role.VIEWER)])
    def rollout(rollout: str) -> Response:
        return answer(views.show_rollout(services.rollouts.get(_clean_id(rollout))))

    @router.get("/assignments/{assignment}/history", dependencies=[needs(Role.VIEWER)])
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

    @router.get("/devices/{device}/telemetry", dependencies=[needs(Role.VIEWER)])
    def series(
        device: str,
        metric: str | None = None,
        source: Word = None,
        since_ms: Since = 0,
        limit: Limit = 1000,
    ) -> Response:
        found = services.readings.series(device, metric, source, since_ms, limit)
        return answer([views.show_series(one) for one in found])

    @router.get("/devices/{device}/events", dependencies=[needs(Role.VIEWER)])
    def events(device: str, since_ms: Since = 0, limit: Limit = 1000) -> Response:
        return answer(views.show_events(list(services.readings.events(device, since_ms, limit))))

    @router.get("/devices/{device}/telemetry/totals", dependencies=[needs(Role.VIEWER)])
    def totals(device: str) -> Response:
        return answer(views.show_totals(services.readings.totals(device)))

    return router
