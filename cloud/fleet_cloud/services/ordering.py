"""The order of desired documents: a device takes up only what is above what it has accepted."""

from dataclasses import replace
from typing import Final

from fleet_cloud.errors import Conflict
from fleet_cloud.services.ports import Transaction
from fleet_shared.messages.reported import Order, Reported
from fleet_shared.names import AssignmentId, DeviceId

GENERATION_MAX: Final = 2**63 - 1
"""No message and no database carries more."""


def next_order(transaction: Transaction, device: DeviceId, epoch: int) -> Order:
    """Return one above what the database or the device has seen in this key epoch; raise `Conflict`
    (``desired.generation``) where there is none: whoever has the assignment key has used them up."""
    stored = transaction.desired.get(device)
    seen = (stored.order if stored is not None else Order(), reported_order(transaction, device))
    highest = max((order.generation for order in seen if order.key_epoch == epoch), default=0)
    if highest >= GENERATION_MAX:
        raise Conflict(
            f"device {device!r} has accepted generation {highest}, the last of key epoch {epoch}",
            hint="somebody else signs with the assignment key: rotate it, fleet trust rotate assignment",
            code="desired.generation",
        )
    return Order(key_epoch=epoch, generation=highest + 1, serial=0)


def reported_order(transaction: Transaction, device: DeviceId) -> Order:
    """Return what the device says that it has accepted."""
    known = transaction.devices.get(device)
    return Order() if known is None or known.reported is None else known.reported.accepted


def call_behind(transaction: Transaction, device: DeviceId, reported: Reported) -> bool:
    """Let what waits for a device be signed again, above what it says that it has accepted: a database
    restored from an older copy does not remember what it said since. Tell whether it must be."""
    stored, accepted = transaction.desired.get(device), reported.accepted
    if stored is None or stored.order > accepted or accepted.key_epoch != stored.order.key_epoch:
        return False
    waiting = [a for a in transaction.assignments.lock_open_of_device(device) if a.order == stored.order]
    if not waiting or (stored.order == accepted and not _is_at_rest_with_another(reported, waiting[0].id)):
        return False
    if accepted.generation < GENERATION_MAX:
        transaction.desired.put(replace(stored, expires_ms=0))
    return accepted.generation < GENERATION_MAX


def _is_at_rest_with_another(reported: Reported, assignment: AssignmentId) -> bool:
    """Tell whether the order that the device has accepted was given to something else: it is busy with
    nothing, and what it did last is not what it was told under this number."""
    progress = reported.update
    return progress is not None and progress.state.is_final and progress.assignment != assignment
