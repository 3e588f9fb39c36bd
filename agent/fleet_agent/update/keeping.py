"""The files of an update at a start and at an end: read, set aside when damaged, pruned.

What does not read back is kept under another name for a human, the newest one of each kind.
"""

import logging
from pathlib import Path
from typing import Final, Protocol

from fleet_agent.errors import SlotError
from fleet_agent.slots import Pointers, Slots
from fleet_agent.update.record import Evidence, RecordFile, UpdateRecord
from fleet_agent.update.resume import is_unproven, rebuild_pointers
from fleet_shared.messages.reported import Failure, Running
from fleet_shared.messages.update import UpdateState
from fleet_shared.names import AssignmentId

log = logging.getLogger(__name__)

_UNFIT: Final = frozenset({UpdateState.FAILED, UpdateState.ROLLED_BACK})


class Witness(Protocol):
    """Who writes down what happens: `journal`."""

    def store_outcome(self, record: UpdateRecord) -> None:
        """Store the one outcome of an assignment durably; safe to call twice. Raises `OutboxError`."""

    def has_outcome(self, assignment: AssignmentId) -> bool:
        """Whether the outcome was stored, now or by an earlier start of the agent."""

    def damaged(self, name: str, kept_as: Path | None) -> None:
        """A file did not parse and was set aside."""

    def event(
        self,
        name: str,
        *,
        failure: Failure | None = None,
        assignment: AssignmentId | None = None,
        detail: Evidence | None = None,
    ) -> None: ...


def load_record(file: RecordFile, witness: Witness) -> UpdateRecord | None:
    try:
        return file.load()
    except ValueError as exc:
        log.error("the update record is damaged: %s", exc)
        witness.damaged("record.damaged", _set_aside(file))
        return None


def load_pointers(slots: Slots, record: UpdateRecord | None, witness: Witness) -> Pointers:
    """Return the pointers; damaged or lost ones are rebuilt from the record, and without a record a model
    that did not come through its trial is left."""
    try:
        pointers = slots.load_pointers()
    except SlotError as exc:
        log.error("%s", exc.message)
        witness.damaged("pointers.damaged", _set_aside(slots))
        return _write(slots, rebuild_pointers(record, slots.holds))
    if record is not None:
        return pointers if slots.has_pointers else _write(slots, rebuild_pointers(record, slots.holds))
    if is_unproven(pointers, witness.has_outcome):
        log.error("the record of a trial is lost: the model before it runs")
        return _write(slots, Pointers(active=pointers.previous))
    return pointers


def _write(slots: Slots, pointers: Pointers) -> Pointers:
    try:
        slots.save_pointers(pointers)
    except OSError as exc:
        log.error("the rebuilt pointers cannot be written: %s", exc)
    return pointers


def prune(slots: Slots, pointers: Pointers, record: UpdateRecord | None, spare_bytes: int) -> None:
    """Remove installed models beyond the budget. Never on the word of no pointer: a device that lost
    its pointers keeps all but what the update that failed has just installed itself."""
    named = [running.manifest for running in (pointers.active, pointers.previous) if running is not None]
    try:
        if pointers.active is not None:
            slots.prune(named, spare_bytes)
        elif record is not None and record.state in _UNFIT and record.before is None:
            slots.remove(record.target.manifest)
    except OSError as exc:
        log.error("old models cannot be removed: %s", exc)


def set_slot_aside(slots: Slots, running: Running, witness: Witness) -> None:
    """Move a damaged model out of the way, and say so."""
    kept_as: Path | None = None
    try:
        kept_as = slots.set_slot_aside(running.manifest)
    except OSError as exc:
        log.error("a damaged model could not be set aside: %s", exc)
    witness.event(
        "slot.damaged",
        failure=Failure(
            code="slot.damaged",
            message=f"{running.model}:{running.version} is damaged on the disk of the device",
            hint="the agent goes on with the last good model, and fetches the newest one again; is the "
            "memory card worn out?",
        ),
        assignment=running.assignment,
        detail={
            "manifest": running.manifest,
            "version": running.version,
            "kept_as": None if kept_as is None else str(kept_as),
        },
    )


def tell_repair(record: UpdateRecord, witness: Witness) -> None:
    """Say how one try to repair a damaged model ended; one that gave way to a newer assignment ended for
    nobody."""
    failure = record.failure
    if failure is not None and failure.code == "update.superseded":
        return
    witness.event(
        "slot.repaired" if record.state is UpdateState.SUCCEEDED else "slot.unrepaired",
        failure=failure,
        assignment=record.entry.assignment,
        detail={
            "manifest": record.target.manifest,
            "version": record.target.version,
            "tries": record.repairs,
            "bytes_fetched": record.evidence.get("bytes_fetched"),
        },
    )


def _set_aside(file: RecordFile | Slots) -> Path | None:
    """Keep a damaged file for a human; a disk that does not take that keeps it where it is."""
    try:
        return file.set_aside()
    except OSError as exc:
        log.error("a damaged file could not be set aside: %s", exc)
        return None
