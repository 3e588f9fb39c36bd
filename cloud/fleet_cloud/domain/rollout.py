"""Rollouts and assignments: what was intended, and how far each device got."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Facts, Failure, Order
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName, VariantName
from fleet_shared.version import Version

RolloutId = NewType("RolloutId", str)


class RolloutState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AssignmentState(StrEnum):
    """The device's own states, and what only the cloud can say of an assignment."""

    PENDING = "pending"
    """Decided and signed; the device has not spoken of it yet."""
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    SELF_TESTING = "self-testing"
    SWITCHING = "switching"
    SOAKING = "soaking"
    ROLLING_BACK = "rolling-back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    """No variant fits the device; nothing was sent."""
    SUPERSEDED = "superseded"
    """A newer assignment of the same model took its place."""
    TIMED_OUT = "timed-out"
    """The deadline passed without an outcome."""

    @property
    def is_open(self) -> bool:
        return self not in CLOSED_STATES

    @classmethod
    def of_update(cls, state: UpdateState) -> "AssignmentState | None":
        """Return what a device's update state means here; none for idle and unknown."""
        try:
            return cls(state.value)
        except ValueError:
            return None


CLOSED_STATES = frozenset(
    {
        AssignmentState.SUCCEEDED,
        AssignmentState.FAILED,
        AssignmentState.ROLLED_BACK,
        AssignmentState.REFUSED,
        AssignmentState.SUPERSEDED,
        AssignmentState.TIMED_OUT,
    }
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One wave over the devices that its selector meant when it was recorded.

    ``variant`` forces one variant; none lets Fleet choose per device.
    """

    id: RolloutId
    model: ModelName
    version: Version
    selector: str
    devices: tuple[DeviceId, ...]
    created_ms: int
    policy: Policy
    variant: VariantName | None = None
    state: RolloutState = RolloutState.RUNNING


@dataclass(frozen=True, slots=True)
class Assignment:
    """One device told to run one version within one rollout. ``order`` is that of the desired
    document that carries it (none for a refused one)."""

    id: AssignmentId
    rollout: RolloutId
    device: DeviceId
    model: ModelName
    version: Version
    state: AssignmentState
    created_ms: int
    updated_ms: int
    deadline_ms: int
    variant: VariantName | None = None
    manifest: Digest | None = None
    order: Order | None = None
    bytes_done: int = 0
    bytes_total: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class AssignmentChange:
    """One entry of an assignment's history."""

    assignment: AssignmentId
    at_ms: int
    state: AssignmentState
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tick sees of one device of a rollout. ``facts`` is none until the device speaks;
    ``overtaken``: a later rollout has told the device what to run; ``revoked``: it is let in no more."""

    device: DeviceId
    facts: Facts | None
    assignment: Assignment | None
    overtaken: bool = False
    revoked: bool = False
