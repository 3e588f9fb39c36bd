"""The use cases of identities, put together: they share the authority, the register and the broker's door."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fleet_cloud.services.admission import Admission
from fleet_cloud.services.authorities import AuthorityRotation
from fleet_cloud.services.enrolment import Enrolling, Site
from fleet_cloud.services.enrolment_tokens import EnrolmentTokens
from fleet_cloud.services.ports import (
    Authorities,
    AuthorityReleases,
    BrokerAccess,
    CertificateAuthority,
    Clock,
    IdentityRegister,
    TlsFolder,
    UnitOfWork,
)
from fleet_cloud.services.revocation import Revocation
from fleet_cloud.services.upkeep import Upkeep
from fleet_shared.topics import Topics


class Authority(CertificateAuthority, Authorities, Protocol):
    """Signs for devices, and can be replaced."""


@dataclass(frozen=True, slots=True)
class IdentityParts:
    """What the use cases need of the world. ``access`` is none for a broker whose doors are not Fleet's;
    ``update_broker_files`` gives a broker with files of its own the newest, and may raise `Unavailable`."""

    authority: Authority
    releases: AuthorityReleases
    register: IdentityRegister
    tls: TlsFolder
    access: BrokerAccess | None = None
    update_broker_files: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Identities:
    enrolling: Enrolling
    tokens: EnrolmentTokens
    admission: Admission
    revocation: Revocation
    upkeep: Upkeep
    rotation: AuthorityRotation


def open_identities(
    uow: UnitOfWork,
    clock: Clock,
    topics: Topics,
    site: Site,
    parts: IdentityParts,
    connected_ms: Callable[[], int | None] = lambda: None,
) -> Identities:
    """``connected_ms``: since when the broker is connected, none while it is away."""
    admission = Admission(uow, parts.access)
    revocation = Revocation(uow, clock, topics, parts.register, admission, parts.tls)
    upkeep = Upkeep(
        clock,
        parts.authority,
        parts.releases,
        parts.tls,
        revocation,
        admission,
        parts.update_broker_files,
        connected_ms,
    )
    return Identities(
        enrolling=Enrolling(
            uow,
            parts.authority,
            clock,
            site,
            parts.register,
            admission,
            revocation.write_list,
            parts.releases.released_authorities,
        ),
        tokens=EnrolmentTokens(uow, clock),
        admission=admission,
        revocation=revocation,
        upkeep=upkeep,
        rotation=AuthorityRotation(uow, clock, parts.authority, upkeep),
    )
