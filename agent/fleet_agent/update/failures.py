"""Why an update ended badly, in words for an operator. Pure."""

import errno
from typing import Final

from fleet_agent.update.machine import LIMITS
from fleet_agent.update.record import UpdateRecord
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.update import UpdateState

FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_GOES_ON: Final = "; the running model goes on"


def disk_failure(what: str, refused: OSError) -> Failure:
    """``disk.full``, ``disk.readonly``, or ``disk.failed`` for anything else that a disk says."""
    message = f"{what}: {refused.strerror or refused}"
    if refused.errno in FULL_ERRORS:
        return Failure(
            code="disk.full", message=message, hint=f"free space on the device and push again{_GOES_ON}"
        )
    if refused.errno == errno.EROFS:
        return Failure(
            code="disk.readonly",
            message=message,
            hint=f"the state folder's file system is read-only: look at the device's kernel log{_GOES_ON}",
        )
    return Failure(code="disk.failed", message=message, hint=f"look at the device's kernel log{_GOES_ON}")


def update_late(record: UpdateRecord) -> Failure:
    """The deadline of the whole update."""
    waited = "" if record.waiting is None else f", and waited, since {record.waiting.message}"
    return Failure(
        code="update.deadline",
        message=f"the update did not end within {record.policy.deadline_s:g} s; "
        f"it was {record.state.value}{waited}",
        hint="is the link too slow? push again with a longer --deadline",
    )


def state_late(state: UpdateState, seconds: float, tries: int) -> Failure:
    """The deadline of one state."""
    again = "" if tries == 1 else f" in {tries} tries"
    return Failure(
        code=LIMITS[state].code,
        message=f"{state.value} did not end within {seconds:.0f} s{again}",
        hint="is the device overloaded, or its disk slow? its log says more",
    )


def slot_damaged(running: Running) -> Failure:
    return Failure(
        code="slot.damaged",
        message=f"{running.model}:{running.version} was damaged on the disk within its trial time",
        hint="is the memory card of the device worn out? push again",
    )


def soak_silent() -> Failure:
    return Failure(
        code="soak.silent",
        message="the worker serves, and measured nothing within its trial time",
        hint="it may hang: its log is in the agent's log",
    )
