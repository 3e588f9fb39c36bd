"""All repositories over one database transaction."""

from contextlib import AbstractContextManager
from typing import Protocol

from fleet_cloud.services.ports.builds import Builds
from fleet_cloud.services.ports.devices import Certificates, Devices, Enrolments
from fleet_cloud.services.ports.people import ApiTokens, AuditLog
from fleet_cloud.services.ports.rollouts import Assignments, DesiredStates, Models, Rollouts
from fleet_cloud.services.ports.telemetry import Measurements, Outbox, Telemetry


class Transaction(Protocol):
    """All repositories over one database transaction."""

    @property
    def devices(self) -> Devices: ...

    @property
    def enrolments(self) -> Enrolments: ...

    @property
    def certificates(self) -> Certificates: ...

    @property
    def models(self) -> Models: ...

    @property
    def rollouts(self) -> Rollouts: ...

    @property
    def assignments(self) -> Assignments: ...

    @property
    def desired(self) -> DesiredStates: ...

    @property
    def telemetry(self) -> Telemetry: ...

    @property
    def measurements(self) -> Measurements: ...

    @property
    def outbox(self) -> Outbox: ...

    @property
    def audit(self) -> AuditLog: ...

    @property
    def api_tokens(self) -> ApiTokens: ...

    @property
    def builds(self) -> Builds: ...


class UnitOfWork(Protocol):
    def begin(self) -> AbstractContextManager[Transaction]:
        """Open a transaction: committed at the end of the block, undone by an exception."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that only reads: it keeps nobody waiting."""
