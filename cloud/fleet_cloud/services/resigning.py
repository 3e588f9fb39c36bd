"""Desired documents that are signed again: before they end, and with the assignment key of a new epoch.

What a device was told stays what it is: the same assignment, of a higher order. Bounded batches; a crash is
repaired by the next.
"""

import base64
import json
import logging
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from fleet_cloud.domain.rollout import Assignment, AssignmentState
from fleet_cloud.errors import Conflict
from fleet_cloud.services.ordering import next_order, reported_order
from fleet_cloud.services.ports import Clock, OutgoingMessage, SignedDesired, Transaction, Trust, UnitOfWork
from fleet_shared.limits import DESIRED_LIFE_S
from fleet_shared.messages.desired import Desired
from fleet_shared.messages.reported import Order
from fleet_shared.topics import Channel, Topics
from fleet_shared.wire import decode

log = logging.getLogger(__name__)

BEFORE_MS: Final = DESIRED_LIFE_S * 1000 // 2
BATCH: Final = 200
NEVER_MS: Final = 2**62


@dataclass(frozen=True, slots=True)
class Resigning:
    uow: UnitOfWork
    trust: Trust
    clock: Clock
    topics: Topics

    def run(self) -> int:
        """Sign a batch of what is due; return how many were looked at."""
        epoch, before_ms = self.trust.key_epoch, self.clock.now_ms() + BEFORE_MS
        with self.uow.read() as transaction:
            if not transaction.desired.has_due(epoch, before_ms):
                return 0
        with self.uow.begin() as transaction:
            due = transaction.desired.lock_due(epoch, before_ms, BATCH)
            for desired in due:
                self._sign_again(transaction, desired, epoch)
        return len(due)

    def _sign_again(self, transaction: Transaction, old: SignedDesired, epoch: int) -> None:
        document = read_desired(old.envelope)
        assignment = _find_assignment(transaction, document)
        if assignment is None:
            transaction.desired.put(replace(old, expires_ms=None))
            return
        try:
            order = _next(transaction, old, epoch)
        except Conflict as exc:
            log.error("%s (%s); %s", exc.message, exc.code, exc.hint)
            transaction.desired.put(replace(old, expires_ms=NEVER_MS))  # until there is another epoch
            return
        now_ms = self.clock.now_ms()
        fresh = msgspec.structs.replace(
            document,
            key_epoch=order.key_epoch,
            generation=order.generation,
            serial=order.serial,
            issued_ms=now_ms,
            expires_ms=now_ms + DESIRED_LIFE_S * 1000,
        )
        envelope = self.trust.sign_desired(fresh)
        transaction.desired.put(SignedDesired(old.device, order, envelope, fresh.expires_ms))
        transaction.assignments.put(replace(assignment, order=order))
        topic = self.topics.device(old.device, Channel.DESIRED)
        transaction.outbox.add(OutgoingMessage(topic, envelope, retain=True))


def read_desired(envelope: bytes) -> Desired:
    """Return the document in an envelope of our own."""
    return decode(Desired, base64.b64decode(json.loads(envelope)["payload"]))


def _find_assignment(transaction: Transaction, document: Desired) -> Assignment | None:
    """Return the assignment that the document carries, if the device is to keep to it."""
    found = transaction.assignments.get(document.run[0].assignment) if document.run else None
    wanted = found is not None and (found.state.is_open or found.state is AssignmentState.SUCCEEDED)
    return found if wanted else None


def _next(transaction: Transaction, old: SignedDesired, epoch: int) -> Order:
    """Return the next serial, or a generation of its own in a new epoch, and where the device has accepted
    something that is not ours."""
    order = msgspec.structs.replace(old.order, serial=old.order.serial + 1)
    if order.key_epoch == epoch and order > reported_order(transaction, old.device):
        return order
    return next_order(transaction, old.device, epoch)
