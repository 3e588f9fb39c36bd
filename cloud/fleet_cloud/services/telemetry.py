"""Telemetry as series, and the account of what arrived."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from fleet_cloud.services.devices import get_device
from fleet_cloud.services.ports import Received, TelemetryTotals, UnitOfWork
from fleet_shared.messages.telemetry import Sample, Source
from fleet_shared.names import DeviceId, parse_device_id

SOURCES: Final = (Source.HOST.value, Source.MODEL.value)


@dataclass(frozen=True, slots=True)
class Point:
    """``at_ms``: the device's wall clock if it knew the time, else the time of receipt."""

    at_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    source: str
    metric: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Readings:
    uow: UnitOfWork

    def series(
        self, device: str, metric: str | None, source: str | None, since_ms: int, limit: int
    ) -> list[Series]:
        """Return the series of a device, oldest point first, over the newest ``limit`` samples of each
        source: readings of the machine must not take the places of the model's."""
        name = parse_device_id(device)
        with self.uow.read() as transaction:
            get_device(transaction, name)
            samples = [
                transaction.telemetry.samples(name, kind, since_ms, limit)
                for kind in ([source] if source is not None else SOURCES)
            ]
        points: dict[tuple[str, str], list[Point]] = defaultdict(list)
        for received in chain.from_iterable(samples):
            row = received.row
            if isinstance(row, Sample):
                at_ms = received.received_ms if row.wall_ms is None else row.wall_ms
                for key, value in row.values.items():
                    if metric in (None, key):
                        points[row.source.value, key].append(Point(at_ms, value))
        return [Series(kind, key, found) for (kind, key), found in sorted(points.items())]

    def events(self, device: str | None, since_ms: int, limit: int) -> Sequence[Received]:
        with self.uow.read() as transaction:
            name: DeviceId | None = None
            if device is not None:
                name = get_device(transaction, parse_device_id(device)).id
            return transaction.telemetry.events(name, since_ms, limit)

    def totals(self, device: str) -> TelemetryTotals:
        name = parse_device_id(device)
        with self.uow.read() as transaction:
            get_device(transaction, name)
            return transaction.telemetry.totals(name)
