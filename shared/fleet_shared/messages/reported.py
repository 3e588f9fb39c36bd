"""``reported``, device to cloud, retained: what a device is, runs and does at this moment.

It is a picture, overwritten by the next one; what must not be lost is an event.
"""

from typing import Annotated, ClassVar

import msgspec

from fleet_shared.errors import FleetError
from fleet_shared.limits import FAILURE_TEXT_BYTES, REPORTED_BYTES
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, Digest, ModelName, VariantName
from fleet_shared.wire import WORD, Count, Document, OpenEnum, Word, clip


class RuntimeFact(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter that this device can start, e.g. ``litert`` 2.3.0."""

    name: str
    version: str


class UnavailableRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter that this device cannot start, and why: "no wheel for Python 3.13"."""

    name: str
    reason: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself. Grants nothing; selectable as ``fact.NAME``."""

    agent_version: str
    hostname: str
    machine: str
    os: str
    python: str
    cpu_count: Count
    memory_bytes: Count
    disk_bytes: Count
    hardware: str = ""
    runtimes: tuple[RuntimeFact, ...] = ()
    encodings: tuple[str, ...] = ()
    runtimes_unavailable: tuple[UnavailableRuntime, ...] = ()


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An installed model: active or previous. ``threads``: as measured on the device; none as it is set."""

    model: ModelName
    version: str
    variant: VariantName
    manifest: Digest
    assignment: AssignmentId
    runtime: str = ""
    threads: int | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why something ended badly: a stable code, plain words, what to do. Texts are clipped to
    `FAILURE_TEXT_BYTES`: a failure always fits its message."""

    code: str
    message: str
    hint: str = ""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            msgspec.structs.force_setattr(self, field, clip(getattr(self, field), FAILURE_TEXT_BYTES))

    @classmethod
    def of(cls, error: FleetError) -> "Failure":
        return cls(code=error.code, message=error.message, hint=error.hint)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the newest assignment stands. Bytes are those of the encoded blobs."""

    assignment: Annotated[AssignmentId, WORD]
    state: UpdateState
    bytes_done: Count = 0
    bytes_total: Count = 0
    failure: Failure | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Compares desired documents: key epoch, then generation, then serial."""

    key_epoch: Count = 0
    generation: Count = 0
    serial: Count = 0


class WorkerState(OpenEnum):
    """How the inference worker of the active model is."""

    STARTING = "starting"
    SERVING = "serving"
    RESTARTING = "restarting"
    """It ended and is started again in a moment."""
    GIVEN_UP = "given-up"
    """It ended too often in a row: it is started again at a slow pace only."""
    UNKNOWN = "unknown"


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """``restarts`` in a row, and the ``failure`` before the newest; a worker that serves well for ten minutes
    clears both."""

    state: WorkerState
    restarts: Count = 0
    failure: Failure | None = None


class TrustReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the device believes, so that operators see how far a rotation has come. ``authorities``: sha256 of
    each certificate (DER) that it takes for its controller's; ``issuer``: that of the authority of its own
    certificate. Times are none while they are not known."""

    root_version: Count = 0
    key_epoch: Count = 0
    authorities: tuple[Digest, ...] = ()
    issuer: Digest = Digest("")
    certificate_expires_ms: Count | None = None
    metadata_expires_ms: Count | None = None


class Reported(Document, frozen=True, kw_only=True):
    """``accepted`` is the newest desired that the device verified and took up. ``trouble``: what keeps the
    device from doing or saying what it should right now (a disk that is full or read-only, an envelope
    that cannot be verified), where no event can be stored. ``worker`` is none where no model is installed,
    or an older agent reports; so is ``trust`` where an older agent does."""

    LIMIT_BYTES: ClassVar[int] = REPORTED_BYTES

    session: Word
    facts: Facts
    accepted: Order = Order()
    active: Running | None = None
    previous: Running | None = None
    update: Progress | None = None
    worker: WorkerReport | None = None
    trouble: tuple[Failure, ...] = ()
    trust: TrustReport | None = None
