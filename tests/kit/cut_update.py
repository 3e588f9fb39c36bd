"""Updates whose power is cut: how they are recorded, and how a device lives on what was left.

A device runs 2.0.0, with 1.0.0 before it, and is pushed 3.0.0, which is good, or fails its self-test,
or fails in its trial. Everything that it writes is recorded. Each state of the disk that a cut may leave
is given to a new device (another boot), which then lives until the update has ended.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from fleet_agent.slots import Slots
from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_agent.worker.protocol import Failed
from fleet_shared.durable import DiskOperation
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.reported import Failure, Progress
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import Digest
from tests.kit.blob_store import BlobStore
from tests.kit.device import Device
from tests.kit.device_edges import GOLDEN, SOAK_S, make_manifest, make_stats, model_bytes
from tests.kit.disk_events import listening
from tests.kit.power_cut import Disk, Operation, Recording, Tree, load_tree, write_tree

OLDER, OLD, NEW = "1.0.0", "2.0.0", "3.0.0"
ASSIGNMENT, GENERATION = "a-3", 3
OUTBOX = "outbox.db"
ORDER = (S.DOWNLOADING, S.VERIFYING, S.SELF_TESTING, S.SWITCHING, S.SOAKING, S.ROLLING_BACK)
DAMAGED = frozenset({"record.damaged", "pointers.damaged", "outbox.reset", "slot.damaged"})


class Model(str, Enum):
    """What the pushed model is like."""

    GOOD = "good"
    FAILS_SELF_TEST = "fails its self-test"
    FAILS_SOAK = "fails its soak"


OUTCOMES = {Model.GOOD: S.SUCCEEDED, Model.FAILS_SELF_TEST: S.FAILED, Model.FAILS_SOAK: S.ROLLED_BACK}
REASONS = {Model.GOOD: None, Model.FAILS_SELF_TEST: "self_test.wrong", Model.FAILS_SOAK: "soak.errors"}


@dataclass(frozen=True)
class Moment:
    """What was true between two operations: ``told`` is what the cloud knew of the update, ``finished``
    the blobs whose download was complete."""

    outbox: dict[str, bytes]
    told: Progress | None
    finished: frozenset[str]


@dataclass
class Recorded:
    """``moments``: one before each operation, and one at the end."""

    model: Model
    start: Tree
    operations: list[Operation]
    moments: list[Moment]


@dataclass
class _Watch:
    """Looks at a device before each of its operations. The outbox belongs to one thread: the others
    take what that one saw last."""

    device: Device
    owner: int = field(default_factory=threading.get_ident)
    outbox: dict[str, bytes] = field(default_factory=dict)

    def observe(self) -> Moment:
        if threading.get_ident() == self.owner:
            files = self.device.folder.glob(f"{OUTBOX}*")
            self.outbox = {file.name: file.read_bytes() for file in files if not file.name.endswith("-shm")}
        told = [report.update for report in self.device.link.reports if report.update is not None]
        return Moment(self.outbox, told[-1] if told else None, frozenset())


def record_update(folder: Path, store: BlobStore, model: Model) -> Recorded:
    store.put(GOLDEN, *(model_bytes(version) for version in (OLDER, OLD, NEW)))
    folder.mkdir()
    device = Device(folder)
    device.url_of = store.url_of
    device.boot()
    try:
        device.install(OLDER, "a-1", 1)
        device.install(OLD, "a-2", 2)
        recording = Recording(folder, _Watch(device).observe)
        recording.start = load_tree(folder, lambda path: path.name.startswith(OUTBOX))
        with listening(recording.hear):
            push(device)
            live(device, model)
        recording.end()
    finally:
        device.close()
    moments = list(_with_finished(recording))
    return Recorded(model, recording.start, recording.operations, moments)


def _with_finished(recording: Recording) -> Iterator[Moment]:
    """A blob is finished when its folder was synced after it got its name."""
    named: set[str] = set()
    finished: set[str] = set()
    for index, moment in enumerate(recording.moments):
        assert isinstance(moment, Moment)
        yield Moment(moment.outbox, moment.told, frozenset(finished))
        if index == len(recording.operations):
            return
        operation = recording.operations[index]
        if operation.kind is DiskOperation.RENAME and operation.target.startswith("downloads/"):
            named.add(Path(operation.target).name)
        if operation.kind is DiskOperation.SYNC_FOLDER and operation.path == "downloads":
            finished |= named


def push(device: Device) -> None:
    device.push(NEW, ASSIGNMENT, GENERATION, SOAK_S)


def live(device: Device, model: Model) -> None:
    """Live until the update has ended and its outcome is stored."""
    for _ in range(300):
        record = device.agent.updates.record
        if record is not None and record.entry.assignment == ASSIGNMENT and record.is_settled:
            device.run(1.0)
            return
        for worker in list(device.workers):
            is_new = worker.spec.assignment == ASSIGNMENT
            if is_new and not worker.done and model is Model.FAILS_SELF_TEST:
                failure = Failure(code="self_test.wrong", message="other answers than expected")
                worker.say(Failed(failure=failure))
                worker.exit()
                continue
            worker.live()
            if is_new and model is not Model.GOOD and device.state() is S.SOAKING:
                worker.say(make_stats(requests=20, errors=20))
        device.agent.step(0.01)
        device.run(0.5)
    raise AssertionError(f"it never ended: {device.agent.updates.record}")


@dataclass
class Cut:
    """One state of the disk after a cut before operation ``index``."""

    recorded: Recorded
    index: int
    tree: Tree

    @property
    def moment(self) -> Moment:
        return self.recorded.moments[self.index]

    @property
    def key(self) -> tuple[object, ...]:
        told = self.moment.told
        return (
            tuple(sorted(self.tree.items())), tuple(sorted(self.moment.outbox.items())),
            None if told is None else told.state, self.moment.finished,
        )  # fmt: skip

    def __str__(self) -> str:
        done = self.recorded.operations[: self.index]
        return f"cut after {done[-1] if done else 'nothing'} (operation {self.index})"


def cuts_of(recorded: Recorded, without: int | None = None) -> Iterator[Cut]:
    """Every state after a cut at any moment; ``without``: as if this one sync had not been made."""
    disk = Disk(recorded.start)
    for index in range(len(recorded.operations) + 1):
        yield from (Cut(recorded, index, tree) for tree in disk.cuts())
        if index < len(recorded.operations) and index != without:
            disk.apply(recorded.operations[index])


def survive(cut: Cut, folder: Path, store: BlobStore, model: Model) -> None:
    """Boot on what is left, live on with a model that behaves as ``model``, and look at everything: what
    does not hold is an `AssertionError`."""
    folder.mkdir()
    write_tree(folder, cut.tree)
    write_tree(folder, dict(cut.moment.outbox))
    saved = load_record(folder)
    check_told(cut, saved)
    device = Device(folder)
    device.starts = 10  # streams have names of their own
    device.clock.boot_id = "boot-2"
    device.url_of = store.url_of
    store.fetched.clear()
    device.boot()
    try:
        if saved is not None and saved.entry.assignment == ASSIGNMENT and saved.outcome_reported:
            assert [one for one in device.outcomes if one[1] == ASSIGNMENT], "a record before its outcome"
        push(device)
        live(device, model)
        check_rest(device, cut, saved, model)
    finally:
        device.close()
    fetched_again = cut.moment.finished.intersection(store.fetched)
    assert not fetched_again, f"a finished download was made again: {fetched_again}"


def load_record(folder: Path) -> UpdateRecord | None:
    try:
        return RecordFile(folder / "update.json").load()
    except ValueError as exc:
        raise AssertionError(f"a power cut damaged the record: {exc}") from exc


def check_told(cut: Cut, saved: UpdateRecord | None) -> None:
    """What the cloud was told is on the disk, or something later."""
    told = cut.moment.told
    if told is None or told.assignment != ASSIGNMENT:
        return
    assert saved is not None, "what was told is not on the disk"
    assert saved.entry.assignment == ASSIGNMENT, "what was told is not on the disk"
    assert _rank(saved.state) >= _rank(told.state), f"told was {told.state}, saved is {saved.state}"


def _rank(state: S) -> int:
    return ORDER.index(state) if state in ORDER else len(ORDER)


def check_rest(device: Device, cut: Cut, saved: UpdateRecord | None, model: Model) -> None:
    ended = saved is not None and saved.entry.assignment == ASSIGNMENT and saved.state.is_final
    outcomes = [name for name, assignment in device.outcomes if assignment == ASSIGNMENT]
    assert len(outcomes) == 1, f"outcomes {outcomes}"
    assert device.saved.is_settled
    assert device.saved.state.value == outcomes[0]
    expected = OUTCOMES[cut.recorded.model if ended else model]
    if model is cut.recorded.model or ended:
        assert outcomes == [expected.value]
        assert device.failure_code() == REASONS[cut.recorded.model]
    elif model is not Model.GOOD:
        assert outcomes != ["succeeded"], "a bad model went live"
    check_disk(device, NEW if outcomes == ["succeeded"] else OLD)


def check_disk(device: Device, version: str) -> None:
    pointers = device.slots.load_pointers()
    assert pointers.active is not None
    check_slot(device.slots, pointers.active.manifest, pointers.active.version)
    assert device.served == pointers.active.version == version
    before = OLD if version == NEW else OLDER
    assert pointers.previous is not None
    assert pointers.previous.version == before
    check_slot(device.slots, pointers.previous.manifest, before)
    files = {path.relative_to(device.folder).as_posix() for path in device.folder.rglob("*")}
    left = [name for name in files if "staging" in name or name.endswith(".tmp") or "damaged" in name]
    left += [name for name in files if name.startswith("downloads")]
    assert not left, f"left over: {left}"
    named = {pointers.active.manifest, pointers.previous.manifest}
    assert {path.name for path in (device.folder / "slots").iterdir()} == named
    damaged = DAMAGED.intersection(event.name for event in device.events)
    assert not damaged, f"a power cut damaged something: {damaged}"


def check_slot(slots: Slots, manifest: Digest, version: str) -> None:
    assert slots.is_whole(manifest, parse_manifest(make_manifest(version)).blobs), f"{version} is damaged"
