"""The audit log: written at its end only; the database refuses anything else."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text

from fleet_cloud.adapters.db import tables
from fleet_cloud.domain.audit import GENESIS, AuditEntry, Chained, hash_entry
from fleet_cloud.domain.people import Actor
from fleet_shared.names import Digest


class AuditTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.audit

    def append(
        self, by: Actor, at_ms: int, action: str, subject: str, *, before: str | None, after: str | None
    ) -> Chained:
        self._wait_for_others()
        last = self.last()
        seq, previous = (last.entry.seq, last.hash) if last is not None else (0, GENESIS)
        entry = AuditEntry(seq + 1, at_ms, by.name, by.origin, action, subject, before, after)
        chained = Chained(entry, hash_entry(previous, entry))
        values = {name: getattr(entry, name) for name in AuditEntry.__dataclass_fields__}
        self._connection.execute(insert(self._t).values(**values, hash=chained.hash))
        return chained

    def last(self) -> Chained | None:
        newest = select(func.max(self._t.c.seq)).scalar_subquery()
        rows = self._connection.execute(select(self._t).where(self._t.c.seq == newest)).all()
        return _chained(rows[0]) if rows else None

    def page(self, after: int, limit: int) -> Sequence[Chained]:
        query = select(self._t).where(self._t.c.seq > after).order_by(self._t.c.seq).limit(limit)
        return [_chained(row) for row in self._connection.execute(query)]

    def _wait_for_others(self) -> None:
        """Two that append at once would follow the same entry; SQLite has one writer anyway."""
        if self._connection.dialect.name != "sqlite":
            self._connection.execute(text("LOCK TABLE audit IN EXCLUSIVE MODE"))


def _chained(row: Row[Any]) -> Chained:
    values = {name: getattr(row, name) for name in AuditEntry.__dataclass_fields__}
    return Chained(AuditEntry(**values), Digest(row.hash))
