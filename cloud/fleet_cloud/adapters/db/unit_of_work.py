"""All repositories over one database transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from fleet_cloud.adapters.db.audit import AuditTable
from fleet_cloud.adapters.db.builds import BuildTable
from fleet_cloud.adapters.db.certificates import CertificateTable
from fleet_cloud.adapters.db.devices import DeviceTable
from fleet_cloud.adapters.db.engine import mapped_errors, reading
from fleet_cloud.adapters.db.enrolments import EnrolmentTable
from fleet_cloud.adapters.db.measurements import MeasurementTable
from fleet_cloud.adapters.db.messages import DesiredTable, OutgoingTable
from fleet_cloud.adapters.db.models import ModelTable
from fleet_cloud.adapters.db.rollouts import AssignmentTable, RolloutTable
from fleet_cloud.adapters.db.telemetry import TelemetryTable
from fleet_cloud.adapters.db.tokens import ApiTokenTable
from fleet_cloud.services.ports import Transaction


class DatabaseTransaction:
    """Implements `Transaction`."""

    def __init__(self, connection: Connection) -> None:
        self.devices = DeviceTable(connection)
        self.enrolments = EnrolmentTable(connection)
        self.certificates = CertificateTable(connection)
        self.models = ModelTable(connection)
        self.rollouts = RolloutTable(connection)
        self.assignments = AssignmentTable(connection)
        self.desired = DesiredTable(connection)
        self.telemetry = TelemetryTable(connection)
        self.measurements = MeasurementTable(connection)
        self.outbox = OutgoingTable(connection)
        self.audit = AuditTable(connection)
        self.api_tokens = ApiTokenTable(connection)
        self.builds = BuildTable(connection)


class DatabaseUnitOfWork:
    """Implements `UnitOfWork`; may be used from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def begin(self) -> Iterator[Transaction]:
        with mapped_errors(self._engine), self._engine.begin() as connection:
            yield DatabaseTransaction(connection)

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with mapped_errors(self._engine), self._engine.connect() as connection:
            yield DatabaseTransaction(reading(connection))
