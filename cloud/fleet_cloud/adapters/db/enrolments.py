"""Tokens with which devices enrol, and who did."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, select

from fleet_cloud.adapters.db import tables
from fleet_cloud.adapters.db.rows import locking, upsert, write_json
from fleet_cloud.services.ports import EnrolmentGrant, EnrolmentUse
from fleet_shared.names import DeviceId, Digest


class EnrolmentTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t, self._uses = tables.enrolment, tables.enrolment_use

    def get(self, secret_sha256: Digest) -> EnrolmentGrant | None:
        return self._one(select(self._t).where(self._t.c.secret_sha256 == secret_sha256))

    def lock(self, secret_sha256: Digest) -> EnrolmentGrant | None:
        return self._one(locking(select(self._t).where(self._t.c.secret_sha256 == secret_sha256)))

    def all(self) -> Sequence[EnrolmentGrant]:
        query = select(self._t).order_by(self._t.c.created_ms, self._t.c.secret_sha256)
        return [_grant(row) for row in self._connection.execute(query)]

    def put(self, grant: EnrolmentGrant) -> None:
        values = {
            "created_ms": grant.created_ms,
            "expires_ms": grant.expires_ms,
            "labels": write_json(dict(grant.labels)),
            "device": grant.device,
            "uses_max": grant.uses_max,
            "revoked_ms": grant.revoked_ms,
            "ca_sha256": grant.ca_sha256,
        }
        upsert(self._connection, self._t, {"secret_sha256": grant.secret_sha256}, values)

    def uses(self, secret_sha256: Digest | None) -> Sequence[EnrolmentUse]:
        query = select(self._uses).order_by(self._uses.c.used_ms, self._uses.c.device)
        if secret_sha256 is not None:
            query = query.where(self._uses.c.secret_sha256 == secret_sha256)
        return [_use(row) for row in self._connection.execute(query)]

    def add_use(self, use: EnrolmentUse) -> None:
        values = {
            "secret_sha256": use.secret_sha256,
            "public_key_sha256": use.public_key_sha256,
            "device": use.device,
            "used_ms": use.used_ms,
        }
        self._connection.execute(insert(self._uses).values(**values))

    def _one(self, query: Any) -> EnrolmentGrant | None:
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _grant(row)


def _grant(row: Row[Any]) -> EnrolmentGrant:
    return EnrolmentGrant(
        secret_sha256=Digest(row.secret_sha256),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        labels=msgspec.json.decode(row.labels),
        uses_max=row.uses_max,
        device=None if row.device is None else DeviceId(row.device),
        revoked_ms=row.revoked_ms,
        ca_sha256=None if row.ca_sha256 is None else Digest(row.ca_sha256),
    )


def _use(row: Row[Any]) -> EnrolmentUse:
    return EnrolmentUse(
        Digest(row.secret_sha256), Digest(row.public_key_sha256), DeviceId(row.device), row.used_ms
    )
