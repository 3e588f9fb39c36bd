"""Routes about those who use the controller: their tokens, and what they changed."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from fleet_cloud.client.views import (
    ApiTokenRequest,
    ApiTokenView,
    AuditEntryView,
    NewApiTokenView,
    Page,
    WhoView,
)
from fleet_cloud.domain.audit import Chained
from fleet_cloud.domain.people import Actor, ApiToken, Role
from fleet_cloud.entrypoints.api.bodies import Body, answer, parse
from fleet_cloud.entrypoints.api.roles import needs
from fleet_cloud.services.audit import AuditTrail
from fleet_cloud.services.tokens import Tokens

Admin = Annotated[Actor, needs(Role.ADMIN)]


def people_routes(tokens: Tokens, audit: AuditTrail) -> APIRouter:
    router = APIRouter(tags=["people"])

    @router.get("/whoami")
    def whoami(by: Annotated[Actor, needs(Role.VIEWER)]) -> Response:
        return answer(WhoView(name=by.name, role=by.role.value, origin=by.origin))

    @router.get("/tokens", dependencies=[needs(Role.ADMIN)])
    def list_tokens() -> Response:
        return answer([_show_token(token) for token in tokens.all()])

    @router.post("/tokens")
    def create_token(by: Admin, body: Body) -> Response:
        """The answer is the only one that shows the secret."""
        request = parse(ApiTokenRequest, body)
        token, secret = tokens.create(request.name, Role(request.role), request.life_s, by)
        return answer(NewApiTokenView(secret=secret, token=_show_token(token)), 201)

    @router.delete("/tokens/{token}")
    def revoke_token(by: Admin, token: str) -> Response:
        return answer(_show_token(tokens.revoke(token, by)))

    @router.get("/audit", dependencies=[needs(Role.VIEWER)])
    def list_audit(
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 1000
    ) -> Response:
        """Changes, oldest first; ``after`` is the number of the last entry of the page before."""
        found = audit.page(after, limit)
        following = str(found[-1].entry.seq) if len(found) == limit else None
        return answer(Page(items=[_show_entry(one) for one in found], next=following))

    return router


def _show_token(token: ApiToken) -> ApiTokenView:
    return ApiTokenView(
        id=token.id,
        name=token.name,
        role=token.role.value,
        created_ms=token.created_ms,
        expires_ms=token.expires_ms,
        revoked_ms=token.revoked_ms,
        used_ms=token.used_ms,
    )


def _show_entry(chained: Chained) -> AuditEntryView:
    entry = chained.entry
    return AuditEntryView(
        seq=entry.seq,
        at_ms=entry.at_ms,
        actor=entry.actor,
        origin=entry.origin,
        action=entry.action,
        subject=entry.subject,
        before=entry.before,
        after=entry.after,
        hash=chained.hash,
    )
