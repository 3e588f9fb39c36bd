"""Wall times for rows that a device wrote before it knew the time: corrected once it does.

A row says when it was written on the boot clock, which counts on whatever the wall clock says; one event
of the same boot with both times dates them all. Rows of another boot are left alone: nothing tells how
long the device was without power. ``clock`` of a row stays as it was, so that a corrected time can be told
from a read one.
"""

from dataclasses import replace
from typing import Final

import msgspec

from fleet_cloud.services.ports import Received, Transaction
from fleet_shared.messages.telemetry import Event
from fleet_shared.names import DeviceId

PAGE: Final = 1000
NO_BOOT: Final = frozenset({"", "unknown"})
"""What a device says that cannot tell its boots apart."""
LATEST_MS: Final = 2**63 - 1
"""What a row holds at most: a device may say anything."""


def date_rows(transaction: Transaction, device: DeviceId, event: Event) -> int:
    """Date the stored rows of the event's boot that have no wall time; return how many."""
    if event.wall_ms is None or event.boot_id in NO_BOOT:
        return 0
    booted_ms = event.wall_ms - event.boot_ms
    dated = 0
    while rows := transaction.telemetry.undated(device, event.boot_id, PAGE):
        transaction.telemetry.put_rows([_date(received, booted_ms) for received in rows])
        dated += len(rows)
    return dated


def _date(received: Received, booted_ms: int) -> Received:
    wall_ms = min(max(0, booted_ms + received.row.boot_ms), LATEST_MS)
    return replace(received, row=msgspec.structs.replace(received.row, wall_ms=wall_ms))
