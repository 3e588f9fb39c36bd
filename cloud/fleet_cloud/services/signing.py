"""Signed addresses of blobs on this controller: HMAC-SHA256 over digest, device and expiry."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlencode

from fleet_cloud.errors import Forbidden
from fleet_cloud.services.devices import check_not_revoked
from fleet_cloud.services.ports import Clock, UnitOfWork
from fleet_shared.names import DeviceId, Digest


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """An address dies with its time, and with the right of its device: a revoked one gets nothing by it."""

    secret: bytes
    clock: Clock
    uow: UnitOfWork

    def sign(self, sha256: Digest, device: DeviceId, life_s: int) -> str:
        """Return a path with query, valid for ``life_s`` seconds from now."""
        expires_s = self.clock.now_ms() // 1000 + life_s
        query = {
            "device": device,
            "expires": str(expires_s),
            "signature": self._digest(sha256, device, expires_s),
        }
        return f"/api/v1/blobs/{sha256}?{urlencode(query)}"

    def check(self, sha256: Digest, device: str, expires_s: int, signature: str) -> None:
        """Raise `Forbidden` (``blob.url.signature``, ``blob.url.expired``, ``device.revoked``)."""
        wanted = self._digest(sha256, device, expires_s)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise Forbidden(
                "the address of the blob is not signed by this controller",
                hint="ask for a new one",
                code="blob.url.signature",
            )
        if self.clock.now_ms() // 1000 > expires_s:
            raise Forbidden(
                "the address of the blob has expired", hint="ask for a new one", code="blob.url.expired"
            )
        with self.uow.read() as transaction:
            known = transaction.devices.get(DeviceId(device))
        check_not_revoked(known)

    def _digest(self, sha256: str, device: str, expires_s: int) -> str:
        message = f"{sha256}\n{device}\n{expires_s}".encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()
