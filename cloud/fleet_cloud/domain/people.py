"""Who asks, and what they may: viewers look, operators change what runs, admins decide who may."""

from dataclasses import dataclass
from enum import Enum
from typing import Final


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
