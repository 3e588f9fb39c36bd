"""Carry an update out: save the record, run the effect of its state, feed the event back.

All methods belong to the supervisor's thread. The slow effects run in `jobs` and come back as
`JobDone` through the supervisor's queue. What the disk refuses is tried again in `tick`: the record,
the pointers of a return, the outcome; and so are an effect whose trouble may pass, and the repair of a
damaged model.
"""

import logging
from dataclasses import dataclass, field

import msgspec

from fleet_agent.errors import AgentError
from fleet_agent.leash import Terms
from fleet_agent.link.backoff import Backoff
from fleet_agent.ports import Clock
from fleet_agent.slots import Pointers
from fleet_agent.transfer.allowance import BUDGET_CODE
from fleet_agent.update.failures import disk_failure, slot_damaged, soak_silent, state_late, update_late
from fleet_agent.update.gap import Gap
from fleet_agent.update.inspection import Inspection, SlotInspected
from fleet_agent.update.jobs import JobDone, Jobs, SlowJobs
from fleet_agent.update.keeping import (
    Witness,
    load_pointers,
    load_record,
    prune,
    set_slot_aside,
    tell_repair,
)
from fleet_agent.update.latency import Measured
from fleet_agent.update.machine import TOUCHED, UNTOUCHED, UpdateEvent, is_late, is_retried, next_state
from fleet_agent.update.measured import take_fastest
from fleet_agent.update.record import Evidence, UpdateRecord
from fleet_agent.update.repair import explain_repair, plan_repair, wants_repair
from fleet_agent.update.resume import resume_record
from fleet_agent.update.saved import Saved
from fleet_agent.update.soak import Soak
from fleet_agent.update.stage import Stage
from fleet_agent.worker.protocol import Stats
from fleet_agent.workers import Workers
from fleet_shared.messages.desired import OverBudget, Policy
from fleet_shared.messages.reported import Failure, Order, Progress, Running
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import AssignmentId

log = logging.getLogger(__name__)


@dataclass
class UpdateRunner:
    """``changed`` counts up whenever there is something new to report. ``retry`` and ``repair``: when an
    effect, or a repair, is tried again. ``spare_bytes``: what older models may take on the disk."""

    saved: Saved
    gap: Gap
    workers: Workers
    jobs: Jobs
    slow: SlowJobs
    clock: Clock
    witness: Witness
    retry: Backoff
    repair: Backoff
    inspection: Inspection
    spare_bytes: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    changed: int = 0
    _stage: Stage = field(default_factory=Stage)
    _soak: Soak | None = None
    _measured: Measured = field(default_factory=Measured)
    _repair_at_s: float = 0.0
    _inspects_again: bool = False

    # -- what the supervisor asks

    @property
    def record(self) -> UpdateRecord | None:
        return self.saved.record

    @property
    def pointers(self) -> Pointers:
        return self.saved.pointers

    @property
    def takes_another(self) -> bool:
        """Whether a newer assignment may take the place of this one: neither half switched, nor
        ended with an outcome that is still to be stored."""
        record = self.record
        return record is None or record.state in UNTOUCHED or record.is_settled

    @property
    def progress(self) -> Progress | None:
        """Where the newest assignment stands. One that is repaired has succeeded, whatever becomes of that:
        `trouble` tells of it."""
        record = self.record
        if record is None:
            return None
        return Progress(
            assignment=record.entry.assignment,
            state=S.SUCCEEDED if record.repairs else record.state,
            bytes_done=self.bytes_done,
            bytes_total=self.bytes_total,
            failure=None if record.repairs else record.failure or record.waiting,
        )

    @property
    def trouble(self) -> Failure | None:
        """What the disk says against what is to be on it, or that it lost a model that is not back yet."""
        return self.saved.trouble or explain_repair(self.record, self.pointers)

    # -- what the supervisor tells

    def resume(self) -> None:
        """Go on where a crash or power cut left the record, with the worker that belongs to it."""
        record = load_record(self.saved.file, self.witness)
        self.saved.pointers = load_pointers(self.saved.slots, record, self.witness)
        self.inspection.ask(self.pointers.active, self.pointers.previous)
        if record is None or record.state.is_final:
            self.saved.record = record
            self.workers.keep(self.pointers.active, _terms(record, self.pointers.active))
            self._prune()  # the end of the last update may have been cut short
            self._report_outcome()
            return
        stored = not record.repairs and self.witness.has_outcome(record.entry.assignment)
        record = resume_record(
            record,
            switched=self.pointers.active == record.target,
            outcome_stored=stored,
            boot_id=self.clock.boot_id,
            now_ms=self._now_ms(),
        )
        log.info("resuming the update to %s at %s", record.entry.version, record.state.value)
        if record.state not in TOUCHED:
            self.workers.keep(self.pointers.active, _terms(record, self.pointers.active))
        self._enter(record)

    def accept(self, record: UpdateRecord, refused: Failure | None = None) -> None:
        """Start an update, or let it end at once for the reason that it is ``refused`` for;
        `takes_another` must hold, and nothing be under way."""
        self.bytes_done = self.bytes_total = 0
        self.retry.reset()
        self.repair.reset()
        self._repair_at_s = 0.0
        bound = _terms(self.record, record.before).memory_bytes_max
        record = msgspec.structs.replace(record, before_memory_bytes_max=bound)
        self._enter(record if refused is None else record.at(S.FAILED, failure=refused))

    def accept_order(self, order: Order, policy: Policy) -> None:
        """Take up a newer order of the same assignment; a download that waits is tried under its
        policy."""
        if self.record is None:
            return
        waits = self.record.waiting is not None
        record = msgspec.structs.replace(self.record.ordered(order, policy), waiting=None)
        if self._soak is not None:
            self._soak.policy = policy
        self.saved.save(record)
        self.changed += 1
        if waits:
            self._stage = Stage()
            self._act(record)

    def feed(
        self, event: UpdateEvent, *, evidence: Evidence | None = None, failure: Failure | None = None
    ) -> None:
        """Move on by one event; an event that the table does not name changes nothing."""
        record = self.record
        if record is None or record.state.is_final:
            return
        if event is UpdateEvent.FAILED and failure is not None and self._bears(record, failure):
            return
        state = next_state(record.state, event)
        if state is record.state:
            return
        log.info("update to %s:%s is %s", record.entry.model, record.entry.version, state.value)
        how = {} if failure is None else self._stage.describe(record.state)
        moved = record.at(state, failure=failure, evidence={**how, **(evidence or {})})
        self._enter(take_fastest(moved))

    def _bears(self, record: UpdateRecord, failure: Failure) -> bool:
        """Whether a failure ends nothing yet: its trouble may pass, or it waits for a larger budget."""
        if is_retried(record.state, failure.code, self._stage.tries):
            log.warning("%s is tried again: %s", record.state.value, failure.message)
            self._stage.again_in(self.retry.next_delay_s())
            return True
        over = failure.code == BUDGET_CODE and record.state is S.DOWNLOADING
        if over and record.policy.over_bytes is OverBudget.WAIT:
            log.warning("the download waits: %s", failure.message)
            self.saved.save(msgspec.structs.replace(record, waiting=failure))
            self.changed += 1
            return True
        return False

    def on_job(self, done: JobDone) -> None:
        if self.slow.end(done):
            self.feed(done.event, evidence=done.evidence, failure=done.failure)
        elif self.record is not None and self.record.state.is_final:
            self._prune()  # one that was given up may have left a slot behind

    def on_inspected(self, found: SlotInspected) -> None:
        """An installed model was read through. A damaged one is set aside, and the last good one runs."""
        self.inspection.take()
        running, record = found.running, self.record
        if found.whole or running not in (self.pointers.active, self.pointers.previous):
            return
        if record is not None and record.is_renewing(running):
            self._inspects_again = True  # what was read may be of before
            return
        log.error("%s:%s is damaged on the disk", running.model, running.version)
        if record is not None and not record.state.is_final:
            self._forget_way_back(record, running)
        # The pointers first: they never name what is not there.
        self._fall_back(running)
        set_slot_aside(self.saved.slots, running, self.witness)

    def _forget_way_back(self, record: UpdateRecord, damaged: Running) -> None:
        """An update does not return to a model that is gone, and one of that model has failed."""
        left = record.without(damaged.manifest)
        if left != record:
            self.saved.save(left)
        if record.target == damaged and record.state in TOUCHED:
            self.feed(UpdateEvent.FAILED, failure=slot_damaged(damaged))

    def _fall_back(self, damaged: Running) -> None:
        """Point to what is left."""
        pointers = self.pointers.without(damaged.manifest)
        if pointers == self.pointers:
            return  # the return from it has done so already
        self.saved.point_away(pointers)
        self.changed += 1
        if self.gap.is_open and self.record is not None and self.record.state is S.SELF_TESTING:
            return  # memory holds the one on trial only; who serves is settled at its end
        self.workers.give_way(pointers.active, _terms(self.record, pointers.active))

    def on_progress(self, count: int, total: int | None) -> None:
        """``count`` bytes came in; a ``total`` starts the count anew."""
        if total is not None:
            self.bytes_done, self.bytes_total = 0, total
        self.bytes_done += count
        self.changed += 1

    def on_serving(self, assignment: AssignmentId) -> None:
        """The worker of ``assignment`` accepts requests: its trial time counts from here."""
        self._end_gap(assignment)
        if self._soak is not None and self._is_soaking(assignment):
            self._soak.begin(self.clock.boot_s())
            self._stage.is_waited_for = False

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
        active = self.pointers.active
        if active is not None and active.assignment == assignment:
            self.inspection.ask(active)
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
        """Look at the deadlines, the end of the soak, and at what is to be tried again."""
        now_s = self.clock.boot_s()
        if self.saved.is_due(now_s):
            self._try_again()
        again = self._stage.tick(now_s)
        record = self.record
        if record is None or record.state.is_final:
            self._repair(record, now_s)
            return
        late = now_s * 1000 > record.deadline_ms and record.state is not S.ROLLING_BACK
        if self._soak is not None and self._judge_soak(self._soak, record, now_s, late=late):
            return
        if late:
            self.feed(UpdateEvent.DEADLINE_PASSED, failure=update_late(record))
        elif self._stage.is_waited_for and is_late(record.state, self._stage.seconds):
            self._end_late(record)
        elif again or self.gap.is_ready:
            self._act(record)

    def _end_late(self, record: UpdateRecord) -> None:
        """A state lasts too long. A return is not given up: it is said to be stuck, once."""
        failure = state_late(record.state, self._stage.seconds, self._stage.tries)
        if record.state is S.ROLLING_BACK:
            self._stage.is_waited_for = False
            self.witness.event(
                "update.stuck",
                failure=failure,
                assignment=record.entry.assignment,
                detail=self._stage.describe(record.state),
            )
        else:
            self.feed(UpdateEvent.DEADLINE_PASSED, failure=failure)

    def _repair(self, record: UpdateRecord | None, now_s: float) -> None:
        """Fetch a damaged model again, once nothing else is to be done."""
        if record is None or now_s < self._repair_at_s or not wants_repair(record, self.pointers):
            return
        log.warning("%s:%s is installed again", record.target.model, record.target.version)
        self.bytes_done = self.bytes_total = 0
        self._enter(plan_repair(record, self.pointers, self.clock.boot_id, self._now_ms()))

    def close(self) -> None:
        """End the slow effect; the record stays as it is and resumes at the next start."""
        self.slow.abort()

    def _judge_soak(self, soak: Soak, record: UpdateRecord, now_s: float, *, late: bool) -> bool:
        """Tell whether the trial ended, one way or the other."""
        if soak.is_over(now_s):
            failure = soak.conclude()
            event = UpdateEvent.SOAKED if failure is None else UpdateEvent.FAILED
            self.feed(event, failure=failure, evidence=soak.evidence)
        elif soak.is_silent(now_s):
            self.feed(UpdateEvent.FAILED, failure=soak_silent(), evidence=soak.evidence)
        elif late:
            failure = soak.explain_late() or update_late(record)
            self.feed(UpdateEvent.DEADLINE_PASSED, failure=failure, evidence=soak.evidence)
        else:
            return False
        return True

    # -- effects

    def _enter(self, record: UpdateRecord) -> None:
        """Save the state, then run its effect."""
        if record.state is S.SELF_TESTING:
            record = self._measure_before(record)  # now, while nothing runs beside it
        record = record.saved_at(self._now_ms())
        refused = self.saved.save(record)
        if refused is not None and record.state in UNTOUCHED | {S.SWITCHING}:
            # The update ends before it touches anything. From there on it goes through: the pointer
            # on disk tells a later start what is true.
            record = self.saved.record = record.at(S.FAILED, failure=refused)
        self.changed += 1
        self._stage = Stage()
        self._act(record)

    def _act(self, record: UpdateRecord) -> None:
        """Run the effect of a state, for the first time or once more."""
        self._stage.tries += not self.gap.awaits_room
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
        if not self.gap.has_room(record):
            return  # `tick` comes back
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

    def _end_gap(self, assignment: AssignmentId) -> None:
        """A worker serves again after the old one had to end: say for how long nothing answered."""
        if (gap_ms := self.gap.end_ms()) is None:
            return
        if self._is_soaking(assignment) and self.record is not None:
            self.saved.record = self.record.at(S.SOAKING, evidence={"gap_ms": gap_ms})
        self.witness.event("swap.gap", assignment=assignment, detail={"gap_ms": gap_ms})

    def _switch(self, record: UpdateRecord) -> None:
        try:
            self.saved.point_to(Pointers(active=record.target, previous=record.fallback))
        except OSError as exc:
            self.feed(UpdateEvent.FAILED, failure=disk_failure("the switch could not be written", exc))
            return
        self.workers.promote(record.target, _trial(record))
        self.feed(UpdateEvent.SWITCHED)

    def _roll_back(self, record: UpdateRecord) -> None:
        """Run the old model at once; the return has happened when the pointer says so as well."""
        self._soak = None
        self.workers.keep(record.before, _terms(record, record.before))
        try:
            self.saved.point_to(Pointers(active=record.before, previous=record.before_previous))
        except OSError as exc:
            log.error("the return could not be written, and is tried again: %s", exc)
            self.saved.try_again_soon()
            return
        self.feed(UpdateEvent.RESTORED)

    def _finish(self) -> None:
        self._soak = None
        self.slow.abort()
        self.workers.dismiss_candidate()
        self.workers.settle()
        if self.gap.leave():
            self.workers.keep(self.pointers.active, _terms(self.record, self.pointers.active))
        self._prune()
        self._report_outcome()
        if self.record is not None and self.record.repairs:
            tell_repair(self.record, self.witness)
            self._repair_at_s = self.clock.boot_s() + self.repair.next_delay_s()
        if self._inspects_again:
            self._inspects_again = False
            self.inspection.ask(self.pointers.active, self.pointers.previous)

    def _prune(self) -> None:
        """Remove what nothing points to, once nobody installs."""
        if self.slow.is_idle:
            prune(self.saved.slots, self.pointers, self.record, self.spare_bytes)

    def _report_outcome(self) -> None:
        record = self.record
        if record is None or record.outcome_reported or not record.state.is_final:
            return
        try:
            self.witness.store_outcome(record)
        except AgentError as exc:
            log.error("the outcome is not stored yet, and is tried again: %s", exc)
            self.saved.try_again_soon()
            return
        self.saved.save(msgspec.structs.replace(record, outcome_reported=True))
        self.changed += 1

    def _try_again(self) -> None:
        if self.record is not None and self.record.state is S.ROLLING_BACK:
            self._roll_back(self.record)
        self._report_outcome()
        self.saved.write_again()

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
