"""What the use cases need of the world. Adapters implement these; fakes in the test kit do too,
and one contract test runs against both.
"""

from fleet_cloud.services.ports.builds import Builds
from fleet_cloud.services.ports.devices import Certificates, Devices, EnrolmentGrant, Enrolments, EnrolmentUse
from fleet_cloud.services.ports.identity import (
    Authorities,
    BrokerAccess,
    CertificateAuthority,
    Identity,
    IdentityRegister,
    IssuedCertificate,
    Issuer,
    RegisteredDevice,
    TlsFiles,
    TlsFolder,
)
from fleet_cloud.services.ports.people import ApiTokens, AuditLog
from fleet_cloud.services.ports.rollouts import Assignments, DesiredStates, Models, Rollouts, SignedDesired
from fleet_cloud.services.ports.telemetry import (
    Measurements,
    Outbox,
    OutgoingMessage,
    Received,
    Telemetry,
    TelemetryTotals,
)
from fleet_cloud.services.ports.transaction import Transaction, UnitOfWork
from fleet_cloud.services.ports.trust import (
    AuthorityReleases,
    ReleaseKeys,
    ReleaseMirror,
    RoleStanding,
    Trust,
    TrustStanding,
    Waiting,
)
from fleet_cloud.services.ports.world import BlobInfo, BlobStore, Clock, Ids, ReleaseFiles

__all__ = [
    "ApiTokens",
    "Assignments",
    "AuditLog",
    "Authorities",
    "AuthorityReleases",
    "BlobInfo",
    "BlobStore",
    "BrokerAccess",
    "Builds",
    "CertificateAuthority",
    "Certificates",
    "Clock",
    "DesiredStates",
    "Devices",
    "EnrolmentGrant",
    "EnrolmentUse",
    "Enrolments",
    "Identity",
    "IdentityRegister",
    "Ids",
    "IssuedCertificate",
    "Issuer",
    "Measurements",
    "Models",
    "Outbox",
    "OutgoingMessage",
    "Received",
    "RegisteredDevice",
    "ReleaseFiles",
    "ReleaseKeys",
    "ReleaseMirror",
    "RoleStanding",
    "Rollouts",
    "SignedDesired",
    "Telemetry",
    "TelemetryTotals",
    "TlsFiles",
    "TlsFolder",
    "Transaction",
    "Trust",
    "TrustStanding",
    "UnitOfWork",
    "Waiting",
]
