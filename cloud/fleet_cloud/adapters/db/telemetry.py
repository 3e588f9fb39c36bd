"""Streams, samples, events and dead letters."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import locking, upsert, write_json
from fleet_cloud.domain.stream import StreamState
from fleet_cloud.services.ports import Received, TelemetryTotals
from fleet_shared.messages.telemetry import AnyRow, Event, Sample
from fleet_shared.names import DeviceId


class TelemetryTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.telemetry

    def lock_stream(self, device: DeviceId, stream: str) -> StreamState | None:
        t = tables.stream
        query = select(t).where(t.c.device == device, t.c.stream == stream)
        row = self._connection.execute(locking(query)).one_or_none()
        return None if row is None else _stream(row)

    def put_stream(self, device: DeviceId, stream: str, state: StreamState) -> None:
        upsert(self._connection, tables.stream, {"device": device, "stream": stream}, asdict(state))

    def lock_strays(self, device: DeviceId, outbox: str) -> Mapping[str, StreamState]:
        t = tables.stream
        query = select(t).where(t.c.device == device, t.c.outbox.not_in(("", outbox)), t.c.mark < t.c.head)
        return {row.stream: _stream(row) for row in self._connection.execute(locking(query))}

    def add(self, rows: Sequence[Received]) -> None:
        if rows:
            self._connection.execute(insert(self._t), [_columns(received) for received in rows])

    def add_rejected(
        self, device: DeviceId, stream: str, seq: int, code: str, raw: bytes, now_ms: int
    ) -> None:
        key = {"device": device, "stream": stream, "seq": seq}
        upsert(self._connection, tables.dead_letter, key, {"received_ms": now_ms, "code": code, "raw": raw})

    def samples(self, device: DeviceId, source: str | None, since_ms: int, limit: int) -> Sequence[Received]:
        where = [self._t.c.device == device, self._t.c.kind == "sample"]
        if source is not None:
            where.append(self._t.c.source == source)
        return self._newest(where, since_ms, limit)

    def events(self, device: DeviceId | None, since_ms: int, limit: int) -> Sequence[Received]:
        where = [self._t.c.kind == "event"]
        if device is not None:
            where.append(self._t.c.device == device)
        return self._newest(where, since_ms, limit)

    def totals(self, device: DeviceId | None) -> TelemetryTotals:
        t = tables.stream
        summed = (
            t.c.samples,
            t.c.events,
            t.c.lost,
            t.c.duplicates,
            t.c.thinned,
            t.c.rejected,
            t.c.head - t.c.mark,
        )
        query = select(*(func.coalesce(func.sum(column), 0) for column in summed))
        if device is not None:
            query = query.where(t.c.device == device)
        return TelemetryTotals(*(int(value) for value in self._connection.execute(query).one()))

    def undated(self, device: DeviceId, boot_id: str, limit: int) -> Sequence[Received]:
        t = self._t
        # The boot is in the document only: few rows have no time, and those of a device are found by its key.
        named = t.c.row.contains(f'"boot_id":{write_json(boot_id)}', autoescape=True)
        query = select(t).where(t.c.device == device, t.c.wall_ms.is_(None), named)
        query = query.order_by(t.c.stream, t.c.seq).limit(limit)
        found = [_received(row) for row in self._connection.execute(query)]
        return [received for received in found if received.row.boot_id == boot_id]

    def put_rows(self, rows: Sequence[Received]) -> None:
        t = self._t
        query = (
            update(t)
            .where(
                t.c.device == bindparam("at_device"),
                t.c.stream == bindparam("at_stream"),
                t.c.seq == bindparam("at_seq"),
            )
            .values(wall_ms=bindparam("new_wall_ms"), row=bindparam("new_row"))
        )
        if rows:
            self._connection.execute(query, [_replacement(received) for received in rows])

    def _newest(self, where: Sequence[Any], since_ms: int, limit: int) -> Sequence[Received]:
        t = self._t
        query = (
            select(t)
            .where(*where, t.c.received_ms >= since_ms)
            .order_by(t.c.received_ms.desc(), t.c.stream, t.c.seq.desc())
            .limit(limit)
        )
        return [_received(row) for row in reversed(self._connection.execute(query).all())]


def _stream(row: Row[Any]) -> StreamState:
    return StreamState(
        start=row.start,
        mark=row.mark,
        head=row.head,
        outbox=row.outbox,
        samples=row.samples,
        events=row.events,
        lost=row.lost,
        duplicates=row.duplicates,
        thinned=row.thinned,
        rejected=row.rejected,
    )


def _columns(received: Received) -> dict[str, Any]:
    row = received.row
    return {
        "device": received.device,
        "stream": received.stream,
        "seq": row.seq,
        "received_ms": received.received_ms,
        "kind": "sample" if isinstance(row, Sample) else "event",
        "source": row.source.value if isinstance(row, Sample) else None,
        "name": row.name[:64] if isinstance(row, Event) else None,
        "wall_ms": row.wall_ms,
        "row": write_json(row),
    }


def _replacement(received: Received) -> dict[str, Any]:
    return {
        "at_device": received.device,
        "at_stream": received.stream,
        "at_seq": received.row.seq,
        "new_wall_ms": received.row.wall_ms,
        "new_row": write_json(received.row),
    }


def _received(row: Row[Any]) -> Received:
    parsed = msgspec.json.decode(row.row, type=AnyRow)
    return Received(row.received_ms, DeviceId(row.device), row.stream, parsed)
