"""The inventory of devices."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, func, insert, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import locking, read_json, upsert, write_json
from fleet_cloud.domain.device import Device
from fleet_shared.messages.reported import Reported
from fleet_shared.names import DeviceId, Digest

IN_MAX: Final = 500
"""Values of one IN list."""


class DeviceTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, device: DeviceId) -> Device | None:
        return self._one(select(tables.device).where(tables.device.c.id == device))

    def lock(self, device: DeviceId) -> Device | None:
        return self._one(locking(select(tables.device).where(tables.device.c.id == device)))

    def add(self, device: Device) -> None:
        self._connection.execute(insert(tables.device).values(id=device.id, **self._values(device)))

    def put(self, device: Device) -> None:
        upsert(self._connection, tables.device, {"id": device.id}, self._values(device))

    def many(self, devices: Sequence[DeviceId]) -> Sequence[Device]:
        found: list[Device] = []
        for start in range(0, len(devices), IN_MAX):
            query = select(tables.device).where(tables.device.c.id.in_(devices[start : start + IN_MAX]))
            found += [_device(row) for row in self._connection.execute(query)]
        return found

    def seen(self, device: DeviceId, now_ms: int) -> None:
        t = tables.device
        self._connection.execute(
            update(t).where(t.c.id == device).values(last_seen_ms=now_ms, online=t.c.session.is_not(None))
        )

    def give_up_silent(self, heard_before_ms: int) -> int:
        t = tables.device
        silent = (
            update(t)
            .where(t.c.online, func.coalesce(t.c.last_seen_ms, 0) < heard_before_ms)
            .values(online=False)
        )
        return self._connection.execute(silent).rowcount

    def count(self) -> tuple[int, int]:
        t = tables.device
        query = select(func.count().filter(t.c.online), func.count())
        online, total = self._connection.execute(query.select_from(t)).one()
        return int(online), int(total)

    def _one(self, query: Select[Any]) -> Device | None:
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _device(row)

    def _values(self, device: Device) -> dict[str, Any]:
        return {
            "enrolled_ms": device.enrolled_ms,
            "public_key_sha256": device.public_key_sha256,
            "labels": write_json(dict(device.labels)),
            "online": device.online,
            "session": device.session,
            "last_seen_ms": device.last_seen_ms,
            "reported": None if device.reported is None else write_json(device.reported),
            "revoked_ms": device.revoked_ms,
        }

    def page(self, after: DeviceId | None, limit: int) -> Sequence[Device]:
        query = select(tables.device).order_by(tables.device.c.id).limit(limit)
        if after is not None:
            query = query.where(tables.device.c.id > after)
        return [_device(row) for row in self._connection.execute(query)]


def _device(row: Row[Any]) -> Device:
    return Device(
        id=DeviceId(row.id),
        enrolled_ms=row.enrolled_ms,
        public_key_sha256=Digest(row.public_key_sha256),
        labels=msgspec.json.decode(row.labels),
        online=row.online,
        session=row.session,
        last_seen_ms=row.last_seen_ms,
        reported=read_json(Reported, row.reported),
        revoked_ms=row.revoked_ms,
    )
