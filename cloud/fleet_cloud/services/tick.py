"""The tick: carry out what running rollouts need now. Idempotent; a crash is repaired by the next.

A decision and the message that it causes are committed in one transaction.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

from fleet_cloud.domain.decide import Action, Assign, Finish, Refuse, TimeOut, decide
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentState,
    Observation,
    Rollout,
)
from fleet_cloud.errors import Conflict, Unavailable
from fleet_cloud.services.models import get_version
from fleet_cloud.services.ordering import next_order
from fleet_cloud.services.ports import (
    Clock,
    Ids,
    OutgoingMessage,
    SignedDesired,
    Transaction,
    Trust,
    UnitOfWork,
)
from fleet_shared.limits import DESIRED_LIFE_S
from fleet_shared.messages.desired import Desired, RunEntry
from fleet_shared.messages.reported import Failure, Order
from fleet_shared.names import AssignmentId, DeviceId
from fleet_shared.topics import Channel, Topics
from fleet_shared.version import ModelRef

log = logging.getLogger(__name__)

ROLLOUTS_PER_PAGE: Final = 20
ACTIONS_PER_TICK: Final = 200
ANSWER_WITHIN_MS: Final = 15_000
"""A device keeps the deadline of its policy by itself; so much later it is said to have kept silent."""


@dataclass(frozen=True, slots=True)
class Tick:
    uow: UnitOfWork
    trust: Trust
    clock: Clock
    ids: Ids
    topics: Topics

    def run(self) -> int:
        """Look at every running rollout once, oldest first, and do a bounded batch of each; return
        how many actions it was."""
        done, last = 0, None
        while rollouts := self._load_page(last):
            done += sum(self._advance(rollout) for rollout in rollouts)
            last = rollouts[-1]
        return done

    def _load_page(self, after: Rollout | None) -> Sequence[Rollout]:
        with self.uow.read() as transaction:
            return transaction.rollouts.running(after, ROLLOUTS_PER_PAGE)

    def _advance(self, rollout: Rollout) -> int:
        """Decide on what is read, then act in one transaction; an open assignment is looked at again
        when it is locked. One rollout that fails must not keep the others from going on."""
        try:
            with self.uow.read() as transaction:
                actions = self._decide(transaction, rollout)[:ACTIONS_PER_TICK]
            if actions:
                with self.uow.begin() as transaction:
                    for action in actions:
                        self._carry_out(transaction, rollout, action)
        except Unavailable:
            raise
        except Exception:  # the guard between rollouts
            log.exception("rollout %s of %s cannot go on", rollout.id, rollout.model)
            return 0
        return len(actions)

    def _decide(self, transaction: Transaction, rollout: Rollout) -> list[Action]:
        version = get_version(transaction, ModelRef(rollout.model, rollout.version))
        assigned = {a.device: a for a in transaction.assignments.of_rollout(rollout.id)}
        waiting = [device for device in rollout.devices if device not in assigned]
        known = {device.id: device for device in transaction.devices.many(waiting)}
        overtaken = transaction.assignments.overtaken(rollout) if waiting else frozenset[DeviceId]()
        observations = []
        for name in rollout.devices:
            device = known.get(name)
            facts = None if device is None or device.reported is None else device.reported.facts
            revoked = device is not None and device.revoked_ms is not None
            observations.append(Observation(name, facts, assigned.get(name), name in overtaken, revoked))
        manifests = [variant.digest for variant in version.variants] if waiting else []
        measurements = transaction.measurements.of_manifests(manifests)
        return decide(rollout, version, observations, self.clock.now_ms(), measurements)

    def _carry_out(self, transaction: Transaction, rollout: Rollout, action: Action) -> None:
        match action:
            case Assign():
                self._assign(transaction, rollout, action)
            case Refuse():
                refused = self._new(rollout, action.device, action.state)
                transaction.assignments.put(replace(refused, failure=action.failure))
            case TimeOut():
                self._close(transaction, action.assignment, AssignmentState.TIMED_OUT, action.failure)
            case Finish():
                # A late outcome may have come in since: the end is judged while it cannot.
                transaction.rollouts.lock(rollout.id)
                if self._decide(transaction, rollout) == [action]:
                    transaction.rollouts.set_state(rollout.id, action.state)
            case _ as never:
                assert_never(never)

    def _assign(self, transaction: Transaction, rollout: Rollout, action: Assign) -> None:
        known = transaction.devices.lock(action.device)
        if known is None or known.revoked_ms is not None:
            return  # since the decision: the next one refuses it
        try:
            order = next_order(transaction, action.device, self.trust.key_epoch)
        except Conflict as exc:
            failed = self._new(rollout, action.device, AssignmentState.FAILED)
            transaction.assignments.put(replace(failed, failure=Failure.of(exc)))
            return
        # A desired document has one entry: whatever the device was told before is overwritten.
        for older in transaction.assignments.lock_open_of_device(action.device):
            self._close(transaction, older.id, AssignmentState.SUPERSEDED, _superseded(rollout))
        assignment = replace(
            self._new(rollout, action.device, AssignmentState.PENDING),
            variant=action.variant,
            manifest=action.manifest,
            order=order,
        )
        transaction.assignments.put(assignment)
        desired = self._desired(transaction, rollout, assignment, action, order, known)
        envelope = self.trust.sign_desired(desired)
        transaction.desired.put(SignedDesired(action.device, order, envelope, desired.expires_ms))
        topic = self.topics.device(action.device, Channel.DESIRED)
        transaction.outbox.add(OutgoingMessage(topic, envelope, retain=True))

    def _desired(
        self,
        transaction: Transaction,
        rollout: Rollout,
        assignment: Assignment,
        action: Assign,
        order: Order,
        device: Device,
    ) -> Desired:
        version = get_version(transaction, ModelRef(rollout.model, rollout.version))
        (variant,) = [variant for variant in version.variants if variant.digest == action.manifest]
        encodings = [
            encoding
            for blob in variant.manifest.blobs.values()
            for encoding in transaction.models.encodings(blob.sha256)
            if device.decodes(encoding.encoding)
        ]
        now_ms = self.clock.now_ms()
        return Desired(
            device=action.device,
            key_epoch=order.key_epoch,
            generation=order.generation,
            serial=order.serial,
            issued_ms=now_ms,
            expires_ms=now_ms + DESIRED_LIFE_S * 1000,
            policy=rollout.policy,
            run=(
                RunEntry(
                    model=rollout.model,
                    version=str(rollout.version),
                    manifest=action.manifest,
                    assignment=assignment.id,
                    encodings=tuple(encodings),
                ),
            ),
        )

    def _new(self, rollout: Rollout, device: DeviceId, state: AssignmentState) -> Assignment:
        now_ms = self.clock.now_ms()
        return Assignment(
            id=AssignmentId(self.ids.new_id()),
            rollout=rollout.id,
            device=device,
            model=rollout.model,
            version=rollout.version,
            state=state,
            created_ms=now_ms,
            updated_ms=now_ms,
            deadline_ms=now_ms + int(rollout.policy.deadline_s * 1000) + ANSWER_WITHIN_MS,
        )

    def _close(
        self, transaction: Transaction, name: AssignmentId, state: AssignmentState, failure: Failure
    ) -> None:
        assignment = transaction.assignments.lock(name)
        if assignment is not None and assignment.state.is_open:
            closed = replace(assignment, state=state, failure=failure, updated_ms=self.clock.now_ms())
            transaction.assignments.put(closed)


def _superseded(rollout: Rollout) -> Failure:
    return Failure(
        code="assignment.superseded",
        message=f"a newer push of {rollout.model}:{rollout.version} took its place",
    )
