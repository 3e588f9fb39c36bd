"""What was changed, by whom: written with each change, read by whoever wants to check it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from fleet_cloud.domain.audit import Chained
from fleet_cloud.domain.people import Actor
from fleet_cloud.services.ports import Transaction, UnitOfWork

SUBJECT_CHARACTERS = 255


def note(
    transaction: Transaction,
    by: Actor,
    at_ms: int,
    action: str,
    subject: str,
    *,
    before: Any = None,
    after: Any = None,
) -> None:
    """Append one change to the audit log of ``transaction``; ``before`` and ``after`` become JSON."""
    transaction.audit.append(
        by, at_ms, action, subject[:SUBJECT_CHARACTERS], before=_encode(before), after=_encode(after)
    )


def _encode(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value, order="sorted").decode()


@dataclass(frozen=True, slots=True)
class AuditTrail:
    uow: UnitOfWork

    def page(self, after: int, limit: int) -> Sequence[Chained]:
        """Return entries above ``after``, in order."""
        with self.uow.read() as transaction:
            return transaction.audit.page(after, limit)
