"""Carry an update out: save the record, run the effect of its state, feed the event back.

All methods belong to the supervisor's thread. The slow effects run in `jobs` and come back as
`JobDone` through the supervisor's queue. What the disk refuses is tried again in `tick`: the record,
the pointers of a return, the outcome.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from fleet_agent.errors import AgentError, SlotError
from fleet_agent.leash import Terms
from fleet_agent.link.backoff import Backoff
from fleet_agent.ports import Clock
from fleet_agent.slots import Pointers, Slots
from fleet_agent.update.jobs import JobDone, Jobs, SlowJobs
from fleet_agent.update.latency import Measured
from fleet_agent.update.machine import TOUCHED, UNTOUCHED, UpdateEvent, next_state
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.update.resume import rebuild_pointers, resume_record
from fleet_agent.update.soak import Soak
from fleet_agent.worker.protocol import Stats
from fleet_agent.workers import Workers
from fleet_shared.messages.reported import Failure, Order, Progress, Running
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import AssignmentId

log = logging.getLogger(__name__)


class Witness(Protocol):
    """Who writes down what happens: `journal`."""

    def store_outcome(self, record: UpdateRecord) -> None:
        """Store the one outcome of an assignment durably; safe to call twice. Raises `OutboxError`."""

    def has_outcome(self, assignment: AssignmentId) -> bool:
        """Whether the outcome was stored, now or by an earlier start of the agent."""

    def damaged(self, name: str, kept_as: Path | None) -> None:
        """A file did not parse and was set aside."""


@dataclass
class UpdateRunner:
    """``changed`` counts up whenever there is something new to report."""

    file: RecordFile
    slots: Slots
    workers: Workers
    jobs: Jobs
    slow: SlowJobs
    clock: Clock
    witness: Witness
    retry: Backoff
    record: UpdateRecord | None = None
    pointers: Pointers = field(default_factory=Pointers)
    bytes_done: int = 0
    bytes_total: int = 0
    changed: int = 0
    _soak: Soak | None = None
    _measured: Measured = field(default_factory=Measured)
    _unsaved: bool = False
    _retry_at_s: float | None = None

    # -- what the supervisor asks

    @property
    def takes_another(self) -> bool:
        """Whether a newer assignment may take the place of this one: neither half switched, nor
        ended with an outcome that is still to be stored."""
        record = self.record
        return record is None or record.state in UNTOUCHED or record.is_settled

    @property
    def progress(self) -> Progress | None:
        if self.record is None:
            return None
        return Progress(
            assignment=self.record.entry.assignment,
            state=self.record.state,
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total,
            failure=self.record.failure,
        )

    # -- what the supervisor tells

    def resume(self) -> None:
        """Go on where a crash or power cut left the record, with the worker that belongs to it."""
        record = self._load_record()
        self.pointers = self._load_pointers(record)
        if record is None or record.state.is_final:
            self.record = record
            self.workers.keep(self.pointers.active, _terms(record, self.pointers.active))
            self._report_outcome()
            return
        record = self.record = resume_record(
            record,
            switched=self.pointers.active == record.target,
            outcome_stored=self.witness.has_outcome(record.entry.assignment),
            boot_id=self.clock.boot_id,
            now_ms=self._now_ms(),
        )
        log.info("resuming the update to %s at %s", record.entry.version, record.state.value)
        if record.state not in TOUCHED:
            self.workers.keep(self.pointers.active, _terms(record, self.pointers.active))
        self._enter(record)

    def accept(self, record: UpdateRecord) -> None:
        """Start an update; `takes_another` must hold, and nothing be under way."""
        self.bytes_done = self.bytes_total = 0
        bound = _terms(self.record, record.before).memory_bytes_max
        self._enter(msgspec.structs.replace(record, before_memory_bytes_max=bound))

    def accept_order(self, order: Order) -> None:
        """Take up a newer order of the same assignment."""
        if self.record is not None:
            self.record = msgspec.structs.replace(self.record, accepted=order)
            self._save(self.record)
            self.changed += 1

    def feed(
        self, event: UpdateEvent, *, evidence: Evidence | None = None, failure: Failure | None = None
    ) -> None:
        """Move on by one event; an event that the table does not name changes nothing."""
        record = self.record
        if record is None or record.state.is_final:
            return
        state = next_state(record.state, event)
        if state is record.state:
            return
        log.info("update to %s:%s is %s", record.entry.model, record.entry.version, state.value)
        self._enter(record.at(state, failure=failure, evidence=evidence))

    def on_job(self, done: JobDone) -> None:
        if self.slow.end(done):
            self.feed(done.event, evidence=done.evidence, failure=done.failure)
        elif self.record is not None and self.record.state.is_final:
            self._prune()  # one that was given up may have left a slot behind

    def on_progress(self, count: int, total: int | None) -> None:
        """``count`` bytes came in; a ``total`` starts the count anew."""
        if total is not None:
            self.bytes_done, self.bytes_total = 0, total
        self.bytes_done += count
        self.changed += 1

    def on_serving(self, assignment: AssignmentId) -> None:
        """The worker of ``assignment`` accepts requests: its trial time counts from here."""
        if self._soak is not None and self._is_soaking(assignment):
            self._soak.begin(self.clock.boot_s())

    def on_stats(self, assignment: AssignmentId, stats: Stats) -> None:
        """What the serving worker, that of ``assignment``, measured."""
        self._measured.add(assignment, stats)
        if self._soak is None or not self._is_soaking(assignment):
            return
        if (failure := self._soak.judge(stats)) is not None:
            self.feed(UpdateEvent.FAILED, failure=failure, evidence=self._soak.evidence)

    def on_worker_lost(
        self, assignment: AssignmentId, failure: Failure, evidence: Evidence | None = None
    ) -> None:
        """The worker of ``assignment`` ended or cannot run its model. In its trial it may be restarted as
        often as the policy allows."""
        if self.record is None or self.record.entry.assignment != assignment:
            return
        against, observed = failure, dict(evidence or {})
        if self._soak is not None and self._is_soaking(assignment):
            lost = self._soak.lose(failure)
            if lost is None:
                return
            against, observed = lost, {**self._soak.evidence, **observed}
        self.feed(UpdateEvent.FAILED, failure=against, evidence=observed)

    def tick(self) -> None:
        """Look at the deadline, the end of the soak, and at what the disk refused."""
        now_s = self.clock.boot_s()
        if self._retry_at_s is not None and now_s >= self._retry_at_s:
            self._retry_at_s = None
            self._try_again()
        record = self.record
        if record is None or record.state.is_final:
            return
        late = now_s * 1000 > record.deadline_ms
        if record.state is S.SOAKING and self._soak is not None:
            self._judge_soak(self._soak, record, now_s, late=late)
        elif late:
            self.feed(UpdateEvent.DEADLINE_PASSED, failure=_late(record))

    def close(self) -> None:
        """End the slow effect; the record stays as it is and resumes at the next start."""
        self.slow.abort()

    def _judge_soak(self, soak: Soak, record: UpdateRecord, now_s: float, *, late: bool) -> None:
        if soak.is_over(now_s):
            failure = soak.conclude()
            event = UpdateEvent.SOAKED if failure is None else UpdateEvent.FAILED
            self.feed(event, failure=failure, evidence=soak.evidence)
        elif soak.is_silent(now_s):
            self.feed(UpdateEvent.FAILED, failure=_silent(), evidence=soak.evidence)
        elif late:
            failure = soak.explain_late() or _late(record)
            self.feed(UpdateEvent.DEADLINE_PASSED, failure=failure, evidence=soak.evidence)

    # -- effects

    def _enter(self, record: UpdateRecord) -> None:
        """Save the state, then run its effect."""
        if record.state is S.SELF_TESTING:
            record = self._measure_before(record)  # now, while nothing runs beside it
        record = self.record = record.saved_at(self._now_ms())
        refused = self._save(record)
        if refused is not None and record.state in UNTOUCHED | {S.SWITCHING}:
            # The update ends before it touches anything. From there on it goes through: the pointer
            # on disk tells a later start what is true.
            record = self.record = record.at(S.FAILED, failure=_no_room(refused))
        self.changed += 1
        self._act(record)

    def _act(self, record: UpdateRecord) -> None:
        match record.state:
            case S.DOWNLOADING:
                self.slow.start(lambda aborted: self.jobs.download(record, aborted), UpdateEvent.DOWNLOADED)
            case S.VERIFYING:
                self.slow.start(lambda aborted: self.jobs.verify(record, aborted), UpdateEvent.VERIFIED)
            case S.SELF_TESTING:
                self._try_out(record)
            case S.SWITCHING:
                self._switch(record)
            case S.SOAKING:
                self._soak = Soak(record.policy, record.before_latency)
                self.workers.keep(record.target, _trial(record))
            case S.ROLLING_BACK:
                self._roll_back(record)
            case S.SUCCEEDED | S.FAILED | S.ROLLED_BACK:
                self._finish()
            case S.IDLE | S.UNKNOWN:
                raise ValueError(f"no update is {record.state.value}")

    def _try_out(self, record: UpdateRecord) -> None:
        try:
            self.workers.try_out(record.target, _trial(record))
        except AgentError as exc:
            self.feed(UpdateEvent.FAILED, failure=Failure.of(exc))

    def _measure_before(self, record: UpdateRecord) -> UpdateRecord:
        """Return the record with what the running version of the same model was measured to do. What an
        earlier start of the agent measured is kept where it says more."""
        before, known = record.before, record.before_latency
        if before is None or before.model != record.target.model:
            return record
        measured = self._measured.get(before.assignment)
        if measured is None or (known is not None and known.requests > measured.requests):
            return record
        return msgspec.structs.replace(record, before_latency=measured)

    def _switch(self, record: UpdateRecord) -> None:
        try:
            self._point_to(Pointers(active=record.target, previous=record.before))
        except OSError as exc:
            failure = Failure(code="disk.failed", message=f"the switch could not be written: {exc}")
            self.feed(UpdateEvent.FAILED, failure=failure)
            return
        self.workers.promote(record.target, _trial(record))
        self.feed(UpdateEvent.SWITCHED)

    def _roll_back(self, record: UpdateRecord) -> None:
        """Run the old model at once; the return has happened when the pointer says so as well."""
        self._soak = None
        self.workers.keep(record.before, _terms(record, record.before))
        try:
            self._point_to(Pointers(active=record.before, previous=record.before_previous))
        except OSError as exc:
            log.error("the return could not be written, and is tried again: %s", exc)
            self._try_again_soon()
            return
        self.feed(UpdateEvent.RESTORED)

    def _finish(self) -> None:
        self._soak = None
        self.slow.abort()
        self.workers.dismiss_candidate()
        self.workers.settle()
        self._prune()
        self._report_outcome()

    # -- the disk

    def _load_record(self) -> UpdateRecord | None:
        try:
            return self.file.load()
        except ValueError as exc:
            log.error("the update record is damaged: %s", exc)
            self.witness.damaged("record.damaged", _set_aside(self.file))
            return None

    def _load_pointers(self, record: UpdateRecord | None) -> Pointers:
        try:
            pointers = self.slots.load_pointers()
        except SlotError as exc:
            log.error("%s", exc.message)
            self.witness.damaged("pointers.damaged", _set_aside(self.slots))
        else:
            if record is None or self.slots.has_pointers:
                return pointers
        pointers = rebuild_pointers(record, self.slots.holds)
        try:
            self.slots.save_pointers(pointers)
        except OSError as exc:
            log.error("the rebuilt pointers cannot be written: %s", exc)
        return pointers

    def _point_to(self, pointers: Pointers) -> None:
        self.slots.save_pointers(pointers)
        self.pointers = pointers

    def _save(self, record: UpdateRecord) -> OSError | None:
        """Save the record; return what the disk says against it."""
        try:
            self.file.save(record)
        except OSError as exc:
            log.error("the update record cannot be written: %s", exc)
            self._unsaved = True
            self._try_again_soon()
            return exc
        self._unsaved = False
        return None

    def _prune(self) -> None:
        """Remove what nothing points to, once nobody installs; never on the word of no pointer."""
        named = (self.pointers.active, self.pointers.previous)
        if not self.slow.is_idle or self.pointers.active is None:
            return
        try:
            self.slots.prune(running.manifest for running in named if running is not None)
        except OSError as exc:
            log.error("old models cannot be removed: %s", exc)

    def _report_outcome(self) -> None:
        record = self.record
        if record is None or record.outcome_reported or not record.state.is_final:
            return
        try:
            self.witness.store_outcome(record)
        except AgentError as exc:
            log.error("the outcome is not stored yet, and is tried again: %s", exc)
            self._try_again_soon()
            return
        self.record = msgspec.structs.replace(record, outcome_reported=True)
        self._save(self.record)
        self.changed += 1

    def _try_again_soon(self) -> None:
        if self._retry_at_s is None:
            self._retry_at_s = self.clock.boot_s() + self.retry.next_delay_s()

    def _try_again(self) -> None:
        if self.record is not None and self.record.state is S.ROLLING_BACK:
            self._roll_back(self.record)
        self._report_outcome()
        if self._unsaved and self.record is not None:
            self._save(self.record)
        if self._retry_at_s is None:
            self.retry.reset()

    def _is_soaking(self, assignment: AssignmentId) -> bool:
        record = self.record
        return record is not None and record.state is S.SOAKING and record.entry.assignment == assignment

    def _now_ms(self) -> int:
        return int(self.clock.boot_s() * 1000)


def _trial(record: UpdateRecord) -> Terms:
    policy = record.policy
    return Terms(policy.soak_s, policy.soak_inferences, policy.memory_bytes_max, policy.worker_restarts_max)


def _terms(record: UpdateRecord | None, running: Running | None) -> Terms:
    """Return how a model runs that is on no trial: its own policy bounds its memory still."""
    if record is None or running is None:
        return Terms()
    if running == record.target:
        return Terms(memory_bytes_max=record.policy.memory_bytes_max)
    return Terms(memory_bytes_max=record.before_memory_bytes_max if running == record.before else None)


def _set_aside(file: RecordFile | Slots) -> Path | None:
    """Keep a damaged file for a human; a disk that does not take that keeps it where it is."""
    try:
        return file.set_aside()
    except OSError as exc:
        log.error("a damaged file could not be set aside: %s", exc)
        return None


def _late(record: UpdateRecord) -> Failure:
    return Failure(
        code="update.deadline",
        message=f"the update did not end within {record.policy.deadline_s:g} s; it was {record.state.value}",
        hint="is the link too slow? push again with a longer --deadline",
    )


def _silent() -> Failure:
    return Failure(
        code="soak.silent",
        message="the worker serves, and measured nothing within its trial time",
        hint="it may hang: its log is in the agent's log",
    )


def _no_room(refused: OSError) -> Failure:
    return Failure(
        code="disk.full",
        message=f"the update record cannot be written: {refused.strerror}",
        hint="free space on the device and push again; the running model goes on",
    )
