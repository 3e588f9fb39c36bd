"""What is said to devices: the newest desired state of each, and messages on their way."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, delete, insert, or_, select

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import locking, upsert, write_json
from fleet_cloud.services.ports import OutgoingMessage, SignedDesired
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId


class DesiredTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.desired

    def get(self, device: DeviceId) -> SignedDesired | None:
        row = self._connection.execute(select(self._t).where(self._t.c.device == device)).one_or_none()
        return None if row is None else _desired(row)

    def put(self, desired: SignedDesired) -> None:
        values = {
            "order": write_json(desired.order),
            "envelope": desired.envelope,
            "key_epoch": desired.order.key_epoch,
            "expires_ms": desired.expires_ms,
        }
        upsert(self._connection, self._t, {"device": desired.device}, values)

    def has_due(self, key_epoch: int, before_ms: int) -> bool:
        return self._connection.execute(self._due(key_epoch, before_ms).limit(1)).first() is not None

    def lock_due(self, key_epoch: int, before_ms: int, limit: int) -> Sequence[SignedDesired]:
        query = self._due(key_epoch, before_ms).order_by(self._t.c.device).limit(limit)
        return [_desired(row) for row in self._connection.execute(locking(query))]

    def _due(self, key_epoch: int, before_ms: int) -> Select[Any]:
        c = self._t.c
        ending, older = c.expires_ms < before_ms, c.key_epoch < key_epoch
        return select(self._t).where(c.expires_ms.is_not(None), or_(ending, older))

    def lock_unmet(self) -> Sequence[SignedDesired]:
        t = tables.assignment
        waiting = select(t.c.device).where(t.c.is_open)
        query = select(self._t).where(self._t.c.device.in_(waiting)).order_by(self._t.c.device)
        return [_desired(row) for row in self._connection.execute(locking(query))]


def _desired(row: Row[Any]) -> SignedDesired:
    return SignedDesired(
        DeviceId(row.device),
        msgspec.json.decode(row.order, type=Order),
        bytes(row.envelope),
        row.expires_ms,
    )


class OutgoingTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.outgoing

    def add(self, message: OutgoingMessage) -> None:
        self._connection.execute(delete(self._t).where(self._t.c.topic == message.topic))
        self._connection.execute(
            insert(self._t).values(topic=message.topic, payload=message.payload, retain=message.retain)
        )

    def pending(self, limit: int) -> Sequence[OutgoingMessage]:
        rows = self._connection.execute(select(self._t).order_by(self._t.c.id).limit(limit))
        return [OutgoingMessage(row.topic, bytes(row.payload), row.retain, row.id) for row in rows]

    def remove(self, ids: Sequence[int]) -> None:
        self._connection.execute(delete(self._t).where(self._t.c.id.in_(ids)))
