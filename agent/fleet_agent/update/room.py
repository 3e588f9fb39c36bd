"""Whether memory holds a second worker beside the one that serves. Pure."""

from fleet_agent.errors import TransferError
from fleet_agent.update.record import UpdateRecord
from fleet_shared.manifest import parse_manifest
from fleet_shared.messages.desired import WhenTight


def is_tight(record: UpdateRecord, available_bytes: int | None, margin_bytes: int) -> bool:
    """Whether a worker for the model of ``record`` does not fit into ``available_bytes`` with
    ``margin_bytes`` to spare. Where nothing serves there is no second worker; what cannot be read is
    believed to suffice."""
    if record.before is None or available_bytes is None:
        return False
    return _needed_bytes(record) + margin_bytes > available_bytes


def check_memory(record: UpdateRecord, available_bytes: int | None, margin_bytes: int) -> None:
    """Raise `TransferError` (``memory.low``) before a download whose model could not be tried out."""
    if record.policy.when_tight is WhenTight.GAP or not is_tight(record, available_bytes, margin_bytes):
        return
    raise TransferError(
        f"memory holds no second worker: {_needed_bytes(record)} bytes and {margin_bytes} to spare are "
        f"needed, {available_bytes} are available",
        hint="push a smaller variant, or with --policy when_tight=gap; the running model goes on",
        code="memory.low",
    )


def _needed_bytes(record: UpdateRecord) -> int:
    return parse_manifest(record.manifest).contract.memory_bytes
