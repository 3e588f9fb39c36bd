"""Who asks, and what they changed."""

from collections.abc import Sequence
from typing import Protocol

from fleet_cloud.domain.audit import Chained
from fleet_cloud.domain.people import Actor, ApiToken
from fleet_shared.names import Digest


class AuditLog(Protocol):
    """Committed together with the change that it tells of, or not at all."""

    def append(
        self, by: Actor, at_ms: int, action: str, subject: str, *, before: str | None, after: str | None
    ) -> Chained:
        """Add the next entry; others who append wait until the end of the transaction."""

    def last(self) -> Chained | None: ...

    def page(self, after: int, limit: int) -> Sequence[Chained]:
        """Entries above ``after``, in order."""


class ApiTokens(Protocol):
    def add(self, token: ApiToken) -> None: ...

    def get(self, token: str) -> ApiToken | None:
        """By id."""

    def find(self, secret_sha256: Digest) -> ApiToken | None: ...

    def put(self, token: ApiToken) -> None:
        """Change one that is there."""

    def all(self) -> Sequence[ApiToken]:
        """Oldest first."""
