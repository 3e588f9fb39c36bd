"""What devices measured of variants."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from fleet_cloud.adapters.db import tables
from fleet_cloud.domain.measurements import Measurement
from fleet_shared.names import DeviceId, Digest

PER_MANIFEST: Final = 500
"""Kinds of hardware, runtimes and numbers of threads for which a variant's measurements are kept."""


class MeasurementTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.measurement

    def put(self, measurement: Measurement) -> None:
        """Two devices that are alike may say it at the same moment: the later one wins."""
        dialect = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        values = asdict(measurement)
        key = [column.name for column in self._t.primary_key]
        changed = {name: value for name, value in values.items() if name not in key}
        insert = dialect.insert(self._t).values(**values)
        self._connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed))
        self._prune(measurement.manifest)

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

    def _prune(self, manifest: Digest) -> None:
        t = self._t
        newest = (
            select(t.c.measured_ms)
            .where(t.c.manifest == manifest)
            .order_by(t.c.measured_ms.desc())
            .offset(PER_MANIFEST)
            .limit(1)
        )
        edge = self._connection.execute(newest).scalar_one_or_none()
        if edge is not None:
            self._connection.execute(delete(t).where(t.c.manifest == manifest, t.c.measured_ms <= edge))


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
