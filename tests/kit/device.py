"""A device without its edges: the real supervisor, update runner, workers, slots and outbox, driven step
by step; the broker, the trust child, the worker processes, the network and time are stood in for."""

import errno
import queue
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fleet_agent.bootstrap import wire
from fleet_agent.identity import Identity
from fleet_agent.leash import Terms
from fleet_agent.leftovers import remove_leftovers
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.events import Connected, MessageReceived
from fleet_agent.paths import StatePaths
from fleet_agent.renewer import Renewed
from fleet_agent.settings import Settings
from fleet_agent.supervisor import Message, Supervisor
from fleet_agent.transfer.questions import Questions
from fleet_agent.update.install import Installer
from fleet_agent.update.record import RecordFile, UpdateRecord
from fleet_agent.worker.protocol import WorkerSpec
from fleet_agent.worker_process import Notify
from fleet_agent.workers import Workers
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.messages.reported import Running
from fleet_shared.messages.telemetry import AnyRow, Event, Sample, Source, decode_row
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import DeviceId, Digest, digest_of
from fleet_shared.topics import Channel
from fleet_shared.wire import encode
from tests.kit.device_edges import (
    FACTS,
    SOAK_S,
    FailingOutbox,
    FailingRecordFile,
    FailingSlots,
    FakeClock,
    FakeJobs,
    FakeLink,
    FakeTrust,
    FakeWorker,
    Faults,
    Gate,
    make_desired,
    make_manifest,
    make_stats,
    model_bytes,
)


@cache
def _load_versions() -> dict[Digest, str]:
    return {digest_of(make_manifest(f"{major}.0.0")): f"{major}.0.0" for major in range(1, 10)}


SLOW = frozenset({"update", "inspection"})
"""The names of the threads that an agent in this process starts."""
WITHIN_S = 60.0
"""The slowest machine ends what a thread of the agent does, a small download at most."""


class Device:
    """One state folder. `boot` starts its agent, `crash` ends it without a word. ``in_order``: after each
    step the other threads come as far as they can, so that the same happens each time, on any machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.trust = FakeTrust()
        self.workers: list[FakeWorker] = []
        self.faults = Faults()
        self.downloads = threading.Event()
        self.downloads.set()
        self.inspections = threading.Event()
        self.inspections.set()
        self.facts = FACTS
        self.tight = False
        self.starts = 0
        self.renewals: list[Callable[[Renewed], None]] = []
        self.url_of: Callable[[Digest], str] | None = None
        self.in_order = False
        self._open: list[Supervisor] = []
        self._others = frozenset(threading.enumerate())

    def boot(self, *, connect: bool = True) -> None:
        self.starts += 1
        remove_leftovers(StatePaths(self.folder))
        inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.link = FakeLink()
        self.outbox = FailingOutbox(self.folder / "outbox.db", f"stream-{self.starts}")
        self.slots = FailingSlots(self.folder / "slots", self.folder / "slots.json")
        record_file = FailingRecordFile(self.folder / "update.json")
        self.outbox.faults = self.slots.faults = record_file.faults = self.faults
        installer = Installer(self.slots, self.folder / "downloads", lambda: 10**9, 1000)
        self.jobs = FakeJobs(installer, self.downloads, self.url_of)
        self.slots.gate = Gate(self.inspections, self.jobs.dead)
        self.agent = wire(
            Settings(state=self.folder, sample_interval_s=1e9),
            Identity(
                device=DeviceId("pi-1"), controller_url="http://controller", metadata_path="/m",
                targets_path="/t", topic_root="fleet/v1", broker=BrokerAddress(port=1),
            ),
            facts=self.facts,
            clock=self.clock,
            inbox=inbox,
            outbox=self.outbox,
            slots=self.slots,
            link=self.link,
            trust=self.trust,
            jobs=self.jobs,
            questions=Questions(send=inbox.put),
            renew=self.renewals.append,
            is_tight=lambda _record: self.tight,
            workers=Workers(self._make_spec, inbox.put, Backoff(1.0, 60.0, lambda: 1.0), self._start_worker),
        )  # fmt: skip
        self.agent.updates.saved.file = record_file
        self._open.append(self.agent)
        self.agent.start()
        self._await_threads()
        if connect:
            self.agent.inbox.put(Connected("session-1"))
        self.run()

    def crash(self) -> None:
        self.jobs.dead.set()
        self.agent.updates.close()
        self._await_threads()
        self.outbox.close()
        self._open.remove(self.agent)
        self.workers.clear()

    def close(self) -> None:
        for agent in list(self._open):
            self.agent = agent
            self.crash()

    # -- driving

    def run(self, seconds: float = 0.0) -> None:
        """Handle all that waits, while ``seconds`` of the device's time pass."""
        end_s = self.clock.seconds + seconds
        self._await_threads()
        while self._step() or self.clock.seconds < end_s:
            self.clock.seconds = min(end_s, self.clock.seconds + 0.5)

    def _step(self) -> bool:
        took = self.agent.step(0)
        self._await_threads()
        return took or (self.in_order and not self.agent.inbox.empty())

    def _await_threads(self) -> None:
        """Wait for the threads of this agent, but for those that stand still: what they found is in the
        inbox then, before anything else that happens."""
        if not self.in_order:
            return
        ours = [one for one in threading.enumerate() if one.name in SLOW and one not in self._others]
        deadline_s = time.monotonic() + WITHIN_S
        for thread in ours:
            while thread.is_alive() and not self._stands_still(thread):
                assert time.monotonic() < deadline_s, f"the thread of the {thread.name} does not end"
                thread.join(0.002)

    def _stands_still(self, thread: threading.Thread) -> bool:
        gate = self.jobs.gate if thread.name == "update" else self.slots.gate
        return gate is not None and gate.stands_still

    def live(self, seconds: float) -> None:
        """Let time pass with a serving worker that reports as it should."""
        for _ in range(int(seconds)):
            if isinstance(active := self.agent.workers.active, FakeWorker):
                active.say(make_stats())
            self.run(1.0)

    def run_until(self, what: Callable[[], bool]) -> None:
        """Handle what comes from other threads until ``what`` holds; no time of the device passes."""
        deadline = time.monotonic() + 30
        while not what():
            assert time.monotonic() < deadline, f"in vain; the record is {self.agent.updates.record}"
            self.agent.step(0.01)
        self.run()

    def push(
        self, version: str, assignment: str, generation: int, soak_s: float = SOAK_S, **policy: Any
    ) -> None:
        self.receive(encode(make_desired(version, assignment, generation, soak_s, **policy)))

    def receive(self, envelope: bytes) -> None:
        self.agent.inbox.put(MessageReceived(Channel.DESIRED, envelope))
        self.run()

    def reach(self, state: UpdateState) -> None:
        self.run_until(lambda: self.state() is state)

    def install(self, version: str, assignment: str, generation: int, **policy: Any) -> None:
        """Push a version and let everything go well."""
        self.push(version, assignment, generation, **policy)
        self.soak()
        self.worker.say(make_stats())
        self.run(SOAK_S + 1)
        assert self.state() is UpdateState.SUCCEEDED

    def soak(self) -> None:
        """Let an update come as far as its trial time."""
        self.reach(UpdateState.SELF_TESTING)
        self.worker.ready()
        self.run()
        assert self.state() is UpdateState.SOAKING
        self.worker.serving()
        self.run()

    # -- looking

    @property
    def worker(self) -> FakeWorker:
        """The worker that was started last."""
        return self.workers[-1]

    def state(self) -> UpdateState | None:
        record = self.agent.updates.record
        return None if record is None else record.state

    @property
    def active(self) -> str | None:
        """The version that the pointers on disk name, whole or not at all."""
        active = self.slots.load_pointers().active
        if active is None:
            return None
        assert (self.slots.path(active.manifest) / "model.tflite").read_bytes() == model_bytes(active.version)
        return active.version

    @property
    def served(self) -> str | None:
        """The version of the worker that serves."""
        worker = self.agent.workers.active
        return None if worker is None else self._versions[worker.spec.manifest]

    @property
    def saved(self) -> UpdateRecord:
        record = RecordFile(self.folder / "update.json").load()
        assert record is not None
        return record

    @property
    def events(self) -> list[Event]:
        return [row for row in self._load_rows() if isinstance(row, Event)]

    @property
    def samples(self) -> list[Sample]:
        """What the models measured."""
        return [row for row in self._load_rows() if isinstance(row, Sample) and row.source is Source.MODEL]

    def _load_rows(self) -> list[AnyRow]:
        rows: list[AnyRow] = []
        for stream in self.outbox.streams():
            after = 0
            while batch := self.outbox.load_batch(stream, after):
                rows += [decode_row(raw) for raw in batch.rows]
                after = batch.last
        return rows

    @property
    def outcomes(self) -> list[tuple[str, str | None]]:
        """Name and assignment of each outcome."""
        found = [event for event in self.events if event.name.startswith("update.")]
        return [(event.name.removeprefix("update."), event.assignment) for event in found]

    def failure_code(self) -> str | None:
        record = self.agent.updates.record
        return record.failure.code if record is not None and record.failure is not None else None

    @property
    def _versions(self) -> dict[Digest, str]:
        return _load_versions()

    def _make_spec(self, running: Running, terms: Terms) -> WorkerSpec:
        return WorkerSpec(
            slot=str(self.slots.path(running.manifest)), manifest=running.manifest,
            assignment=running.assignment, runtime=running.runtime, threads=1, listen_fds=(),
            stats_interval_s=1.0 if terms.soak_s is None else terms.soak_s / 2, linger_s=1.0,
        )  # fmt: skip

    def _start_worker(self, spec: WorkerSpec, notify: Notify) -> FakeWorker:
        if self.faults.processes:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        self.workers.append(FakeWorker(spec, notify))
        return self.worker
