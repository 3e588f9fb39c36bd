"""The controller's use cases over a real database, folder and lab keys, with a clock that tests move."""

from dataclasses import dataclass

import msgspec

from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.rollout import Assignment
from fleet_cloud.services.blobs import Blobs
from fleet_cloud.services.drafts import VariantDraft, VersionDraft
from fleet_cloud.services.fetching import Fetching
from fleet_cloud.services.models import Registry
from fleet_cloud.services.observe import Observe
from fleet_cloud.services.ports import OutgoingMessage
from fleet_cloud.services.rollouts import Rollouts, RolloutStatus
from fleet_cloud.services.tick import Tick
from fleet_shared.manifest import BlobRef, Role
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Facts, Reported
from fleet_shared.messages.telemetry import AnyRow, Event, TelemetryBatch, encode_row
from fleet_shared.names import AssignmentId, DeviceId, Digest, digest_of
from fleet_shared.version import ModelRef
from tests.cloud.domain.test_rules import FACTS, variant
from tests.kit.people import ADMIN

PI = DeviceId("pi-1")
ABLE = msgspec.structs.replace(FACTS, memory_bytes=10**9)
"""Facts of a device that can run everything here."""


@dataclass
class Moving:
    """A clock that tests move."""

    at_ms: int = 1_000

    def now_ms(self) -> int:
        return self.at_ms


class Counting:
    def __init__(self) -> None:
        self.count = 0

    def new_id(self) -> str:
        self.count += 1
        return f"id{self.count}"


@dataclass
class Parts:
    uow: DatabaseUnitOfWork
    clock: Moving
    registry: Registry
    rollouts: Rollouts
    tick: Tick
    observe: Observe
    blobs: Blobs
    fetching: Fetching

    def put(self, content: bytes) -> BlobRef:
        sha256 = digest_of(content)
        self.blobs.put(sha256, iter([content]), ADMIN)
        return BlobRef(sha256=sha256, size_bytes=len(content))

    def draft(self, content: bytes, version: str | None = None) -> VersionDraft:
        blobs = {Role.MODEL: self.put(content), Role.GOLDEN: self.put(b"golden")}
        contract = variant("int8", 1).manifest.contract
        variants = (VariantDraft(name="int8", contract=contract, blobs=blobs),)
        return VersionDraft(variants=variants, version=version)

    def add_device(self, name: str = PI, facts: Facts | None = ABLE) -> DeviceId:
        """Enrol a device in Berlin; it has reported itself unless ``facts`` is none."""
        reported = None if facts is None else Reported(session="s", facts=facts)
        device = Device(
            id=DeviceId(name), enrolled_ms=1, public_key_sha256=Digest("a" * 64), labels={"site": "berlin"},
            reported=reported,
        )  # fmt: skip
        with self.uow.begin() as transaction:
            transaction.devices.put(device)
        return device.id

    def start(self, model: str = "m", to: str = "site=berlin", deadline_s: float = 10) -> RolloutStatus:
        """Record a push; the tick has not run."""
        self.clock.at_ms += 1
        return self.rollouts.create(ModelRef.parse(model), to, None, Policy(deadline_s=deadline_s), ADMIN)

    def push(self, model: str = "m", to: str = "site=berlin") -> Assignment:
        status = self.start(model, to)
        self.tick.run()
        (assignment,) = self.rollouts.get(status.rollout.id).assignments
        return assignment

    def look(self, status: RolloutStatus) -> tuple[str, dict[str, str]]:
        """Return the state of a rollout and of each of its assignments."""
        found = self.rollouts.get(status.rollout.id)
        return found.rollout.state.value, {a.device: a.state.value for a in found.assignments}

    def outgoing(self) -> list[OutgoingMessage]:
        with self.uow.read() as transaction:
            return list(transaction.outbox.pending(1000))

    def device(self, name: DeviceId = PI) -> Device:
        with self.uow.read() as transaction:
            found = transaction.devices.get(name)
        assert found is not None
        return found


def batch(
    *rows: AnyRow, stream: str = "s", start: int = 1, head: int = 0, outbox: str = ""
) -> TelemetryBatch:
    """Return consecutive rows as a device sends them; nothing waits behind them unless ``head`` says so."""
    first, last = rows[0].seq, rows[-1].last_seq
    return TelemetryBatch(
        stream=stream, start=start, oldest=first, head=max(head, last), first=first, last=last,
        rows=tuple(msgspec.Raw(encode_row(row)) for row in rows), outbox=outbox,
    )  # fmt: skip


def outcome_batch(assignment: AssignmentId, name: str, seq: int) -> TelemetryBatch:
    return batch(Event(seq=seq, boot_id="b", boot_ms=1, name=name, assignment=assignment))
