"""The enrolment tokens that there are: who used them, which are open, and how one is taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fleet_cloud.domain.people import Actor
from fleet_cloud.errors import NotFound
from fleet_cloud.services.audit import note
from fleet_cloud.services.ports import Clock, EnrolmentGrant, EnrolmentUse, Transaction, UnitOfWork


@dataclass(frozen=True, slots=True)
class GrantStatus:
    """``state``: open, used, expired or revoked."""

    grant: EnrolmentGrant
    uses: Sequence[EnrolmentUse]
    state: str


@dataclass(frozen=True, slots=True)
class EnrolmentTokens:
    uow: UnitOfWork
    clock: Clock

    def all(self) -> list[GrantStatus]:
        """Oldest first."""
        with self.uow.read() as transaction:
            grants, uses = transaction.enrolments.all(), transaction.enrolments.uses(None)
        now_ms = self.clock.now_ms()
        found = []
        for grant in grants:
            own = [use for use in uses if use.secret_sha256 == grant.secret_sha256]
            found.append(GrantStatus(grant, own, _state(grant, len(own), now_ms)))
        return found

    def revoke(self, token: str, by: Actor) -> GrantStatus:
        """Take a token back, by its id; who enrolled with it stays. Raises `NotFound`."""
        with self.uow.begin() as transaction:
            grant = _find(transaction, token)
            now_ms = self.clock.now_ms()
            if grant.revoked_ms is None:
                grant = replace(grant, revoked_ms=now_ms)
                transaction.enrolments.put(grant)
                note(transaction, by, now_ms, "enrolment.token.revoke", grant.id)
            uses = transaction.enrolments.uses(grant.secret_sha256)
        return GrantStatus(grant, uses, _state(grant, len(uses), now_ms))


def _find(transaction: Transaction, token: str) -> EnrolmentGrant:
    found = [grant for grant in transaction.enrolments.all() if grant.id == token]
    if len(found) != 1:
        raise NotFound(
            f"no enrolment token {token!r}", hint="fleet device tokens shows all", code="enrol.token.missing"
        )
    locked = transaction.enrolments.lock(found[0].secret_sha256)
    return locked or found[0]


def _state(grant: EnrolmentGrant, uses: int, now_ms: int) -> str:
    if grant.revoked_ms is not None:
        return "revoked"
    if uses >= grant.uses_max:
        return "used"
    return "expired" if now_ms > grant.expires_ms else "open"
