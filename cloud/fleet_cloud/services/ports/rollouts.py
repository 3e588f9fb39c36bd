"""Models, and who is to run them."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from fleet_cloud.domain.model import ModelVersion
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentChange,
    AssignmentState,
    Rollout,
    RolloutId,
    RolloutState,
)
from fleet_shared.messages.desired import EncodedBlob
from fleet_shared.messages.reported import Order
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName
from fleet_shared.version import Version


class Models(Protocol):
    def get(self, model: ModelName, version: Version) -> ModelVersion | None: ...

    def find_content(self, model: ModelName, content: Digest) -> ModelVersion | None: ...

    def newest(self, model: ModelName) -> ModelVersion | None: ...

    def versions(self, model: ModelName | None) -> Sequence[ModelVersion]:
        """All versions of one model, or of every model, newest first within a model."""

    def add(self, version: ModelVersion) -> None: ...

    def encodings(self, blob: Digest) -> Sequence[EncodedBlob]: ...

    def add_encoding(self, encoding: EncodedBlob) -> None: ...


class Rollouts(Protocol):
    def get(self, rollout: RolloutId) -> Rollout | None: ...

    def add(self, rollout: Rollout) -> None: ...

    def set_state(self, rollout: RolloutId, state: RolloutState) -> None: ...

    def lock(self, rollout: RolloutId) -> None:
        """Let others who change this rollout wait until the end of the transaction."""

    def running(self, after: Rollout | None, limit: int) -> Sequence[Rollout]:
        """Running rollouts, oldest first, after the given one."""

    def count_running(self) -> int: ...

    def page(self, limit: int) -> Sequence[Rollout]:
        """Newest first."""


class Assignments(Protocol):
    def get(self, assignment: AssignmentId) -> Assignment | None: ...

    def lock(self, assignment: AssignmentId) -> Assignment | None:
        """Return an assignment that is to be changed: others wait until the end of the transaction."""

    def put(self, assignment: Assignment) -> None:
        """Insert or change; a changed state or failure is added to the history."""

    def of_rollout(self, rollout: RolloutId) -> Sequence[Assignment]: ...

    def lock_open_of_device(self, device: DeviceId) -> Sequence[Assignment]:
        """Those that wait for the device, locked."""

    def overtaken(self, rollout: Rollout) -> AbstractSet[DeviceId]:
        """Devices that a later rollout has told what to run."""

    def count_by_state(self) -> Mapping[AssignmentState, int]: ...

    def history(self, assignment: AssignmentId) -> Sequence[AssignmentChange]: ...


@dataclass(frozen=True, slots=True)
class SignedDesired:
    """The newest desired document of a device, as it is published. ``expires_ms`` is none once it need not
    be signed again."""

    device: DeviceId
    order: Order
    envelope: bytes
    expires_ms: int | None = None


class DesiredStates(Protocol):
    def get(self, device: DeviceId) -> SignedDesired | None: ...

    def put(self, desired: SignedDesired) -> None: ...

    def has_due(self, key_epoch: int, before_ms: int) -> bool:
        """Tell whether `lock_due` would find one."""

    def lock_due(self, key_epoch: int, before_ms: int, limit: int) -> Sequence[SignedDesired]:
        """Those that end before then, or are of an older key epoch, locked; at most so many."""

    def lock_unmet(self) -> Sequence[SignedDesired]:
        """Those of devices with an open assignment that waits for the device, locked: a newer one must
        not be overtaken by these on their way to the broker."""
