"""The fleet at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet_cloud.services.devices import all_devices
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
        with self.uow.begin() as transaction:
            devices = list(all_devices(transaction))
            versions = transaction.models.versions(None)
            totals = [transaction.telemetry.totals(device.id) for device in devices]
            online = sum(device.online for device in devices)
            return FleetStatus(
                devices_online=online,
                devices_offline=len(devices) - online,
                models=len({version.model for version in versions}),
                versions=len(versions),
                rollouts_running=len(transaction.rollouts.running(1000)),
                assignments={
                    state.value: count for state, count in transaction.assignments.count_by_state().items()
                },
                telemetry=TelemetryTotals(
                    samples=sum(t.samples for t in totals),
                    events=sum(t.events for t in totals),
                    lost=sum(t.lost for t in totals),
                    duplicates=sum(t.duplicates for t in totals),
                    thinned=sum(t.thinned for t in totals),
                    rejected=sum(t.rejected for t in totals),
                    pending=sum(t.pending for t in totals),
                ),
            )
