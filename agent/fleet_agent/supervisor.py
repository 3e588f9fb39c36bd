"""The one loop of the agent. It owns all state; whatever happens elsewhere only puts something on
its queue.
"""

import logging
import queue
import time
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fleet_agent.benchmark.device import ROW_EVENT, RowMeasured
from fleet_agent.inbox import take
from fleet_agent.intake import Intake
from fleet_agent.journal import Journal
from fleet_agent.link.events import Connected, Disconnected, LinkEvent, MessageReceived, ReleasesNews
from fleet_agent.link.note import LinkNote, save_note
from fleet_agent.orders import load_order
from fleet_agent.paths import StatePaths
from fleet_agent.ports import Clock, Worker
from fleet_agent.renewer import Renewed
from fleet_agent.reporter import Reporter
from fleet_agent.service import Service
from fleet_agent.settings import Settings
from fleet_agent.telemetry.host import read_host
from fleet_agent.transfer.questions import Questions
from fleet_agent.trust.protocol import DesiredVerified, TrustAnswer
from fleet_agent.trusting import RefreshAnswered, TrustAnswered, Trusting
from fleet_agent.update.inspection import SlotInspected
from fleet_agent.update.jobs import JobDone
from fleet_agent.update.machine import UpdateEvent
from fleet_agent.update.plan import Accept, Nothing, Start, explain_no_runtime, plan_update
from fleet_agent.update.record import Evidence, UpdateRecord
from fleet_agent.update.runner import UpdateRunner
from fleet_agent.uplink import Uplink
from fleet_agent.worker.protocol import Failed, Ready, Serving, SourceFailed, Stats
from fleet_agent.worker_process import WorkerExited, WorkerSaid
from fleet_agent.workers import Lost, Workers
from fleet_shared.errors import MessageError
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.fetch import Fetch, decode_chunk
from fleet_shared.messages.reported import Facts, Failure, Order, Reported, Running
from fleet_shared.messages.telemetry import Ack, Detail
from fleet_shared.messages.update import UpdateState
from fleet_shared.topics import Channel
from fleet_shared.wire import decode

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
LAST_WORDS_S: Final = 3.0
"""At its end the agent waits so long for the workers to say what they measured."""


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
    | ReleasesNews
    | TrustAnswered
    | RefreshAnswered
    | Renewed
    | Downloaded
    | Fetch
    | JobDone
    | RowMeasured
    | SlotInspected
    | WorkerSaid
    | WorkerExited
    | Stop
)


@dataclass
class Supervisor:
    """Wired in `bootstrap`. `run` returns after `stop`."""

    settings: Settings
    paths: StatePaths
    facts: Facts
    clock: Clock
    inbox: "queue.SimpleQueue[Message]"
    uplink: Uplink
    reporter: Reporter
    journal: Journal
    intake: Intake
    workers: Workers
    updates: UpdateRunner
    questions: Questions
    trusting: Trusting
    service: Service = field(default_factory=Service)
    _link_noted: LinkNote | None = None
    _sample_at_s: float = 0.0
    _changes_seen: int = 0
    _workers_seen: int = 0
    _trust_seen: int = 0
    _state_seen: UpdateState | None = None
    _trouble_seen: tuple[Failure, ...] = ()
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
        self.journal.tick(self.clock.boot_s())
        self.journal.event("agent.started", detail={"version": self.facts.agent_version})
        self._note_link(
            "no answer yet since the agent started"
        )  # an earlier agent may have left another word
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
        self.trusting.trust.abort()
        self._hear_last_words()
        self.workers.close()
        self.uplink.link.close()
        self.journal.outbox.close()

    def _hear_last_words(self) -> None:
        """Take up what the workers measured since they spoke last; whoever hangs is not waited for."""
        deadline_s = time.monotonic() + LAST_WORDS_S
        waits = self.workers.finish()
        while waits and (left_s := deadline_s - time.monotonic()) > 0:
            if (message := take(self.inbox, left_s)) is None:
                return
            if isinstance(message, WorkerSaid) and isinstance(message.message, Stats):
                self._store_stats(message.worker, message.message)
            elif isinstance(message, WorkerExited):
                waits = self.workers.leave(message.worker)

    def _handle(self, message: Message) -> None:
        match message:
            case Connected() | Disconnected() | MessageReceived() | ReleasesNews():
                self._on_link(message)
            case TrustAnswered():
                self._on_trust(message)
            case RefreshAnswered():
                self.trusting.take_refreshed(message.answer)
            case Renewed():
                self._on_renewed(message.answer)
            case Fetch():
                self.uplink.send(Channel.FETCH, message)
            case Downloaded() | JobDone() | RowMeasured() | SlotInspected():
                self._on_update(message)
            case WorkerSaid(worker, said):
                self._on_worker(worker, said)
            case WorkerExited():
                self._on_worker_exit(message)
            case Stop():
                self._stopping = True

    def _on_update(self, message: Downloaded | JobDone | RowMeasured | SlotInspected) -> None:
        match message:
            case Downloaded(count, total):
                self.updates.on_progress(count, total)
            case JobDone():
                self.updates.on_job(message)
            case RowMeasured(assignment, detail, failure):
                self.journal.event(ROW_EVENT, failure=failure, assignment=assignment, detail=detail)
            case SlotInspected():
                self.updates.on_inspected(message)

    def _tick(self, now_s: float) -> None:
        if now_s >= self._sample_at_s:
            self._sample_at_s = now_s + self.settings.sample_interval_s
            self._sample()
        self.journal.tick(now_s)
        self.workers.tick(now_s)
        self.updates.tick()
        stamp = self.clock.now()
        self.intake.note_clock(stamp.boot_ms, stamp.wall_ms)
        if self.updates.takes_another:
            self.intake.tick(now_s)
        self.trusting.tick(now_s, online=self.uplink.online)
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

    def _on_link(self, event: LinkEvent) -> None:
        match event:
            case Connected():
                self.uplink.on_connected()
                self.questions.connected()
                self._note_link("")
                self._report()
            case Disconnected(reason, untrusted):
                self.uplink.on_disconnected(reason, self.clock.boot_s())
                self._note_link(reason)
                if untrusted:
                    self.trusting.freshness.doubt(self.clock.boot_s())
            case ReleasesNews(payload):
                self.trusting.freshness.take(payload, self.clock.boot_s())
            case MessageReceived(channel, payload):
                self._on_message(channel, payload)

    def _note_link(self, reason: str) -> None:
        """For `status` and `doctor`; a change only, since it wears the disk. Another reason is no other
        moment: the broker is away since it went."""
        online, noted = self.uplink.online, self._link_noted
        if noted is not None and (noted.online, noted.reason) == (online, reason):
            return
        if noted is None or noted.online != online:
            stamp = self.clock.now()
            self._link_noted = LinkNote(
                online=online, reason=reason, boot_id=stamp.boot_id, boot_ms=stamp.boot_ms,
                wall_ms=stamp.wall_ms,
            )  # fmt: skip
        else:
            self._link_noted = msgspec.structs.replace(noted, reason=reason)
        save_note(self.paths.link, self._link_noted)

    def _on_message(self, channel: Channel, payload: bytes) -> None:
        try:
            if channel is Channel.ACK:
                self.uplink.apply_ack(decode(Ack, payload))
            elif channel is Channel.CHUNK:
                self.questions.answer(*decode_chunk(payload))
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
        if self.workers.changed != self._workers_seen:
            self._workers_seen = self.workers.changed
            self.reporter.soon(now_s)
        if self.trusting.changed != self._trust_seen:
            self._trust_seen = self.trusting.changed
            self.reporter.soon(now_s)
        if self._trouble != self._trouble_seen:
            self._trouble_seen = self._trouble
            self.reporter.soon(now_s)
        if self.uplink.online and self.reporter.is_due(now_s):
            self._report()

    @property
    def _trouble(self) -> tuple[Failure, ...]:
        found = (
            self.journal.trouble,
            self.intake.trouble,
            self.updates.trouble,
            *self.trusting.troubles(verifies=self.intake.trouble is not None),
        )
        return tuple(one for one in found if one is not None)

    def _report(self) -> None:
        record, pointers = self.updates.record, self.updates.pointers
        document = Reported(
            session=self.uplink.link.session,
            facts=self.facts,
            active=pointers.active,
            previous=pointers.previous,
            update=self.updates.progress,
            accepted=max(Order() if record is None else record.accepted, load_order(self.paths.order)),
            worker=self.workers.report,
            trouble=self._trouble,
            trust=self.trusting.believed.report,
        )
        self.reporter.publish(document, self.clock.boot_s())

    # -- desired state

    def _on_renewed(self, answer: TrustAnswer) -> None:
        if self.trusting.take_renewed(answer):
            ends_ms = self.trusting.believed.report.certificate_expires_ms or 0
            self.journal.event("certificate.renewed", detail={"ends_ms": ends_ms})
            self.uplink.reconnect(self.clock.boot_s())

    def _on_trust(self, answered: TrustAnswered) -> None:
        self.trusting.note_verified(answered)
        verified = self.intake.judge(answered.envelope, answered.answer, self.clock.boot_s())
        if verified is None:
            return
        plan = self._plan(verified)
        match plan:
            case Nothing(reason):
                log.info("%s", reason)
            case Accept(order, policy):
                self.updates.accept_order(order, policy)
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
        hint = "nothing is to be done: the newer one decides what runs"
        superseded = Failure(code="update.superseded", message=message, hint=hint)
        self.updates.feed(UpdateEvent.SUPERSEDED, failure=superseded)
        if not self.updates.takes_another:
            # The switch began while the child was at work, or the outcome could not be stored yet.
            self.intake.put_back(envelope)
            return
        refused = None
        if not record.target.runtime:
            contract = parse_manifest(record.manifest).contract
            refused = explain_no_runtime(contract, self.facts.runtimes)
        self.updates.accept(record, refused)

    # -- worker

    def _on_worker(self, worker: Worker, said: object) -> None:
        is_active, assignment = worker is self.workers.active, worker.spec.assignment
        match said:
            case Ready():
                self.workers.on_ready(worker)
                if worker is self.workers.candidate:
                    self.updates.feed(UpdateEvent.SELF_TEST_PASSED, evidence=_evidence(said))
                elif is_active:
                    self.workers.serve(worker)
            case Serving():
                self.workers.on_serving(worker)
                if is_active:
                    self.updates.on_serving(assignment)
            case Failed(failure=failure) if worker is self.workers.candidate:
                self.updates.on_worker_lost(assignment, failure)
            case Failed(failure=failure) if is_active:
                self.workers.on_failed(worker, failure)  # its end follows, and is judged
                self.journal.event("worker.failed", failure=failure, assignment=assignment)
            case SourceFailed(failure=failure):
                self.journal.event("source.failed", failure=failure, assignment=assignment)
            case Stats():
                self._on_stats(worker, said)
            case _:
                log.debug("worker %s says %s", worker.pid, said)

    def _on_stats(self, worker: Worker, stats: Stats) -> None:
        self._store_stats(worker, stats)
        if worker is self.workers.active:
            self.updates.on_stats(worker.spec.assignment, stats)

    def _store_stats(self, worker: Worker, stats: Stats) -> None:
        """Whoever answered is counted, also when it was taken back or leaves."""
        running = self.workers.find_running(worker)
        if running is not None and (stats.requests or worker is self.workers.active):
            self.journal.model(running, stats)

    def _on_worker_exit(self, exited: WorkerExited) -> None:
        worker, end = exited.worker, exited.end
        running, assignment = self.workers.find_running(worker), worker.spec.assignment
        lost = self.workers.forget(worker, end.failure)
        if lost is None or running is None:
            return
        log.error("%s", end.failure.message)
        detail: Detail = {
            "model": running.model,
            "version": running.version,
            "served_s": round(lost.served_s, 1),
            "restarts": lost.restarts,
            **end.detail,
        }
        self.journal.event("worker.exited", failure=end.failure, assignment=assignment, detail=detail)
        failure = lost.failure or end.failure
        evidence: Evidence = {f"worker_{name}": value for name, value in end.detail.items()}
        self.updates.on_worker_lost(assignment, failure, evidence)
        if lost.gives_up and running == self.updates.pointers.active:
            self._tell_given_up(running, failure, lost)

    def _tell_given_up(self, running: Running, failure: Failure, lost: Lost) -> None:
        given_up = Failure(
            code="worker.given_up",
            message=f"the worker of {running.model}:{running.version} ended {lost.restarts} times in a row, "
            f"and is tried again every {self.settings.worker_slow_restart_s:g} s. {failure.message}",
            hint="push another version, or the one before; see the events before this one",
        )
        detail: Detail = {"restarts": lost.restarts, "last_code": failure.code}
        self.journal.event("worker.given_up", failure=given_up, assignment=running.assignment, detail=detail)


def _evidence(ready: Ready) -> Evidence:
    return {
        "runtime_version": ready.runtime_version,
        "load_ms": round(ready.load_ms, 3),
        "self_test_samples": ready.self_test.samples,
        "self_test_max_difference": ready.self_test.max_difference,
        "self_test_tolerance": ready.self_test.tolerance,
    }
