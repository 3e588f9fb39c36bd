"""What devices say: presence, reports, telemetry. Each message is one transaction. Who is not enrolled, or
is revoked, is not listened to, whatever the broker lets through."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from fleet_cloud.domain import measurements
from fleet_cloud.domain.rollout import AssignmentState, RolloutState
from fleet_cloud.domain.stream import Admission, StreamState, admit, close, refuse
from fleet_cloud.services.dating import date_rows
from fleet_cloud.services.ordering import call_behind
from fleet_cloud.services.ports import Clock, OutgoingMessage, Received, Transaction, UnitOfWork
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Failure, Reported
from fleet_shared.messages.telemetry import DATING, Ack, Event, TelemetryBatch
from fleet_shared.names import AssignmentId, DeviceId, digest_of
from fleet_shared.topics import Channel, Topics

OUTCOMES: Final = {
    "update.succeeded": AssignmentState.SUCCEEDED,
    "update.failed": AssignmentState.FAILED,
    "update.rolled-back": AssignmentState.ROLLED_BACK,
}
GRACE_MS: Final = 120_000
"""Longer than a device waits between two attempts to connect."""

REFUSED: Final = "desired.refused"
UNVERIFIED: Final = "desired.unverified"


def _first_epoch() -> int:
    return 1


@dataclass(frozen=True, slots=True)
class Observe:
    """``key_epoch``: that of the assignment key in force."""

    uow: UnitOfWork
    clock: Clock
    topics: Topics
    key_epoch: Callable[[], int] = _first_epoch

    def presence(self, name: DeviceId, presence: Presence, *, retained: bool = False) -> None:
        """Offline counts only for the session that is current: a late will changes nothing. What the
        broker had ``retained`` is the last word, also of a session that nobody here heard of."""
        with self.uow.begin() as transaction:
            device = transaction.devices.lock(name)
            current = device is not None and device.session in (None, presence.session)
            if device is None or device.revoked_ms is not None:
                return
            if not (presence.online or retained or current):
                return
            # An old picture says nothing of when the device was there. Offline, it has no session.
            seen_ms = device.last_seen_ms if retained else self.clock.now_ms()
            session = presence.session if presence.online else None
            transaction.devices.put(
                replace(device, online=presence.online, session=session, last_seen_ms=seen_ms)
            )

    def reported(self, name: DeviceId, reported: Reported, *, retained: bool = False) -> bool:
        """Take up what a device says of itself; tell whether a rollout may have work now."""
        with self.uow.begin() as transaction:
            device = transaction.devices.lock(name)
            if device is None or device.revoked_ms is not None:
                return False
            seen_ms = device.last_seen_ms if retained else self.clock.now_ms()
            transaction.devices.put(replace(device, reported=reported, last_seen_ms=seen_ms))
            behind = call_behind(transaction, name, reported)
            news = behind or device.reported is None or device.reported.facts != reported.facts
            progress = reported.update
            state = None if progress is None else AssignmentState.of_update(progress.state)
            if progress is None or state is None:
                return news
            moved = self._move(
                transaction,
                name,
                progress.assignment,
                state,
                progress.failure,
                progress.bytes_done,
                progress.bytes_total,
            )
            return news or moved

    def telemetry(self, device: DeviceId, batch: TelemetryBatch) -> tuple[Ack | None, bool]:
        """Store what is new, then acknowledge it (none for a device that is not enrolled or is revoked), and
        tell whether a rollout may have work now."""
        return self._take_in(device, batch, admit)

    def refuse_telemetry(self, device: DeviceId, batch: TelemetryBatch, code: str) -> tuple[Ack | None, bool]:
        """Put a batch that could not be stored into the dead letters, and acknowledge it."""
        return self._take_in(device, batch, lambda state, batch: refuse(state, batch, code))

    def _take_in(
        self,
        device: DeviceId,
        batch: TelemetryBatch,
        decide: Callable[[StreamState | None, TelemetryBatch], Admission],
    ) -> tuple[Ack | None, bool]:
        with self.uow.begin() as transaction:
            known = transaction.devices.get(device)
            if known is None or known.revoked_ms is not None:
                return None, False
            admission = decide(transaction.telemetry.lock_stream(device, batch.stream), batch)
            moved = self._store(transaction, device, batch.stream, admission)
            if batch.outbox:
                for stream, state in transaction.telemetry.lock_strays(device, batch.outbox).items():
                    transaction.telemetry.put_stream(device, stream, close(state))
        return Ack(stream=batch.stream, upto=admission.state.mark, rejected=admission.rejections), moved

    def give_up_silent(self, connected_ms: int) -> int:
        """Count devices as offline that have not spoken since the broker is connected, once they had
        `GRACE_MS` to come back: a broker that lost its memory has no last word of theirs. Returns how
        many."""
        if self.clock.now_ms() < connected_ms + GRACE_MS:
            return 0
        with self.uow.begin() as transaction:
            return transaction.devices.give_up_silent(connected_ms)

    def republish_unmet(self) -> int:
        """Put every desired state that waits for its device on its way again: the broker is a
        cache and may have lost it. Returns how many."""
        with self.uow.begin() as transaction:
            unmet = transaction.desired.lock_unmet()
            for desired in unmet:
                topic = self.topics.device(desired.device, Channel.DESIRED)
                transaction.outbox.add(OutgoingMessage(topic, desired.envelope, retain=True))
        return len(unmet)

    def _store(self, transaction: Transaction, device: DeviceId, stream: str, admission: Admission) -> bool:
        now_ms = self.clock.now_ms()
        transaction.telemetry.add([Received(now_ms, device, stream, row) for row in admission.rows])
        for reject in admission.rejects:
            transaction.telemetry.add_rejected(device, stream, reject.seq, reject.code, reject.raw, now_ms)
        transaction.telemetry.put_stream(device, stream, admission.state)
        transaction.devices.seen(device, now_ms)
        events = [row for row in admission.rows if isinstance(row, Event)]
        moved = [self._apply(transaction, device, event) for event in events]
        return any(moved)

    def _apply(self, transaction: Transaction, device: DeviceId, event: Event) -> bool:
        """Draw the consequences of an event; tell whether an assignment moved."""
        if event.name in OUTCOMES and event.assignment is not None:
            return self._settle(transaction, device, event.assignment, OUTCOMES[event.name], event.failure)
        if event.name == measurements.EVENT and event.assignment is not None:
            self._measured(transaction, device, event.assignment, event)
        if event.name in DATING:
            date_rows(transaction, device, event)
        if event.name in (REFUSED, UNVERIFIED):
            return self._not_taken_up(transaction, device, event)
        return False

    def _measured(
        self, transaction: Transaction, name: DeviceId, assignment: AssignmentId, event: Event
    ) -> None:
        """Keep what a device measured of a variant that it was told to run, and of no other."""
        device, assigned = transaction.devices.get(name), transaction.assignments.get(assignment)
        if device is None or device.reported is None or assigned is None or assigned.device != name:
            return
        if assigned.manifest is None:
            return
        found = measurements.read_row(
            event.detail, device.reported.facts, name, assigned.manifest, self.clock.now_ms()
        )
        if found is not None:
            transaction.measurements.put(found)

    def _not_taken_up(self, transaction: Transaction, device: DeviceId, event: Event) -> bool:
        """The device could not verify what it was told: its open assignment fails, or waits with the
        reason. A document that this controller did not sign says nothing about its assignments."""
        desired = transaction.desired.get(device)
        if desired is None or event.detail.get("envelope_sha256") != digest_of(desired.envelope):
            return False
        if desired.order.key_epoch < self.key_epoch():
            return False  # the key was replaced while it was on its way: it is about to be signed again
        for assignment in transaction.assignments.lock_open_of_device(device):
            state = AssignmentState.FAILED if event.name == REFUSED else assignment.state
            self._move(transaction, device, assignment.id, state, event.failure)
        return event.name == REFUSED

    def _settle(
        self,
        transaction: Transaction,
        device: DeviceId,
        name: AssignmentId,
        state: AssignmentState,
        failure: Failure | None,
    ) -> bool:
        """An outcome is the device's last word, also when it comes after the deadline: a rollout that
        ended without it is judged again."""
        assignment = transaction.assignments.lock(name)
        if assignment is None or assignment.device != device:
            return False
        if assignment.state is AssignmentState.TIMED_OUT:
            transaction.rollouts.set_state(assignment.rollout, RolloutState.RUNNING)
            late = replace(assignment, state=state, failure=failure, updated_ms=self.clock.now_ms())
            transaction.assignments.put(late)
            return True
        return self._move(transaction, device, name, state, failure)

    def _move(
        self,
        transaction: Transaction,
        device: DeviceId,
        name: AssignmentId,
        state: AssignmentState,
        failure: Failure | None,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
    ) -> bool:
        """Move an open assignment of this device; a closed one, or another's, stays as it is. Tell
        whether it is closed now."""
        assignment = transaction.assignments.lock(name)
        if assignment is None or assignment.device != device or not assignment.state.is_open:
            return False
        transaction.assignments.put(
            replace(
                assignment,
                state=state,
                failure=failure,
                updated_ms=self.clock.now_ms(),
                bytes_done=assignment.bytes_done if bytes_done is None else bytes_done,
                bytes_total=assignment.bytes_total if bytes_total is None else bytes_total,
            )
        )
        return not state.is_open
