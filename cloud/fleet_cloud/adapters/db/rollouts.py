"""Rollouts, and the assignments of their devices."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, and_, func, insert, or_, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import locking, read_json, upsert, write_json
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentChange,
    AssignmentState,
    Rollout,
    RolloutId,
    RolloutState,
)
from fleet_shared.messages.desired import Policy
from fleet_shared.messages.reported import Failure, Order
from fleet_shared.names import AssignmentId, DeviceId, ModelName
from fleet_shared.version import Version


class RolloutTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.rollout

    def get(self, rollout: RolloutId) -> Rollout | None:
        row = self._connection.execute(select(self._t).where(self._t.c.id == rollout)).one_or_none()
        return None if row is None else _rollout(row)

    def add(self, rollout: Rollout) -> None:
        self._connection.execute(
            insert(self._t).values(
                id=rollout.id,
                model=rollout.model,
                version=str(rollout.version),
                selector=rollout.selector,
                devices=write_json(rollout.devices),
                created_ms=rollout.created_ms,
                policy=write_json(rollout.policy),
                variant=rollout.variant,
                state=rollout.state.value,
            )
        )

    def set_state(self, rollout: RolloutId, state: RolloutState) -> None:
        self._connection.execute(update(self._t).where(self._t.c.id == rollout).values(state=state.value))

    def lock(self, rollout: RolloutId) -> None:
        self._connection.execute(locking(select(self._t.c.id).where(self._t.c.id == rollout)))

    def running(self, after: Rollout | None, limit: int) -> Sequence[Rollout]:
        query = select(self._t).where(self._t.c.state == RolloutState.RUNNING.value)
        if after is not None:
            query = query.where(is_later(after))
        return self._many(query.order_by(self._t.c.created_ms, self._t.c.id).limit(limit))

    def count_running(self) -> int:
        query = select(func.count()).where(self._t.c.state == RolloutState.RUNNING.value)
        return int(self._connection.execute(query).scalar_one())

    def page(self, limit: int) -> Sequence[Rollout]:
        return self._many(select(self._t).order_by(self._t.c.created_ms.desc()).limit(limit))

    def _many(self, query: Any) -> Sequence[Rollout]:
        return [_rollout(row) for row in self._connection.execute(query)]


def is_later(rollout: Rollout) -> Any:
    """The condition on the table of rollouts that one was recorded after ``rollout``."""
    t = tables.rollout
    return or_(
        t.c.created_ms > rollout.created_ms,
        and_(t.c.created_ms == rollout.created_ms, t.c.id > rollout.id),
    )


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        id=RolloutId(row.id),
        model=ModelName(row.model),
        version=Version.parse(row.version),
        selector=row.selector,
        devices=tuple(msgspec.json.decode(row.devices)),
        created_ms=row.created_ms,
        policy=msgspec.json.decode(row.policy, type=Policy),
        variant=row.variant,
        state=RolloutState(row.state),
    )


class AssignmentTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.assignment

    def get(self, assignment: AssignmentId) -> Assignment | None:
        return self._one(select(self._t).where(self._t.c.id == assignment))

    def lock(self, assignment: AssignmentId) -> Assignment | None:
        return self._one(locking(select(self._t).where(self._t.c.id == assignment)))

    def put(self, assignment: Assignment) -> None:
        before = self.get(assignment.id)
        failure = None if assignment.failure is None else write_json(assignment.failure)
        values = {
            "rollout": assignment.rollout,
            "device": assignment.device,
            "model": assignment.model,
            "version": str(assignment.version),
            "state": assignment.state.value,
            "is_open": assignment.state.is_open,
            "created_ms": assignment.created_ms,
            "updated_ms": assignment.updated_ms,
            "deadline_ms": assignment.deadline_ms,
            "variant": assignment.variant,
            "manifest": assignment.manifest,
            "order": None if assignment.order is None else write_json(assignment.order),
            "bytes_done": assignment.bytes_done,
            "bytes_total": assignment.bytes_total,
            "failure": failure,
        }
        upsert(self._connection, self._t, {"id": assignment.id}, values)
        if before is None or (before.state, before.failure) != (assignment.state, assignment.failure):
            self._connection.execute(
                insert(tables.assignment_change).values(
                    assignment=assignment.id,
                    at_ms=assignment.updated_ms,
                    state=assignment.state.value,
                    failure=failure,
                )
            )

    def of_rollout(self, rollout: RolloutId) -> Sequence[Assignment]:
        query = select(self._t).where(self._t.c.rollout == rollout).order_by(self._t.c.device)
        return [_assignment(row) for row in self._connection.execute(query)]

    def lock_open_of_device(self, device: DeviceId) -> Sequence[Assignment]:
        query = select(self._t).where(self._t.c.device == device, self._t.c.is_open)
        return [_assignment(row) for row in self._connection.execute(locking(query))]

    def overtaken(self, rollout: Rollout) -> AbstractSet[DeviceId]:
        query = (
            select(self._t.c.device)
            .join(tables.rollout, tables.rollout.c.id == self._t.c.rollout)
            .where(is_later(rollout), self._t.c.manifest.is_not(None))
        )
        return {DeviceId(device) for (device,) in self._connection.execute(query)}

    def _one(self, query: Select[Any]) -> Assignment | None:
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _assignment(row)

    def count_by_state(self) -> Mapping[AssignmentState, int]:
        query = select(self._t.c.state, func.count()).group_by(self._t.c.state)
        return {AssignmentState(state): count for state, count in self._connection.execute(query)}

    def history(self, assignment: AssignmentId) -> Sequence[AssignmentChange]:
        t = tables.assignment_change
        rows = self._connection.execute(select(t).where(t.c.assignment == assignment).order_by(t.c.id))
        return [
            AssignmentChange(
                assignment, row.at_ms, AssignmentState(row.state), read_json(Failure, row.failure)
            )
            for row in rows
        ]


def _assignment(row: Row[Any]) -> Assignment:
    return Assignment(
        id=AssignmentId(row.id),
        rollout=RolloutId(row.rollout),
        device=DeviceId(row.device),
        model=ModelName(row.model),
        version=Version.parse(row.version),
        state=AssignmentState(row.state),
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        deadline_ms=row.deadline_ms,
        variant=row.variant,
        manifest=row.manifest,
        order=read_json(Order, row.order),
        bytes_done=row.bytes_done,
        bytes_total=row.bytes_total,
        failure=read_json(Failure, row.failure),
    )
