"""Where a start of the agent goes on, from what is on disk. Pure."""

from collections.abc import Callable

import msgspec

from fleet_agent.slots import Pointers
from fleet_agent.update.machine import UpdateEvent, is_looping, next_state, resume_state, settle_state
from fleet_agent.update.record import UpdateRecord
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.update import UpdateState as S
from fleet_shared.names import AssignmentId, Digest


def rebuild_pointers(record: UpdateRecord | None, holds: Callable[[Digest], bool]) -> Pointers:
    """Return what the damaged pointers said, as far as the record knows it.

    Only what is still installed is named. A switch that was not known to be done counts as not done.
    """
    if record is None:
        return Pointers()
    named: tuple[Running | None, ...] = (record.before, record.before_previous)
    if record.state in (S.SUCCEEDED, S.SOAKING):
        named = (record.target, record.fallback)
    installed = [running for running in named if running is not None and holds(running.manifest)]
    active, previous = [*installed, None, None][:2]
    return Pointers(active=active, previous=previous)


def is_unproven(pointers: Pointers, has_outcome: Callable[[AssignmentId], bool]) -> bool:
    """Whether the active model was on trial when its record was lost: no outcome of it was ever stored. There
    must be one to go back to."""
    active, previous = pointers.active, pointers.previous
    return active is not None and previous is not None and not has_outcome(active.assignment)


def resume_record(
    saved: UpdateRecord, *, switched: bool, outcome_stored: bool, boot_id: str, now_ms: int
) -> UpdateRecord:
    """Return the record to go on with; ``saved`` is not final.

    ``switched``: the pointers name the new model. ``outcome_stored``: its outcome is in the outbox
    already, so that it ended, and only the end could not be saved.
    """
    record = saved.rebased(boot_id, now_ms)
    if outcome_stored:
        return _settle(record, switched=switched)
    late = saved.state is not S.DOWNLOADING
    record = msgspec.structs.replace(
        record, resumes=saved.resumes + 1, late_resumes=saved.late_resumes + int(late)
    )
    state, failure = resume_state(saved.state, switched=switched), None
    if is_looping(saved.state, record.late_resumes if late else record.resumes):
        state, failure = next_state(state, UpdateEvent.FAILED), _looping(record.resumes)
    elif state is S.ROLLING_BACK:
        failure = _lost(saved)
    return record.at(state, failure=failure)


def _settle(record: UpdateRecord, *, switched: bool) -> UpdateRecord:
    state = settle_state(record.state, switched=switched)
    failure = Failure(
        code="update.unsaved",
        message=f"the update ended before a restart that finds its record {record.state.value}",
        hint="its outcome says why; was the disk full?",
    )
    ended = record.at(state, failure=None if state is S.SUCCEEDED else failure)
    return msgspec.structs.replace(ended, outcome_reported=True)


def _looping(resumes: int) -> Failure:
    return Failure(
        code="update.loop",
        message=f"the agent was restarted {resumes} times within this update",
        hint="the update may bring the device down: look at its log before you push again",
    )


def _lost(saved: UpdateRecord) -> Failure:
    """Why a return begins with a restart; one that had begun before has its own reason."""
    return Failure(
        code="update.lost",
        message=f"after a restart the update was {saved.state.value}, and the pointers did not agree",
        hint="slots.json was damaged or written by another agent; push again",
    )
