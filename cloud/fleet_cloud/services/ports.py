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
from fleet_cloud.domain.people import Actor, ApiToken
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
    """Release keys and assignment key. What is not signed by enough release keys waits for people."""

    @property
    def key_epoch(self) -> int:
        """That of the assignment key in force; it changes when another is released."""

    def release(self, manifests: Mapping[Digest, bytes]) -> None:
        """Release these manifests, or let them wait; releasing one again changes nothing."""

    def unsigned(self, manifests: Iterable[Digest]) -> frozenset[Digest]:
        """Return those that are not released."""

    def release_authorities(self, pems: Sequence[str]) -> None:
        """Release the certificate authorities by which devices know their controller, newest first."""

    def sign_desired(self, desired: Desired) -> bytes:
        """Return the signed envelope, as it is published."""

    def newest_timestamp(self) -> bytes:
        """Return the newest timestamp of the release metadata, from memory."""

    def copy_out(self) -> None:
        """Bring the mirror of the release metadata up to date, if there is one."""

    def catch_up(self, seen: bytes) -> bool:
        """Go above what was ``seen``, the newest timestamp that others hold, if it is of this repository and
        newer than what it holds: it was restored from an older copy. Tell whether it was."""

    def refresh(self, now_ms: int) -> None:
        """Renew release metadata whose end is near."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A device's certificate as it is remembered. ``serial``: hexadecimal."""

    serial: str
    device: DeviceId
    public_key_sha256: Digest
    issued_ms: int
    expires_ms: int
    revoked_ms: int | None = None


class ReleaseMirror(Protocol):
    """Where the release repository lies a second time, by the paths under which it is served."""

    def paths(self) -> frozenset[str]: ...

    def get(self, path: str) -> bytes | None: ...

    def put(self, path: str, content: bytes) -> None: ...

    def remove(self, path: str) -> None: ...


@dataclass(frozen=True, slots=True)
class RoleStanding:
    """``keyids``: who may sign for a role of the release metadata, ``threshold`` how many must, ``at_hand``
    which of them the controller has itself."""

    role: str
    keyids: tuple[str, ...]
    threshold: int
    at_hand: tuple[str, ...]
    version: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document that waits for so many more signatures, by any of ``keyids``."""

    role: str
    version: int
    missing: int
    keyids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TrustStanding:
    root_version: int
    key_epoch: int
    assignment_keyid: str
    roles: tuple[RoleStanding, ...]
    waiting: tuple[Waiting, ...]


class ReleaseKeys(Protocol):
    """Who signs releases, and what waits for them."""

    def standing(self) -> TrustStanding: ...

    def to_sign(self) -> bytes:
        """Return the file that is carried to the keys; raise `Conflict` (``trust.sign.nothing``)."""

    def take_signed(self, raw: bytes) -> TrustStanding:
        """Take up the signatures in the file that came back; raise `CloudError` (``trust.sign.*``)."""

    def rotate(self, role: str, public: Sequence[str], *, threshold: int | None = None) -> TrustStanding:
        """Let other keys stand for ``role``: those whose public halves are given, else a new one."""

    def revoke(self, keyid: str) -> TrustStanding:
        """Let a key sign nothing any more."""


class CertificateAuthority(Protocol):
    """What devices get their identity from. Its authorities are one, or two while the older is replaced."""

    root_json: str

    @property
    def ca_pem(self) -> str:
        """All authorities that are believed, newest first."""

    def find_bundle(self, ca_sha256: Digest) -> str | None:
        """Return the authorities whose PEM has this digest: all that are believed, or one of them."""

    def sign_csr(
        self, csr_pem: str, device: DeviceId, *, bundle: str | None = None, at_ms: int | None = None
    ) -> str:
        """Return a client certificate (PEM) of the newest authority, of those in ``bundle`` where one is
        given; raise `Invalid` (``enrol.csr``) for a CSR of another device. ``at_ms``: now, if none."""

    def public_key_digest(self, csr_pem: str) -> Digest:
        """Return the sha256 of the CSR's public key (DER SubjectPublicKeyInfo)."""

    def describe(self, certificate_pem: str) -> IssuedCertificate:
        """Return what a certificate that was signed here says."""


class Authorities(Protocol):
    """The certificate authorities themselves, and how one is replaced."""

    @property
    def pems(self) -> tuple[str, ...]:
        """Each certificate that is believed, newest first."""

    @property
    def fingerprints(self) -> tuple[Digest, ...]:
        """The sha256 of each certificate (DER) that is believed, newest first."""

    def begin_rotation(self) -> None:
        """Make a newer authority beside the one that there is; raise `Conflict`."""

    def finish_rotation(self) -> None:
        """Believe the newer one alone."""


class AuthorityReleases(Protocol):
    """A part of `Trust`: devices believe the authorities that the release keys signed."""

    def release_authorities(self, pems: Sequence[str]) -> None:
        """Release these certificates, newest first; releasing the same again changes nothing."""

    def released_authorities(self) -> Sequence[str]:
        """Return those that devices can know of, newest first; not what waits for signatures."""


class TlsFolder(Protocol):
    """The files by which brokers, API and controller prove who they are."""

    def renew(self, at_ms: int) -> None:
        """Bring authorities and certificates up to date, those whose end is near above all."""

    def write_revocations(self, revoked: Sequence[tuple[str, int]], at_ms: int) -> None:
        """Write the list of revoked serial numbers and times, if it is another one or grows old."""


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
    """A token as it is kept: hashed. ``device``: the only one that it is for, which gets a new key with it;
    none: for so many new devices as ``uses_max`` says. ``ca_sha256``: the authorities that it names."""

    secret_sha256: Digest
    created_ms: int
    expires_ms: int
    labels: Mapping[str, str]
    uses_max: int = 1
    device: DeviceId | None = None
    revoked_ms: int | None = None
    ca_sha256: Digest | None = None

    @property
    def id(self) -> str:
        """By which people speak of it; it tells nothing of the secret."""
        return self.secret_sha256[:12]


@dataclass(frozen=True, slots=True)
class EnrolmentUse:
    """One device that enrolled with a token; the same key again is the same use."""

    secret_sha256: Digest
    public_key_sha256: Digest
    device: DeviceId
    used_ms: int


class Enrolments(Protocol):
    def get(self, secret_sha256: Digest) -> EnrolmentGrant | None: ...

    def lock(self, secret_sha256: Digest) -> EnrolmentGrant | None:
        """Return a token that is used or changed: others wait until the end of the transaction."""

    def all(self) -> Sequence[EnrolmentGrant]:
        """Oldest first."""

    def put(self, grant: EnrolmentGrant) -> None: ...

    def uses(self, secret_sha256: Digest | None) -> Sequence[EnrolmentUse]:
        """Of one token, or of all, oldest first."""

    def add_use(self, use: EnrolmentUse) -> None: ...


class Certificates(Protocol):
    """Those that were issued to devices, until some time after their end."""

    def add(self, certificate: IssuedCertificate) -> None: ...

    def has(self, serial: str) -> bool: ...

    def count_since(self, device: DeviceId, since_ms: int) -> int:
        """How many a device was issued since."""

    def last_ends(self) -> Mapping[DeviceId, int]:
        """When the last certificate of each device ends, in ms."""

    def revoke(self, device: DeviceId, at_ms: int, *, but: Digest | None = None) -> None:
        """Revoke all of a device, except those of the key ``but``."""

    def restore(self, device: DeviceId, key: Digest) -> None:
        """Let those of this key be good again."""

    def revoked(self, now_ms: int) -> Sequence[tuple[str, int]]:
        """Serial numbers, and when each was revoked, of those that have not ended yet."""

    def remove_ended(self, before_ms: int) -> int:
        """Forget those that ended before; return how many."""


@dataclass(frozen=True, slots=True)
class RegisteredDevice:
    """What is known of a device outside of the database: its key, and its newest certificate."""

    device: DeviceId
    public_key_sha256: Digest
    serial: str
    expires_ms: int
    revoked_ms: int | None = None


class IdentityRegister(Protocol):
    """The authority's own register of whom it gave an identity, beside its keys. A database that is restored
    from a backup knows neither who enrolled since, nor who was revoked."""

    def put(self, entry: RegisteredDevice) -> None: ...

    def get(self, device: DeviceId) -> RegisteredDevice | None: ...

    def all(self) -> Sequence[RegisteredDevice]:
        """By device."""


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
    """The newest desired document of a device, as it is published. ``expires_ms`` is none once it need not
    be signed again."""

    device: DeviceId
    order: Order
    envelope: bytes
    expires_ms: int | None = None


class DesiredStates(Protocol):
    def get(self, device: DeviceId) -> SignedDesired | None: ...

    def put(self, desired: SignedDesired) -> None: ...

    def has_due(self, key_epoch: int, before_ms: int) -> bool:
        """Tell whether `lock_due` would find one."""

    def lock_due(self, key_epoch: int, before_ms: int, limit: int) -> Sequence[SignedDesired]:
        """Those that end before then, or are of an older key epoch, locked; at most so many."""

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


class ApiTokens(Protocol):
    def add(self, token: ApiToken) -> None: ...

    def get(self, token: str) -> ApiToken | None:
        """By id."""

    def find(self, secret_sha256: Digest) -> ApiToken | None: ...

    def put(self, token: ApiToken) -> None:
        """Change one that is there."""

    def all(self) -> Sequence[ApiToken]:
        """Oldest first."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an issuer says somebody is. ``groups``: what its role claim lists."""

    name: str
    groups: AbstractSet[str]


class Issuer(Protocol):
    """An OpenID provider that signs bearer tokens."""

    def verify(self, token: str) -> Identity:
        """Return who holds ``token``; raise `Forbidden` (``api.unauthorized``) for one that is not its own,
        not for this controller or not valid now, `Unavailable` while its keys cannot be had."""


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


class UnitOfWork(Protocol):
    def begin(self) -> AbstractContextManager[Transaction]:
        """Open a transaction: committed at the end of the block, undone by an exception."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that only reads: it keeps nobody waiting."""
