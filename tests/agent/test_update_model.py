"""Whatever happens to a device, in whatever order: it runs a verified model once it had one, obeys no
older order, reports each assignment once, and comes to rest on the newest one with nothing left over.

The real agent core on a real folder with real downloads; Hypothesis chooses what happens to it.
"""

import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fleet_agent.link.events import Connected, Disconnected
from fleet_agent.slots import FILES
from fleet_agent.worker.protocol import Failed
from fleet_shared.durable import DiskOperation
from fleet_shared.manifest import Role, parse_manifest
from fleet_shared.messages.desired import Desired
from fleet_shared.messages.reported import Failure, Order
from fleet_shared.messages.telemetry import Event, decode_row
from fleet_shared.messages.update import FINAL_STATES
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.wire import encode
from tests.kit.blob_store import BlobStore, Trouble, blob_store
from tests.kit.cut_update import Model
from tests.kit.device import Device
from tests.kit.device_edges import GOLDEN, make_desired, make_manifest, make_stats, model_bytes
from tests.kit.disk_events import DiskEvent, listening

VERSIONS = [f"{major}.0.0" for major in range(1, 6)]
NEEDS_ROOM = frozenset({DiskOperation.CREATE, DiskOperation.WRITE, DiskOperation.MAKE_FOLDER})
FINALS = frozenset(state.value for state in FINAL_STATES)
MEMORY = Path("/dev/shm")  # noqa: S108 - each second of a life is written down: half the time went into that
PARTS = 8


class OutOfTime(BaseException):
    """The test took too long. No failure of a life: Hypothesis would live it again, find that it goes well
    with more time, and call it flaky."""


@pytest.fixture(scope="module")
def store() -> Iterator[BlobStore]:
    with blob_store() as one:
        one.put(GOLDEN, *(model_bytes(version) for version in VERSIONS))
        yield one


class Life(RuleBasedStateMachine):
    """``retained`` is what the broker holds; ``kinds`` how the model of each assignment behaves;
    ``seen`` what the cloud has of the outbox, ``read`` how far it got since the start; ``spoiled`` which
    slots were damaged, and after how many assignments."""

    store: BlobStore

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="life-", dir=MEMORY if MEMORY.is_dir() else None))
        self.device = Device(self.folder)
        self.device.in_order = True
        self.device.url_of = self.store.url_of
        self.store.trouble = Trouble.NONE
        self.desired: list[Desired] = []
        self.kinds: dict[str, Model] = {}
        self.seen: dict[tuple[str, int], Event] = {}
        self.read: dict[str, int] = {}
        self.newest = Order()
        self.spoiled: dict[str, int] = {}
        self.undisturbed: set[str] = set()
        self.lost = ""
        self.linked = True
        self.full = False
        self.stack.enter_context(listening(self._refuse))

    # -- what happens

    @initialize()
    def begin(self) -> None:
        self.device.boot()
        self.assign("1.0.0", Model.GOOD)
        self.rest()

    @rule(version=st.sampled_from(VERSIONS), kind=st.sampled_from(Model))
    def assign(self, version: str, kind: Model) -> None:
        number = len(self.desired) + 1
        assignment = f"a-{number}"
        self.kinds[assignment] = kind
        calm = not self.full and self.store.trouble is Trouble.NONE
        self.undisturbed = {assignment} if calm else set()
        self.desired.append(make_desired(version, assignment, number))
        self._deliver()

    @rule()
    def sign_again(self) -> None:
        last = self.desired[-1]
        self.desired[-1] = msgspec.structs.replace(last, serial=last.serial + 1)
        self._deliver()

    @rule(data=st.data())
    def an_older_document_comes_back(self, data: st.DataObject) -> None:
        if self.linked:
            self.device.receive(encode(data.draw(st.sampled_from(self.desired))))

    @rule()
    def nothing_is_desired(self) -> None:
        if self.linked:
            self.device.receive(b"")
            last = self.desired[-1]
            later = msgspec.structs.replace(last, generation=last.generation, serial=last.serial + 1, run=())
            self.device.receive(encode(later))

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        self._down(power=power)
        self._up()

    @rule(name=st.sampled_from(["update.json", "outbox.db"]), share=st.floats(0, 0.9))
    def a_file_is_damaged(self, name: str, share: float) -> None:
        if not self._may_lose(name):
            return
        self._down(power=True)
        file = self.folder / name
        if file.exists():
            self._disturb()
            content = file.read_bytes()
            kept = int(len(content) * share)
            file.write_bytes(content[:kept] + bytes(len(content) - kept))
        if name == "update.json":
            self.newest = Order()
        else:
            for suffix in ("-wal", "-shm"):
                (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        self._up()

    @rule(share=st.floats(0, 0.9))
    def the_pointers_are_damaged(self, share: float) -> None:
        if not self._may_lose("slots.json"):
            return
        self._down(power=True)
        record, file = self.folder / "update.json", self.folder / "slots.json"
        if record.exists() and file.exists() and not self.full:
            self._disturb()
            content = file.read_bytes()
            file.write_bytes(content[: int(len(content) * share)])
        self._up()

    @rule(which=st.integers(0, 9), role=st.sampled_from([Role.MODEL, Role.GOLDEN]))
    def a_model_is_damaged(self, which: int, role: Role) -> None:
        slots = sorted(path for path in (self.folder / "slots").iterdir() if not path.name.startswith("."))
        if slots:
            slot = slots[which % len(slots)]
            file = slot / FILES[role]
            if file.exists():
                content = file.read_bytes()
                file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
                self.spoiled[slot.name] = len(self.desired)

    @rule()
    def the_link_is_cut(self) -> None:
        self._unlink()
        self.device.run()

    @rule()
    def the_link_comes_back(self) -> None:
        self._link()

    @rule(trouble=st.sampled_from(Trouble))
    def downloads_change(self, trouble: Trouble) -> None:
        if trouble is not Trouble.NONE:
            self._disturb()
        self.store.trouble = trouble

    @rule()
    def downloads_stand_still(self) -> None:
        self.device.downloads.clear()

    @rule()
    def downloads_go_on(self) -> None:
        self.device.downloads.set()
        self.device.run()

    @rule()
    def inspections_stand_still(self) -> None:
        self.device.inspections.clear()

    @rule()
    def inspections_go_on(self) -> None:
        self.device.inspections.set()
        self.device.run()

    @rule()
    def the_disk_is_full(self) -> None:
        self._disturb()
        self.full = self.device.faults.outcomes = True

    @rule()
    def the_disk_has_room(self) -> None:
        self.full = self.device.faults.outcomes = False
        self._live(2)

    @rule()
    def a_worker_dies(self) -> None:
        workers = self.device.agent.workers
        self._disturb()
        for worker in self.device.workers:
            if worker in (workers.active, workers.candidate):
                worker.exit()
        self.device.run()

    @rule(seconds=st.integers(1, 8))
    def time_passes(self, seconds: int) -> None:
        self._live(seconds)

    @rule()
    def rest(self) -> None:
        """Nothing is in the way any more: the newest assignment ends."""
        self.full = self.device.faults.outcomes = False
        self.store.trouble = Trouble.NONE
        self.device.downloads.set()
        self.device.inspections.set()
        self._link()
        for _ in range(60):
            self._live(3)
            record = self.device.agent.updates.record
            settled = record is not None and record.accepted >= self.desired[-1].order and record.is_settled
            if settled or (self._ended() and (record is None or record.state.is_final)):
                break
        self._live(65)  # whatever is tried again within a minute: a worker that died often, above all
        self._look_at_rest()

    # -- what must hold

    @invariant()
    def a_verified_model_is_live(self) -> None:
        if not self.desired or not self.device._open:
            return
        if "a-1" not in {event.assignment for event in self.seen.values()}:
            return
        updates, pointers = self.device.agent.updates, self.device.slots.load_pointers()
        if updates.trouble is None:
            assert updates.pointers == pointers
        if pointers.active is None:
            assert self.spoiled, "no model is live"  # where the disk ruins all models, none is
            return
        if pointers.active.manifest not in self.spoiled:
            version = pointers.active.version
            assert self.device.slots.is_whole(
                pointers.active.manifest, parse_manifest(make_manifest(version)).blobs
            ), f"{version} is live and damaged"

    @invariant()
    def no_outcome_comes_twice(self) -> None:
        self._collect()
        outcomes = [event.assignment for event in self.seen.values() if event.name.startswith("update.")]
        assert len(outcomes) == len(set(outcomes)), f"twice: {outcomes}"

    @invariant()
    def no_bad_model_succeeds(self) -> None:
        for event in self.seen.values():
            if event.name == "update.succeeded" and event.assignment is not None:
                assert self.kinds[event.assignment] is Model.GOOD

    @invariant()
    def the_order_never_goes_back(self) -> None:
        """On the disk: what a full disk does not take is taken up again after a restart."""
        if (self.folder / "update.json").exists():
            accepted = self.device.saved.accepted
            assert accepted >= self.newest
            self.newest = accepted

    def teardown(self) -> None:
        try:
            if isinstance(sys.exc_info()[1], pytest.fail.Exception):
                raise OutOfTime
            if self.desired:
                self.rest()
        except pytest.fail.Exception as exc:
            raise OutOfTime from exc
        finally:
            self.full = False
            self.device.downloads.set()
            self.device.inspections.set()
            self.device.close()
            self.stack.close()
            shutil.rmtree(self.folder)

    # -- how

    def _refuse(self, event: DiskEvent) -> None:
        inside = event.path.startswith(str(self.folder))
        if self.full and inside and event.moment == "before" and event.operation in NEEDS_ROOM:
            raise OSError(28, "No space left on device")

    def _may_lose(self, name: str) -> bool:
        """One of the files that know what was is damaged in a life, as often as may be: what each says is
        made up for from the others."""
        self.lost = self.lost or name
        return self.lost == name

    def _disturb(self) -> None:
        """From now on an update may end otherwise than its model deserves."""
        self.undisturbed.clear()

    def _deliver(self) -> None:
        if self.linked:
            self.device.receive(encode(self.desired[-1]))

    def _unlink(self) -> None:
        if self.linked:
            self.linked = False
            self.device.agent.inbox.put(Disconnected("cut"))

    def _link(self) -> None:
        """The session begins, and the broker sends what it holds."""
        if not self.linked:
            self.linked = True
            self.device.agent.inbox.put(Connected("session-1"))
        self._deliver()

    def _down(self, *, power: bool) -> None:
        self._collect()
        self.device.crash()
        if power:
            self.device.clock.boot_id = f"boot-{self.device.starts}"

    def _up(self) -> None:
        self.read.clear()
        self.device.boot()
        if self.linked:
            self._deliver()
        else:
            self.device.agent.inbox.put(Disconnected("cut"))
        self.device.run()

    def _live(self, seconds: int) -> None:
        for _ in range(seconds):
            self.device.run()
            self._work()
            self.device.run(1.0)

    def _work(self) -> None:
        """Let each worker do what its model makes it do."""
        workers = self.device.agent.workers
        for worker in list(self.device.workers):
            if worker not in (workers.active, workers.candidate):
                continue
            kind = self.kinds[worker.spec.assignment]
            if worker is workers.candidate and kind is Model.FAILS_SELF_TEST:
                worker.say(Failed(failure=Failure(code="self_test.wrong", message="other answers")))
                continue
            worker.live()
            if kind is Model.FAILS_SOAK and self.device.state() is S.SOAKING:
                worker.say(make_stats(requests=20, errors=20))

    def _collect(self) -> None:
        outbox = self.device.outbox
        for stream in outbox.streams():
            name = f"{outbox.name}/{stream}"
            while batch := outbox.load_batch(stream, self.read.get(name, 0)):
                for row in map(decode_row, batch.rows):
                    if isinstance(row, Event):
                        self.seen[name, row.seq] = row
                self.read[name] = batch.last

    def _outcomes(self) -> dict[str | None, str]:
        self._collect()
        found = self.seen.values()
        return {e.assignment: e.name.removeprefix("update.") for e in found if e.name.startswith("update.")}

    def _ended(self) -> bool:
        return self.desired[-1].run[0].assignment in self._outcomes()

    def _look_at_rest(self) -> None:
        entry = self.desired[-1].run[0]
        outcome = self._outcomes().get(entry.assignment)
        assert outcome in FINALS, f"{entry.assignment} never ended: {self.device.agent.updates.record}"
        if entry.assignment in self.undisturbed:
            expected = {Model.GOOD: "succeeded", Model.FAILS_SELF_TEST: "failed"}
            assert outcome == expected.get(self.kinds[entry.assignment], "rolled-back")
        pointers = self.device.slots.load_pointers()
        if pointers.active is None:
            assert self.spoiled
            return
        if outcome == "succeeded" and self.spoiled.get(entry.manifest, 0) < len(self.desired):
            assert pointers.active.version == entry.version
            if self.spoiled.get(pointers.active.manifest, 0) < len(self.desired):
                self.spoiled.pop(pointers.active.manifest, None)  # it was installed anew since
        assert self.device.served == pointers.active.version
        if outcome != "failed":  # a download that ended early waits for whoever comes next
            assert not list(self.folder.glob("downloads/*"))
        self._look_at_folder()

    def _look_at_folder(self) -> None:
        pointers = self.device.slots.load_pointers()
        named = {running.manifest for running in (pointers.active, pointers.previous) if running is not None}
        slots = {path.name for path in (self.folder / "slots").iterdir()}
        damaged = {name for name in slots if name.endswith(".damaged")}
        assert slots - damaged <= named
        assert len(damaged) <= 1, "one is kept, until the next update"
        left = [path.name for path in self.folder.rglob("*.tmp")]
        assert not left, f"left over: {left}"


class Told(Life):
    """A life that is told: ``story`` is where it stood after each step."""

    story: list[tuple[object, ...]]

    @invariant()
    def tell(self) -> None:
        if self.desired:
            device, seen = self.device, [(event.name, event.boot_ms) for event in self.seen.values()]
            chance, pointers = hash(random.getstate()), device.slots.load_pointers()
            record, done = device.agent.updates.record, [worker.done[:] for worker in device.workers]
            self.story.append((seen, record, pointers, done, len(device.link.reports), chance))


def run(store: BlobStore, examples: int, steps: int, life: type[Life] = Life, **how: Any) -> None:
    life.store = store
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            **how,
        ),
    )


def test_a_life_of_updates(store: BlobStore) -> None:
    run(store, examples=15, steps=25)


def test_the_same_happens_each_time(store: BlobStore) -> None:
    """Else a failure could not be found again, nor be made small."""
    stories: list[list[tuple[object, ...]]] = []
    for _ in range(2):
        Told.story = []
        run(store, examples=10, steps=25, life=Told, derandomize=True, database=None)
        stories.append(Told.story)
    first, second = stories
    for number, (one, other) in enumerate(zip(first, second, strict=True)):
        differ = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
        assert not differ, f"after step {number} of {len(first)}"


def test_out_of_time_is_not_called_flaky(store: BlobStore) -> None:
    class Endless(Life):
        @invariant()
        def last(self) -> None:
            pytest.fail("what a time-out raises")

    with pytest.raises(OutOfTime):
        run(store, examples=2, steps=2, life=Endless, database=None)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_many_lives_of_updates(store: BlobStore, part: int) -> None:
    """In parts, each within the time of any test."""
    run(store, examples=400 // PARTS, steps=50)
