"""The order of desired documents: a device takes up only what is above what it has accepted."""

from typing import Final

from fleet_cloud.errors import Conflict
from fleet_cloud.services.ports import Transaction
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId

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
