"""Streams, samples, events and dead letters."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.repositories import upsert, write_json
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
        query = select(t).where(t.c.device == device, t.c.stream == stream).with_for_update()
        row = self._connection.execute(query).one_or_none()
        if row is None:
            return None
        return StreamState(
            start=row.start,
            mark=row.mark,
            head=row.head,
            lost=row.lost,
            duplicates=row.duplicates,
            thinned=row.thinned,
            rejected=row.rejected,
        )

    def put_stream(self, device: DeviceId, stream: str, state: StreamState) -> None:
        values = {
            "start": state.start,
            "mark": state.mark,
            "head": state.head,
            "lost": state.lost,
            "duplicates": state.duplicates,
            "thinned": state.thinned,
            "rejected": state.rejected,
        }
        upsert(self._connection, tables.stream, {"device": device, "stream": stream}, values)

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

    def totals(self, device: DeviceId) -> TelemetryTotals:
        counted = self._connection.execute(
            select(self._t.c.kind, func.count()).where(self._t.c.device == device).group_by(self._t.c.kind)
        )
        kinds: dict[str, int] = {row[0]: row[1] for row in counted}
        t = tables.stream
        sums = self._connection.execute(
            select(
                func.coalesce(func.sum(t.c.lost), 0),
                func.coalesce(func.sum(t.c.duplicates), 0),
                func.coalesce(func.sum(t.c.thinned), 0),
                func.coalesce(func.sum(t.c.rejected), 0),
                func.coalesce(func.sum(t.c.head - t.c.mark), 0),
            ).where(t.c.device == device)
        ).one()
        lost, duplicates, thinned, rejected, pending = (int(value) for value in sums)
        return TelemetryTotals(
            samples=kinds.get("sample", 0),
            events=kinds.get("event", 0),
            lost=lost,
            duplicates=duplicates,
            thinned=thinned,
            rejected=rejected,
            pending=pending,
        )

    def _newest(self, where: Sequence[Any], since_ms: int, limit: int) -> Sequence[Received]:
        t = self._t
        query = (
            select(t)
            .where(*where, t.c.received_ms >= since_ms)
            .order_by(t.c.received_ms.desc(), t.c.stream, t.c.seq.desc())
            .limit(limit)
        )
        return [_received(row) for row in reversed(self._connection.execute(query).all())]


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


def _received(row: Row[Any]) -> Received:
    parsed = msgspec.json.decode(row.row, type=AnyRow)
    return Received(row.received_ms, DeviceId(row.device), row.stream, parsed)
