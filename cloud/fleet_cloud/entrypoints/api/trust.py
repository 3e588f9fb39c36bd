"""Release keys over HTTP: how they stand, what waits to be signed, and which are replaced."""

from typing import Annotated

from fastapi import APIRouter, Response

from fleet_cloud.client.views import (
    RevocationRequest,
    RoleView,
    RotationRequest,
    TrustView,
    WaitingView,
)
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.bodies import Body, answer, parse
from fleet_cloud.entrypoints.api.roles import needs
from fleet_cloud.services.ports import TrustStanding
from fleet_cloud.services.releases import Releases


def trust_routes(releases: Releases) -> APIRouter:
    router = APIRouter(prefix="/api/v1/trust", tags=["trust"])

    @router.get("")
    def standing(_by: Annotated[Actor, needs(Role.VIEWER)]) -> Response:
        """Who must sign what by when, and how many devices believe what."""
        return answer(_show(releases, releases.standing()))

    @router.get("/to-sign")
    def to_sign(_by: Annotated[Actor, needs(Role.OPERATOR)]) -> Response:
        """The file that is carried to the keys."""
        return Response(releases.to_sign(), media_type="application/json")

    @router.post("/signed")
    def signed(body: Body, by: Annotated[Actor, needs(Role.OPERATOR)]) -> Response:
        """Take up the signatures in the file that came back; they count, not who brings them."""
        return answer(_show(releases, releases.take_signed(by, body)))

    @router.post("/rotations")
    def rotate(body: Body, by: Annotated[Actor, needs(Role.ADMIN)]) -> Response:
        request = parse(RotationRequest, body)
        after = releases.rotate(by, request.role, request.keys, threshold=request.threshold)
        return answer(_show(releases, after))

    @router.post("/revocations")
    def revoke(body: Body, by: Annotated[Actor, needs(Role.ADMIN)]) -> Response:
        return answer(_show(releases, releases.revoke(by, parse(RevocationRequest, body).keyid)))

    return router


def _show(releases: Releases, standing: TrustStanding) -> TrustView:
    belief = releases.belief()
    return TrustView(
        root_version=standing.root_version,
        key_epoch=standing.key_epoch,
        assignment_keyid=standing.assignment_keyid,
        roles=[
            RoleView(
                role=one.role,
                keyids=list(one.keyids),
                threshold=one.threshold,
                at_hand=list(one.at_hand),
                version=one.version,
                expires_ms=one.expires_ms,
            )
            for one in standing.roles
        ],
        waiting=[
            WaitingView(role=one.role, version=one.version, missing=one.missing, keyids=list(one.keyids))
            for one in standing.waiting
        ],
        devices_by_root={str(key): count for key, count in belief.root_versions.items()},
        devices_by_epoch={str(key): count for key, count in belief.key_epochs.items()},
        devices_silent=belief.silent,
    )
