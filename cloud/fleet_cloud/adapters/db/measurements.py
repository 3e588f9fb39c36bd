"""What devices measured of variants."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from fleet_cloud.adapters.db import tables
from fleet_cloud.domain.measurements import Measurement
from fleet_shared.names import DeviceId, Digest

PER_MANIFEST: Final = 1000
"""So many rows are kept of a variant, the newest."""
PER_KIND: Final = 5
"""So many devices speak for their like: the newest rows of the same hardware, runtime and threads."""
PER_DEVICE: Final = 64
"""What one device says of a variant at most: it cannot push out what others measured."""


class MeasurementTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.measurement

    def put(self, measurement: Measurement) -> None:
        dialect = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        values = asdict(measurement)
        key = [column.name for column in self._t.primary_key]
        changed = {name: value for name, value in values.items() if name not in key}
        insert = dialect.insert(self._t).values(**values)
        self._connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed))
        self._prune(measurement)

    def of_manifests(self, manifests: Sequence[Digest]) -> Sequence[Measurement]:
        if not manifests:
            return []
        query = select(self._t).where(self._t.c.manifest.in_(manifests))
        return [_measurement(row) for row in self._connection.execute(query)]

    def of_hardware(self, hardware: str, limit: int) -> Sequence[Measurement]:
        t = self._t
        newest = (t.c.measured_ms.desc(), t.c.manifest, t.c.runtime, t.c.threads)
        query = select(t).where(t.c.hardware == hardware).order_by(*newest).limit(limit)
        return [_measurement(row) for row in self._connection.execute(query)]

    def _prune(self, new: Measurement) -> None:
        t = self._t
        own = and_(t.c.manifest == new.manifest, t.c.device == new.device)
        another = and_(t.c.runtime == new.runtime, t.c.runtime_version != new.runtime_version)
        self._connection.execute(delete(t).where(own, or_(t.c.hardware != new.hardware, another)))
        kind = (t.c.hardware, t.c.runtime, t.c.runtime_version, t.c.threads)
        values = (new.hardware, new.runtime, new.runtime_version, new.threads)
        alike = [column == value for column, value in zip(kind, values, strict=True)]
        self._keep_newest(PER_DEVICE, own)
        self._keep_newest(PER_KIND, and_(t.c.manifest == new.manifest, *alike))
        self._keep_newest(PER_MANIFEST, t.c.manifest == new.manifest)

    def _keep_newest(self, count: int, where: ColumnElement[bool]) -> None:
        """Those of one moment stay together: there are no more of them than a batch has."""
        t = self._t
        newest = select(t.c.measured_ms).where(where).order_by(t.c.measured_ms.desc())
        edge = self._connection.execute(newest.offset(count - 1).limit(1)).scalar_one_or_none()
        if edge is not None:
            self._connection.execute(delete(t).where(where, t.c.measured_ms < edge))


def _measurement(row: Row[Any]) -> Measurement:
    return Measurement(
        hardware=row.hardware,
        runtime=row.runtime,
        runtime_version=row.runtime_version,
        threads=row.threads,
        manifest=Digest(row.manifest),
        passed=row.passed,
        latency_p50_us=row.latency_p50_us,
        device=DeviceId(row.device),
        measured_ms=row.measured_ms,
    )
