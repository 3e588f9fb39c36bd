"""Who asks, and what they may: viewers look, operators change what runs, admins decide who may."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from fleet_shared.names import Digest


class Role(str, Enum):
    """Each may all that the ones before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, needed: "Role") -> bool:
        return _RANK[self] >= _RANK[needed]


_RANK: Final = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Actor:
    """``name``: of the token or of the person; ``origin``: the address that the request came from, or
    the part of the controller that acts by itself."""

    name: str
    role: Role
    origin: str


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of a person or a program, as it is kept: hashed. ``expires_ms`` none: it never does.
    ``used_ms``: about when it was last used."""

    id: str
    name: str
    secret_sha256: Digest
    role: Role
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None = None
    used_ms: int | None = None
