"""The newest order that was verified: an older one is a replay, and is refused from then on.

It outlives the record of an update: whoever removes or damages that gets no older model in. Signed is
signed: an order counts as seen also when its model could not be fetched yet.
"""

from pathlib import Path
from typing import Final

import msgspec

from fleet_shared.durable import write_durably
from fleet_shared.messages.reported import Order

ORDER_MAX: Final = 2**63 - 1
"""What every database can hold."""


def load_order(file: Path) -> Order:
    """Return the newest order; the first of all where none was seen, or nothing can be read: then signatures
    still hold, only replays are not found out."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Order)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return Order()


def raise_order(file: Path, order: Order) -> None:
    if order > load_order(file):
        write_durably(file, msgspec.json.encode(order))
