"""What devices say, and what goes out to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleet_cloud.domain.measurements import Measurement
from fleet_cloud.domain.stream import StreamState
from fleet_shared.messages.telemetry import Event, Sample
from fleet_shared.names import DeviceId, Digest


@dataclass(frozen=True, slots=True)
class TelemetryTotals:
    """Over all streams of a device. ``pending`` rows are on the device still, as it last said."""

    samples: int
    events: int
    lost: int
    duplicates: int
    thinned: int
    rejected: int
    pending: int


@dataclass(frozen=True, slots=True)
class Received:
    """A row with the time of its receipt, by which tables are partitioned."""

    received_ms: int
    device: DeviceId
    stream: str
    row: Sample | Event


class Telemetry(Protocol):
    def lock_stream(self, device: DeviceId, stream: str) -> StreamState | None:
        """Return the state of a stream and hold its row until the end of the transaction."""

    def put_stream(self, device: DeviceId, stream: str, state: StreamState) -> None: ...

    def lock_strays(self, device: DeviceId, outbox: str) -> Mapping[str, StreamState]:
        """Streams with rows outstanding that lay in another outbox of the device, locked."""

    def add(self, rows: Sequence[Received]) -> None: ...

    def add_rejected(
        self, device: DeviceId, stream: str, seq: int, code: str, raw: bytes, now_ms: int
    ) -> None: ...

    def samples(self, device: DeviceId, source: str | None, since_ms: int, limit: int) -> Sequence[Received]:
        """Newest ``limit`` samples received since, oldest first."""

    def events(self, device: DeviceId | None, since_ms: int, limit: int) -> Sequence[Received]:
        """Newest ``limit`` events received since, oldest first."""

    def totals(self, device: DeviceId | None) -> TelemetryTotals:
        """Of one device, or of all."""

    def undated(self, device: DeviceId, boot_id: str, limit: int) -> Sequence[Received]:
        """Rows of a boot that have no wall time, at most so many."""

    def put_rows(self, rows: Sequence[Received]) -> None:
        """Replace stored rows by these, which have the same keys."""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """An MQTT message that a committed decision causes. A newer one with the same ``topic``
    replaces an unsent older one."""

    topic: str
    payload: bytes
    retain: bool
    id: int | None = None


class Outbox(Protocol):
    """Messages committed together with the decisions that cause them."""

    def add(self, message: OutgoingMessage) -> None: ...

    def pending(self, limit: int) -> Sequence[OutgoingMessage]: ...

    def remove(self, ids: Sequence[int]) -> None: ...


class Measurements(Protocol):
    """The newest of each device, hardware, runtime, number of threads and variant."""

    def put(self, measurement: Measurement) -> None:
        """Keep it in place of the device's older one; only so many are kept, the newest."""

    def of_manifests(self, manifests: Sequence[Digest]) -> Sequence[Measurement]: ...

    def of_hardware(self, hardware: str, limit: int) -> Sequence[Measurement]:
        """Newest first."""
