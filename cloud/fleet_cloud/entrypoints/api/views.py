"""Domain objects as the API shows them."""

from collections.abc import Set as AbstractSet
from dataclasses import asdict

from fleet_cloud.client.views import (
    AssignmentView,
    ChangeView,
    DeviceView,
    EventView,
    MeasurementView,
    PointView,
    RolloutView,
    SeriesView,
    StatusView,
    TotalsView,
    VariantView,
    VersionView,
)
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.rollout import Assignment, AssignmentChange
from fleet_cloud.services.devices import NamedMeasurement
from fleet_cloud.services.overview import FleetStatus
from fleet_cloud.services.ports import Received, TelemetryTotals
from fleet_cloud.services.rollouts import RolloutStatus
from fleet_cloud.services.telemetry import Series
from fleet_shared.manifest import Role
from fleet_shared.messages.telemetry import Event
from fleet_shared.names import Digest


def show_device(device: Device) -> DeviceView:
    return DeviceView(
        id=device.id,
        labels=dict(device.labels),
        online=device.online,
        enrolled_ms=device.enrolled_ms,
        last_seen_ms=device.last_seen_ms,
        reported=device.reported,
        revoked_ms=device.revoked_ms,
    )


def show_measurement(named: NamedMeasurement) -> MeasurementView:
    one = named.measurement
    return MeasurementView(**asdict(one), model=named.model, version=named.version, variant=named.variant)


def show_version(
    version: ModelVersion, *, created: bool = False, unsigned: AbstractSet[Digest] = frozenset()
) -> VersionView:
    return VersionView(
        model=version.model,
        version=str(version.version),
        created=created,
        variants=[
            VariantView(
                name=variant.name,
                manifest=variant.digest,
                size_bytes=variant.manifest.size_bytes,
                accuracy=variant.manifest.contract.metrics.accuracy,
                contract=variant.manifest.contract,
                blobs={role.value: blob.sha256 for role, blob in variant.manifest.blobs.items()},
                model_bytes=variant.manifest.blobs[Role.MODEL].size_bytes,
            )
            for variant in version.variants
        ],
        lineage=dict(version.lineage),
        released=not any(variant.digest in unsigned for variant in version.variants),
        artifacts=sorted(version.artifacts),
    )


def show_rollout(status: RolloutStatus) -> RolloutView:
    rollout = status.rollout
    return RolloutView(
        id=rollout.id,
        model=rollout.model,
        version=str(rollout.version),
        selector=rollout.selector,
        state=rollout.state.value,
        created_ms=rollout.created_ms,
        devices=list(rollout.devices),
        assignments=[_show_assignment(assignment) for assignment in status.assignments],
    )


def _show_assignment(assignment: Assignment) -> AssignmentView:
    return AssignmentView(
        id=assignment.id,
        device=assignment.device,
        state=assignment.state.value,
        variant=assignment.variant,
        bytes_done=assignment.bytes_done,
        bytes_total=assignment.bytes_total,
        created_ms=assignment.created_ms,
        updated_ms=assignment.updated_ms,
        failure=assignment.failure,
        is_open=assignment.state.is_open,
    )


def show_change(change: AssignmentChange) -> ChangeView:
    return ChangeView(at_ms=change.at_ms, state=change.state.value, failure=change.failure)


def show_series(series: Series) -> SeriesView:
    points = [PointView(at_ms=point.at_ms, value=point.value) for point in series.points]
    return SeriesView(source=series.source, metric=series.metric, points=points)


def show_events(rows: list[Received]) -> list[EventView]:
    return [
        EventView(
            received_ms=received.received_ms,
            device=received.device,
            name=received.row.name,
            assignment=received.row.assignment,
            failure=received.row.failure,
            detail=dict(received.row.detail),
            wall_ms=received.row.wall_ms,
        )
        for received in rows
        if isinstance(received.row, Event)
    ]


def show_totals(totals: TelemetryTotals) -> TotalsView:
    return TotalsView(**asdict(totals))


def show_status(status: FleetStatus) -> StatusView:
    return StatusView(
        devices_online=status.devices_online,
        devices_offline=status.devices_offline,
        models=status.models,
        versions=status.versions,
        rollouts_running=status.rollouts_running,
        assignments=dict(status.assignments),
        telemetry=show_totals(status.telemetry),
    )
