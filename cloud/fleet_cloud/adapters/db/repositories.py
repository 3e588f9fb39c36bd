"""The repositories: rows to frozen dataclasses and back, over one connection."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Select, Table, and_, delete, func, insert, or_, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.domain.device import Device
from fleet_cloud.domain.model import ModelVersion, Variant
from fleet_cloud.domain.rollout import (
    Assignment,
    AssignmentChange,
    AssignmentState,
    Rollout,
    RolloutId,
    RolloutState,
)
from fleet_cloud.services.ports import EnrolmentGrant, OutgoingMessage, SignedDesired
from fleet_shared.codec import Encoding
from fleet_shared.manifest import Manifest, digest_of_manifest
from fleet_shared.messages.desired import EncodedBlob, Policy
from fleet_shared.messages.reported import Failure, Order, Reported
from fleet_shared.names import AssignmentId, DeviceId, Digest, ModelName
from fleet_shared.version import Version

T = TypeVar("T")

IN_MAX: Final = 500
"""Values of one IN list."""


def write_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def read_json(kind: type[T], text: str | None) -> T | None:
    return None if text is None else msgspec.json.decode(text, type=kind)


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change the row with ``key``, or insert it. The caller's transaction keeps others away."""
    where = [table.c[name] == value for name, value in key.items()]
    if values and connection.execute(update(table).where(*where).values(**values)).rowcount:
        return
    connection.execute(insert(table).values(**key, **values))


def locking(query: Select[Any]) -> Select[Any]:
    """Return ``query`` holding its rows until the end of the transaction.

    Foreign keys to them may still be written (FOR NO KEY UPDATE); SQLite has one writer anyway.
    """
    return query.with_for_update(key_share=True)


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
        self._connection.execute(update(t).where(t.c.id == device).values(last_seen_ms=now_ms))

    def give_up_silent(self, heard_before_ms: int) -> int:
        t = tables.device
        silent = update(t).where(t.c.online, t.c.last_seen_ms < heard_before_ms).values(online=False)
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
    )


class EnrolmentTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, secret_sha256: Digest) -> EnrolmentGrant | None:
        query = select(tables.enrolment).where(tables.enrolment.c.secret_sha256 == secret_sha256)
        row = self._connection.execute(query.with_for_update()).one_or_none()
        if row is None:
            return None
        return EnrolmentGrant(
            secret_sha256=Digest(row.secret_sha256),
            created_ms=row.created_ms,
            expires_ms=row.expires_ms,
            labels=msgspec.json.decode(row.labels),
            device=row.device,
            public_key_sha256=row.public_key_sha256,
        )

    def put(self, grant: EnrolmentGrant) -> None:
        values = {
            "created_ms": grant.created_ms,
            "expires_ms": grant.expires_ms,
            "labels": write_json(dict(grant.labels)),
            "device": grant.device,
            "public_key_sha256": grant.public_key_sha256,
        }
        upsert(self._connection, tables.enrolment, {"secret_sha256": grant.secret_sha256}, values)


class ModelTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.model_version

    def get(self, model: ModelName, version: Version) -> ModelVersion | None:
        t = self._t
        return self._one(
            t.c.model == model,
            t.c.major == version.major,
            t.c.minor == version.minor,
            t.c.patch == version.patch,
        )

    def find_content(self, model: ModelName, content: Digest) -> ModelVersion | None:
        return self._one(self._t.c.model == model, self._t.c.content == content)

    def newest(self, model: ModelName) -> ModelVersion | None:
        return next(iter(self.versions(model)), None)

    def versions(self, model: ModelName | None) -> Sequence[ModelVersion]:
        t = self._t
        query = select(t).order_by(t.c.model, t.c.major.desc(), t.c.minor.desc(), t.c.patch.desc())
        if model is not None:
            query = query.where(t.c.model == model)
        return [_version(row) for row in self._connection.execute(query)]

    def add(self, version: ModelVersion) -> None:
        number = version.version
        self._connection.execute(
            insert(self._t).values(
                model=version.model,
                major=number.major,
                minor=number.minor,
                patch=number.patch,
                content=version.content,
                created_ms=version.created_ms,
                manifests=write_json([variant.manifest for variant in version.variants]),
                lineage=write_json(version.lineage),
            )
        )

    def encodings(self, blob: Digest) -> Sequence[EncodedBlob]:
        t = tables.encoding
        query = select(t).where(t.c.blob == blob).order_by(t.c.encoding)
        return [_encoding(row) for row in self._connection.execute(query)]

    def add_encoding(self, encoding: EncodedBlob) -> None:
        values = {
            "sha256": encoding.sha256,
            "encoded_bytes": encoding.encoded_bytes,
            "size_bytes": encoding.size_bytes,
        }
        key = {"blob": encoding.blob, "encoding": encoding.encoding.value}
        upsert(self._connection, tables.encoding, key, values)

    def _one(self, *where: Any) -> ModelVersion | None:
        row = self._connection.execute(select(self._t).where(*where)).one_or_none()
        return None if row is None else _version(row)


def _version(row: Row[Any]) -> ModelVersion:
    manifests = msgspec.json.decode(row.manifests, type=tuple[Manifest, ...])
    return ModelVersion(
        model=ModelName(row.model),
        version=Version(row.major, row.minor, row.patch),
        content=Digest(row.content),
        created_ms=row.created_ms,
        variants=tuple(Variant(digest_of_manifest(manifest), manifest) for manifest in manifests),
        lineage=msgspec.json.decode(row.lineage),
    )


def _encoding(row: Row[Any]) -> EncodedBlob:
    return EncodedBlob(
        blob=row.blob,
        encoding=Encoding(row.encoding),
        sha256=row.sha256,
        encoded_bytes=row.encoded_bytes,
        size_bytes=row.size_bytes,
    )


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


class DesiredTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.desired

    def get(self, device: DeviceId) -> SignedDesired | None:
        row = self._connection.execute(select(self._t).where(self._t.c.device == device)).one_or_none()
        return None if row is None else _desired(row)

    def put(self, desired: SignedDesired) -> None:
        values = {"order": write_json(desired.order), "envelope": desired.envelope}
        upsert(self._connection, self._t, {"device": desired.device}, values)

    def unmet(self) -> Sequence[SignedDesired]:
        t = tables.assignment
        waiting = select(t.c.device).where(t.c.is_open)
        query = select(self._t).where(self._t.c.device.in_(waiting)).order_by(self._t.c.device)
        return [_desired(row) for row in self._connection.execute(query)]


def _desired(row: Row[Any]) -> SignedDesired:
    return SignedDesired(
        DeviceId(row.device), msgspec.json.decode(row.order, type=Order), bytes(row.envelope)
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
