"""A damaged model is fetched and installed again, by the device itself. Pure.

A repair is the newest update once more, under the same assignment: the same states, limits and way back,
but its outcome was told already, so that an event tells of it instead. It is derived from what is on the
disk: the update succeeded, and the pointers do not name its model. A repair that fails is tried again, a
few times in all: a card that loses what is written to it is not worn out on top.
"""

from typing import Final

import msgspec

from fleet_agent.slots import Pointers
from fleet_agent.update.record import UpdateRecord
from fleet_shared.messages.desired import OverBudget
from fleet_shared.messages.reported import Failure
from fleet_shared.messages.update import UpdateState as S

REPAIRS_MAX: Final = 8
"""For one assignment."""
REPAIR_WITHIN_S: Final = 7 * 24 * 3600.0
"""A device that is offline waits for its link; a newer assignment takes the place of a repair at any time."""
AGAIN_AFTER_S: Final = 900.0
AGAIN_CEILING_S: Final = 6 * 3600.0


def wants_repair(record: UpdateRecord | None, pointers: Pointers) -> bool:
    """Whether the model of an update that succeeded is installed no more, and may be fetched again."""
    if record is None or record.repairs >= REPAIRS_MAX or not record.is_settled:
        return False
    if record.state is S.SUCCEEDED:
        return pointers.active != record.target
    return record.repairs > 0


def explain_repair(record: UpdateRecord | None, pointers: Pointers) -> Failure | None:
    """Return what is to be said while the model of the newest assignment is lost; none while it is not."""
    if record is None or not (record.repairs or wants_repair(record, pointers)):
        return None
    if record.state is S.SUCCEEDED and pointers.active == record.target:
        return None
    name = f"{record.target.model}:{record.target.version}"
    why = "" if record.failure is None else f": {record.failure.message}"
    again = "is fetched again" if record.repairs < REPAIRS_MAX else "is not fetched again"
    return Failure(
        code="slot.damaged",
        message=f"{name} was damaged on the disk, and {again}; tries so far: {record.repairs}{why}",
        hint="is the memory card of the device worn out? a new push starts anew",
    )


def plan_repair(record: UpdateRecord, pointers: Pointers, boot_id: str, now_ms: int) -> UpdateRecord:
    """Return the record of one more try. The model proved itself before: its trial asks for no inferences
    and compares it with nothing."""
    policy = msgspec.structs.replace(
        record.policy,
        deadline_s=REPAIR_WITHIN_S,
        soak_inferences=0,
        latency_ratio_max=None,
        over_bytes=OverBudget.FAIL,
        benchmark=False,
    )
    return msgspec.structs.replace(
        record,
        state=S.DOWNLOADING,
        policy=policy,
        repairs=record.repairs + 1,
        boot_id=boot_id,
        started_ms=now_ms,
        saved_ms=now_ms,
        deadline_ms=now_ms + int(policy.deadline_s * 1000),
        before=pointers.active,
        before_previous=pointers.previous,
        before_latency=None,
        before_memory_bytes_max=record.before_memory_bytes_max if pointers.active == record.before else None,
        failure=None,
        waiting=None,
        evidence={},
        resumes=0,
        late_resumes=0,
    )
