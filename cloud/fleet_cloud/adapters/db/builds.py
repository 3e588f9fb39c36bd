"""Jobs for shared build workers, and what their builds said."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import locking, read_json, write_json
from fleet_cloud.domain.builds import BuildJob, BuildState
from fleet_shared.messages.reported import Failure
from fleet_shared.names import Digest, ModelName


class BuildTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t, self._events = tables.build_job, tables.build_event

    def add(self, job: BuildJob) -> None:
        self._connection.execute(insert(self._t).values(id=job.id, **_values(job)))

    def get(self, job: str) -> BuildJob | None:
        return self._one(select(self._t).where(self._t.c.id == job))

    def lock(self, job: str) -> BuildJob | None:
        return self._one(locking(select(self._t).where(self._t.c.id == job)))

    def lock_open(self) -> Sequence[BuildJob]:
        t = self._t
        open_states = [state.value for state in BuildState if state.is_open]
        query = select(t).where(t.c.state.in_(open_states)).order_by(t.c.created_ms, t.c.id)
        return [_job(row) for row in self._connection.execute(locking(query))]

    def put(self, job: BuildJob) -> None:
        self._connection.execute(update(self._t).where(self._t.c.id == job.id).values(**_values(job)))

    def page(self, limit: int) -> Sequence[BuildJob]:
        t = self._t
        query = select(t).order_by(t.c.created_ms.desc(), t.c.id.desc()).limit(limit)
        return [_job(row) for row in self._connection.execute(query)]

    def add_events(self, job: str, events: Sequence[str]) -> None:
        if events:
            first = self.count_events(job) + 1
            rows = [{"job": job, "seq": seq, "event": event} for seq, event in enumerate(events, first)]
            self._connection.execute(insert(self._events), rows)

    def events(self, job: str, after: int, limit: int) -> Sequence[tuple[int, str]]:
        t = self._events
        query = (
            select(t.c.seq, t.c.event).where(t.c.job == job, t.c.seq > after).order_by(t.c.seq).limit(limit)
        )
        return [(row.seq, row.event) for row in self._connection.execute(query)]

    def count_events(self, job: str) -> int:
        t = self._events
        return int(self._connection.execute(select(func.count()).where(t.c.job == job)).scalar_one())

    def _one(self, query: Select[Any]) -> BuildJob | None:
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _job(row)


def _values(job: BuildJob) -> dict[str, Any]:
    return {
        "model": job.model,
        "bundle": job.bundle,
        "created_ms": job.created_ms,
        "created_by": job.created_by,
        "updated_ms": job.updated_ms,
        "state": job.state.value,
        "version": job.version,
        "attempt": job.attempt,
        "worker": job.worker,
        "lease_until_ms": job.lease_until_ms,
        "failure": None if job.failure is None else write_json(job.failure),
    }


def _job(row: Row[Any]) -> BuildJob:
    return BuildJob(
        id=row.id,
        model=ModelName(row.model),
        bundle=Digest(row.bundle),
        created_ms=row.created_ms,
        created_by=row.created_by,
        updated_ms=row.updated_ms,
        state=BuildState(row.state),
        version=row.version,
        attempt=row.attempt,
        worker=row.worker,
        lease_until_ms=row.lease_until_ms,
        failure=read_json(Failure, row.failure),
    )
