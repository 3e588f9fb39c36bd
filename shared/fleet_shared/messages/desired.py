"""``desired``, cloud to device, retained, the payload of a signed envelope: what to run.

Order is (key epoch, generation, serial). Signing again before expiry raises the serial only.
Expired: keep running, start nothing. Empty ``run``: ignored. ``critical`` names fields that a
reader must understand; one that does not refuses the document.
"""

from typing import ClassVar

import msgspec

from fleet_shared.codec import Encoding
from fleet_shared.limits import DESIRED_BYTES
from fleet_shared.messages.reported import Order
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName
from fleet_shared.wire import Document


class EncodedBlob(msgspec.Struct, frozen=True, kw_only=True):
    """One way to carry ``blob``: fetch the blob ``sha256`` and decode it."""

    blob: Digest
    encoding: Encoding
    sha256: Digest
    encoded_bytes: int
    size_bytes: int


class RunEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model to run. Encodings beside the plain blobs, which can always be asked for."""

    model: ModelName
    version: str
    manifest: Digest
    assignment: AssignmentId
    encodings: tuple[EncodedBlob, ...] = ()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How the device goes about it. ``soak_s``: trial time after the switch;
    ``deadline_s``: the whole update must have ended by then, counted from its start."""

    soak_s: float = 5.0
    deadline_s: float = 3600.0


class Desired(Document, frozen=True, kw_only=True):
    LIMIT_BYTES: ClassVar[int] = DESIRED_BYTES

    device: DeviceId
    key_epoch: int
    generation: int
    serial: int
    issued_ms: int
    expires_ms: int
    policy: Policy = Policy()
    run: tuple[RunEntry, ...] = ()
    critical: tuple[str, ...] = ()

    @property
    def order(self) -> Order:
        return Order(key_epoch=self.key_epoch, generation=self.generation, serial=self.serial)


UNDERSTOOD = frozenset(Desired.__struct_fields__)
"""What may stand in ``critical`` for this version of the protocol."""
