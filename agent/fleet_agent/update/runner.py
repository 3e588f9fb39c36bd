"""Carry an update out: save the record, run the effect of its state, feed the event back.

All methods belong to the supervisor's thread. The slow effects run in a thread of their own and
come back as `JobDone` through the supervisor's queue.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from fleet_agent.errors import AgentError
from fleet_agent.slots import Pointers, Slots
from fleet_agent.update.machine import TOUCHED, UNTOUCHED, UpdateEvent, is_looping, next_state, resume_state
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.workers import Workers
from fleet_shared.errors import FleetError
from fleet_shared.messages.reported import Failure, Progress
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import AssignmentId

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobDone:
    """A slow effect ended. ``job`` tells a late one from the one that is waited for."""

    job: int
    event: UpdateEvent
    evidence: Evidence = field(default_factory=dict)
    failure: Failure | None = None


class Jobs(Protocol):
    """The slow effects: `update.install`, bound to this device."""

    def download(self, record: UpdateRecord, aborted: threading.Event) -> Evidence: ...

    def verify(self, record: UpdateRecord) -> Evidence: ...


class Clock(Protocol):
    boot_id: str

    def boot_s(self) -> float: ...


@dataclass
class UpdateRunner:
    """``outcome`` stores the one outcome of an assignment durably, and is safe to call twice;
    ``changed`` tells that the progress is another."""

    file: RecordFile
    slots: Slots
    workers: Workers
    jobs: Jobs
    clock: Clock
    post: Callable[[JobDone], None]
    outcome: Callable[[UpdateRecord], None]
    changed: Callable[[], None]
    record: UpdateRecord | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    _job: int = 0
    _aborted: threading.Event = field(default_factory=threading.Event)
    _soak_until_s: float | None = None

    # -- what the supervisor asks

    @property
    def is_switching(self) -> bool:
        """Whether the running model is being changed: a newer assignment waits for the end."""
        return self.record is not None and self.record.state in TOUCHED

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

    def assignment(self) -> AssignmentId | None:
        return self.record.entry.assignment if self.record else None

    # -- what the supervisor tells

    def resume(self) -> None:
        """Go on where a crash or power cut left the record."""
        record = self.record = self.file.load()
        if record is None:
            return
        if record.state.is_final:
            self._report_outcome(record)
            return
        record = record.rebased(self.clock.boot_id, self._now_ms())
        record = msgspec.structs.replace(record, resumes=record.resumes + 1)
        switched = self.slots.load_pointers().active == record.target
        looping = is_looping(record.state, record.resumes)
        state = resume_state(record.state, switched=switched)
        log.info("resuming the update to %s at %s", record.entry.version, state.value)
        self.record = record.at(state)
        if looping:
            self.feed(UpdateEvent.FAILED, failure=_looping(record.resumes))
        else:
            self._enter()

    def accept(self, record: UpdateRecord) -> None:
        """Start an update. The caller has superseded the one before."""
        self.record = record
        self.bytes_done = self.bytes_total = 0
        self._enter()

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
        if record.state in UNTOUCHED and state is S.FAILED:
            self._aborted.set()
            self.workers.dismiss_candidate()
        self.record = record.at(state, failure=failure, evidence=evidence)
        self._enter()

    def on_job(self, done: JobDone) -> None:
        if done.job == self._job:
            self.feed(done.event, evidence=done.evidence, failure=done.failure)

    def on_progress(self, count: int, total: int | None) -> None:
        """``count`` bytes came in; a ``total`` starts the count anew."""
        if total is not None:
            self.bytes_done, self.bytes_total = 0, total
        self.bytes_done += count
        self.changed()

    def tick(self) -> None:
        """Look at the deadline and the end of the soak."""
        record, now_s = self.record, self.clock.boot_s()
        if record is None or record.state.is_final:
            return
        if self._soak_until_s is not None and record.state is S.SOAKING and now_s >= self._soak_until_s:
            self.feed(UpdateEvent.SOAKED)
        elif now_s * 1000 > record.deadline_ms:
            self.feed(UpdateEvent.DEADLINE_PASSED, failure=_late(record))

    def close(self) -> None:
        """End the slow effect; the record stays as it is and resumes at the next start."""
        self._job += 1
        self._aborted.set()

    # -- effects

    def _enter(self) -> None:
        """Save the state, then run its effect."""
        record = self.record
        if record is None:
            return
        self.record = record = record.saved_at(self._now_ms())
        try:
            self.file.save(record)
        except OSError as exc:
            if self._give_up_unsaved(record, exc):
                return
        self.changed()
        self._act(record)

    def _act(self, record: UpdateRecord) -> None:
        match record.state:
            case S.DOWNLOADING:
                aborted = self._aborted = threading.Event()
                self._start(lambda: self.jobs.download(record, aborted), UpdateEvent.DOWNLOADED)
            case S.VERIFYING:
                self._start(lambda: self.jobs.verify(record), UpdateEvent.VERIFIED)
            case S.SELF_TESTING:
                self.workers.try_out(record.target)
            case S.SWITCHING:
                self._switch(record)
            case S.SOAKING:
                self._soak_until_s = self.clock.boot_s() + record.policy.soak_s
            case S.ROLLING_BACK:
                self._roll_back(record)
            case S.SUCCEEDED | S.FAILED | S.ROLLED_BACK:
                self._finish(record)
            case S.IDLE | S.UNKNOWN:
                raise ValueError(f"no update is {record.state.value}")

    def _give_up_unsaved(self, record: UpdateRecord, exc: OSError) -> bool:
        """The record cannot be written (a full disk). Before the switch the update ends, with the
        running model untouched; from there on it goes through: the pointer on disk tells a later
        start what is true."""
        log.error("the update record cannot be written: %s", exc)
        if record.state not in UNTOUCHED | {S.SWITCHING}:
            return False
        failure = Failure(
            code="disk.full",
            message=f"the update record cannot be written: {exc.strerror}",
            hint="free space on the device and push again; the running model goes on",
        )
        self.workers.dismiss_candidate()
        self.record = record.at(S.FAILED, failure=failure)
        self._report_outcome(self.record)
        self.changed()
        return True

    def _start(self, effect: Callable[[], Evidence], event: UpdateEvent) -> None:
        self._job += 1
        job = self._job

        def run() -> None:
            try:
                self.post(JobDone(job, event, effect()))
            except FleetError as exc:
                failure = Failure.of(exc)
                self.post(JobDone(job, UpdateEvent.FAILED, failure=failure))
            except Exception as exc:  # the guard of the thread: an update must end, whatever happens
                log.exception("the update failed")
                failure = Failure(code="update.internal", message=f"{type(exc).__name__}: {exc}")
                self.post(JobDone(job, UpdateEvent.FAILED, failure=failure))

        threading.Thread(target=run, name="update", daemon=True).start()

    def _switch(self, record: UpdateRecord) -> None:
        try:
            self.slots.save_pointers(Pointers(active=record.target, previous=record.before))
        except OSError as exc:
            failure = Failure(code="disk.failed", message=f"the switch could not be written: {exc}")
            self.feed(UpdateEvent.FAILED, failure=failure)
            return
        self.workers.promote(record.target)
        self.feed(UpdateEvent.SWITCHED)

    def _roll_back(self, record: UpdateRecord) -> None:
        try:
            self.slots.save_pointers(Pointers(active=record.before, previous=record.before_previous))
        except OSError:
            log.exception("the rollback could not be written; it is tried at the next start")
        self.workers.keep(record.before)
        self.feed(UpdateEvent.RESTORED)

    def _finish(self, record: UpdateRecord) -> None:
        self._soak_until_s = None
        pointers = self.slots.load_pointers()
        self.slots.prune(
            running.manifest for running in (pointers.active, pointers.previous) if running is not None
        )
        self._report_outcome(record)

    def _report_outcome(self, record: UpdateRecord) -> None:
        if record.outcome_reported:
            return
        try:
            self.outcome(record)
            self.record = msgspec.structs.replace(record, outcome_reported=True)
            self.file.save(self.record)
        except (AgentError, OSError) as exc:
            log.error("the outcome waits for the next start: %s", exc)
            return
        self.changed()

    def _now_ms(self) -> int:
        return int(self.clock.boot_s() * 1000)


def _late(record: UpdateRecord) -> Failure:
    return Failure(
        code="update.deadline",
        message=f"the update did not end within {record.policy.deadline_s:g} s; it was {record.state.value}",
        hint="is the link too slow? push again with a longer --deadline",
    )


def _looping(resumes: int) -> Failure:
    return Failure(
        code="update.loop",
        message=f"the agent was restarted {resumes} times within this update",
        hint="the update may bring the device down: look at its log before you push again",
    )
