"""Who asks: a token of this controller, or of an OpenID issuer that it believes.

A token is always needed, on loopback too: a web page that the operator visits can send requests there from
his own browser, but it knows no token.
"""

import hmac
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.limiting import Limits
from fleet_cloud.errors import CloudError, Forbidden
from fleet_cloud.services.ports import Issuer
from fleet_cloud.services.tokens import Tokens, hash_secret
from fleet_shared.names import Digest

TOKEN_CHARACTERS_MAX: Final = 8192
NAME_CHARACTERS_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Access:
    """``admins``: names of the tokens that the settings and the data folder hold, by hash. ``roles``: what
    a group of the issuer may."""

    tokens: Tokens
    limits: Limits
    admins: Mapping[Digest, str] = field(default_factory=dict)
    issuer: Issuer | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)

    def identify(self, request: Request) -> Actor:
        """Return who asks; raise `Forbidden` (``api.unauthorized``), `TooMany`."""
        address = address_of(request)
        secret = _bearer(request)
        if secret is None:
            self.limits.admit_address(address)
            raise unauthorized("this needs a token")
        try:
            actor = self._identify(secret, address)
        except CloudError as exc:
            if isinstance(exc, Forbidden):
                self.limits.count_wrong(address)
            raise
        self.limits.admit_token(actor.name)
        return actor

    def _identify(self, secret: str, address: str) -> Actor:
        if (name := self._admin(hash_secret(secret))) is not None:
            return Actor(name, Role.ADMIN, address)
        if (token := self.tokens.find(secret)) is not None:
            return Actor(token.name, token.role, address)
        if self.issuer is not None and secret.count(".") == 2:
            identity = self.issuer.verify(secret)
            return Actor(f"oidc:{identity.name}"[:NAME_CHARACTERS_MAX], self._role(identity.groups), address)
        raise unauthorized("the token is not known here")

    def _admin(self, given: Digest) -> str | None:
        same = [name for known, name in self.admins.items() if hmac.compare_digest(known, given)]
        return same[0] if same else None

    def _role(self, groups: AbstractSet[str]) -> Role:
        held = [role for group, role in self.roles.items() if group in groups]
        if not held:
            raise Forbidden(
                "none of your groups has a role here",
                hint="an admin maps groups to roles: FLEET_OIDC_ROLES",
                code="api.role",
            )
        return max(held, key=list(Role).index)


def open_access(
    tokens: Tokens,
    limits: Limits,
    *,
    admin_secrets: Mapping[str, str],
    issuer: Issuer | None = None,
    roles: Mapping[str, str],
) -> Access:
    """``admin_secrets``: tokens of admins by name, as they are; empty ones count for nothing. ``roles``: by
    group."""
    return Access(
        tokens=tokens,
        limits=limits,
        admins={hash_secret(secret): name for name, secret in admin_secrets.items() if secret},
        issuer=issuer,
        roles={group: Role(role) for group, role in roles.items()},
    )


def address_of(request: Request) -> str:
    """Return where a request comes from, cut to what the audit log holds: a proxy may forward any text."""
    return request.client.host[:NAME_CHARACTERS_MAX] if request.client else "unknown"


def unauthorized(why: str) -> Forbidden:
    return Forbidden(why, hint="fleet login URL, --token, or FLEET_TOKEN", code="api.unauthorized")


def _bearer(request: Request) -> str | None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    secret = given.strip()
    good = scheme.lower() == "bearer" and 0 < len(secret) <= TOKEN_CHARACTERS_MAX
    return secret if good else None
