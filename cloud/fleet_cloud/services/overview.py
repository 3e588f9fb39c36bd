"""The fleet at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet_cloud.services.ports import TelemetryTotals, UnitOfWork


@dataclass(frozen=True, slots=True)
class FleetStatus:
    devices_online: int
    devices_offline: int
    models: int
    versions: int
    rollouts_running: int
    assignments: Mapping[str, int]
    telemetry: TelemetryTotals


@dataclass(frozen=True, slots=True)
class Overview:
    uow: UnitOfWork

    def status(self) -> FleetStatus:
        with self.uow.read() as transaction:
            online, total = transaction.devices.count()
            versions = transaction.models.versions(None)
            return FleetStatus(
                devices_online=online,
                devices_offline=total - online,
                models=len({version.model for version in versions}),
                versions=len(versions),
                rollouts_running=transaction.rollouts.count_running(),
                assignments={
                    state.value: count for state, count in transaction.assignments.count_by_state().items()
                },
                telemetry=transaction.telemetry.totals(None),
            )
