"""``reported``, device to cloud, retained: what a device is, runs and does at this moment.

It is a picture, overwritten by the next one; what must not be lost is an event.
"""

from typing import ClassVar

import msgspec

from fleet_shared.limits import REPORTED_BYTES
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, Digest, ModelName, VariantName
from fleet_shared.wire import Document


class RuntimeFact(msgspec.Struct, frozen=True, kw_only=True):
    """An interpreter that this device can start, e.g. ``litert`` 2.3.0."""

    name: str
    version: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself. Grants nothing; selectable as ``fact.NAME``."""

    agent_version: str
    hostname: str
    machine: str
    os: str
    python: str
    cpu_count: int
    memory_bytes: int
    disk_bytes: int
    hardware: str = ""
    runtimes: tuple[RuntimeFact, ...] = ()
    encodings: tuple[str, ...] = ()


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """An installed model: active or previous."""

    model: ModelName
    version: str
    variant: VariantName
    manifest: Digest
    assignment: AssignmentId
    runtime: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why something ended badly: a stable code, plain words, what to do."""

    code: str
    message: str
    hint: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the newest assignment stands. Bytes are those of the encoded blobs."""

    assignment: AssignmentId
    state: UpdateState
    bytes_done: int = 0
    bytes_total: int = 0
    failure: Failure | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Compares desired documents: key epoch, then generation, then serial."""

    key_epoch: int = 0
    generation: int = 0
    serial: int = 0


class Reported(Document, frozen=True, kw_only=True):
    """``accepted`` is the newest desired that the device verified and took up."""

    LIMIT_BYTES: ClassVar[int] = REPORTED_BYTES

    session: str
    facts: Facts
    accepted: Order = Order()
    active: Running | None = None
    previous: Running | None = None
    update: Progress | None = None
