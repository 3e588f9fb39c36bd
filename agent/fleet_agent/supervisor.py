"""The one loop of the agent. It owns all state; whatever happens elsewhere only puts something on
its queue.
"""

import logging
import queue
from dataclasses import dataclass, field
from typing import Final

from fleet_agent.identity import Identity
from fleet_agent.inbox import take
from fleet_agent.intake import Intake
from fleet_agent.journal import Journal
from fleet_agent.link.events import Connected, Disconnected, MessageReceived
from fleet_agent.link.note import LinkNote, save_note
from fleet_agent.paths import StatePaths
from fleet_agent.ports import Clock, Trust, Worker
from fleet_agent.reporter import Reporter
from fleet_agent.service import Service
from fleet_agent.settings import Settings
from fleet_agent.telemetry.host import read_host
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.trust.protocol import DesiredVerified, TrustAnswer, VerifyDesired
from fleet_agent.update.jobs import JobDone
from fleet_agent.update.machine import UpdateEvent
from fleet_agent.update.plan import Accept, Nothing, Start, explain_no_runtime, plan_update
from fleet_agent.update.record import Evidence, UpdateRecord
from fleet_agent.update.runner import UpdateRunner
from fleet_agent.uplink import Uplink
from fleet_agent.worker.protocol import Failed, Ready, Serving, SourceFailed, Stats
from fleet_agent.worker_process import WorkerExited, WorkerSaid
from fleet_agent.workers import Workers
from fleet_shared.errors import MessageError
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.messages.reported import Facts, Failure, Order, Reported
from fleet_shared.messages.telemetry import Ack
from fleet_shared.messages.update import UpdateState
from fleet_shared.topics import Channel
from fleet_shared.wire import decode

log = logging.getLogger(__name__)

TICK_S: Final = 0.2


@dataclass(frozen=True)
class TrustAnswered:
    envelope: bytes
    answer: TrustAnswer


@dataclass(frozen=True)
class Downloaded:
    """``count`` bytes came in; ``total`` is what the update needs in all, when it is known."""

    count: int
    total: int | None = None


@dataclass(frozen=True)
class Stop:
    pass


Message = (
    Connected
    | Disconnected
    | MessageReceived
    | TrustAnswered
    | Downloaded
    | Fetch
    | JobDone
    | WorkerSaid
    | WorkerExited
    | Stop
)


@dataclass
class Supervisor:
    """Wired in `bootstrap`. `run` returns after `stop`."""

    settings: Settings
    paths: StatePaths
    identity: Identity
    facts: Facts
    clock: Clock
    inbox: "queue.SimpleQueue[Message]"
    uplink: Uplink
    reporter: Reporter
    journal: Journal
    intake: Intake
    workers: Workers
    updates: UpdateRunner
    urls: BlobUrls
    trust: Trust
    service: Service = field(default_factory=Service)
    _link_noted: tuple[bool, str] | None = None
    _sample_at_s: float = 0.0
    _changes_seen: int = 0
    _state_seen: UpdateState | None = None
    _stopping: bool = False

    # -- the loop

    def run(self) -> None:
        self.start()
        self.service.started()
        try:
            while not self._stopping:
                self.step(TICK_S)
                self.service.turned(self.clock.boot_s(), self._describe())
        finally:
            self.service.stopping()
            self.close()

    def stop(self) -> None:
        """End the loop; may be called from a signal handler or another thread."""
        self.inbox.put(Stop())

    def start(self) -> None:
        """Go on where the last start ended."""
        outbox = self.journal.outbox
        if outbox.damaged is not None:
            self.journal.damaged("outbox.reset", outbox.damaged)
        self.journal.event("agent.started", detail={"version": self.facts.agent_version})
        self.updates.resume()

    def step(self, timeout_s: float) -> bool:
        """Handle one message, if one comes within ``timeout_s``, and look at the clock; tell whether
        there was one."""
        message = take(self.inbox, timeout_s)
        if message is not None:
            self._handle(message)
        self._tick(self.clock.boot_s())
        return message is not None

    def close(self) -> None:
        self.updates.close()
        self.trust.abort()
        self.workers.close()
        self.uplink.link.close()
        self.journal.outbox.close()

    def _handle(self, message: Message) -> None:
        match message:
            case Connected() | Disconnected() | MessageReceived():
                self._on_link(message)
            case TrustAnswered():
                self._on_trust(message)
            case Fetch():
                self.uplink.send(Channel.FETCH, message)
            case Downloaded(count, total):
                self.updates.on_progress(count, total)
            case JobDone():
                self.updates.on_job(message)
            case WorkerSaid(worker, said):
                self._on_worker(worker, said)
            case WorkerExited():
                self._on_worker_exit(message)
            case Stop():
                self._stopping = True

    def _tick(self, now_s: float) -> None:
        if now_s >= self._sample_at_s:
            self._sample_at_s = now_s + self.settings.sample_interval_s
            self._sample()
        self.workers.tick(now_s)
        self.updates.tick()
        if self.updates.takes_another:
            self.intake.tick(now_s)
        self._report_changes(now_s)
        self.uplink.tick(now_s)

    def _sample(self) -> None:
        try:
            self.journal.host(read_host(self.paths.root))
        except OSError as exc:
            log.error("the machine cannot be read: %s", exc)

    def _describe(self) -> str:
        """One line of what this agent does."""
        running, record = self.updates.pointers.active, self.updates.record
        serves = "no model yet" if running is None else f"{running.model}:{running.version}"
        update = "" if record is None or record.state.is_final else f", update {record.state.value}"
        return f"{serves}{update}, {'online' if self.uplink.online else 'offline'}"

    # -- link

    def _on_link(self, event: Connected | Disconnected | MessageReceived) -> None:
        match event:
            case Connected():
                self.uplink.on_connected()
                self._note_link("")
                self._report()
            case Disconnected(reason):
                self.uplink.on_disconnected(reason, self.clock.boot_s())
                self._note_link(reason)
            case MessageReceived(channel, payload):
                self._on_message(channel, payload)

    def _note_link(self, reason: str) -> None:
        """For `status` and `doctor`; a change only, since it wears the disk."""
        if (self.uplink.online, reason) != self._link_noted:
            self._link_noted = (self.uplink.online, reason)
            stamp = self.clock.now()
            save_note(self.paths.link, LinkNote(
                online=self.uplink.online, reason=reason, boot_id=stamp.boot_id, boot_ms=stamp.boot_ms,
                wall_ms=stamp.wall_ms,
            ))  # fmt: skip

    def _on_message(self, channel: Channel, payload: bytes) -> None:
        try:
            if channel is Channel.ACK:
                self.uplink.apply_ack(decode(Ack, payload))
            elif channel is Channel.CHUNK:
                self.urls.answer(decode(Chunk, payload))
            elif channel is Channel.DESIRED and payload:
                self.intake.take(payload)
        except MessageError as exc:
            log.warning("a message on %s is dropped: %s", channel.value, exc.message)

    def _report_changes(self, now_s: float) -> None:
        """Report a changed state at once, so that it is there before the outcome; progress in its time."""
        record = self.updates.record
        state = None if record is None else record.state
        if self.updates.changed != self._changes_seen:
            self._changes_seen = self.updates.changed
            self.reporter.soon(now_s, at_once=state is not self._state_seen)
            self._state_seen = state
        if self.uplink.online and self.reporter.is_due(now_s):
            self._report()

    def _report(self) -> None:
        record, pointers = self.updates.record, self.updates.pointers
        document = Reported(
            session=self.uplink.link.session,
            facts=self.facts,
            active=pointers.active,
            previous=pointers.previous,
            update=self.updates.progress,
            accepted=Order() if record is None else record.accepted,
        )
        self.reporter.publish(document, self.clock.boot_s())

    # -- desired state

    def verify(self, envelope: bytes) -> None:
        """Ask the trust child; its answer comes on the queue."""
        request = VerifyDesired(
            trust_dir=str(self.paths.trust),
            device=self.identity.device,
            metadata_url=self.identity.metadata_url,
            targets_url=self.identity.targets_url,
            envelope=envelope,
            wall_ms=self.clock.now().wall_ms,
        )
        self.trust.start(request, lambda answer: self.inbox.put(TrustAnswered(envelope, answer)))

    def _on_trust(self, answered: TrustAnswered) -> None:
        verified = self.intake.judge(answered.envelope, answered.answer, self.clock.boot_s())
        if verified is None:
            return
        plan = self._plan(verified)
        match plan:
            case Nothing(reason):
                log.info("%s", reason)
            case Accept(order):
                self.updates.accept_order(order)
            case Start(record):
                self._begin(record, answered.envelope)

    def _plan(self, verified: DesiredVerified) -> Nothing | Start | Accept:
        plan = plan_update(
            verified,
            self.updates.record,
            self.updates.pointers,
            self.facts.runtimes,
            self.clock.boot_id,
            int(self.clock.boot_s() * 1000),
        )
        if isinstance(plan, Start) and self.journal.has_outcome(plan.record.entry.assignment):
            return Nothing("the assignment ended before, and its outcome was stored")
        return plan

    def _begin(self, record: UpdateRecord, envelope: bytes) -> None:
        entry = record.entry
        message = f"a newer assignment took its place: {entry.model}:{entry.version}"
        superseded = Failure(code="update.superseded", message=message)
        self.updates.feed(UpdateEvent.SUPERSEDED, failure=superseded)
        if not self.updates.takes_another:
            # The switch began while the child was at work, or the outcome could not be stored yet.
            self.intake.put_back(envelope)
            return
        self.updates.accept(record)
        if not record.target.runtime:
            contract = parse_manifest(record.manifest).contract
            self.updates.feed(UpdateEvent.FAILED, failure=explain_no_runtime(contract, self.facts.runtimes))

    # -- worker

    def _on_worker(self, worker: Worker, said: object) -> None:
        self.workers.hear(worker)
        is_active, assignment = worker is self.workers.active, worker.spec.assignment
        match said:
            case Ready() if worker is self.workers.candidate:
                self.updates.feed(UpdateEvent.SELF_TEST_PASSED, evidence=_evidence(said))
            case Ready() if is_active:
                worker.serve()
            case Serving() if is_active:
                self.updates.on_serving(assignment)
            case Failed(failure=failure) if worker is self.workers.candidate:
                self.updates.on_worker_lost(assignment, failure)
            case Failed(failure=failure) if is_active:
                self.journal.event("worker.failed", failure=failure, assignment=assignment)
                self.updates.on_worker_lost(assignment, failure)
            case SourceFailed(failure=failure):
                self.journal.event("source.failed", failure=failure, assignment=assignment)
            case Stats():
                self._on_stats(worker, said)
            case _:
                log.debug("worker %s says %s", worker.pid, said)

    def _on_stats(self, worker: Worker, stats: Stats) -> None:
        pointers, is_active = self.updates.pointers, worker is self.workers.active
        for running in (pointers.active, pointers.previous):
            if running is not None and running.assignment == worker.spec.assignment:
                if stats.requests or is_active:
                    self.journal.model(running, stats)
                break
        if is_active:
            self.updates.on_stats(worker.spec.assignment, stats)

    def _on_worker_exit(self, exited: WorkerExited) -> None:
        worker = exited.worker
        mattered = worker in (self.workers.active, self.workers.candidate)
        self.workers.forget(worker)
        if not mattered:
            return
        failure = Failure(
            code="worker.exited",
            message=f"the inference worker ended: {exited.evidence}",
            hint="its log is in the agent's log",
        )
        log.error("%s", failure.message)
        self.journal.event("worker.exited", failure=failure, assignment=worker.spec.assignment)
        self.updates.on_worker_lost(worker.spec.assignment, failure)


def _evidence(ready: Ready) -> Evidence:
    return {
        "runtime_version": ready.runtime_version,
        "load_ms": round(ready.load_ms, 3),
        "self_test_samples": ready.self_test.samples,
        "self_test_max_difference": ready.self_test.max_difference,
        "self_test_tolerance": ready.self_test.tolerance,
    }
