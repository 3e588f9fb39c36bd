"""``telemetry`` (device to cloud) and ``ack`` (cloud to device): readings that are accounted for.

A row's key is (device, stream, seq). Within a stream seq has no holes: what the device thinned
out is a tombstone with its range. A batch holds consecutive rows. It states where its stream
starts and what the outbox still holds, so that the cloud can tell "not here yet" (it drops the
batch and waits) from "gone for ever" (it counts the rows as lost and goes on).
"""

from typing import Annotated, ClassVar, Final

import msgspec

from fleet_shared.errors import MessageError
from fleet_shared.limits import ACK_BYTES, ROW_BYTES, ROWS_PER_BATCH, TELEMETRY_BYTES
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId
from fleet_shared.wire import WORD, Count, Document, OpenEnum, Seq, Word


class Clock(OpenEnum):
    """Whether the device's wall clock can be believed."""

    SYNCED = "synced"
    UNSYNCED = "unsynced"
    UNKNOWN = "unknown"


CLOCK_KNOWN: Final = "clock.known"
AGENT_STARTED: Final = "agent.started"
DATING: Final = frozenset({CLOCK_KNOWN, AGENT_STARTED})
"""Events whose ``wall_ms``, where they have one, dates the rows of the same boot that have none: ``wall_ms -
boot_ms`` is the wall time at which the device booted."""


class Source(OpenEnum):
    """What a sample reads: the machine, or the model that serves."""

    HOST = "host"
    MODEL = "model"
    UNKNOWN = "unknown"


class Row(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all rows. ``wall_ms`` is none while the device does not know the time."""

    seq: Seq
    boot_id: str
    boot_ms: Count
    wall_ms: Count | None = None
    clock: Clock = Clock.UNKNOWN

    @property
    def last_seq(self) -> int:
        return self.seq


class Sample(Row, frozen=True, kw_only=True, tag="sample"):
    """One reading of one source: several values, each with its unit in its name.

    ``window_ms`` is the time that counters and percentiles cover (0: an instant).
    ``classes`` counts predictions by class within the window.
    """

    source: Source
    values: dict[str, float]
    classes: dict[str, Count] = {}
    model: str | None = None
    version: str | None = None
    variant: str | None = None
    runtime: str | None = None
    window_ms: Count = 0


Detail = dict[str, str | int | float | bool | None]
"""What an event tells beside its name; whole numbers of 64 bits."""


class Event(Row, frozen=True, kw_only=True, tag="event"):
    """One thing that happened. ``name`` is dotted: ``update.succeeded``, ``desired.refused``."""

    name: Word
    assignment: Annotated[AssignmentId, WORD] | None = None
    failure: Failure | None = None
    detail: dict[
        str, str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float | bool | None
    ] = {}


class Tombstone(Row, frozen=True, kw_only=True, tag="tombstone"):
    """Rows ``seq`` to ``last`` were thinned out on the device by policy."""

    last: Seq
    reason: str = "thinned"

    @property
    def last_seq(self) -> int:
        return self.last


AnyRow = Sample | Event | Tombstone


class TelemetryBatch(Document, frozen=True, kw_only=True):
    """Consecutive rows of one stream, each still encoded: one bad row must not spoil the rest.

    ``start`` is the stream's first seq; ``oldest`` the lowest seq that the outbox still holds
    for it; ``head`` the highest that it has ever given out; ``first`` and ``last`` the range
    that this batch covers. ``outbox`` names the file that the rows come from: a device has one, so
    what another file held and did not send is lost.
    """

    LIMIT_BYTES: ClassVar[int] = TELEMETRY_BYTES

    stream: Word
    start: Seq
    oldest: Seq
    head: Seq
    first: Seq
    last: Seq
    rows: tuple[msgspec.Raw, ...]
    outbox: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.:-]{0,64}\Z")] = ""

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.oldest <= self.first <= self.last <= self.head:
            raise ValueError("start <= oldest <= first <= last <= head must hold")
        if not 0 < len(self.rows) <= ROWS_PER_BATCH:
            raise ValueError(f"a batch has 1 to {ROWS_PER_BATCH} rows")


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    seq: Seq
    code: str


class Ack(Document, frozen=True, kw_only=True):
    """Everything of ``stream`` up to and including ``upto`` is committed, or in the dead letters
    where ``rejected`` says so."""

    LIMIT_BYTES: ClassVar[int] = ACK_BYTES

    stream: Word
    upto: Seq
    rejected: tuple[Rejection, ...] = ()


_ROW_DECODER = msgspec.json.Decoder(AnyRow)


def encode_row(row: AnyRow) -> bytes:
    """Return ``row`` as JSON; raise `MessageError` when it exceeds its limit."""
    raw = msgspec.json.encode(row)
    if len(raw) > ROW_BYTES:
        raise MessageError(f"telemetry row has {len(raw)} bytes, at most {ROW_BYTES} are allowed")
    return raw


def decode_row(raw: bytes | msgspec.Raw) -> AnyRow:
    """Return the row in ``raw``, or raise `MessageError` (code ``telemetry.row.invalid``)."""
    try:
        row: AnyRow = _ROW_DECODER.decode(bytes(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise MessageError(f"row does not parse: {exc}", code="telemetry.row.invalid") from exc
    return row
