"""What the use cases need of the world. Adapters implement these; fakes in the test kit do too,
and one contract test runs against both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet_cloud.domain.audit import Chained
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.measurements import Measurement
from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.people import Actor
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentChange,
    AssignmentState,
    Rollout,
    RolloutId,
    RolloutState,
)
from fleet_cloud.domain.stream import StreamState
from fleet_shared.messages.desired import Desired, EncodedBlob
from fleet_shared.messages.reported import Order
from fleet_shared.messages.telemetry import Event, Sample
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName
from fleet_shared.version import Version


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time in ms since 1970."""


class Ids(Protocol):
    def new_id(self) -> str:
        """A random id of 128 bits, safe in a URL, a topic and a file name."""


class Trust(Protocol):
    """Release keys and assignment key."""

    key_epoch: int

    def release(self, manifests: Mapping[Digest, bytes]) -> None:
        """Release these manifests; releasing one again changes nothing."""

    def sign_desired(self, desired: Desired) -> bytes:
        """Return the signed envelope, as it is published."""

    def refresh(self, now_ms: int) -> None:
        """Renew release metadata whose end is near."""


class CertificateAuthority(Protocol):
    ca_pem: str
    root_json: str

    def sign_csr(self, csr_pem: str, device: DeviceId) -> str:
        """Return a client certificate (PEM); raise `Invalid` for a CSR of another device."""

    def public_key_digest(self, csr_pem: str) -> Digest:
        """Return the sha256 of the CSR's public key (DER SubjectPublicKeyInfo)."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one side of a TLS connection: whom it believes, and who it is. They are replaced on
    renewal and rotation; whoever has them open loads them again."""

    authorities: Path
    certificate: Path
    key: Path


class BrokerAccess(Protocol):
    """Which devices may use the broker, as the broker itself enforces it. Calls can be repeated."""

    def sync(self, devices: Iterable[tuple[DeviceId, Digest]]) -> None:
        """Let these devices in, each with the key (sha256 of its SubjectPublicKeyInfo), and nobody else.
        Raises `Unavailable` while the broker is away."""

    def admit(self, device: DeviceId, public_key_sha256: Digest) -> None:
        """Let one more in, or give it another key: what it had before is cut off."""

    def revoke(self, device: DeviceId) -> None:
        """Cut the live session of a device, and let it in no more."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    sha256: Digest
    size_bytes: int


class BlobStore(Protocol):
    """Immutable bytes by digest: file system or S3."""

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        """Store a blob whole or not at all; raise `Invalid` (``blob.digest``) when the bytes
        have another digest. Storing it again is harmless."""

    def info(self, sha256: Digest) -> BlobInfo | None: ...

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield bytes [start, end) in parts; raise `NotFound`."""

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:
        """Return a URL that the store itself serves, or none when the controller must."""


class ReleaseFiles(Protocol):
    """The release repository as it is served: signed, and public."""

    def read(self, path: str, offset: int, length: int) -> tuple[bytes, int] | None:
        """Return bytes [offset, offset + length) of a file, fewer at its end, and how long it is; none when
        there is no such file. Raises `Unavailable`."""


class Devices(Protocol):
    def get(self, device: DeviceId) -> Device | None: ...

    def lock(self, device: DeviceId) -> Device | None:
        """Return a device that is to be changed: others wait until the end of the transaction."""

    def add(self, device: Device) -> None:
        """Insert a device; raise `Conflict` when there is one with this id."""

    def put(self, device: Device) -> None: ...

    def many(self, devices: Sequence[DeviceId]) -> Sequence[Device]:
        """Those of ``devices`` that there are."""

    def seen(self, device: DeviceId, now_ms: int) -> None:
        """Remember that a device was heard from; one that has a session is there."""

    def give_up_silent(self, heard_before_ms: int) -> int:
        """Count as offline what is online and was heard from last before then (or never); return how
        many. They keep their session: who speaks again is there again."""

    def count(self) -> tuple[int, int]:
        """How many are online, and how many there are."""

    def page(self, after: DeviceId | None, limit: int) -> Sequence[Device]:
        """Devices by id, after the given one."""


@dataclass(frozen=True, slots=True)
class EnrolmentGrant:
    """A token as it is kept: hashed. ``device`` and ``public_key_sha256`` once it is used."""

    secret_sha256: Digest
    created_ms: int
    expires_ms: int
    labels: Mapping[str, str]
    device: DeviceId | None = None
    public_key_sha256: Digest | None = None


class Enrolments(Protocol):
    def get(self, secret_sha256: Digest) -> EnrolmentGrant | None: ...

    def put(self, grant: EnrolmentGrant) -> None: ...


class Models(Protocol):
    def get(self, model: ModelName, version: Version) -> ModelVersion | None: ...

    def find_content(self, model: ModelName, content: Digest) -> ModelVersion | None: ...

    def newest(self, model: ModelName) -> ModelVersion | None: ...

    def versions(self, model: ModelName | None) -> Sequence[ModelVersion]:
        """All versions of one model, or of every model, newest first within a model."""

    def add(self, version: ModelVersion) -> None: ...

    def encodings(self, blob: Digest) -> Sequence[EncodedBlob]: ...

    def add_encoding(self, encoding: EncodedBlob) -> None: ...


class Rollouts(Protocol):
    def get(self, rollout: RolloutId) -> Rollout | None: ...

    def add(self, rollout: Rollout) -> None: ...

    def set_state(self, rollout: RolloutId, state: RolloutState) -> None: ...

    def lock(self, rollout: RolloutId) -> None:
        """Let others who change this rollout wait until the end of the transaction."""

    def running(self, after: Rollout | None, limit: int) -> Sequence[Rollout]:
        """Running rollouts, oldest first, after the given one."""

    def count_running(self) -> int: ...

    def page(self, limit: int) -> Sequence[Rollout]:
        """Newest first."""


class Assignments(Protocol):
    def get(self, assignment: AssignmentId) -> Assignment | None: ...

    def lock(self, assignment: AssignmentId) -> Assignment | None:
        """Return an assignment that is to be changed: others wait until the end of the transaction."""

    def put(self, assignment: Assignment) -> None:
        """Insert or change; a changed state or failure is added to the history."""

    def of_rollout(self, rollout: RolloutId) -> Sequence[Assignment]: ...

    def lock_open_of_device(self, device: DeviceId) -> Sequence[Assignment]:
        """Those that wait for the device, locked."""

    def overtaken(self, rollout: Rollout) -> AbstractSet[DeviceId]:
        """Devices that a later rollout has told what to run."""

    def count_by_state(self) -> Mapping[AssignmentState, int]: ...

    def history(self, assignment: AssignmentId) -> Sequence[AssignmentChange]: ...


@dataclass(frozen=True, slots=True)
class SignedDesired:
    """The newest desired document of a device, as it is published."""

    device: DeviceId
    order: Order
    envelope: bytes


class DesiredStates(Protocol):
    def get(self, device: DeviceId) -> SignedDesired | None: ...

    def put(self, desired: SignedDesired) -> None: ...

    def lock_unmet(self) -> Sequence[SignedDesired]:
        """Those of devices with an open assignment that waits for the device, locked: a newer one must
        not be overtaken by these on their way to the broker."""


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


class AuditLog(Protocol):
    """Committed together with the change that it tells of, or not at all."""

    def append(
        self, by: Actor, at_ms: int, action: str, subject: str, *, before: str | None, after: str | None
    ) -> Chained:
        """Add the next entry; others who append wait until the end of the transaction."""

    def last(self) -> Chained | None: ...

    def page(self, after: int, limit: int) -> Sequence[Chained]:
        """Entries above ``after``, in order."""


class Transaction(Protocol):
    """All repositories over one database transaction."""

    @property
    def devices(self) -> Devices: ...

    @property
    def enrolments(self) -> Enrolments: ...

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


class UnitOfWork(Protocol):
    def begin(self) -> AbstractContextManager[Transaction]:
        """Open a transaction: committed at the end of the block, undone by an exception."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that only reads: it keeps nobody waiting."""
