"""Routes of identities: enrolment tokens, revocation, and the replacement of the authority."""

from typing import Annotated, Final

from fastapi import APIRouter, Response

from fleet_cloud.client.views import (
    AuthoritiesView,
    AuthorityRotationRequest,
    EnrolmentTokenView,
    RevokedView,
    StrangerView,
    TokenRequest,
    TokenView,
)
from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api import views
from fleet_cloud.entrypoints.api.bodies import Body, answer, parse
from fleet_cloud.entrypoints.api.roles import needs
from fleet_cloud.services.authorities import RotationStatus
from fleet_cloud.services.enrolment_tokens import GrantStatus
from fleet_cloud.services.identities import Identities

BEHIND_SHOWN: Final = 100

Operator = Annotated[Actor, needs(Role.OPERATOR)]
Admin = Annotated[Actor, needs(Role.ADMIN)]
VIEWER: Final = needs(Role.VIEWER)


def identity_routes(identities: Identities) -> APIRouter:
    router = APIRouter()
    for routes in (_token_routes, _device_routes, _authority_routes):
        router.include_router(routes(identities))
    return router


def _token_routes(identities: Identities) -> APIRouter:
    router = APIRouter(tags=["enrolment"])

    @router.post("/enrolment-tokens")
    def create_token(body: Body, by: Operator) -> Response:
        """The only answer with the secret in it."""
        request = parse(TokenRequest, body)
        token = identities.enrolling.create_token(
            request.labels, request.life_s, by, uses=request.uses, device=request.device
        )
        return answer(TokenView(token=str(token)))

    @router.get("/enrolment-tokens", dependencies=[VIEWER])
    def tokens() -> Response:
        """Oldest first, without secrets."""
        return answer([_show_token(status) for status in identities.tokens.all()])

    @router.delete("/enrolment-tokens/{token}")
    def revoke_token(token: str, by: Operator) -> Response:
        return answer(_show_token(identities.tokens.revoke(token, by)))

    return router


def _device_routes(identities: Identities) -> APIRouter:
    router = APIRouter(tags=["devices"])

    @router.post("/devices/{device}/revocation")
    def revoke(device: str, by: Operator) -> Response:
        """Let a device in no more; ``cut``: whether the broker has ended its session already."""
        revoked, cut = identities.revocation.revoke(device, by)
        enforced = identities.admission.enforced
        return answer(RevokedView(device=views.show_device(revoked), cut=cut, enforced=enforced))

    @router.delete("/devices/{device}/revocation")
    def readmit(device: str, by: Operator) -> Response:
        """Let a device in again, also one that a restored database does not know."""
        return answer(views.show_device(identities.revocation.readmit(device, by)))

    @router.get("/strangers", dependencies=[VIEWER])
    def strangers() -> Response:
        """Devices with a certificate of this controller that its database does not know."""
        found = identities.revocation.strangers()
        return answer([StrangerView(device=s.device, public_key_sha256=s.public_key_sha256) for s in found])

    return router


def _authority_routes(identities: Identities) -> APIRouter:
    router = APIRouter(tags=["trust"])

    @router.get("/authorities/rotation", dependencies=[VIEWER])
    def status() -> Response:
        """Which authorities are believed, and how far devices have come to the newest."""
        return answer(_show_rotation(identities.rotation.status()))

    @router.post("/authorities/rotation")
    def rotate(body: Body, by: Admin) -> Response:
        request = parse(AuthorityRotationRequest, body)
        rotation = identities.rotation
        done = rotation.finish(by, force=request.force) if request.finish else rotation.begin(by)
        return answer(_show_rotation(done))

    return router


def _show_token(status: GrantStatus) -> EnrolmentTokenView:
    grant = status.grant
    return EnrolmentTokenView(
        id=grant.id,
        state=status.state,
        labels=dict(grant.labels),
        device=grant.device,
        created_ms=grant.created_ms,
        expires_ms=grant.expires_ms,
        uses_max=grant.uses_max,
        used_by=[use.device for use in status.uses],
    )


def _show_rotation(status: RotationStatus) -> AuthoritiesView:
    return AuthoritiesView(
        fingerprints=list(status.fingerprints),
        running=status.running,
        devices=status.devices,
        believing=status.believing,
        holding=status.holding,
        behind=list(status.behind[:BEHIND_SHOWN]),
        behind_total=len(status.behind),
    )
