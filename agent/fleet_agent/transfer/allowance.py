"""What may still come over the wire for one assignment, all tries together, also after a restart.

The count is kept in a small file of its own, and not in the update's record, since the thread that
downloads does not own that. It is claimed ahead, a step at a time: a kill costs at most one step of the
budget, and never gives a byte back.
"""

from pathlib import Path
from typing import Final

import msgspec

from fleet_agent.errors import TransferError
from fleet_shared.durable import write_durably
from fleet_shared.limits import KIB, MIB
from fleet_shared.names import AssignmentId

BUDGET_CODE: Final = "transfer.budget"


class _Spent(msgspec.Struct, frozen=True):
    assignment: str
    claimed: int


class Allowance:
    """``bytes_max``: none for as many as it takes; they are counted all the same, for a budget may come
    later. Raises `OSError` when the count cannot be written."""

    def __init__(self, file: Path, assignment: AssignmentId, bytes_max: int | None) -> None:
        self._file, self._assignment, self._max = file, assignment, bytes_max
        self._step = MIB if bytes_max is None else max(16 * KIB, min(MIB, bytes_max // 16))
        self.spent = self._claimed = self._load()

    def require(self, count: int) -> None:
        """Raise `TransferError` (``transfer.budget``) unless ``count`` more bytes may come."""
        if self._max is None or self.spent + count <= self._max:
            return
        raise TransferError(
            f"{count} more bytes are needed, and {self.spent} of the {self._max} bytes that this update may "
            "fetch came already",
            hint="push again with a larger bytes_max, or a smaller variant",
            code="transfer.budget",
        )

    def spend(self, count: int) -> None:
        """Count bytes that came."""
        self.spent += count
        if self.spent > self._claimed:
            self._save(self.spent + self._step)

    def settle(self) -> None:
        """Give back what was claimed and did not come."""
        if self._claimed != self.spent:
            self._save(self.spent)

    def _save(self, claimed: int) -> None:
        write_durably(self._file, msgspec.json.encode(_Spent(self._assignment, claimed)))
        self._claimed = claimed

    def _load(self) -> int:
        """Another assignment's count, and a damaged one, is none: what has no budget must not wait
        for one that nobody can raise."""
        try:
            spent = msgspec.json.decode(self._file.read_bytes(), type=_Spent)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return 0
        return max(0, spent.claimed) if spent.assignment == self._assignment else 0
