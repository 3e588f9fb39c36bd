"""The one loop of the agent. It owns all state; whatever happens elsewhere only puts something on
its queue.
"""

import logging
import queue
import threading
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fleet_agent.errors import AgentError, SlotError
from fleet_agent.identity import Identity
from fleet_agent.link.backoff import Backoff
from fleet_agent.link.connection import ANSWER_TIMEOUT_S, Connection
from fleet_agent.link.events import Connected, Disconnected, MessageReceived
from fleet_agent.link.outbox import Outbox
from fleet_agent.link.sender import Sender
from fleet_agent.paths import StatePaths
from fleet_agent.rows import Detail, event_row, host_row, model_row, outcome_row
from fleet_agent.settings import Settings
from fleet_agent.slots import Pointers, Slots
from fleet_agent.telemetry.clock import DeviceClock
from fleet_agent.telemetry.host import read_host
from fleet_agent.transfer.urls import BlobUrls
from fleet_agent.trust.protocol import DesiredVerified, Refused, TrustAnswer, VerifyDesired
from fleet_agent.trust_process import TrustProcess
from fleet_agent.update.machine import UpdateEvent
from fleet_agent.update.plan import Accept, Nothing, Start, explain_no_runtime, plan_update, supersede
from fleet_agent.update.record import UpdateRecord
from fleet_agent.update.runner import JobDone, UpdateRunner
from fleet_agent.worker.protocol import Failed, Ready, Stats
from fleet_agent.worker_process import WorkerExited, WorkerProcess, WorkerSaid
from fleet_agent.workers import Workers
from fleet_shared.errors import MessageError
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.messages.reported import Facts, Failure, Order, Reported
from fleet_shared.messages.telemetry import Ack, AnyRow, Sample
from fleet_shared.names import digest_of
from fleet_shared.topics import Channel
from fleet_shared.wire import decode, encode

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
REPORT_EVERY_S: Final = 0.5
"""Progress is reported at most this often; a changed state at once."""


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
    clock: DeviceClock
    inbox: "queue.SimpleQueue[Message]"
    connection: Connection
    outbox: Outbox
    sender: Sender
    slots: Slots
    workers: Workers
    updates: UpdateRunner
    urls: BlobUrls
    trust: TrustProcess
    reconnect: Backoff
    verify_again: Backoff
    reported: Reported | None = None
    _online: bool = False
    _away: bool = False
    _reconnect_at_s: float | None = 0.0
    _give_up_at_s: float | None = None
    _sample_at_s: float = 0.0
    _report_at_s: float | None = None
    _verifying: bytes | None = None
    _next_envelope: bytes | None = None
    _verify_at_s: float | None = None
    _refused: set[str] = field(default_factory=set)
    _stopping: bool = False

    # -- the loop

    def run(self) -> None:
        self._start()
        try:
            while not self._stopping:
                self._step()
        finally:
            self._close()

    def stop(self) -> None:
        """End the loop; may be called from a signal handler or another thread."""
        self.inbox.put(Stop())

    def _step(self) -> None:
        try:
            message: Message | None = self.inbox.get(timeout=TICK_S)
        except queue.Empty:
            message = None
        if message is not None:
            self._handle(message)
        self._tick(self.clock.boot_s())

    def _start(self) -> None:
        if self.outbox.damaged is not None:
            self._event("outbox.reset", detail={"kept_as": str(self.outbox.damaged)})
        self._event("agent.started", detail={"version": self.facts.agent_version})
        self.workers.keep(self._load_pointers().active)
        try:
            self.updates.resume()
        except ValueError as exc:
            aside = self.updates.file.set_aside()
            log.warning("the update record is damaged: %s", exc)
            self._event("record.damaged", detail={"kept_as": str(aside)})

    def _close(self) -> None:
        self.updates.close()
        self.trust.abort()
        self.workers.close()
        self.connection.close()
        self.outbox.close()

    def _handle(self, message: Message) -> None:
        match message:
            case Connected() | Disconnected() | MessageReceived():
                self._on_link(message)
            case TrustAnswered(envelope, answer):
                self._on_trust(envelope, answer)
            case Fetch():
                self.connection.publish(Channel.FETCH, encode(message))
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
        if self._reconnect_at_s is not None and now_s >= self._reconnect_at_s:
            self._reconnect_at_s = None
            self._give_up_at_s = now_s + ANSWER_TIMEOUT_S
            self.connection.connect()
        if self._give_up_at_s is not None and now_s >= self._give_up_at_s:
            self._give_up_at_s = None
            self.connection.give_up()
        if now_s >= self._sample_at_s:
            self._sample_at_s = now_s + self.settings.sample_interval_s
            self._store(host_row(self.clock.now(), read_host(self.paths.root)))
        if self._verify_at_s is not None and now_s >= self._verify_at_s:
            self._verify_at_s = None
            self._verify()
        self.workers.tick(now_s)
        self.updates.tick()
        self._take_up_next()
        if self._report_at_s is not None and now_s >= self._report_at_s:
            self._report()
        self._send(now_s)

    # -- link

    def _on_link(self, event: Connected | Disconnected | MessageReceived) -> None:
        match event:
            case Connected():
                self._on_connected()
            case Disconnected(reason):
                self._on_disconnected(reason)
            case MessageReceived(channel, payload):
                self._on_message(channel, payload)

    def _on_connected(self) -> None:
        log.info("connected to the broker")
        self._online, self._away = True, False
        self._give_up_at_s = None
        self.reconnect.reset()
        self.sender.reset()
        self._report()

    def _on_disconnected(self, reason: str) -> None:
        delay_s = self.reconnect.next_delay_s()
        if not self._away:
            log.warning("the broker is away, and is tried again: %s", reason)
        self._online, self._away = False, True
        self._give_up_at_s = None
        self._reconnect_at_s = self.clock.boot_s() + delay_s

    def _on_message(self, channel: Channel, payload: bytes) -> None:
        try:
            if channel is Channel.ACK:
                self.sender.apply_ack(decode(Ack, payload))
            elif channel is Channel.CHUNK:
                self.urls.answer(decode(Chunk, payload))
            elif channel is Channel.DESIRED and payload:
                self._next_envelope = payload
                self._take_up_next()
        except MessageError as exc:
            log.warning("a message on %s is dropped: %s", channel.value, exc.message)
        except AgentError as exc:
            log.error("%s (%s)", exc.message, exc.code)

    def _send(self, now_s: float) -> None:
        if self._online and (batch := self.sender.load_next(now_s)) is not None:
            self.connection.publish(Channel.TELEMETRY, encode(batch))

    # -- desired state

    def _take_up_next(self) -> None:
        """Verify the newest envelope, one at a time; once a switch began it waits for its end."""
        if self._next_envelope is None or self._verifying is not None:
            return
        if self.updates.is_switching:
            return
        self._verifying, self._next_envelope = self._next_envelope, None
        self._verify()

    def _verify(self) -> None:
        envelope = self._verifying
        if envelope is None:
            return
        request = VerifyDesired(
            trust_dir=str(self.paths.trust),
            device=self.identity.device,
            metadata_url=self.identity.metadata_url,
            targets_url=self.identity.targets_url,
            envelope=envelope,
            wall_ms=self.clock.now().wall_ms,
        )

        def ask() -> None:
            self.inbox.put(TrustAnswered(envelope, self.trust.ask(request)))

        threading.Thread(target=ask, name="trust", daemon=True).start()

    def _on_trust(self, envelope: bytes, answer: TrustAnswer) -> None:
        if isinstance(answer, Refused) and answer.retry:
            log.warning("verification is tried again: %s", answer.message)
            self._verify_at_s = self.clock.boot_s() + self.verify_again.next_delay_s()
            if self._next_envelope is not None:
                self._verifying = None  # a newer one is there: that one is tried
            return
        self._verifying = None
        self.verify_again.reset()
        if isinstance(answer, Refused):
            self._on_refused(envelope, answer)
        elif isinstance(answer, DesiredVerified):
            self._on_verified(answer)

    def _on_refused(self, envelope: bytes, refused: Refused) -> None:
        """Report a refusal once for each distinct document: the broker repeats retained ones."""
        digest = digest_of(envelope)
        log.error("desired state refused: %s (%s)", refused.message, refused.code)
        if digest not in self._refused and len(self._refused) < 1000:
            self._refused.add(digest)
            failure = Failure(code=refused.code, message=refused.message, hint=refused.hint)
            self._event("desired.refused", failure=failure, detail={"envelope_sha256": digest})

    def _on_verified(self, verified: DesiredVerified) -> None:
        current = self.updates.record
        plan = plan_update(
            verified,
            current,
            self._load_pointers(),
            self.facts.runtimes,
            self.clock.boot_id,
            int(self.clock.boot_s() * 1000),
        )
        match plan:
            case Nothing(reason):
                log.info("%s", reason)
            case Accept(order):
                if current is not None:
                    self.updates.record = supersede(current, order)
                    self.updates.file.save(self.updates.record)
                    self._report()
            case Start(record):
                self._begin(record)

    def _begin(self, record: UpdateRecord) -> None:
        self.updates.feed(
            UpdateEvent.SUPERSEDED,
            failure=Failure(
                code="update.superseded",
                message=f"a newer assignment took its place: {record.entry.model}:{record.entry.version}",
            ),
        )
        self.updates.accept(record)
        if not record.target.runtime:
            contract = parse_manifest(record.manifest).contract
            self.updates.feed(UpdateEvent.FAILED, failure=explain_no_runtime(contract, self.facts.runtimes))

    # -- worker

    def _on_worker(self, worker: WorkerProcess, said: object) -> None:
        match said:
            case Ready() if worker is self.workers.candidate:
                self.updates.feed(UpdateEvent.SELF_TEST_PASSED, evidence=_evidence(said))
            case Ready() if worker is self.workers.active:
                worker.serve()
            case Failed(failure=failure) if worker is self.workers.candidate:
                self.updates.feed(UpdateEvent.FAILED, failure=failure)
            case Failed(failure=failure):
                self._event("worker.failed", failure=failure)
            case Stats():
                self._on_stats(worker, said)
            case _:
                log.debug("worker %s says %s", worker.pid, said)

    def _on_stats(self, worker: WorkerProcess, stats: Stats) -> None:
        pointers = self._load_pointers()
        installed = (pointers.active, pointers.previous)
        running = next((r for r in installed if r and r.manifest == worker.spec.manifest), None)
        if running is not None and (stats.requests or worker is self.workers.active):
            self._store(model_row(self.clock.now(), running, stats))
        if worker is self.workers.active and stats.errors and stats.errors == stats.requests:
            self.updates.feed(UpdateEvent.FAILED, failure=_only_errors(stats))

    def _on_worker_exit(self, exited: WorkerExited) -> None:
        worker = exited.worker
        was_active, was_candidate = worker is self.workers.active, worker is self.workers.candidate
        self.workers.forget(worker, self.clock.boot_s())
        if not (was_active or was_candidate):
            return
        failure = Failure(
            code="worker.exited",
            message=f"the inference worker ended: {exited.evidence}",
            hint="its log is in the agent's log",
        )
        log.error("%s", failure.message)
        self._event("worker.exited", failure=failure, assignment=worker.spec.assignment)
        if was_candidate or self.updates.assignment() == worker.spec.assignment:
            self.updates.feed(UpdateEvent.FAILED, failure=failure)

    # -- telemetry and reports

    def report_soon(self) -> None:
        """Report the changed state: within `REPORT_EVERY_S`, so that progress is no flood."""
        if self._report_at_s is None:
            self._report_at_s = self.clock.boot_s() + REPORT_EVERY_S

    def store_outcome(self, record: UpdateRecord) -> None:
        """Store the outcome of an assignment, once. Raises `OutboxError`."""
        row = outcome_row(self.clock.now(), record)
        self.outbox.append_once(f"outcome:{record.entry.assignment}", row)
        self._report()

    def _report(self) -> None:
        self._report_at_s = None
        pointers = self._load_pointers()
        record = self.updates.record
        document = Reported(
            session=self.connection.session,
            facts=self.facts,
            active=pointers.active,
            previous=pointers.previous,
            update=self.updates.progress,
            accepted=Order() if record is None else record.accepted,
        )
        if document == self.reported or not self._online:
            return
        if self.connection.publish(Channel.REPORTED, encode(document), retain=True):
            self.reported = document

    def _event(
        self,
        name: str,
        *,
        failure: Failure | None = None,
        assignment: str | None = None,
        detail: Detail | None = None,
    ) -> None:
        row = event_row(self.clock.now(), name, failure=failure, detail=detail)
        self._store(row if assignment is None else msgspec.structs.replace(row, assignment=assignment))

    def _store(self, row: AnyRow) -> None:
        """Store a row; a full disk costs the row, which is said, not the agent."""
        try:
            self.outbox.append(row)
        except AgentError as exc:
            kind = "sample" if isinstance(row, Sample) else "event"
            log.error("a telemetry %s is lost: %s (%s)", kind, exc.message, exc.code)

    def _load_pointers(self) -> Pointers:
        try:
            return self.slots.load_pointers()
        except SlotError as exc:
            aside = self.slots.set_pointers_aside()
            log.error("%s; set aside as %s", exc.message, aside)
            self._event("pointers.damaged", detail={"kept_as": str(aside)})
            return Pointers()


def _evidence(ready: Ready) -> dict[str, str | int | float | bool | None]:
    return {
        "runtime_version": ready.runtime_version,
        "load_ms": round(ready.load_ms, 3),
        "self_test_samples": ready.self_test.samples,
        "self_test_max_difference": ready.self_test.max_difference,
        "self_test_tolerance": ready.self_test.tolerance,
    }


def _only_errors(stats: Stats) -> Failure:
    return Failure(
        code="soak.errors",
        message=f"all {stats.requests} inferences in {stats.window_ms / 1000:g} s failed",
        hint="does the source give what the model expects?",
    )
