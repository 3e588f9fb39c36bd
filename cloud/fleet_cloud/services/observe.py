"""What devices say: presence, reports, telemetry. Each message is one transaction."""

from dataclasses import dataclass, replace
from typing import Final

from fleet_cloud.domain.rollout import Assignment, AssignmentState
from fleet_cloud.domain.stream import Admission, admit
from fleet_cloud.services.ports import Clock, OutgoingMessage, Received, Transaction, UnitOfWork
from fleet_shared.messages.presence import Presence
from fleet_shared.messages.reported import Failure, Reported
from fleet_shared.messages.telemetry import Ack, Event, TelemetryBatch
from fleet_shared.names import AssignmentId, DeviceId
from fleet_shared.topics import Channel, Topics

OUTCOMES: Final = {
    "update.succeeded": AssignmentState.SUCCEEDED,
    "update.failed": AssignmentState.FAILED,
    "update.rolled-back": AssignmentState.ROLLED_BACK,
}


@dataclass(frozen=True, slots=True)
class Observe:
    uow: UnitOfWork
    clock: Clock
    topics: Topics

    def presence(self, name: DeviceId, presence: Presence) -> None:
        """Offline counts only for the session that is current: a late will changes nothing."""
        with self.uow.begin() as transaction:
            device = transaction.devices.get(name)
            if device is None or (not presence.online and device.session != presence.session):
                return
            changed = replace(
                device,
                online=presence.online,
                session=presence.session,
                last_seen_ms=self.clock.now_ms(),
            )
            transaction.devices.put(changed)

    def reported(self, name: DeviceId, reported: Reported) -> None:
        with self.uow.begin() as transaction:
            device = transaction.devices.get(name)
            if device is None:
                return
            now_ms = self.clock.now_ms()
            transaction.devices.put(replace(device, reported=reported, last_seen_ms=now_ms))
            progress = reported.update
            state = None if progress is None else AssignmentState.of_update(progress.state)
            if progress is None or state is None:
                return
            self._move(
                transaction,
                name,
                progress.assignment,
                state,
                progress.failure,
                progress.bytes_done,
                progress.bytes_total,
            )

    def telemetry(self, device: DeviceId, batch: TelemetryBatch) -> Ack | None:
        """Store what is new, then say so; none for a device that is not enrolled. Raises
        `MessageError` for a batch whose rows do not follow each other."""
        with self.uow.begin() as transaction:
            if transaction.devices.get(device) is None:
                return None
            admission = admit(transaction.telemetry.lock_stream(device, batch.stream), batch)
            self._store(transaction, device, batch.stream, admission)
        return Ack(stream=batch.stream, upto=admission.state.mark, rejected=admission.rejections)

    def republish_unmet(self) -> int:
        """Put every desired state that waits for its device on its way again: the broker is a
        cache and may have lost it. Returns how many."""
        with self.uow.begin() as transaction:
            unmet = transaction.desired.unmet()
            for desired in unmet:
                topic = self.topics.device(desired.device, Channel.DESIRED)
                transaction.outbox.add(OutgoingMessage(topic, desired.envelope, retain=True))
        return len(unmet)

    def _store(self, transaction: Transaction, device: DeviceId, stream: str, admission: Admission) -> None:
        now_ms = self.clock.now_ms()
        transaction.telemetry.add([Received(now_ms, device, stream, row) for row in admission.rows])
        for reject in admission.rejects:
            transaction.telemetry.add_rejected(device, stream, reject.seq, reject.code, reject.raw, now_ms)
        transaction.telemetry.put_stream(device, stream, admission.state)
        for row in admission.rows:
            if isinstance(row, Event) and row.name in OUTCOMES and row.assignment is not None:
                self._move(transaction, device, row.assignment, OUTCOMES[row.name], row.failure)

    def _move(
        self,
        transaction: Transaction,
        device: DeviceId,
        name: AssignmentId,
        state: AssignmentState,
        failure: Failure | None,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
    ) -> None:
        """Move an open assignment of this device; a closed one, or another's, stays as it is."""
        assignment: Assignment | None = transaction.assignments.get(name)
        if assignment is None or assignment.device != device or not assignment.state.is_open:
            return
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
