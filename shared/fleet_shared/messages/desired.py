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
from fleet_shared.wire import Document, OpenEnum


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


class OverBudget(OpenEnum):
    """What a device does when a download would exceed ``bytes_max``."""

    FAIL = "fail"
    """The update ends, failed; the running model was never touched."""
    WAIT = "wait"
    """The download stands still until a larger budget, a newer assignment or the deadline comes."""
    UNKNOWN = "unknown"


class WhenTight(OpenEnum):
    """What a device does whose memory cannot hold two workers at once."""

    REFUSE = "refuse"
    """The update ends before the download; the running model goes on."""
    GAP = "gap"
    """The old worker ends first: for a moment nothing answers, and the outcome says for how long."""
    UNKNOWN = "unknown"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How the device goes about it; a bound that is none is not judged.

    ``deadline_s``: the whole update must have ended by then, counted from its start.

    The trial after the switch takes ``soak_s`` and ``soak_inferences``, both. It fails when more than
    ``error_rate_max`` (0 to 1) of its inferences fail, when its median latency is more than
    ``latency_ratio_max`` times that of the previous version on the same device, or when its worker was
    restarted more than ``worker_restarts_max`` times. ``memory_bytes_max`` bounds the resident memory of
    the worker, in the trial and after it.

    ``bytes_max``: what may come over the wire for this assignment, all tries together; ``over_bytes``
    what happens beyond. ``benchmark``: measure the installed runtimes once, and take the fastest that
    passes the golden vectors.
    """

    soak_s: float = 5.0
    deadline_s: float = 3600.0
    soak_inferences: int = 0
    error_rate_max: float = 0.1
    latency_ratio_max: float | None = None
    worker_restarts_max: int = 0
    memory_bytes_max: int | None = None
    bytes_max: int | None = None
    over_bytes: OverBudget = OverBudget.FAIL
    when_tight: WhenTight = WhenTight.REFUSE
    benchmark: bool = False


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
