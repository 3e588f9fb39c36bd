"""What a rollout does next. Pure and total: same observations, same actions.

The tick calls `decide` with what it sees and carries the actions out in one transaction. A
crash between two ticks changes nothing: the next tick sees the same world.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_cloud.domain.measurements import Measurement
from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentState,
    Observation,
    Rollout,
    RolloutState,
)
from fleet_cloud.domain.variants import choose_variant
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId, DeviceId, Digest, VariantName


@dataclass(frozen=True, slots=True)
class Assign:
    """Tell the device to run this variant; what it was told before and has not done is superseded."""

    device: DeviceId
    variant: VariantName
    manifest: Digest


@dataclass(frozen=True, slots=True)
class Refuse:
    """Record that the device is not served by this rollout; nothing is sent."""

    device: DeviceId
    failure: Failure
    state: AssignmentState = AssignmentState.REFUSED


@dataclass(frozen=True, slots=True)
class TimeOut:
    """Close an assignment whose deadline has passed."""

    assignment: AssignmentId
    failure: Failure


@dataclass(frozen=True, slots=True)
class Finish:
    """End the rollout."""

    state: RolloutState


Action = Assign | Refuse | TimeOut | Finish


def decide(
    rollout: Rollout,
    version: ModelVersion,
    observations: Sequence[Observation],
    now_ms: int,
    measurements: Sequence[Measurement] = (),
) -> list[Action]:
    """Return what is to be done now for a rollout of one wave. ``measurements`` are of its variants.

    A device that never spoke (no facts) is waited for until the rollout's deadline. The rollout
    ends when every device's assignment is closed: succeeded only if all of them succeeded.
    """
    if rollout.state is not RolloutState.RUNNING:
        return []
    actions = [
        action
        for observation in observations
        if (action := _decide_device(rollout, version, observation, now_ms, measurements)) is not None
    ]
    return actions or _decide_end(observations)


def _decide_device(
    rollout: Rollout,
    version: ModelVersion,
    observation: Observation,
    now_ms: int,
    measurements: Sequence[Measurement],
) -> Action | None:
    assignment = observation.assignment
    if assignment is not None:
        overdue = assignment.state.is_open and now_ms > assignment.deadline_ms
        return TimeOut(assignment.id, _overdue(rollout, assignment)) if overdue else None
    if observation.revoked:
        return Refuse(observation.device, _revoked())
    if observation.overtaken:
        return Refuse(observation.device, _overtaken(), AssignmentState.SUPERSEDED)
    if observation.facts is None:
        late = now_ms > rollout.created_ms + rollout.policy.deadline_s * 1000
        return Refuse(observation.device, _never_seen(rollout)) if late else None
    choice = choose_variant(version, observation.facts, rollout.variant, measurements, observation.device)
    if isinstance(choice, Failure):
        return Refuse(observation.device, choice)
    return Assign(observation.device, choice.name, choice.digest)


def _decide_end(observations: Sequence[Observation]) -> list[Action]:
    states = [seen.assignment.state if seen.assignment else None for seen in observations]
    if any(state is None or state.is_open for state in states):
        return []
    succeeded = all(state is AssignmentState.SUCCEEDED for state in states)
    return [Finish(RolloutState.SUCCEEDED if succeeded else RolloutState.FAILED)]


def _revoked() -> Failure:
    return Failure(
        code="device.revoked",
        message="the device was revoked",
        hint="fleet device readmit lets it in again; then push again",
    )


def _overtaken() -> Failure:
    return Failure(
        code="assignment.superseded", message="a newer push told the device what to run before this one did"
    )


def _overdue(rollout: Rollout, assignment: Assignment) -> Failure:
    said = f"; it last said: {assignment.failure.message}" if assignment.failure else ""
    return Failure(
        code="assignment.deadline",
        message=f"the device reported no outcome within {rollout.policy.deadline_s:g} s{said}",
        hint="look at the device: fleet device show; push again when it is back",
    )


def _never_seen(rollout: Rollout) -> Failure:
    return Failure(
        code="assignment.never_seen",
        message=f"the device did not report itself within {rollout.policy.deadline_s:g} s",
        hint="is fleet-agent running there? push again when it is",
    )
