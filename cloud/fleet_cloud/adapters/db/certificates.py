"""Certificates of devices that have not ended yet: what a revocation list is made of."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select, update

from fleet_cloud.adapters.db import tables
from fleet_cloud.services.ports import IssuedCertificate
from fleet_shared.names import DeviceId, Digest


class CertificateTable:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._t = tables.certificate

    def add(self, certificate: IssuedCertificate) -> None:
        values = {name: getattr(certificate, name) for name in IssuedCertificate.__dataclass_fields__}
        self._connection.execute(insert(self._t).values(**values))

    def has(self, serial: str) -> bool:
        found = self._connection.execute(select(self._t.c.serial).where(self._t.c.serial == serial))
        return found.one_or_none() is not None

    def count_since(self, device: DeviceId, since_ms: int) -> int:
        query = select(func.count()).where(self._t.c.device == device, self._t.c.issued_ms >= since_ms)
        return int(self._connection.execute(query).scalar_one())

    def last_ends(self) -> dict[DeviceId, int]:
        query = select(self._t.c.device, func.max(self._t.c.expires_ms)).group_by(self._t.c.device)
        return {DeviceId(device): int(end) for device, end in self._connection.execute(query)}

    def revoke(self, device: DeviceId, at_ms: int, *, but: Digest | None = None) -> None:
        change = update(self._t).where(self._t.c.device == device, self._t.c.revoked_ms.is_(None))
        if but is not None:
            change = change.where(self._t.c.public_key_sha256 != but)
        self._connection.execute(change.values(revoked_ms=at_ms))

    def restore(self, device: DeviceId, key: Digest) -> None:
        own = (self._t.c.device == device, self._t.c.public_key_sha256 == key)
        self._connection.execute(update(self._t).where(*own).values(revoked_ms=None))

    def revoked(self, now_ms: int) -> Sequence[tuple[str, int]]:
        t = self._t
        query = select(t.c.serial, t.c.revoked_ms).where(t.c.revoked_ms.is_not(None), t.c.expires_ms > now_ms)
        return [(row.serial, row.revoked_ms) for row in self._connection.execute(query.order_by(t.c.serial))]

    def remove_ended(self, before_ms: int) -> int:
        return self._connection.execute(delete(self._t).where(self._t.c.expires_ms < before_ms)).rowcount
